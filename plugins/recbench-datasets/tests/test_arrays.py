"""Images in NumPy's files: layouts, splits, and what is said about files that cannot be used."""

from __future__ import annotations

import io
import itertools
import os
import pickle
import zipfile

import numpy as np
import pytest

from recbench.contracts.dataset import SPLITS
from recbench.contracts.entries import ImageShape
from recbench.errors import UserError
from recbench_datasets import recbench_datasets
from recbench_datasets.arrays import Arrays

(ENTRY,) = [entry for entry in recbench_datasets() if entry.name == "arrays"]


def create(root, **params):
    return Arrays(**ENTRY.complete({"root": str(root), **params}))


def pixels(count, *shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def load(dataset, split):
    return np.stack(list(dataset.images(split)))


@pytest.fixture
def folder(tmp_path):
    np.save(tmp_path / "train.npy", pixels(20, 8, 6, 3))
    np.save(tmp_path / "test.npy", pixels(5, 8, 6, 3, seed=1))
    return tmp_path


def test_a_folder(folder):
    dataset = create(folder, validation=0.25)
    assert dataset.shape == ImageShape(3, 8, 6)
    assert [len(list(dataset.images(split))) for split in SPLITS] == [15, 5, 5]
    np.testing.assert_array_equal(load(dataset, "test"), pixels(5, 8, 6, 3, seed=1))
    together = np.concatenate([load(dataset, "train"), load(dataset, "validation")])
    assert sorted(image.tobytes() for image in together) == sorted(image.tobytes() for image in pixels(20, 8, 6, 3))


def test_validation_images_are_the_same_every_time(folder):
    np.testing.assert_array_equal(load(create(folder), "validation"), load(create(folder), "validation"))
    other = load(create(folder, split_seed=1), "validation")
    assert not np.array_equal(load(create(folder), "validation"), other)


def test_a_folder_with_validation_images_of_its_own(folder):
    np.save(folder / "validation.npy", pixels(4, 8, 6, 3, seed=2))
    dataset = create(folder)
    assert [len(list(dataset.images(split))) for split in SPLITS] == [20, 4, 5]
    np.testing.assert_array_equal(load(dataset, "validation"), pixels(4, 8, 6, 3, seed=2))


@pytest.mark.parametrize(
    ("shape", "layout", "wanted"),
    [
        ((8, 6, 3), "auto", ImageShape(3, 8, 6)),
        ((8, 6, 1), "auto", ImageShape(1, 8, 6)),
        ((3, 8, 6), "auto", ImageShape(3, 8, 6)),
        ((8, 6), "auto", ImageShape(1, 8, 6)),
        ((5, 8, 6), "NCHW", ImageShape(5, 8, 6)),
        ((3, 6, 3), "NHWC", ImageShape(3, 3, 6)),
        ((3, 6, 3), "NCHW", ImageShape(3, 6, 3)),
    ],
)
def test_layouts(tmp_path, shape, layout, wanted):
    np.save(tmp_path / "all.npy", pixels(10, *shape))
    dataset = create(tmp_path / "all.npy", layout=layout, validation=0.0, test=0.3)
    assert dataset.shape == wanted
    image = next(iter(dataset.images("test")))
    assert image.shape == (wanted.height, wanted.width, wanted.channels)
    channels_first = image.transpose(2, 0, 1)
    kept = channels_first if shape[0] == wanted.channels and layout != "NHWC" and len(shape) == 3 else image
    assert kept.reshape(shape).tobytes() in {one.tobytes() for one in pixels(10, *shape)}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_npz_file(tmp_path, save):
    save(tmp_path / "both.npz", train=pixels(10, 4, 4), test=pixels(3, 4, 4, seed=1))
    dataset = create(tmp_path / "both.npz")
    assert dataset.shape == ImageShape(1, 4, 4)
    assert [len(list(dataset.images(split))) for split in SPLITS] == [9, 1, 3]
    save(tmp_path / "one.npz", pixels(10, 4, 4))
    dataset = create(tmp_path / "one.npz")
    assert [len(list(dataset.images(split))) for split in SPLITS] == [7, 1, 2]


def test_a_lone_file_is_divided_without_overlap_and_without_loss(tmp_path):
    np.save(tmp_path / "all.npy", pixels(40, 4, 4))
    dataset = create(tmp_path / "all.npy", validation=0.1, test=0.2)
    splits = [[image.tobytes() for image in dataset.images(split)] for split in SPLITS]
    assert [len(images) for images in splits] == [28, 4, 8]
    assert sorted(itertools.chain(*splits)) == sorted(image.tobytes() for image in pixels(40, 4, 4))


def test_files_are_memory_mapped(folder):
    assert isinstance(create(folder).arrays["train"], np.memmap)


@pytest.mark.parametrize("duplicates", ["error", "drop"])
def test_images_that_are_in_two_splits(folder, duplicates):
    train = pixels(20, 8, 6, 3)
    train[7], train[3] = pixels(5, 8, 6, 3, seed=1)[[4, 0]]
    train[11] = train[12]  # twice in one split is none of our business
    np.save(folder / "train.npy", train)
    dataset = create(folder, validation=0.0, duplicates=duplicates)
    if duplicates == "drop":
        np.testing.assert_array_equal(load(dataset, "train"), np.delete(train, [3, 7], axis=0))
        assert len(list(dataset.images("test"))) == 5
        return
    with pytest.raises(UserError) as caught:
        list(dataset.images("validation"))
    assert str(caught.value).splitlines() == [
        f"2 of the images in {folder} are in two splits (duplicates: drop leaves them out):",
        "  image 3 of train (train) is the same as image 0 of test (test)",
        "  image 7 of train (train) is the same as image 4 of test (test)",
    ]


def test_the_source_changes_with_the_files(folder):
    before = create(folder).source()
    assert create(folder).source() == before
    os.utime(folder / "test.npy", (0, 0))
    assert create(folder).source() != before


def spoil(folder, how):
    file = folder / "train.npy"
    if how == "float":
        np.save(file, np.zeros((4, 8, 6, 3), dtype=np.float32))
    elif how == "objects":
        np.save(file, np.array([None] * 4), allow_pickle=True)
    elif how == "pickle":
        file.write_bytes(pickle.dumps(pixels(4, 8, 6, 3)))
    elif how == "flat":
        np.save(file, pixels(4, 100))
    elif how == "channels":
        np.save(file, pixels(4, 8, 6, 2))
        (folder / "test.npy").unlink()
    elif how == "ambiguous":
        np.save(file, pixels(4, 3, 6, 3))
        (folder / "test.npy").unlink()
    elif how == "none":
        np.save(file, pixels(0, 8, 6, 3))
    elif how == "other size":
        np.save(file, pixels(4, 8, 8, 3))
    elif how == "text":
        file.write_text("no array")
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "negative":
        file.write_bytes(header((-4, 8, 6, 3)) + bytes(1000))
    elif how == "missing":
        file.unlink()


def header(shape):
    """The beginning of an .npy file of bytes, whatever follows."""
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return content.getvalue()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("float", "train.npy holds float32, expected uint8 (0 to 255)"),
        ("objects", "train.npy holds Python objects"),
        ("pickle", "train.npy is not a NumPy array"),
        ("flat", "train.npy has shape (4, 100)"),
        ("channels", "train.npy has shape (4, 8, 6, 2)"),
        ("ambiguous", "train.npy has shape (4, 3, 6, 3), whose channels may come first or last: set layout"),
        ("none", "train.npy holds no images"),
        ("other size", "test.npy holds images of shape (8, 6, 3), but"),
        ("text", "train.npy is not a NumPy array"),
        ("empty", "train.npy is not a NumPy array"),
        ("negative", "train.npy has shape (-4, 8, 6, 3)"),
        ("missing", "holds no train.npy"),
    ],
)
def test_files_that_cannot_be_used_are_named_before_anything_is_decoded(folder, how, said):
    spoil(folder, how)
    with pytest.raises(UserError) as caught:
        create(folder).source()
    assert said in str(caught.value)


def test_a_truncated_file(folder):
    whole = (folder / "train.npy").read_bytes()
    (folder / "train.npy").write_bytes(whole[:1000])
    with pytest.raises(UserError, match=r"train\.npy is broken"):
        list(create(folder).images("train"))


def test_a_truncated_npz_file(tmp_path):
    np.savez(tmp_path / "all.npz", pixels(10, 4, 4))
    whole = (tmp_path / "all.npz").read_bytes()
    (tmp_path / "all.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"all\.npz is not an \.npz file"):
        create(tmp_path / "all.npz").source()


def test_an_npz_file_that_claims_to_be_vast(tmp_path):
    """NumPy would take memory for all that the header says before it reads the first byte."""
    with zipfile.ZipFile(tmp_path / "all.npz", "w") as archive:
        archive.writestr("train.npy", header((10**9, 64, 64, 3)) + bytes(1000))
    with pytest.raises(UserError, match=r"shape \(1000000000, 64, 64, 3\) does not fit into its 1128 bytes"):
        create(tmp_path / "all.npz").source()


def test_an_npz_file_of_other_arrays(tmp_path):
    np.savez(tmp_path / "all.npz", x=pixels(3, 4, 4), y=np.zeros(3))
    with pytest.raises(UserError, match="holds 2 arrays, but none called train: x, y"):
        create(tmp_path / "all.npz").source()


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match=r"there is no folder or file .*nowhere"):
        create(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"holds no train\.npy"):
        create(tmp_path).source()


def claiming(shape: str) -> bytes:
    """An .npy file of bytes whose header says any shape."""
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(100)


@pytest.mark.parametrize(
    "shape",
    [
        "(9223372036854775807, 1, 1, 1)",
        "(9223372036854775808, 3, 4, 4)",
        "(99999999999999999999999, 3, 4, 4)",
        "(4294967296, 4294967296, 1, 1)",
        "(1000000, 3, 64, 64)",
        "(1, -2, 3, 4)",
        "(True, 3, 4, 4)",
    ],
)
def test_an_npy_file_that_claims_what_it_has_not(tmp_path, shape):
    (tmp_path / "lone.npy").write_bytes(claiming(shape))
    with pytest.raises(UserError, match=r"lone\.npy"):
        _ = create(tmp_path / "lone.npy").shape
