"""Entries of the data sets in :mod:`recbench_datasets.faces`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recbench import DatasetEntry, ImageShape, Parameter
from recbench.contracts.entries import RawFile
from recbench_datasets._parameters import DUPLICATES, leaves_training, root

_PARTS = (
    Parameter("validation", float, 0.05, "part of the images for validation, taken from the first 80%", minimum=0),
    Parameter("test", float, 0.2, "part of the images for testing", above=0),
)
_CELEBA = (
    RawFile(
        file="img_align_celeba.zip",
        address="gdrive:0B7EVK8r0v71pZjFTYXZWM3FlRnM",
        size=1_443_490_838,
        md5="00d2c5bc6d35e252742224ab0c1e8fcb",
        members=202_599,
    ),
)


def _check_celeba(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    yield from leaves_training(shape, params)
    if params["size"] > params["crop"]:
        yield "needs size <= crop"
    if params["split"] == "official" and any(params[part.name] != part.default for part in _PARTS):
        yield "has its own validation and test images with split: official; leave out validation and test"


def face_entries() -> Iterator[DatasetEntry]:
    """Yield the entries in the order in which they are listed."""
    yield DatasetEntry(
        name="celeba",
        factory="recbench_datasets.faces:CelebA",
        locations=("root",),
        summary="CelebA: 202,599 aligned photographs of faces, cut to a square and resized",
        parameters=(
            root("celeba"),
            Parameter("size", int, 64, "side of the images in pixels", minimum=8, maximum=178),
            Parameter(
                "crop",
                int,
                148,
                "side of the square cut from the centre of the 178 x 218 pixels, before it is resized to size",
                minimum=8,
                maximum=178,
            ),
            Parameter("count", int, 202_599, "number of files that must be there; 0: any", minimum=0),
            Parameter(
                "split",
                str,
                "paper",
                "paper: the last 20% by number are tested on, as in Bredell et al., and persons are in several splits; "
                "official: the published partition (list_eval_partition.txt), in which no person is in two splits",
                choices=("paper", "official"),
            ),
            *_PARTS,
            DUPLICATES,
        ),
        check=_check_celeba,
        files=_CELEBA,
        obtain=(
            "Google Drive limits how often a file is downloaded in a day. If it gives nothing, get "
            "img_align_celeba.zip with a browser (mmlab.ie.cuhk.edu.hk/projects/CelebA.html, 'Align&Cropped Images') "
            "and put it, or the folder img_align_celeba that is in it, into root."
        ),
        licence="for non-commercial research only",
        citation="Liu, Luo, Wang, Tang (2015), Deep Learning Face Attributes in the Wild, ICCV",
        notes=(
            "root is the folder img_align_celeba, or holds it. split: paper takes the first 80% by number for training "
            "and validation, the last 20% for testing, as Bredell et al. divide it (they do not say which). It shares "
            "persons between its splits: all validation images, and the first 691 of the 40,520 test images, are from "
            "the published training part, whose persons are in no order. split: official keeps persons apart: the "
            "published 162,770, 19,867 and 19,962 images; put list_eval_partition.txt (folder Eval of the CelebA page) "
            "next to img_align_celeba. 148 pixels are the usual crop for 64 x 64; 140 is common too, and crop: 64 cuts "
            "out 64 x 64 without resizing."
        ),
    )
    yield DatasetEntry(
        name="celeba_hq",
        factory="recbench_datasets.faces:CelebAHQ",
        locations=("root",),
        summary="CelebA-HQ: 30,000 photographs of faces, resized",
        parameters=(
            root("celeba_hq"),
            Parameter("size", int, 256, "side of the images in pixels", minimum=8, maximum=1024),
            Parameter("count", int, 30_000, "number of files that must be there; 0: any", minimum=0),
            *_PARTS,
            DUPLICATES,
        ),
        check=leaves_training,
        obtain=(
            "Get CelebAMask-HQ.zip, after accepting its terms, from github.com/switchablenorms/CelebAMask-HQ, and put "
            "its folder CelebA-HQ-img into root."
        ),
        licence="CC BY-NC 4.0; for non-commercial research and education only",
        citation=(
            "Karras et al. (2018), Progressive Growing of GANs for Improved Quality, Stability, and Variation, ICLR; "
            "Lee et al. (2020), MaskGAN: Towards Diverse and Interactive Facial Image Manipulation, CVPR"
        ),
        notes=(
            "root is the folder CelebA-HQ-img (of CelebAMask-HQ), or holds it, or is any folder with the images, 256, "
            "512 or 1024 pixels a side. The first 80% by number are for training and validation, the last 20% for "
            "testing; persons may be in several splits."
        ),
    )
    yield DatasetEntry(
        name="selfie2anime",
        factory="recbench_datasets.faces:Selfie2Anime",
        locations=("root",),
        summary="the drawn faces of selfie2anime: 3,400 for training and validation, 100 for testing",
        parameters=(
            root("selfie2anime"),
            Parameter("size", int, 256, "side of the images in pixels", minimum=8, maximum=256),
            Parameter("train", int, 3000, "number of training images", minimum=1),
            Parameter("validation", int, 400, "number of validation images", minimum=0),
            Parameter("test", int, 100, "number of test images", minimum=1),
            DUPLICATES,
        ),
        obtain=(
            "Get the archive that github.com/taki0112/UGATIT links to as its data set (selfie2anime, on Google Drive), "
            "and put its folders trainB and testB into root."
        ),
        licence="none stated by its authors",
        citation=(
            "Kim, Kim, Kang, Lee (2020), U-GAT-IT: Unsupervised Generative Attentional Networks with Adaptive "
            "Layer-Instance Normalization for Image-to-Image Translation, ICLR"
        ),
        notes=(
            "root holds trainB and testB. By number, the first images of trainB are for training, the next ones for "
            "validation; the first ones of testB are for testing. With the defaults, all 3,500 are used, as Kim and Jo "
            "divide them; they do not say which."
        ),
    )
