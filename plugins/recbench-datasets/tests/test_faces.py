"""CelebA, CelebA-HQ and selfie2anime: which file is in which split, how it is cut, and what must be there."""

from __future__ import annotations

import os
import random
from importlib import import_module

import numpy as np
import pytest
from PIL import Image

from recbench.contracts.dataset import SPLITS
from recbench.contracts.entries import ImageShape
from recbench.errors import UserError
from recbench_datasets import recbench_datasets

ENTRIES = {entry.name: entry for entry in recbench_datasets()}


def create(name, root, **params):
    module, _, factory = ENTRIES[name].factory.partition(":")
    return getattr(import_module(module), factory)(**ENTRIES[name].complete({"root": str(root), **params}))


def write(file, number, size, mode="RGB"):
    """An image of one colour, by which it can be told from others."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (number % 256, number // 256, 7)).convert(mode).save(file)


def numbers(dataset, split):
    return [int(image[0, 0, 0]) + 256 * int(image[0, 0, 1]) for image in dataset.images(split)]


def celeba(root, count=20):
    for number in random.Random(0).sample(range(count), count):
        write(root / f"{number + 1:06}.png", number, (178, 218))
    return root


@pytest.mark.parametrize("inside", [".", "img_align_celeba", "img_align_celeba/img_align_celeba"])
def test_the_last_fifth_of_celeba_is_tested_on(tmp_path, inside):
    celeba(tmp_path / inside)
    (tmp_path / "list_attr_celeba.txt").write_text("next to the folder, not in it") if inside != "." else None
    dataset = create("celeba", tmp_path, count=20, validation=0.1)
    assert dataset.shape == ImageShape(3, 64, 64)
    assert [numbers(dataset, split) for split in SPLITS] == [list(range(14)), [14, 15], [16, 17, 18, 19]]


def test_the_published_number_of_files_must_be_there(tmp_path):
    celeba(tmp_path)
    dataset = create("celeba", tmp_path)
    for _ in range(2):  # what was found is not remembered in place of the error
        with pytest.raises(UserError, match=r"holds 20 files, but 202599 are wanted \(count: 0 takes as many as"):
            dataset.source()
    assert create("celeba", tmp_path, count=0).source() == create("celeba", tmp_path, count=20).source()


@pytest.mark.parametrize(("crop", "size"), [(148, 148), (64, 64)])
def test_celeba_is_cut_from_the_centre(tmp_path, crop, size):
    """Nothing is resized here, so the pixels are those of the file."""
    generator = np.random.default_rng(0)
    pixels = [generator.integers(0, 256, (218, 178, 3), dtype=np.uint8) for _ in range(5)]
    for number, each in enumerate(pixels):
        Image.fromarray(each).save(tmp_path / f"{number:06}.png")
    (image,) = create("celeba", tmp_path, count=5, crop=crop, size=size).images("test")
    top, left = (218 - crop) // 2, (178 - crop) // 2
    np.testing.assert_array_equal(image, pixels[4][top : top + crop, left : left + crop])


def test_what_is_cut_off_leaves_no_trace(tmp_path):
    """A dark square of the crop's size in a white frame: bicubic weights reach beyond the edge of the crop."""
    for number in range(5):
        pixels = np.full((218, 178, 3), 255, dtype=np.uint8)
        pixels[35:183, 15:163] = np.random.default_rng(number).integers(0, 40, (148, 148, 3))
        Image.fromarray(pixels).save(tmp_path / f"{number:06}.png")
    (image,) = create("celeba", tmp_path, count=5).images("test")
    square = Image.fromarray(pixels[35:183, 15:163])
    np.testing.assert_array_equal(image, np.asarray(square.resize((64, 64), Image.Resampling.BICUBIC)))
    assert image.max() <= 40


PERSONS_APART = [0] * 12 + [1] * 3 + [2] * 5
"""Part of each of 20 images in a published partition."""


def partition(file, parts=PERSONS_APART):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(f"{number:06}.jpg {part}\n" for number, part in enumerate(parts, start=1)))


@pytest.mark.parametrize("place", [".", "Eval", "img_align_celeba/.."])
def test_the_official_split_of_celeba_is_that_of_its_file(tmp_path, place):
    celeba(tmp_path / "img_align_celeba")
    partition(tmp_path / place / "list_eval_partition.txt")
    for root in (tmp_path, tmp_path / "img_align_celeba"):
        dataset = create("celeba", root, count=20, split="official")
        assert [numbers(dataset, split) for split in SPLITS] == [
            [*range(12)],
            [12, 13, 14],
            [15, 16, 17, 18, 19],
        ]


def test_the_source_changes_with_the_official_split_and_its_file(tmp_path):
    celeba(tmp_path / "img_align_celeba")
    partition(tmp_path / "list_eval_partition.txt")
    paper, official = (create("celeba", tmp_path, count=20, split=split).source() for split in ("paper", "official"))
    assert paper != official
    partition(tmp_path / "list_eval_partition.txt", PERSONS_APART[:19])
    assert create("celeba", tmp_path, count=20, split="official").source() != official


def test_a_partition_that_is_missing_or_does_not_fit_is_named(tmp_path):
    celeba(tmp_path / "img_align_celeba")
    with pytest.raises(UserError, match=r"split: official needs the file list_eval_partition\.txt .* set split: paper"):
        create("celeba", tmp_path, count=20, split="official").source()
    file = tmp_path / "list_eval_partition.txt"
    for text, said in (
        ("000001.jpg 0\n000002.jpg 3\n", r"partition\.txt:2: expected a name and 0, 1 or 2, got '000002\.jpg 3'"),
        ("000001.jpg 0\n000001.jpg 1\n", r"partition\.txt:2: names an image again"),
        ("000001.jpg 0\n", r"19 of the 20 images are not in .*partition\.txt:\n.*000002\.png"),
        ("".join(f"{number:06}.jpg 0\n" for number in range(1, 21)), "leaves no images for test"),
        ("\xe4", "cannot be read"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=said):
            create("celeba", tmp_path, count=20, split="official").assign()


def test_parts_of_the_official_split_cannot_be_chosen():
    shape, entry = ImageShape(3, 64, 64), ENTRIES["celeba"]
    assert not entry.refusals(shape, entry.complete({"split": "official"}))
    (refusal,) = entry.refusals(shape, entry.complete({"split": "official", "test": 0.1}))
    assert "leave out validation and test" in refusal


def test_resizing_averages_over_what_it_leaves_out(tmp_path):
    """A checkerboard of single pixels becomes grey, where sampling every other pixel would give black or white."""
    board = np.indices((218, 178)).sum(0) % 2 * 255
    for number in range(5):
        pixels = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
        pixels[0, 0] = number
        Image.fromarray(pixels).save(tmp_path / f"{number:06}.png")
    (image,) = create("celeba", tmp_path, count=5, size=37).images("test")
    assert image.min() > 100
    assert image.max() < 155


def test_faces_of_another_size_are_counted_and_named(tmp_path):
    celeba(tmp_path, 10)
    write(tmp_path / "000003.png", 100, (178, 217))
    write(tmp_path / "000009.png", 101, (178, 218), mode="L")
    with pytest.raises(UserError) as caught:
        list(create("celeba", tmp_path, count=10).images("train"))
    assert str(caught.value).splitlines() == [
        f"2 of the 10 files in {tmp_path} cannot be used:",
        f"  {tmp_path}/000003.png: is 178x217, but 178x218 is wanted",
        f"  {tmp_path}/000009.png: is grey, expected colour (channels: 3)",
    ]


def test_copies_of_a_face_are_named_or_dropped(tmp_path):
    celeba(tmp_path, 10)
    (tmp_path / "000002.png").write_bytes((tmp_path / "000010.png").read_bytes())
    with pytest.raises(UserError, match=r"1 of the 10 files .*\n.*000002\.png: in train is the same as .*000010\.png"):
        list(create("celeba", tmp_path, count=10).images("train"))
    dataset = create("celeba", tmp_path, count=10, validation=0.0, duplicates="drop")
    assert numbers(dataset, "train") == [0, 2, 3, 4, 5, 6, 7]
    assert numbers(dataset, "test") == [8, 9]


@pytest.mark.parametrize("side", [256, 512])
def test_celeba_hq_is_in_the_order_of_its_numbers(tmp_path, side):
    """Its files are called 0.jpg, 1.jpg … 10.jpg …, which the alphabet would put in another order."""
    for number in range(12):
        write(tmp_path / "CelebA-HQ-img" / f"{number}.png", number, (side, side))
    dataset = create("celeba_hq", tmp_path, count=12, validation=0.1, test=0.25)
    assert dataset.shape == ImageShape(3, 256, 256)
    assert [numbers(dataset, split) for split in SPLITS] == [list(range(8)), [8], [9, 10, 11]]


def test_celeba_hq_is_not_enlarged(tmp_path):
    for number in range(5):
        write(tmp_path / f"{number}.png", number, (256, 256))
    with pytest.raises(UserError, match="is 256x256, but 512x512 or 1024x1024 is wanted"):
        list(create("celeba_hq", tmp_path, count=5, size=512).images("train"))


def anime(root, train=12, test=5):
    for number in range(train):
        write(root / "trainB" / f"{number}.png", number, (256, 256))
    for number in range(test):
        write(root / "testB" / f"{number}.png", 100 + number, (256, 256))
    write(root / "trainA" / "0.png", 200, (256, 256))
    return root


def test_selfie2anime_takes_the_drawn_faces_only(tmp_path):
    dataset = create("selfie2anime", anime(tmp_path), train=8, validation=3, test=5)
    assert dataset.shape == ImageShape(3, 256, 256)
    assert [numbers(dataset, split) for split in SPLITS] == [
        list(range(8)),
        [8, 9, 10],
        [100, 101, 102, 103, 104],
    ]


def test_selfie2anime_at_the_sizes_of_the_paper():
    defaults = ENTRIES["selfie2anime"].complete({})
    assert [defaults[split] for split in SPLITS] == [3000, 400, 100]


def test_too_few_drawn_faces(tmp_path):
    anime(tmp_path)
    with pytest.raises(UserError, match="trainB holds 12 images, expected 13"):
        create("selfie2anime", tmp_path, train=10, validation=3, test=5).source()
    with pytest.raises(UserError, match="testB holds 5 images, expected 6"):
        create("selfie2anime", tmp_path, train=8, validation=3, test=6).source()


def test_missing_folders_of_selfie2anime(tmp_path):
    with pytest.raises(UserError) as caught:
        create("selfie2anime", tmp_path).source()
    assert str(caught.value).splitlines() == [
        "2 of the 2 folders of selfie2anime are missing:",
        f"  {tmp_path}/trainB",
        f"  {tmp_path}/testB",
    ]


@pytest.mark.parametrize("name", ["celeba", "celeba_hq"])
def test_empty_and_missing_folders(tmp_path, name):
    with pytest.raises(UserError, match=r"holds no images"):
        create(name, tmp_path).source()
    with pytest.raises(UserError, match=r"there is no folder .*nowhere"):
        create(name, tmp_path / "nowhere")


def test_the_source_changes_with_the_files_and_opens_none(tmp_path, monkeypatch):
    celeba(tmp_path)
    before = create("celeba", tmp_path, count=20).source()
    monkeypatch.setattr(Image, "open", None)
    assert create("celeba", tmp_path, count=20).source() == before
    os.utime(tmp_path / "000001.png", (0, 0))
    assert create("celeba", tmp_path, count=20).source() != before


def test_a_size_over_the_crop_is_refused():
    shape = ImageShape(3, 64, 64)
    assert ENTRIES["celeba"].refusals(shape, ENTRIES["celeba"].complete({"size": 64, "crop": 60}))
    assert not ENTRIES["celeba"].refusals(shape, ENTRIES["celeba"].complete({"size": 64, "crop": 64}))
