"""The metrics against scikit-image and NumPy, on images rounded to 8 bits as evaluation gives them."""

import importlib

import numpy as np
import pytest
import torch
from skimage import data, filters
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio

from recbench.contracts.entries import ImageShape
from recbench.contracts.metric import ImageMetric
from recbench.job.images import to_8_bits
from recbench_metrics import recbench_metrics
from recbench_metrics.pixel import PSNR

ENTRIES = {entry.name: entry for entry in recbench_metrics()}
PIXELS = sorted(name for name, entry in ENTRIES.items() if ".pixel:" in entry.factory)
SHAPE = ImageShape(3, 64, 64)


def create(name: str) -> ImageMetric:
    module, _, factory = ENTRIES[name].factory.partition(":")
    metric: ImageMetric = getattr(importlib.import_module(module), factory)(SHAPE, **ENTRIES[name].complete({}))
    return metric


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Crops of a photograph, and blurred, noisy copies: uint8 (4, 64, 64, 3)."""
    photograph = data.astronaut()
    target = np.stack([photograph[a : a + 64, a : a + 64] for a in (20, 90, 160, 230)])
    blurred = np.stack([filters.gaussian(t / 255.0, 0.4 * (i + 1), channel_axis=-1) for i, t in enumerate(target)])
    noisy = blurred + np.random.default_rng(0).normal(0, 0.02, target.shape)
    return (np.clip(noisy, 0, 1) * 255).round().astype(np.uint8), target


def score(name: str, decoded: np.ndarray, target: np.ndarray) -> np.ndarray:
    """A metric of uint8 images (N, H, W, C), which it sees as float32 (N, C, H, W) in 0 to 1."""
    seen = (torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float() / 255 for images in (decoded, target))
    values = create(name)(*seen)
    assert values.shape == (len(decoded),)
    return values.numpy()


def test_psnr_is_that_of_scikit_image(pair):
    expected = [peak_signal_noise_ratio(t, d, data_range=255) for d, t in zip(*pair, strict=True)]
    np.testing.assert_allclose(score("psnr", *pair), expected, rtol=1e-5)


def test_psnr_of_images_rounded_to_8_bits_has_the_published_values(golden):
    want = golden["psnr_8bit"]["values"]
    decoded, target = (to_8_bits(torch.from_numpy(golden[name])).double() / 255 for name in ("pred", "target"))
    np.testing.assert_allclose(create("psnr")(decoded, target).numpy(), want, rtol=1e-12)


def test_psnr_of_equal_images_is_the_highest_of_different_ones(pair):
    """As if one value of 64 x 64 x 3 were one level off: finite, so that one equal image does not decide a mean."""
    near = pair[1].copy()
    near[:, 5, 7, 1] = np.where(near[:, 5, 7, 1] > 100, near[:, 5, 7, 1] - 1, near[:, 5, 7, 1] + 1)
    highest = 10 * np.log10(255**2 * 64 * 64 * 3)
    np.testing.assert_allclose(score("psnr", pair[1], pair[1]), highest, rtol=1e-6)
    np.testing.assert_allclose(score("psnr", near, pair[1]), highest, rtol=1e-5)


def test_psnr_counts_equal_images(pair):
    metric = PSNR(ImageShape(3, 64, 64))
    decoded, target = (torch.from_numpy(each.transpose(0, 3, 1, 2)).float() / 255 for each in pair)
    metric(decoded, target)
    assert metric.warning == ""
    metric(torch.cat([target[:1], decoded[1:]]), target)
    assert metric.warning.startswith("1 image is reproduced exactly")
    metric(target[:2], target[:2])
    assert metric.warning.startswith("3 images are reproduced exactly")
    assert "counted as 89.03 dB" in metric.warning


def test_mse_is_that_of_scikit_image(pair):
    expected = [mean_squared_error(t / 255.0, d / 255.0) for d, t in zip(*pair, strict=True)]
    np.testing.assert_allclose(score("mse", *pair), expected, rtol=1e-5)


def test_l1_is_the_mean_absolute_difference(pair):
    decoded, target = (images.astype(np.float64) / 255 for images in pair)
    np.testing.assert_allclose(score("l1", *pair), np.abs(decoded - target).mean((1, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("name", PIXELS)
def test_the_direction_is_the_one_that_less_damage_takes(pair, name):
    decoded, target = pair
    halfway = ((decoded.astype(int) + target) // 2).astype(np.uint8)
    better, worse = score(name, halfway, target), score(name, decoded, target)
    assert ((better > worse) if ENTRIES[name].direction == "higher" else (better < worse)).all()


@pytest.mark.parametrize("name", PIXELS)
def test_an_image_is_scored_alone(pair, name):
    whole = score(name, *pair)
    alone = [score(name, pair[0][i : i + 1], pair[1][i : i + 1])[0] for i in range(len(whole))]
    np.testing.assert_allclose(whole, alone, rtol=1e-5)
