"""Crops of photographs: deterministic, inside the photographs, and no photograph in two splits."""

import itertools
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from recbench.contracts.dataset import SPLITS
from recbench.contracts.entries import ImageShape
from recbench_datasets import photos, recbench_datasets

(ENTRY,) = [entry for entry in recbench_datasets() if entry.name == "photos"]
COUNTS = {"train": 12, "validation": 5, "test": 7}


def create(**params):
    return photos.Photos(**ENTRY.complete({"size": 16, **COUNTS, **params}))


def test_there_are_as_many_images_as_asked_for_in_the_promised_shape():
    dataset = create(size=24)
    assert dataset.shape == ImageShape(3, 24, 24)
    for split in SPLITS:
        images = list(dataset.images(split))
        assert len(images) == COUNTS[split]
        assert {image.shape for image in images} == {(24, 24, 3)}
        assert {image.dtype for image in images} == {np.dtype(np.uint8)}


def test_a_split_may_be_left_empty():
    assert list(create(validation=0).images("validation")) == []


@pytest.mark.parametrize("split", SPLITS)
def test_crops_are_the_same_every_time_and_whatever_was_asked_before(split):
    first = np.stack(list(create().images(split)))
    used = create()
    for other in SPLITS:
        list(used.images(other))
    np.testing.assert_array_equal(first, np.stack(list(used.images(split))))


def test_crops_are_the_same_in_another_process():
    """Nothing is drawn from a global random state, a hash of text or the order of a set."""
    code = (
        "import hashlib; from recbench_datasets.photos import Photos; "
        f"print(hashlib.sha256(b''.join(i.tobytes() for i in Photos(**{create_params()}).images('train'))).hexdigest())"
    )
    digests = {
        subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed})
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def create_params():
    return ENTRY.complete({"size": 16, **COUNTS})


def test_no_photograph_is_in_two_splits(monkeypatch):
    """Every photograph is painted in a colour of its own, so that the crops tell where they are from."""
    colours: dict[str, tuple[int, int, int]] = {}

    def painted(name, *rest):
        colours.setdefault(name, (10 * len(colours), 100, 200))
        return Image.new("RGB", (300, 200), colours[name])

    monkeypatch.setattr(photos, "_photograph", painted)
    dataset = create(train=200, validation=50, test=50)
    seen = {split: {tuple(image[0, 0]) for image in dataset.images(split)} for split in SPLITS}
    assert all(seen.values())
    for one, other in itertools.combinations(SPLITS, 2):
        assert not seen[one] & seen[other]


def test_every_photograph_of_a_split_is_used():
    used = sum(len(names) for names in photos.PHOTOGRAPHS.values())
    assert len(set().union(*photos.PHOTOGRAPHS.values())) == used


@pytest.mark.parametrize(("smallest", "largest"), [(0.2, 0.6), (1.0, 1.0), (0.001, 0.001)])
def test_crops_are_squares_inside_the_photograph(monkeypatch, smallest, largest):
    boxes, resized = [], []
    crop, resize = Image.Image.crop, Image.Image.resize

    def watched(self, box):
        boxes.append((*box, *self.size))
        return crop(self, box)

    def told(self, size, *arguments, **options):
        resized.append((self.size, options.get("box")))
        return resize(self, size, *arguments, **options)

    monkeypatch.setattr(Image.Image, "crop", watched)
    monkeypatch.setattr(Image.Image, "resize", told)
    list(create(smallest=smallest, largest=largest).images("train"))
    assert len(boxes) >= COUNTS["train"]
    cut = [((right - left, bottom - top), None) for left, top, right, bottom, *_ in boxes]
    assert resized == cut, "only what was cut out is resized: a box would let in pixels from around it"
    for left, top, right, bottom, width, height in boxes:
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        assert right - left == bottom - top
        shorter = min(width, height)
        assert max(8, smallest * shorter - 0.5) <= right - left <= max(8, largest * shorter + 0.5)


def test_crops_differ():
    images = [image.tobytes() for image in create(train=100).images("train")]
    assert len(set(images)) > 90


def test_smallest_may_not_exceed_largest():
    shape = ImageShape(3, 16, 16)
    assert ENTRY.refusals(shape, ENTRY.complete({"smallest": 0.7, "largest": 0.6}))
    assert not ENTRY.refusals(shape, ENTRY.complete({"smallest": 0.6, "largest": 0.6}))


def test_data_sets_import_no_torch():
    """They are made while suites are validated, where nobody wants to wait for torch."""
    code = (
        "import sys; from recbench_datasets import image_folder, photos; "
        f"next(photos.Photos(**{create_params()}).images('test')); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
