"""Entries of the data sets in :mod:`recbench_datasets.published`, and the files that they are downloaded from."""

from __future__ import annotations

from collections.abc import Iterator

from recbench import DatasetEntry, Parameter
from recbench.contracts.entries import RawFile
from recbench_datasets._parameters import DUPLICATES, SPLIT_SEED, root

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
    return (root(name), _validation(), SPLIT_SEED, DUPLICATES)


def published_entries() -> Iterator[DatasetEntry]:
    """Yield the entries in the order in which they are listed."""
    yield DatasetEntry(
        name="cifar10",
        factory="recbench_datasets.published:Cifar10",
        locations=("root",),
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
        locations=("root",),
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
        locations=("root",),
        summary="MNIST: 60,000 training and 10,000 test images of digits, grey, 28 x 28",
        parameters=(root("mnist"), pad, *_published("mnist")[1:]),
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
        locations=("root",),
        summary="Fashion-MNIST: 60,000 training and 10,000 test images of clothes, grey, 28 x 28",
        parameters=(root("fashion_mnist"), pad, *_published("fashion_mnist")[1:]),
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
        locations=("root",),
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
        locations=("root",),
        summary="STL-10: 5,000 training (or 105,000 with the unlabelled) and 8,000 test images in colour, 96 x 96",
        parameters=(
            root("stl10"),
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
