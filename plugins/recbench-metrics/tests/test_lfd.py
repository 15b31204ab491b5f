"""The log frequency distance against the transform in its definition; the scores as Kim and Jo print them."""

import importlib

import numpy as np
import pytest
import torch

from recbench.contracts.entries import ImageShape
from recbench.contracts.metric import ImageMetric
from recbench_metrics import recbench_metrics

ENTRIES = {entry.name: entry for entry in recbench_metrics()}


def pair(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and noisy copies, from little noise to much: uint8 (B, C, H, W)."""
    random = np.random.default_rng(0)
    target = random.integers(256, size=shape)
    spread = np.geomspace(0.6, 60, len(target))[:, None, None, None]
    return np.clip(target + random.normal(0, spread, shape), 0, 255).round().astype(np.uint8), target.astype(np.uint8)


def score(name: str, decoded: np.ndarray, target: np.ndarray) -> np.ndarray:
    module, _, factory = ENTRIES[name].factory.partition(":")
    metric: ImageMetric = getattr(importlib.import_module(module), factory)(ImageShape(*target.shape[1:]))
    return metric(*(torch.from_numpy(levels).float() / 255 for levels in (decoded, target))).numpy()


@pytest.mark.parametrize("shape", [(5, 3, 16, 16), (3, 1, 7, 10), (4, 2, 9, 5), (2, 3, 64, 64)], ids=str)
def test_lfd_is_the_logarithm_of_the_mean_squared_difference_of_spectra(shape):
    decoded, target = pair(*shape)
    spectra = [np.fft.fft2(levels.astype(float)) for levels in (decoded, target)]
    expected = np.log((np.abs(spectra[0] - spectra[1]) ** 2).mean((1, 2, 3)) + 1)
    np.testing.assert_allclose(score("lfd", decoded, target), expected, rtol=1e-6)


def test_lfd_of_equal_images_is_0():
    _, target = pair(5, 3, 16, 16)
    assert score("lfd", target, target).tolist() == [0] * 5


def test_lfd_of_black_and_white_is_that_of_all_energy_at_frequency_0():
    black = np.zeros((1, 1, 8, 8), np.uint8)
    expected = np.log((255 * 64) ** 2 / 64 + 1)
    assert score("lfd", black, black + 255).item() == pytest.approx(expected, rel=1e-6)


def test_lfd_ranks_images_as_psnr_does():
    decoded, target = pair(50, 3, 16, 16)
    assert (score("lfd", decoded, target).argsort() == score("psnr", decoded, target).argsort()[::-1]).all()


@pytest.mark.parametrize("name", ["l1", "l2"])
def test_a_hundredfold_is_one(name):
    images = pair(5, 3, 16, 16)
    np.testing.assert_allclose(score(f"{name}_x100", *images), 100 * score(name, *images), rtol=1e-6)


def test_l2_is_the_mean_squared_error():
    images = pair(5, 3, 16, 16)
    assert (score("l2", *images) == score("mse", *images)).all()
