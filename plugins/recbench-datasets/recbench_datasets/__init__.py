"""Data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recbench import DatasetEntry, ImageShape, Parameter, hookimpl
from recbench.contracts.entries import RawFile

_SPLIT_SEED = Parameter("split_seed", int, 0, "decides which images are in which split", minimum=0)
_DUPLICATES = Parameter(
    "duplicates",
    str,
    "error",
    "what becomes of images that are in two splits: an error that names them, or the copy not used for testing is "
    "left out",
    choices=("error", "drop"),
)
_FACES = (
    Parameter("validation", float, 0.05, "part of the images for validation, taken from the first 80%", minimum=0),
    Parameter("test", float, 0.2, "part of the images for testing", above=0),
    _DUPLICATES,
)


# Addresses and MD5s of torchvision, but of CIFAR those of its page, for the binary versions.
_CIFAR10 = (
    RawFile(
        file="cifar-10-binary.tar.gz",
        address="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        size=170_052_171,
        md5="c32a1d4ab5d03f1284b67883e8d87530",
    ),
)
_CIFAR100 = (
    RawFile(
        file="cifar-100-binary.tar.gz",
        address="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
        size=168_513_733,
        md5="03b5dce01913d631647c71ecec9e9cb8",
    ),
)
_MNIST = (
    RawFile(
        file="train-images-idx3-ubyte.gz",
        address="https://ossci-datasets.s3.amazonaws.com/mnist/train-images-idx3-ubyte.gz",
        size=9_912_422,
        md5="f68b3c2dcbeaaa9fbdd348bbdeb94873",
    ),
    RawFile(
        file="t10k-images-idx3-ubyte.gz",
        address="https://ossci-datasets.s3.amazonaws.com/mnist/t10k-images-idx3-ubyte.gz",
        size=1_648_877,
        md5="9fb629c4189551a2d022fa330f9573f3",
    ),
)
_FASHION_MNIST = (
    RawFile(
        file="train-images-idx3-ubyte.gz",
        address="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/train-images-idx3-ubyte.gz",
        size=26_421_880,
        md5="8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    ),
    RawFile(
        file="t10k-images-idx3-ubyte.gz",
        address="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-images-idx3-ubyte.gz",
        size=4_422_102,
        md5="bef4ecab320f06d8554ea6380940ec79",
    ),
)
_SVHN = (
    RawFile(
        file="train_32x32.mat",
        address="http://ufldl.stanford.edu/housenumbers/train_32x32.mat",
        size=182_040_794,
        md5="e26dedcc434d2e4c54c9b2d4a06d8373",
    ),
    RawFile(
        file="test_32x32.mat",
        address="http://ufldl.stanford.edu/housenumbers/test_32x32.mat",
        size=64_275_384,
        md5="eb5a983be6a315427106f1b164d9cef3",
    ),
)
_STL10 = (
    RawFile(
        file="stl10_binary.tar.gz",
        address="http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        size=2_640_397_119,
        md5="91f7769df0f17e558f3565bffb0c7dfb",
    ),
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


def _root(name: str) -> Parameter:
    return Parameter("root", str, f"data/{name}", "the folder, relative to where recbench is started; ~ is your home")


def _validation(default: float = 0.1) -> Parameter:
    return Parameter(
        "validation",
        float,
        default,
        "part of the training images that is held out for validation",
        minimum=0,
        maximum=0.9,
    )


def _published(name: str) -> tuple[Parameter, ...]:
    return (_root(name), _validation(), _SPLIT_SEED, _DUPLICATES)


def _leaves_training(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    if params["validation"] + params["test"] >= 1:
        yield "needs validation + test below 1"


def _check_celeba(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    yield from _leaves_training(shape, params)
    if params["size"] > params["crop"]:
        yield "needs size <= crop"


def _check_hcp(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    yield from _leaves_training(shape, params)
    if params["first"] >= params["last"]:
        yield "needs first < last"
    if params["lower"] >= params["upper"]:
        yield "needs lower < upper"


@hookimpl
def recbench_datasets() -> Iterator[DatasetEntry]:
    yield DatasetEntry(
        name="photos",
        factory="recbench_datasets.photos:Photos",
        summary="crops of the photographs that scikit-image ships; nothing to download",
        parameters=(
            Parameter("size", int, 64, "side of the crops in pixels", minimum=8, maximum=256),
            Parameter("train", int, 4096, "number of training crops", minimum=1, maximum=100_000),
            Parameter("validation", int, 256, "number of validation crops", minimum=0, maximum=100_000),
            Parameter("test", int, 256, "number of test crops", minimum=1, maximum=100_000),
            Parameter("smallest", float, 0.1, "smallest crop, as a part of the photograph's shorter side", above=0),
            Parameter(
                "largest", float, 0.4, "largest crop, as a part of the photograph's shorter side", above=0, maximum=1
            ),
        ),
        check=lambda shape, params: ["needs smallest <= largest"] if params["smallest"] > params["largest"] else [],
        licence="public domain or CC0, see skimage/data/README.txt",
        notes=(
            "Training, validation and test crops come from different photographs. Half of all crops are mirrored; "
            "training crops are also turned by a multiple of 90 degrees and have their colour channels shuffled."
        ),
    )
    yield DatasetEntry(
        name="shapes",
        factory="recbench_datasets.shapes:Shapes",
        summary="drawn discs, rectangles and lines: exactly known images of any size; nothing to download",
        parameters=(
            Parameter("size", int, 64, "side of the images in pixels", minimum=8, maximum=1024),
            Parameter("channels", int, 3, "3 for colour, 1 for grey", choices=(1, 3)),
            Parameter("train", int, 4096, "number of training images", minimum=1, maximum=1_000_000),
            Parameter("validation", int, 256, "number of validation images", minimum=0, maximum=1_000_000),
            Parameter("test", int, 256, "number of test images", minimum=1, maximum=1_000_000),
            Parameter("seed", int, 0, "decides which scenes are drawn", minimum=0),
        ),
        licence="MIT, as recbench",
        notes="Scenes are defined on the unit square: an image shows the same scene at every size.",
    )
    yield DatasetEntry(
        name="image_folder",
        factory="recbench_datasets.image_folder:ImageFolder",
        summary="any folder of images, cropped to a square and resized",
        parameters=(
            Parameter("root", str, "images", "the folder; searched with all folders in it, hidden files left out"),
            Parameter("size", int, 64, "side of the images in pixels", minimum=8, maximum=1024),
            Parameter("channels", int, 3, "3 for colour, 1 for grey; the files must have as many", choices=(1, 3)),
            Parameter(
                "crop", int, 0, "side of the square cut from the centre, in pixels; 0: the shorter side", minimum=0
            ),
            Parameter("validation", float, 0.1, "part of the images for validation", minimum=0, maximum=0.9),
            Parameter("test", float, 0.2, "part of the images for testing", above=0, maximum=0.9),
            _SPLIT_SEED,
            _DUPLICATES,
        ),
        check=_leaves_training,
        licence="that of your images",
        obtain="The images are your own: -p root=FOLDER names the folder that holds them.",
        notes=(
            "Splits are drawn from the sorted names by split_seed. Folders named train, validation and test directly "
            "under root are taken as the splits instead, if train and test are there. Photographs are turned upright "
            "as their EXIF data say. Files of identical content in two splits count as duplicates."
        ),
    )
    yield DatasetEntry(
        name="arrays",
        factory="recbench_datasets.arrays:Arrays",
        summary="uint8 arrays of images in .npy or .npz files",
        parameters=(
            Parameter("root", str, "data/arrays", "a folder with train.npy and test.npy, or an .npz or .npy file"),
            Parameter(
                "layout",
                str,
                "auto",
                "order of the axes: images, height, width, channels; auto finds the axis with 1 or 3 channels",
                choices=("auto", "NHWC", "NCHW", "NHW"),
            ),
            Parameter(
                "validation",
                float,
                0.1,
                "part of the training images for validation, where no array of that name is there",
                minimum=0,
                maximum=0.9,
            ),
            Parameter(
                "test",
                float,
                0.2,
                "part of the training images for testing, where no array of that name is there",
                above=0,
                maximum=0.9,
            ),
            _SPLIT_SEED,
            _DUPLICATES,
        ),
        check=_leaves_training,
        licence="that of your images",
        obtain="The arrays are your own: -p root=FOLDER names the folder or file that holds them.",
        notes=(
            "Arrays hold uint8 images, 0 to 255, as (N, H, W, C), (N, C, H, W) or (N, H, W). A folder holds train.npy, "
            "and test.npy and validation.npy or not; an .npz file holds arrays of the same names, or just one array, "
            "which is divided. Files are memory-mapped; arrays of Python objects are never opened."
        ),
    )
    yield DatasetEntry(
        name="cifar10",
        factory="recbench_datasets.published:Cifar10",
        summary="CIFAR-10: 50,000 training and 10,000 test images in colour, 32 x 32",
        parameters=_published("cifar10"),
        files=_CIFAR10,
        licence="none stated by its authors",
        citation="Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images, technical report",
        notes=(
            "root holds cifar-10-binary.tar.gz, or its files, or train.npy and test.npy. The Python version is not "
            "read, as it consists of pickles. Validation images are drawn from the training images."
        ),
    )
    yield DatasetEntry(
        name="cifar100",
        factory="recbench_datasets.published:Cifar100",
        summary="CIFAR-100: 50,000 training and 10,000 test images in colour, 32 x 32",
        parameters=_published("cifar100"),
        files=_CIFAR100,
        licence="none stated by its authors",
        citation="Krizhevsky (2009), Learning Multiple Layers of Features from Tiny Images, technical report",
        notes=(
            "root holds cifar-100-binary.tar.gz, or its files, or train.npy and test.npy. The Python version is not "
            "read, as it consists of pickles. Validation images are drawn from the training images."
        ),
    )
    pad = Parameter("pad", bool, True, "add 2 black pixels on each side, for 32 x 32 in place of 28 x 28")
    yield DatasetEntry(
        name="mnist",
        factory="recbench_datasets.published:Mnist",
        summary="MNIST: 60,000 training and 10,000 test images of digits, grey, 28 x 28",
        parameters=(_root("mnist"), pad, *_published("mnist")[1:]),
        files=_MNIST,
        licence="CC BY-SA 3.0",
        citation="LeCun et al. (1998), Gradient-Based Learning Applied to Document Recognition, Proc. IEEE 86(11)",
        notes=(
            "root holds train-images-idx3-ubyte and t10k-images-idx3-ubyte, with .gz or without, or train.npy and "
            "test.npy with 28 x 28 pixels. Validation images are drawn from the training images."
        ),
    )
    yield DatasetEntry(
        name="fashion_mnist",
        factory="recbench_datasets.published:FashionMnist",
        summary="Fashion-MNIST: 60,000 training and 10,000 test images of clothes, grey, 28 x 28",
        parameters=(_root("fashion_mnist"), pad, *_published("fashion_mnist")[1:]),
        files=_FASHION_MNIST,
        licence="MIT",
        citation="Xiao, Rasul, Vollgraf (2017), Fashion-MNIST, arXiv:1708.07747",
        notes=(
            "root holds train-images-idx3-ubyte and t10k-images-idx3-ubyte, with .gz or without, or train.npy and "
            "test.npy with 28 x 28 pixels. Validation images are drawn from the training images."
        ),
    )
    yield DatasetEntry(
        name="svhn",
        factory="recbench_datasets.published:Svhn",
        summary="SVHN: 73,257 training and 26,032 test images of house numbers, in colour, 32 x 32",
        parameters=_published("svhn"),
        files=_SVHN,
        licence="for non-commercial use only",
        citation=(
            "Netzer et al. (2011), Reading Digits in Natural Images with Unsupervised Feature Learning, NIPS Workshop "
            "on Deep Learning"
        ),
        notes=(
            "root holds train_32x32.mat and test_32x32.mat (the cropped digits), or train.npy and test.npy. "
            "Validation images are drawn from the training images."
        ),
    )
    yield DatasetEntry(
        name="stl10",
        factory="recbench_datasets.published:Stl10",
        summary="STL-10: 5,000 training (or 105,000 with the unlabelled) and 8,000 test images in colour, 96 x 96",
        parameters=(
            _root("stl10"),
            Parameter("unlabeled", bool, False, "train on the 100,000 unlabelled images, too; needs 6 GB of memory"),
            *_published("stl10")[1:],
        ),
        files=_STL10,
        licence="none stated by its authors; the images are from ImageNet",
        citation=(
            "Coates, Ng, Lee (2011), An Analysis of Single-Layer Networks in Unsupervised Feature Learning, AISTATS"
        ),
        notes=(
            "root holds stl10_binary.tar.gz, or its files, or train.npy and test.npy. Validation images are drawn from "
            "the training images."
        ),
    )
    yield DatasetEntry(
        name="celeba",
        factory="recbench_datasets.faces:CelebA",
        summary="CelebA: 202,599 aligned photographs of faces, cut to a square and resized",
        parameters=(
            _root("celeba"),
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
            *_FACES,
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
            "root is the folder img_align_celeba, or holds it. The first 80% by number are for training and "
            "validation, the last 20% for testing, as Bredell et al. divide it; they do not say which. The order is "
            "that of the published partition, in which no person is in two parts. 148 pixels are the usual crop for "
            "64 x 64; 140 is common too, and crop: 64 cuts out 64 x 64 without resizing."
        ),
    )
    yield DatasetEntry(
        name="celeba_hq",
        factory="recbench_datasets.faces:CelebAHQ",
        summary="CelebA-HQ: 30,000 photographs of faces, resized",
        parameters=(
            _root("celeba_hq"),
            Parameter("size", int, 256, "side of the images in pixels", minimum=8, maximum=1024),
            Parameter("count", int, 30_000, "number of files that must be there; 0: any", minimum=0),
            *_FACES,
        ),
        check=_leaves_training,
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
            "testing."
        ),
    )
    yield DatasetEntry(
        name="selfie2anime",
        factory="recbench_datasets.faces:Selfie2Anime",
        summary="the drawn faces of selfie2anime: 3,400 for training and validation, 100 for testing",
        parameters=(
            _root("selfie2anime"),
            Parameter("size", int, 256, "side of the images in pixels", minimum=8, maximum=256),
            Parameter("train", int, 3000, "number of training images", minimum=1),
            Parameter("validation", int, 400, "number of validation images", minimum=0),
            Parameter("test", int, 100, "number of test images", minimum=1),
            _DUPLICATES,
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
    yield DatasetEntry(
        name="hcp",
        factory="recbench_datasets.hcp:Hcp",
        summary="random patches of slices of brain volumes in NIfTI files, grey",
        parameters=(
            _root("hcp"),
            Parameter("pattern", str, "*.nii*", "what the files of the volumes are called, one for each subject"),
            Parameter("size", int, 64, "side of the patches in pixels", minimum=8, maximum=1024),
            Parameter(
                "volumes", int, 400, "use the first so many volumes by name, or as many as there are; 0: all", minimum=0
            ),
            Parameter("patches", int, 64, "number of patches from each volume", minimum=1),
            Parameter("plane", str, "coronal", "direction of the slices", choices=("axial", "coronal", "sagittal")),
            Parameter("first", float, 0.0, "where the slices begin, as a part of the volume", minimum=0, maximum=1),
            Parameter("last", float, 1.0, "where the slices end, as a part of the volume", minimum=0, maximum=1),
            Parameter("step", int, 1, "take every so many-th slice", minimum=1),
            Parameter(
                "lower", float, 0.0, "percentile of the voxels above zero that becomes black", minimum=0, maximum=100
            ),
            Parameter(
                "upper", float, 99.5, "percentile of the voxels above zero that becomes white", minimum=0, maximum=100
            ),
            Parameter(
                "foreground",
                float,
                0.1,
                "part of a patch's pixels that must be brighter than a tenth of white, or it is drawn anew",
                minimum=0,
                maximum=1,
            ),
            Parameter("validation", float, 0.05, "part of the volumes for validation", minimum=0, maximum=0.9),
            Parameter("test", float, 0.2, "part of the volumes for testing", above=0, maximum=0.9),
            Parameter("gap", int, 8, "slices left out between the splits of a lone volume", minimum=0),
            Parameter(
                "seed", int, 0, "decides which volumes are in which split, and which patches are drawn", minimum=0
            ),
        ),
        check=_check_hcp,
        obtain=(
            "Register at the Human Connectome Project (humanconnectome.org/study/hcp-young-adult), accept its terms, "
            "get the packages 'Structural Preprocessed', and put them into root. Any NIfTI volumes will do, one for "
            "each subject."
        ),
        licence="WU-Minn HCP Open Access Data Use Terms",
        citation=(
            "Van Essen et al. (2013), The WU-Minn Human Connectome Project: An Overview, NeuroImage 80; "
            "preprocessing: Volokitin et al. (2020), Modelling the Distribution of 3D Brain MRI using a 2D Slice VAE, "
            "MICCAI"
        ),
        notes=(
            "Needs nibabel: pip install 'recbench[mri]'. root holds one volume for each subject, in it or in a folder "
            "for the subject; for the project's own folders, set pattern: T1w_acpc_dc_restore_brain.nii.gz, the volume "
            "that Volokitin et al. used: without skull, of 0.7 mm, from which they took coronal slices, divided by the "
            "volume's maximum (upper: 100). Subjects are divided between the splits; a lone volume is divided along "
            "its slices. Bredell et al. used 400 volumes; how many patches from each, they do not say."
        ),
    )
