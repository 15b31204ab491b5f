"""CIFAR, MNIST, Fashion-MNIST, STL-10 and SVHN, from small files written here in the published formats."""

from __future__ import annotations

import gzip
import io
import struct
import subprocess
import sys
import tarfile
from importlib import import_module

import numpy as np
import pytest

from recbench.contracts.dataset import SPLITS
from recbench.contracts.entries import ImageShape
from recbench.errors import UserError
from recbench_datasets import recbench_datasets
from recbench_datasets.matlab import read_uint8

ENTRIES = {entry.name: entry for entry in recbench_datasets()}
NAMES = ("cifar10", "cifar100", "mnist", "fashion_mnist", "svhn", "stl10")
SHAPES = {"mnist": (28, 28), "fashion_mnist": (28, 28), "stl10": (96, 96, 3)}
ARCHIVES = {"cifar10": "cifar-10-binary", "cifar100": "cifar-100-binary", "stl10": "stl10_binary"}
FOLDERS = {
    "cifar10": "cifar-10-batches-bin",
    "cifar100": "cifar-100-binary",
    "stl10": "stl10_binary",
    "mnist": "MNIST/raw",
    "fashion_mnist": "FashionMNIST/raw",
    "svhn": "SVHN",
}


def create(name, root, **params):
    module, _, factory = ENTRIES[name].factory.partition(":")
    own = {"pad": False} if "mnist" in name else {}
    return getattr(import_module(module), factory)(**ENTRIES[name].complete({"root": str(root), **own, **params}))


def load(dataset, split):
    return np.stack(list(dataset.images(split)))


def images(name, count, seed):
    shape = SHAPES.get(name, (32, 32, 3))
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def cifar(pixels, labels):
    """Byte by byte, as its page tells: labels, then 1024 red, 1024 green and 1024 blue bytes, row by row."""
    out = bytearray()
    for image in pixels:
        out += bytes(range(labels))
        for channel in range(3):
            out += bytes(int(value) for row in image for value in row[:, channel])
    return bytes(out)


def stl(pixels):
    """Each plane is written column by column."""
    return b"".join(image[:, :, channel].tobytes(order="F") for image in pixels for channel in range(3))


def idx(pixels):
    return struct.pack(">HBBIII", 0, 8, 3, *pixels.shape) + pixels.tobytes()


def mat(pixels):
    from scipy.io import savemat

    stream = io.BytesIO()
    savemat(stream, {"y": np.arange(3), "X": pixels.transpose(1, 2, 3, 0)}, do_compression=True)
    return stream.getvalue()


def published(name, train, test):
    """The files of a data set, by name."""
    if name == "cifar10":
        batches = {f"data_batch_{n + 1}.bin": cifar(part, 1) for n, part in enumerate(np.array_split(train, 5))}
        return {**batches, "test_batch.bin": cifar(test, 1)}
    if name == "cifar100":
        return {"train.bin": cifar(train, 2), "test.bin": cifar(test, 2)}
    if name == "svhn":
        return {"train_32x32.mat": mat(train), "test_32x32.mat": mat(test)}
    if name == "stl10":
        return {"train_X.bin": stl(train), "test_X.bin": stl(test)}
    return {"train-images-idx3-ubyte": idx(train), "t10k-images-idx3-ubyte": idx(test)}


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)


def pack(archive, folder, files):
    with tarfile.open(archive, "w:gz") as members:
        for file, content in {"readme.html": b"not an image", **files}.items():
            member = tarfile.TarInfo(f"{folder}/{file}")
            member.size = len(content)
            members.addfile(member, io.BytesIO(content))


def with_channels(pixels):
    return pixels if pixels.ndim == 4 else pixels[..., np.newaxis]


def check(dataset, train, test):
    np.testing.assert_array_equal(load(dataset, "train"), with_channels(train))
    np.testing.assert_array_equal(load(dataset, "test"), with_channels(test))
    assert dataset.source() == dataset.source()


@pytest.mark.parametrize("where", ["root", "folder"])
@pytest.mark.parametrize("name", NAMES)
def test_published_files(tmp_path, name, where):
    train, test = images(name, 10, 0), images(name, 4, 1)
    write(tmp_path if where == "root" else tmp_path / FOLDERS[name], published(name, train, test))
    check(create(name, tmp_path, validation=0.0), train, test)


@pytest.mark.parametrize("name", ARCHIVES)
def test_published_archives_are_read_without_being_unpacked(tmp_path, name):
    train, test = images(name, 10, 0), images(name, 4, 1)
    pack(tmp_path / f"{ARCHIVES[name]}.tar.gz", FOLDERS[name], published(name, train, test))
    check(create(name, tmp_path, validation=0.0), train, test)
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_compressed_files(tmp_path, name):
    train, test = images(name, 10, 0), images(name, 4, 1)
    files = {f"{file}.gz": gzip.compress(content) for file, content in published(name, train, test).items()}
    write(tmp_path, files)
    check(create(name, tmp_path, validation=0.0), train, test)


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_plain_arrays(tmp_path, name, channels_first):
    train, test = images(name, 10, 0), images(name, 4, 1)
    for split, pixels in (("train", train), ("test", test)):
        np.save(tmp_path / f"{split}.npy", with_channels(pixels).transpose(0, 3, 1, 2) if channels_first else pixels)
    check(create(name, tmp_path, validation=0.0), train, test)


@pytest.mark.parametrize("name", NAMES)
def test_plain_arrays_of_another_size(tmp_path, name):
    for split in ("train", "test"):
        np.save(tmp_path / f"{split}.npy", np.zeros((4, 16, 16, 3), dtype=np.uint8))
    with pytest.raises(UserError, match=r"train\.npy holds images of shape \(16, 16, 3\), expected .*"):
        list(create(name, tmp_path).images("train"))


@pytest.mark.parametrize("name", NAMES)
def test_the_shape_is_known_without_files(tmp_path, name):
    wanted = {"mnist": (1, 28, 28), "fashion_mnist": (1, 28, 28), "stl10": (3, 96, 96)}.get(name, (3, 32, 32))
    assert create(name, tmp_path).shape == ImageShape(*wanted)


@pytest.mark.parametrize("name", NAMES)
def test_validation_images_are_held_out_of_the_training_images(tmp_path, name):
    train, test = images(name, 20, 0), images(name, 4, 1)
    write(tmp_path, published(name, train, test))
    dataset = create(name, tmp_path, validation=0.25)
    assert [len(list(dataset.images(split))) for split in SPLITS] == [15, 5, 4]
    both = [image.tobytes() for split in ("train", "validation") for image in dataset.images(split)]
    assert sorted(both) == sorted(image.tobytes() for image in train)


def test_padding_puts_black_around_digits(tmp_path):
    train, test = images("mnist", 10, 0), images("mnist", 4, 1)
    write(tmp_path, published("mnist", train, test))
    dataset = create("mnist", tmp_path, pad=True)
    assert dataset.shape == ImageShape(1, 32, 32)
    padded = load(dataset, "test")
    np.testing.assert_array_equal(padded[:, 2:30, 2:30, 0], test)
    assert int(padded.sum()) == int(test.sum())


def test_unlabelled_images_are_for_training(tmp_path):
    train, test, more = images("stl10", 4, 0), images("stl10", 2, 1), images("stl10", 3, 2)
    write(tmp_path, {**published("stl10", train, test), "unlabeled_X.bin": stl(more)})
    dataset = create("stl10", tmp_path, unlabeled=True, validation=0.0)
    check(dataset, np.concatenate([train, more]), test)
    assert len(list(create("stl10", tmp_path, validation=0.0).images("train"))) == 4


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_folder_is_told_what_it_should_hold(tmp_path, name):
    with pytest.raises(UserError) as caught:
        create(name, tmp_path).source()
    text = str(caught.value)
    assert f"the folder {tmp_path} holds no " in text
    assert "train.npy and test.npy" in text
    assert all(file in text for file in published(name, images(name, 5, 0), images(name, 1, 1)))


def test_missing_files_are_named(tmp_path):
    files = published("cifar10", images("cifar10", 10, 0), images("cifar10", 4, 1))
    del files["data_batch_3.bin"], files["test_batch.bin"]
    write(tmp_path, files)
    with pytest.raises(UserError) as caught:
        create("cifar10", tmp_path).source()
    assert str(caught.value) == (
        f"2 of the 6 files of CIFAR-10 are missing in {tmp_path}:\n  data_batch_3.bin\n  test_batch.bin"
    )
    pack(tmp_path / "part.tar.gz", FOLDERS["cifar10"], files)
    for file in files:
        (tmp_path / file).unlink()
    (tmp_path / "part.tar.gz").rename(tmp_path / "cifar-10-binary.tar.gz")
    with pytest.raises(UserError, match="2 of the 6 files are missing in"):
        list(create("cifar10", tmp_path).images("train"))


def test_one_array_without_the_other(tmp_path):
    np.save(tmp_path / "train.npy", images("cifar10", 4, 0))
    with pytest.raises(UserError, match=r"holds no test\.npy"):
        list(create("cifar10", tmp_path).images("train"))


@pytest.mark.parametrize("name", ["cifar-10-python.tar.gz", "cifar-10-batches-py"])
def test_pickles_are_refused(tmp_path, name):
    (tmp_path / name).mkdir() if name.endswith("py") else (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"made of pickles, .* cifar-10-binary"):
        create("cifar10", tmp_path).source()


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        ("cifar10", "data_batch_2.bin", "not a multiple of the 3073 of an image: it is incomplete"),
        ("cifar100", "test.bin", "not a multiple of the 3074 of an image: it is incomplete"),
        ("stl10", "train_X.bin", "not a multiple of the 27648 of an image: it is incomplete"),
        ("mnist", "train-images-idx3-ubyte", "bytes, expected 7856 for 10 images"),
        ("svhn", "train_32x32.mat", "is incomplete: "),
    ],
)
def test_truncated_files_are_named(tmp_path, name, file, said):
    write(tmp_path, published(name, images(name, 10, 0), images(name, 4, 1)))
    (tmp_path / file).write_bytes((tmp_path / file).read_bytes()[:-100])
    with pytest.raises(UserError) as caught:
        list(create(name, tmp_path).images("train"))
    assert str(caught.value).startswith(str(tmp_path / file))
    assert said in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_empty_files_are_named(tmp_path, name):
    files = published(name, images(name, 10, 0), images(name, 4, 1))
    write(tmp_path, dict.fromkeys(files, b""))
    with pytest.raises(UserError, match=rf"{tmp_path}/{next(iter(files))}.* (holds no images|is not a)"):
        list(create(name, tmp_path).images("train"))


@pytest.mark.parametrize("content", [b"no archive", None])
def test_broken_archives_are_named(tmp_path, content):
    archive = tmp_path / "cifar-10-binary.tar.gz"
    pack(archive, FOLDERS["cifar10"], published("cifar10", images("cifar10", 10, 0), images("cifar10", 4, 1)))
    archive.write_bytes(archive.read_bytes()[:5000] if content is None else content)
    with pytest.raises(UserError, match=rf"{archive} is broken"):
        list(create("cifar10", tmp_path).images("train"))


def test_broken_compression_is_named(tmp_path):
    files = published("mnist", images("mnist", 10, 0), images("mnist", 4, 1))
    write(tmp_path, {f"{file}.gz": gzip.compress(content)[:-50] for file, content in files.items()})
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte\.gz is broken"):
        list(create("mnist", tmp_path).images("train"))


def test_links_in_archives_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(cifar(images("cifar100", 2, 0), 2))
    with tarfile.open(tmp_path / "cifar-100-binary.tar.gz", "w:gz") as members:
        for file in ("train.bin", "test.bin"):
            member = tarfile.TarInfo(file)
            member.type, member.linkname = tarfile.SYMTYPE, str(secret)
            members.addfile(member)
    with pytest.raises(UserError, match="2 of the 2 files are missing in"):
        list(create("cifar100", tmp_path).images("train"))


def test_idx_files_of_something_else(tmp_path):
    write(tmp_path, published("mnist", images("mnist", 4, 0), images("mnist", 4, 1)))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(struct.pack(">HBBI", 0, 8, 1, 4) + bytes(20))
    with pytest.raises(UserError, match="train-images-idx3-ubyte: is not an IDX file of images"):
        list(create("mnist", tmp_path).images("train"))
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(np.zeros((4, 14, 14), dtype=np.uint8)))
    with pytest.raises(UserError, match="holds images of 14x14, expected 28x28"):
        list(create("mnist", tmp_path).images("train"))


def test_training_images_that_are_tested_on_are_named(tmp_path):
    train, test = images("cifar10", 10, 0), images("cifar10", 4, 1)
    train[6] = test[2]
    write(tmp_path, published("cifar10", train, test))
    with pytest.raises(UserError, match=r"1 of the images in .* are in two splits") as caught:
        list(create("cifar10", tmp_path, validation=0.0).images("test"))
    assert "image 6 of train (train) is the same as image 2 of test (test)" in str(caught.value)
    dropped = create("cifar10", tmp_path, validation=0.0, duplicates="drop")
    np.testing.assert_array_equal(load(dropped, "train"), np.delete(train, 6, axis=0))
    np.testing.assert_array_equal(load(dropped, "test"), test)


# MATLAB files, against SciPy's writer


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("shape", [(32, 32, 3, 5), (1, 3), (2, 2)])
def test_matlab_arrays_are_those_that_scipy_wrote(compressed, shape):
    from scipy.io import savemat

    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    stream = io.BytesIO()
    savemat(stream, {"first": np.eye(3), "X": array, "Xs": array + 1}, do_compression=compressed)
    np.testing.assert_array_equal(read_uint8(stream.getvalue(), "X", 1 << 20), array)


def test_matlab_files_of_something_else():
    from scipy.io import savemat

    stream = io.BytesIO()
    savemat(stream, {"X": np.eye(3), "y": np.zeros(40_000, dtype=np.uint8)}, do_compression=True)
    with pytest.raises(ValueError, match="X of type double, expected uint8"):
        read_uint8(stream.getvalue(), "X", 1 << 20)
    with pytest.raises(ValueError, match="holds no array z"):
        read_uint8(stream.getvalue(), "z", 1 << 20)
    with pytest.raises(ValueError, match="unpacks to more than 10000 bytes"):
        read_uint8(stream.getvalue(), "y", 10_000)
    for content in (b"", b"\x89HDF" + bytes(200)):
        with pytest.raises(ValueError, match="is not a MATLAB file of level 5"):
            read_uint8(content, "X", 1 << 20)


@pytest.mark.parametrize("compressed", [True, False])
def test_damaged_matlab_files_are_refused(compressed):
    from scipy.io import savemat

    stream = io.BytesIO()
    savemat(
        stream, {"X": np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), np.uint8)}, do_compression=compressed
    )
    content = stream.getvalue()
    for damaged in (content[:-100], content[:140], content[:128] + b"\xff" * 200):
        with pytest.raises(ValueError, match=r"is (incomplete|broken)"):
            read_uint8(damaged, "X", 1 << 20)


def test_matlab_arrays_that_claim_more_than_there_is_take_no_memory():
    from scipy.io import savemat

    stream = io.BytesIO()
    savemat(stream, {"X": np.zeros((7, 5, 3, 2), np.uint8)})
    shape = struct.pack("<4i", 7, 5, 3, 2)
    assert stream.getvalue().count(shape) == 1
    with pytest.raises(ValueError, match=r"is broken: it claims an array X of shape \(700000, 500000, 3, 2\)"):
        read_uint8(stream.getvalue().replace(shape, struct.pack("<4i", 700_000, 500_000, 3, 2)), "X", 1 << 20)
    with pytest.raises(ValueError, match="is broken"):
        read_uint8(stream.getvalue().replace(shape, struct.pack("<4i", 7, 5, 3, 3)), "X", 1 << 20)


# The real thing


@pytest.fixture(scope="module")
def real_cifar10(tmp_path_factory, shared):
    folder = tmp_path_factory.mktemp("cifar10")
    subprocess.run([sys.executable, shared / "tools" / "cifar10_npy.py", folder], check=True)
    return folder


@pytest.mark.slow
def test_the_real_cifar10(real_cifar10, tmp_path):
    """Its published means; and through its binary format, a hundred images are the same."""
    dataset = create("cifar10", real_cifar10)
    train, validation, test = (load(dataset, split) for split in SPLITS)
    assert [len(train), len(validation), len(test)] == [45_000, 5_000, 10_000]
    means = np.concatenate([train, validation]).mean((0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.4914, 0.4822, 0.4465], atol=5e-5)
    write(tmp_path, published("cifar10", train[:100], test[:20]))
    check(create("cifar10", tmp_path, validation=0.0), train[:100], test[:20])
