"""Sharpness against SciPy's Laplacian, and images whose sharpness is known."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data, filters

from recbench.contracts.entries import ImageShape
from recbench_metrics import recbench_metrics
from recbench_metrics.sharpness import Sharpness, laplacian_variance

ENTRIES = {entry.name: entry for entry in recbench_metrics()}


def crops(sigma: float = 0) -> np.ndarray:
    """Crops of a photograph, blurred: uint8 (7, 3, 64, 48)."""
    photograph = data.astronaut()[:448, 200:248] / 255
    if sigma:
        photograph = filters.gaussian(photograph, sigma, channel_axis=-1)
    return (photograph * 255).round().astype(np.uint8).reshape(7, 64, 48, 3).transpose(0, 3, 1, 2)


def seen(levels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(levels).float() / 255


def judge(decoded: np.ndarray, target: np.ndarray, batch_size: int = 3) -> tuple[float, str]:
    metric = Sharpness(ImageShape(*target.shape[1:]))
    for pair in zip(seen(decoded).split(batch_size), seen(target).split(batch_size), strict=True):
        metric.update(*pair)
    return metric.compute(), metric.warning


def variances(levels: np.ndarray) -> list[float]:
    """The mean over channels of the Laplacian's variance inside the border."""
    inside = [
        [ndimage.laplace(plane.astype(float))[1:-1, 1:-1].var() for plane in image]  # its own border is padded
        for image in levels
    ]
    return [float(np.mean(planes)) for planes in inside]


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_laplacian_is_that_of_scipy(channels):
    levels = crops()[:, :channels]
    np.testing.assert_allclose(laplacian_variance(seen(levels)).numpy(), variances(levels), rtol=1e-5)


def test_the_score_is_the_ratio_of_the_means():
    decoded, target = crops(0.7), crops()
    score, warning = judge(decoded, target)
    assert score == pytest.approx(np.mean(variances(decoded)) / np.mean(variances(target)), rel=1e-5)
    assert warning == ""


def test_sharper_images_score_above_one():
    score, _ = judge(crops(), crops(0.7))
    assert score == pytest.approx(np.mean(variances(crops())) / np.mean(variances(crops(0.7))), rel=1e-5)
    assert score > 1


def test_a_checkerboard_is_as_sharp_as_can_be():
    """Its Laplacian is 4 · 255 up and down."""
    board = (np.indices((6, 10)).sum(0) % 2 * 255).astype(np.uint8)
    assert laplacian_variance(seen(board[None, None])).item() == 1020**2


def test_half_the_contrast_is_a_quarter_of_the_variance():
    target = crops() // 2 * 2
    assert judge(target // 2, target)[0] == pytest.approx(0.25, rel=1e-6)


def test_the_more_blur_the_lower_the_score():
    scores = [judge(crops(sigma), crops())[0] for sigma in (0, 0.4, 0.7, 1, 2, 4)]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1 > scores[1]


def test_flat_images_have_no_sharpness_at_all():
    levels = np.arange(256, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 5, 5), np.uint8)
    assert laplacian_variance(seen(levels)).tolist() == [0] * 256
    noise = np.random.default_rng(0).integers(256, size=levels.shape, dtype=np.uint8)
    assert judge(levels, noise) == (0, "")
    assert judge(levels, levels[::-1].copy()) == (1, "")
    assert judge(noise, levels) == (np.inf, "")


def test_batches_do_not_matter():
    decoded, target = crops(0.7), crops()
    assert judge(decoded, target, batch_size=1)[0] == pytest.approx(judge(decoded, target, batch_size=7)[0], rel=1e-12)


def test_the_two_entries_differ_in_what_they_judge():
    assert not ENTRIES["sharpness_recon"].samples
    assert ENTRIES["sharpness_gen"].samples
    assert {ENTRIES[name].direction for name in ("sharpness_recon", "sharpness_gen")} == {1.0}
