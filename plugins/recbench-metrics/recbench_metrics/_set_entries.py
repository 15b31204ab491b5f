"""Entries of metrics of whole sets: distances to the training images, precision and recall, FD-DINOv2, CMMD, text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import inf
from typing import Any

from recbench import Convention, ImageShape, MetricEntry, MetricScore, Parameter, Weights
from recbench_metrics._facts import (
    COLOUR_OR_GREY,
    EFFICIENTNET_SIZE,
    FEATURES,
    IMAGES,
    INCEPTION_SIZE,
    PRECISION,
    RANK,
    of_sets,
)
from recbench_metrics.pretrained import EFFICIENTNET_LITE0, INCEPTION
from recbench_metrics.pretrained_transformers import CLIP_L336, DINOV2_WEIGHTS

_REFERENCE = Parameter(
    "reference",
    str,
    "test",
    "the images that the evaluated ones are compared with: those of the test set, or of training. Values of the two "
    "are not comparable",
    choices=("test", "train"),
)
_TO_TRAINING = (
    "Compared with the training images, as in publications whose statistics are of ImageNet's training set; fid and "
    "fd_enet compare with the test images. A perfect reconstruction scores what the test images do, not 0."
)
_NETWORK_WEIGHTS = {"efficientnet": EFFICIENTNET_LITE0, "inception": INCEPTION, "dinov2": DINOV2_WEIGHTS["large"]}


def _network_weights(shape: ImageShape, params: Mapping[str, Any]) -> Iterator[Weights]:
    yield _NETWORK_WEIGHTS[params["network"]]


def _dinov2_weights(shape: ImageShape, params: Mapping[str, Any]) -> Iterator[Weights]:
    yield DINOV2_WEIGHTS[params["size"]]


def set_entries() -> Iterator[MetricEntry]:
    """Yield the entries."""
    yield from of_sets(
        "fid_train",
        "recbench_metrics.references:FIDToTraining",
        "Fréchet Inception distance of {} to the training images",
        score_range=(0, inf),
        parameters=(PRECISION, IMAGES),
        convention=replace(INCEPTION_SIZE, reference="train"),
        requirements=COLOUR_OR_GREY,
        weights=(INCEPTION,),
        direction="lower",
        family="distribution",
        digits=2,
        citation="Heusel et al., GANs Trained by a Two Time-Scale Update Rule, NeurIPS 2017, equation 6",
        notes=f"{_TO_TRAINING} {RANK} {FEATURES}",
    )
    yield from of_sets(
        "fd_enet_train",
        "recbench_metrics.references:FDEfficientNetToTraining",
        "fd_enet of {} to the training images",
        score_range=(0, inf),
        parameters=(PRECISION, IMAGES),
        convention=replace(EFFICIENTNET_SIZE, reference="train"),
        requirements=COLOUR_OR_GREY,
        weights=(EFFICIENTNET_LITE0,),
        direction="lower",
        family="distribution",
        digits=2,
        citation="Heusel et al., NeurIPS 2017, equation 6, with the network of Tan and Le, EfficientNet, ICML 2019",
        notes=f"{_TO_TRAINING} {RANK} {FEATURES}",
    )
    yield from _precision_recall()
    yield from of_sets(
        "fd_dinov2",
        "recbench_metrics.modern:FDDINOv2",
        "Fréchet distance of {} to the data by features of DINOv2",
        score_range=(0, inf),
        parameters=(
            Parameter(
                "size",
                str,
                "large",
                "of the network: ViT-L/14, with which the distance was published, or ViT-B/14 and ViT-S/14, which are "
                "faster and on other scales",
                choices=("small", "base", "large"),
            ),
            _REFERENCE,
            PRECISION,
            IMAGES,
        ),
        convention=Convention(reference="reference", resize="bicubically as Pillow does, to 224x224", limit="images"),
        requirements=COLOUR_OR_GREY,
        weights=tuple(DINOV2_WEIGHTS.values()),
        needed=_dinov2_weights,
        direction="lower",
        family="distribution",
        digits=1,
        citation="Stein et al., Exposing flaws of generative model evaluation metrics, NeurIPS 2023",
        notes=(
            "The distance of fid, by the class token of a network that was trained without labels: of 17 encoders, the "
            f"one whose distances agree best with people. Published numbers are to training images. {RANK} {FEATURES}"
        ),
    )
    yield from of_sets(
        "cmmd",
        "recbench_metrics.modern:CMMD",
        "maximum mean discrepancy of {} and the data by embeddings of CLIP",
        score_range=(0, 2000),
        parameters=(_REFERENCE, PRECISION, IMAGES),
        convention=Convention(reference="reference", resize="bicubically, to 336x336", limit="images"),
        requirements=COLOUR_OR_GREY,
        weights=(CLIP_L336,),
        direction="lower",
        family="distribution",
        digits=3,
        citation=(
            "Jayasumana et al., Rethinking FID: Towards a Better Evaluation Metric for Image Generation, CVPR 2024"
        ),
        notes=(
            "Embeddings of length 1 of CLIP's ViT-L/14 for 336 pixels, a Gaussian kernel of deviation 10, times 1000. "
            "It assumes no normal distribution. The estimate is the authors', which is biased: each image counts as a "
            f"pair with itself, which adds a little that is the less the more images there are. {FEATURES}"
        ),
    )
    yield _text()


def _precision_recall() -> Iterator[MetricEntry]:
    """Yield precision and recall of reconstructions and of samples."""
    classes = {"recon": "PrecisionRecallOfReconstructions", "gen": "PrecisionRecall"}
    for suffix, judged in (("recon", "reconstructions"), ("gen", "samples")):
        yield MetricEntry(
            name=f"precision_recall_{suffix}",
            factory=f"recbench_metrics.modern:{classes[suffix]}",
            summary=f"share of {judged} among the data by features, and of the data among {judged}",
            direction="higher",
            score_range=(0, 1),
            digits=3,
            samples=suffix == "gen",
            family="distribution",
            scores=(
                MetricScore(name=f"precision_{suffix}", summary=f"share of {judged} in the manifold of the data"),
                MetricScore(name=f"recall_{suffix}", summary=f"share of the data in the manifold of {judged}"),
            ),
            parameters=(
                Parameter(
                    "network",
                    str,
                    "efficientnet",
                    "whose features are compared; dinov2 is ViT-L/14. The paper's is VGG-16, so that no value can be "
                    "compared with its numbers",
                    choices=tuple(_NETWORK_WEIGHTS),
                ),
                Parameter("neighbours", int, 3, "k: an image's ball reaches to its k-th nearest", minimum=1),
                _REFERENCE,
                PRECISION,
                IMAGES,
            ),
            convention=Convention(reference="reference", resize="as the network wants them", limit="images"),
            requirements=COLOUR_OR_GREY,
            weights=tuple(_NETWORK_WEIGHTS.values()),
            needed=_network_weights,
            citation=(
                "Kynkäänniemi et al., Improved Precision and Recall Metric for Assessing Generative Models, NeurIPS "
                "2019, equations 1 and 2"
            ),
            notes=(
                "The manifold of a set of images is the union of balls around their features. Both scores depend on "
                "the numbers of images, as balls shrink with more of them: compare values of equal numbers only. "
                f"{FEATURES}"
            ),
        )


def _text() -> MetricEntry:
    return MetricEntry(
        name="text",
        factory="recbench_metrics.text:Text",
        summary="how much of the text in the test images can still be read in reconstructions",
        direction="higher",
        score_range=(0, 1),
        digits=3,
        family="text",
        scores=(
            MetricScore(name="text_accuracy", summary="mean of 1 − edits / length of the longer text"),
            MetricScore(name="text_exact", summary="share of texts that are read the same"),
        ),
        parameters=(
            Parameter(
                "images",
                int,
                0,
                "number of images that are read, the first ones; 0: all. Reading takes about a second an image",
                minimum=0,
            ),
        ),
        requirements=COLOUR_OR_GREY,
        packages=("rapidocr_onnxruntime",),
        install="pip install 'recbench[text]'",
        citation=(
            "1 − normalized edit distance as in Zhang et al., ICDAR 2019 ReCTS; for autoencoders, T-NED and T-ACC of "
            "Wu et al., TokBench, 2025"
        ),
        notes=(
            "Texts are found and read in the test images by the models that the package rapidocr-onnxruntime carries "
            "(PP-OCRv4, for Chinese and English); the same places are read in the reconstructions. Where the paper "
            "knows what is written, here counts what is read in the test image: mistakes of the reader on both sides "
            "cancel. Texts that it is not sure of (below 0.5), and images without any, do not count; a warning says "
            "how many did. Without any text in the test images there is no score, and an error says so."
        ),
    )
