"""Drawn scenes, against a renderer that asks of many points whether they are inside of a shape."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from recbench.contracts.dataset import SPLITS
from recbench.contracts.entries import ImageShape
from recbench_datasets import recbench_datasets
from recbench_datasets.shapes import SHAPES, Shapes, draw

(ENTRY,) = [entry for entry in recbench_datasets() if entry.name == "shapes"]
COUNTS = {"train": 40, "validation": 5, "test": 7}


def create(**params):
    return Shapes(**ENTRY.complete({"size": 16, **COUNTS, **params}))


def load(dataset, split):
    return np.stack(list(dataset.images(split)))


@pytest.mark.parametrize("channels", [1, 3])
def test_there_are_as_many_images_as_asked_for_in_the_promised_shape(channels):
    dataset = create(size=24, channels=channels)
    assert dataset.shape == ImageShape(channels, 24, 24)
    for split in SPLITS:
        images = load(dataset, split)
        assert images.shape == (COUNTS[split], 24, 24, channels)
        assert images.dtype == np.uint8


def test_images_are_the_same_every_time_and_differ_from_each_other():
    first, again = create(), create()
    list(again.images("test"))
    everything = np.concatenate([load(first, split) for split in SPLITS])
    np.testing.assert_array_equal(everything, np.concatenate([load(again, split) for split in SPLITS]))
    assert len({image.tobytes() for image in everything}) == len(everything)
    assert not np.array_equal(load(create(seed=1), "test"), load(first, "test"))


def test_more_images_leave_the_first_ones_as_they_are():
    np.testing.assert_array_equal(load(create(train=60), "train")[:40], load(create(), "train"))


def test_grey_is_the_mean_of_the_colours():
    difference = load(create(), "test").mean(-1) - load(create(channels=1), "test")[..., 0]
    assert np.abs(difference).max() <= 1


def test_a_scene_is_the_same_at_every_size():
    """Averaged over blocks of 4 x 4, the large image is the small one, up to the blocks that an edge runs through."""
    small, large = load(create(size=32), "train"), load(create(size=128), "train")
    averaged = large.reshape(len(large), 32, 4, 32, 4, 3).mean((2, 4))
    assert np.abs(averaged - small).mean() < 0.5
    assert np.abs(averaged - small).max() < 40


def inside(numbers, x, y):
    """Return whether points are in a shape: written from its description, not from distances."""
    kind, centre_x, centre_y, length, width, angle = (float(number) for number in numbers[:6])
    right, down = x - centre_x, y - centre_y
    turned = np.cos(np.pi * angle), np.sin(np.pi * angle)
    along, aside = turned[0] * right + turned[1] * down, turned[0] * down - turned[1] * right
    if kind < 1 / 3:
        return right**2 + down**2 < (0.05 + 0.25 * length) ** 2
    if kind > 2 / 3:
        end = 0.1 + 0.4 * length
        nearest = np.clip(along, -end, end)
        return (along - nearest) ** 2 + aside**2 < (0.015 + 0.025 * width) ** 2
    return (np.abs(along) < 0.05 + 0.25 * length) & (np.abs(aside) < 0.05 + 0.25 * width)


def test_edges_are_those_of_many_points_a_pixel():
    size, points = 64, 8
    scenes = np.random.default_rng(0).random((12, 6 + 10 * SHAPES), dtype=np.float32)
    fine = (np.arange(size * points) + 0.5) / (size * points)
    x, y = fine[None, :], fine[:, None]
    for scene, image in zip(scenes, draw(scenes, size), strict=True):
        wanted = scene[:3] * (1 - x[..., None]) + scene[3:6] * x[..., None] + 0 * y[..., None]
        for numbers in scene[6:].reshape(SHAPES, 10):
            cover = inside(numbers, x, y)[..., None] * (0.5 + 0.5 * numbers[9])
            wanted = wanted * (1 - cover) + numbers[6:9] * cover
        wanted = wanted.reshape(size, points, size, points, 3).mean((1, 3))
        assert np.abs(image - wanted).mean() < 1 / 255
        assert np.abs(image - wanted).max() < 0.2  # corners, and lines of one pixel


def test_images_are_the_same_in_another_process():
    code = (
        "import hashlib; from recbench_datasets.shapes import Shapes; "
        f"d = Shapes(**{ENTRY.complete({'size': 16, **COUNTS})}); "
        "print(hashlib.sha256(b''.join(i.tobytes() for i in d.images('train'))).hexdigest())"
    )
    run = [sys.executable, "-c", code]
    assert subprocess.check_output(run) == subprocess.check_output(run)
