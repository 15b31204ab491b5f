"""Folders of images: what is taken, into which split, and what is said about files that cannot be used."""

import itertools
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recbench.contracts.dataset import SPLITS
from recbench.contracts.entries import ImageShape
from recbench.errors import UserError
from recbench_datasets import recbench_datasets
from recbench_datasets.image_folder import ImageFolder

(ENTRY,) = [entry for entry in recbench_datasets() if entry.name == "image_folder"]


def folder(root: Path, **params: object) -> ImageFolder:
    return ImageFolder(**ENTRY.complete({"root": str(root), "size": 16, **params}))


def write(file: Path, number: int = 0, size: tuple[int, int] = (24, 20), mode: str = "RGB") -> Path:
    """An image of one colour, by which it can be told from others."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (number, 255 - number, 7)).convert(mode).save(file)
    return file


def fill(root: Path, count: int = 20, first: int = 0) -> Path:
    for number in range(first, first + count):
        write(root / f"{number:03}.png", number)
    return root


def numbers(dataset: ImageFolder, split: str) -> list[int]:
    return [int(image[0, 0, 0]) for image in dataset.images(split)]


def test_images_are_split_without_overlap_and_without_loss(tmp_path):
    dataset = folder(fill(tmp_path), test=0.25, validation=0.1)
    found = {split: numbers(dataset, split) for split in SPLITS}
    assert {split: len(images) for split, images in found.items()} == {"train": 13, "validation": 2, "test": 5}
    assert sorted(itertools.chain.from_iterable(found.values())) == list(range(20))


def test_splits_do_not_depend_on_where_the_folder_is_or_on_the_order_of_writing(tmp_path):
    for number in reversed(range(20)):
        write(tmp_path / "moved" / f"{number:03}.png", number)
    one, other = folder(fill(tmp_path / "here")), folder(tmp_path / "moved")
    assert [numbers(one, split) for split in SPLITS] == [numbers(other, split) for split in SPLITS]


def test_the_split_seed_decides(tmp_path):
    fill(tmp_path)
    assert numbers(folder(tmp_path, split_seed=0), "test") == numbers(folder(tmp_path, split_seed=0), "test")
    assert numbers(folder(tmp_path, split_seed=0), "test") != numbers(folder(tmp_path, split_seed=1), "test")


def test_folders_of_that_name_are_the_splits(tmp_path):
    write(tmp_path / "train" / "a.png", 1)
    write(tmp_path / "train" / "deeper" / "b.png", 2)
    write(tmp_path / "validation" / "c.png", 3)
    write(tmp_path / "test" / "d.png", 4)
    dataset = folder(tmp_path)
    assert [numbers(dataset, split) for split in SPLITS] == [[1, 2], [3], [4]]


def test_images_outside_of_such_folders_are_an_error(tmp_path):
    write(tmp_path / "train" / "a.png")
    write(tmp_path / "test" / "b.png")
    write(tmp_path / "c.png")
    with pytest.raises(UserError, match="folders train and test, but also images outside of them"):
        list(folder(tmp_path).images("train"))


def test_a_train_folder_alone_is_a_folder_like_any_other(tmp_path):
    fill(tmp_path / "train", 10)
    dataset = folder(tmp_path)
    assert sorted(itertools.chain.from_iterable(numbers(dataset, split) for split in SPLITS)) == list(range(10))
    assert numbers(dataset, "test")


def test_images_have_the_promised_shape(tmp_path):
    fill(tmp_path, 4)
    dataset = folder(tmp_path, size=32)
    assert dataset.shape == ImageShape(3, 32, 32)
    for image in dataset.images("train"):
        assert image.shape == (32, 32, 3)
        assert image.dtype == np.uint8


@pytest.mark.parametrize(("crop", "corner"), [(0, 255), (10, 0)])
def test_the_crop_is_square_and_from_the_centre(tmp_path, crop, corner):
    """Without a crop in pixels, the shorter side counts: the left and right fifth of this image are cut off."""
    pixels = np.zeros((20, 28, 3), dtype=np.uint8)
    pixels[:, :4] = pixels[:, 24:] = 99  # outside of the square
    pixels[:2, 4:24] = pixels[18:, 4:24] = 255  # inside of the square, outside of a crop of 10
    for name in ("a.png", "b.png"):
        pixels[10, 14] = ord(name[0])  # no two files are the same
        Image.fromarray(pixels).save(tmp_path / name)
    (image,) = folder(tmp_path, size=20, crop=crop, validation=0.0).images("train")
    assert image[0, 0, 0] == corner
    assert not (image == 99).any()


@pytest.mark.parametrize("crop", [0, 16])
def test_what_is_cut_off_leaves_no_trace_when_the_rest_is_resized(tmp_path, crop):
    """Bicubic weights reach beyond the edges of the square."""
    side = crop or 20
    top, left = (20 - side) // 2, (28 - side) // 2
    for number in range(2):
        pixels = np.full((20, 28, 3), 255, dtype=np.uint8)
        pixels[top : top + side, left : left + side] = np.random.default_rng(number).integers(0, 40, (side, side, 3))
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    for split in ("train", "test"):
        (image,) = folder(tmp_path, size=8, crop=crop, validation=0.0).images(split)
        assert image.max() <= 40


def test_grey_images(tmp_path):
    for number in range(2):
        write(tmp_path / f"{number}.png", 100 * number, mode="L")
    dataset = folder(tmp_path, channels=1, validation=0.0)
    assert dataset.shape == ImageShape(1, 16, 16)
    assert [image.shape for image in dataset.images("train")] == [(16, 16, 1)]


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """A PNG file in colour, which Pillow reads and cannot write (PNG specification, clauses 5.3, 11.2.2, 9.2)."""
    height, width, _ = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def test_an_opaque_alpha_channel_hides_nothing(tmp_path):
    for number in range(4):
        write(tmp_path / f"{number}.png", number, mode="RGBA")
    dataset = folder(tmp_path)
    assert sum(len(list(dataset.images(split))) for split in SPLITS) == 4


def test_a_palette_of_greys_is_grey(tmp_path):
    for number in range(3):
        image = Image.new("P", (24, 24), number)
        image.putpalette([10, 10, 10, 20, 20, 20, 30, 30, 30])
        image.save(tmp_path / f"{number}.png")
    dataset = folder(tmp_path, channels=1, validation=0.0)
    assert sorted(int(image[0, 0, 0]) for split in SPLITS for image in dataset.images(split)) == [10, 20, 30]


@pytest.mark.parametrize("hidden", [False, True])
def test_empty_folders_are_counted_and_named(tmp_path, hidden):
    """Not even an empty folder ``test`` means that test images are to be drawn."""
    fill(tmp_path / "train", 5)
    (tmp_path / "test").mkdir()
    (tmp_path / "validation" / "deeper").mkdir(parents=True)
    if hidden:
        (tmp_path / "test" / ".DS_Store").write_text("not an image")
    with pytest.raises(UserError) as caught:
        folder(tmp_path).source()
    text = str(caught.value)
    assert text.startswith(f"2 of the folders in {tmp_path} are empty")
    assert all(str(tmp_path / name) in text for name in ("test", "validation/deeper"))


@pytest.mark.parametrize("name", [".hidden.png", ".thumbnails/a.png", "sub/.DS_Store"])
def test_hidden_files_are_left_out(tmp_path, name):
    fill(tmp_path, 4)
    write(tmp_path / "sub" / "4.png", 4)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("not an image")
    dataset = folder(tmp_path)
    assert sum(len(list(dataset.images(split))) for split in SPLITS) == 5


def test_a_hidden_folder_above_root_hides_nothing(tmp_path):
    fill(tmp_path / ".data" / "faces", 4)
    assert len(folder(tmp_path / ".data" / "faces").files) == 4


def spoil(file: Path, how: str) -> None:
    if how == "truncated":
        Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 24, 3), dtype=np.uint8)).save(file)
        file.write_bytes(file.read_bytes()[:200])
    elif how == "text":
        file.write_text("not an image")
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "grey":
        write(file, mode="L")
    elif how == "16 bits":
        Image.fromarray(np.full((24, 24), 40_000, dtype=np.uint16)).save(file)
    elif how == "16 bits in colour":
        file.write_bytes(png_of_16_bits(np.full((24, 24, 3), 40_000)))
    elif how == "animated":
        frames = [Image.fromarray(np.full((24, 24, 3), level, dtype=np.uint8)) for level in (0, 99, 200)]
        frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:])
    elif how == "pages":
        pages = [Image.new("RGB", (24, 24), (level, 0, 9)) for level in (1, 2)]
        pages[0].save(file, format="TIFF", save_all=True, append_images=pages[1:])
    elif how == "transparent":
        Image.new("RGBA", (24, 24), (1, 2, 3, 254)).save(file)
    elif how == "grey palette":
        image = Image.fromarray(np.zeros((24, 24), dtype=np.uint8), "L")
        image.putpalette([9, 9, 9, 200, 0, 0])  # the red is not used
        image.save(file)
    elif how == "small":
        write(file, size=(24, 12))
    elif how == "unreadable header":  # Pillow's reader raises a plain ValueError for this one
        file.write_bytes(b"P6\n4\xb2 40\n255\n" + bytes(100))


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("truncated", "is broken"),
        ("text", "is not an image"),
        ("empty", "is not an image"),
        ("grey", "is grey, expected colour"),
        ("16 bits", "more than 8 bits a channel"),
        ("16 bits in colour", "more than 8 bits a channel"),
        ("animated", "holds 3 images"),
        ("pages", "holds 2 images"),
        ("transparent", "is transparent in places"),
        ("grey palette", "is grey, expected colour"),
        ("small", "is 24x12, too small for a crop of 16"),
        ("unreadable header", "is broken"),
    ],
)
def test_files_that_cannot_be_used_are_counted_and_named(tmp_path, how, said):
    fill(tmp_path / "train", 3)
    fill(tmp_path / "test", 3, first=3)
    bad = [tmp_path / "train" / "bad 1.png", tmp_path / "test" / "bad 2.png"]
    for file in bad:
        spoil(file, how)
    dataset = folder(tmp_path, crop=16)
    for split in ("train", "test"):
        with pytest.raises(UserError) as caught:
            list(dataset.images(split))
        text = str(caught.value)
        assert f"2 of the 8 files in {tmp_path} cannot be used" in text
        assert all(f"{file}: " in text for file in bad)
        assert text.count(said) == 2


def test_colour_where_grey_is_wanted(tmp_path):
    fill(tmp_path, 3)
    with pytest.raises(UserError, match="is in colour, expected grey"):
        list(folder(tmp_path, channels=1).images("train"))


def test_a_long_list_of_bad_files_still_fits_on_a_screen(tmp_path):
    for number in range(40):
        (tmp_path / f"{number:03}.txt").write_text("text")
    with pytest.raises(UserError) as caught:
        list(folder(tmp_path, validation=0.0, test=0.25).images("train"))
    assert str(caught.value).startswith("40 of the 40 files")
    assert "… and 30 more" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 12


def test_a_missing_folder(tmp_path):
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        folder(tmp_path / "nowhere")


def test_an_empty_folder(tmp_path):
    (tmp_path / "deeper").mkdir()
    with pytest.raises(UserError, match="holds no images"):
        folder(tmp_path).source()


def test_photographs_are_turned_upright(tmp_path):
    """Orientation 6: the camera was turned, and the first row of the file is the right side of the scene."""
    for number in range(2):
        pixels = np.full((16, 24, 3), 10 + number, dtype=np.uint8)
        pixels[:4] = 200
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(tmp_path / f"{number}.png", exif=exif)
    (image,) = folder(tmp_path, validation=0.0).images("train")
    assert (image[:, -3:] == 200).all()
    assert (image[:, :8] < 20).all()


@pytest.mark.parametrize("duplicates", ["error", "drop"])
def test_contents_that_are_in_two_splits(tmp_path, duplicates):
    fill(tmp_path / "train", 4)
    write(tmp_path / "train" / "twice.png", 3)  # a copy in the same split is none of our business
    fill(tmp_path / "validation", 1, first=20)
    fill(tmp_path / "test", 2, first=30)
    for copy, original in [("train/a.png", "test/030.png"), ("train/b.png", "validation/020.png")]:
        (tmp_path / copy).write_bytes((tmp_path / original).read_bytes())
    dataset = folder(tmp_path, duplicates=duplicates)
    if duplicates == "drop":
        assert [numbers(dataset, split) for split in SPLITS] == [[0, 1, 2, 3, 3], [20], [30, 31]]
        return
    for split in SPLITS:
        with pytest.raises(UserError) as caught:
            list(dataset.images(split))
        text = str(caught.value)
        assert f"2 of the 10 files in {tmp_path} cannot be used" in text
        assert f"{tmp_path}/train/a.png: in train is the same as {tmp_path}/test/030.png in test" in text
        assert f"{tmp_path}/train/b.png: in train is the same as {tmp_path}/validation/020.png in validation" in text
        assert "duplicates: drop" in text


def test_files_of_one_size_are_no_duplicates(tmp_path):
    fill(tmp_path / "train", 4)
    fill(tmp_path / "test", 4, first=4)
    assert len({path.stat().st_size for path in tmp_path.rglob("*.png")}) < 8
    assert numbers(folder(tmp_path), "train") == [0, 1, 2, 3]


def test_folders_may_be_links_even_in_a_circle(tmp_path):
    fill(tmp_path / "elsewhere", 4)
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "images" / "circle").symlink_to(tmp_path)
    dataset = folder(tmp_path / "images")
    assert sorted(path.name for path in dataset.files) == [f"{number:03}.png" for number in range(4)]


def test_links_that_lead_nowhere_are_not_left_out_silently(tmp_path):
    fill(tmp_path, 3)
    (tmp_path / "lost.png").symlink_to(tmp_path / "annex" / "object")
    with pytest.raises(UserError, match=r"1 of the links in .* are broken:\n.*lost.png: leads to .*annex"):
        folder(tmp_path).source()


def test_names_need_not_be_utf_8(tmp_path):
    fill(tmp_path, 3)
    write(tmp_path / "odd.png", 3).rename(tmp_path / os.fsdecode(b"\xff\xfe.png"))
    dataset = folder(tmp_path)
    assert dataset.source()
    assert sum(len(list(dataset.images(split))) for split in SPLITS) == 4


def test_the_source_changes_with_the_files(tmp_path):
    fill(tmp_path, 3)
    sources = [folder(tmp_path).source()]
    assert folder(tmp_path).source() == sources[0]
    write(tmp_path / "new.png")
    sources.append(folder(tmp_path).source())
    (tmp_path / "new.png").rename(tmp_path / "renamed.png")
    sources.append(folder(tmp_path).source())
    os.utime(tmp_path / "000.png", (0, 0))
    sources.append(folder(tmp_path).source())
    assert len(set(sources)) == 4


@pytest.mark.parametrize(("validation", "test", "refused"), [(0.5, 0.5, True), (0.5, 0.4, False)])
def test_splits_that_leave_nothing_to_train_on_are_refused(validation, test, refused):
    params = ENTRY.complete({"validation": validation, "test": test})
    assert bool(ENTRY.refusals(ImageShape(3, 64, 64), params)) == refused
