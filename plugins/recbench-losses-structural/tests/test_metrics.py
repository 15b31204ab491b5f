"""The structural metrics against pytorch-msssim and scikit-image, on images rounded to 8 bits as evaluation gives
them."""

import importlib

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim
from skimage import data, filters
from skimage.metrics import structural_similarity

from recbench.contracts.entries import ImageShape
from recbench.contracts.metric import ImageMetric
from recbench_losses_structural import recbench_losses, recbench_metrics

ALL = {entry.name: entry for entry in recbench_metrics()}
ENTRIES = {name: entry for name, entry in ALL.items() if entry.family == "ssim"}  # test_gradient has the other
RADIUS = 5  # of the 11 x 11 window


def create(name: str, shape: ImageShape, **params: object) -> ImageMetric:
    module, _, factory = ENTRIES[name].factory.partition(":")
    metric: ImageMetric = getattr(importlib.import_module(module), factory)(shape, **ENTRIES[name].complete(params))
    return metric


def crops(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Crops of a photograph, and blurred, noisy copies: uint8 (4, H, W, 3)."""
    photograph = data.astronaut()
    target = np.stack([photograph[a : a + size, a : a + size] for a in (20, 90, 160, 230)])
    blurred = np.stack([filters.gaussian(t / 255.0, 0.4 * (i + 1), channel_axis=-1) for i, t in enumerate(target)])
    noisy = blurred + np.random.default_rng(0).normal(0, 0.02, target.shape)
    return (np.clip(noisy, 0, 1) * 255).round().astype(np.uint8), target


def seen(images: np.ndarray) -> torch.Tensor:
    """uint8 images (N, H, W, C) as metrics see them: float32 (N, C, H, W) in 0 to 1."""
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).float() / 255


def score(name: str, decoded: np.ndarray, target: np.ndarray) -> np.ndarray:
    metric = create(name, ImageShape(target.shape[3], *target.shape[1:3]))
    with torch.no_grad():
        values = metric(seen(decoded), seen(target))
    assert values.shape == (len(decoded),)
    return values.numpy()


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_ssim_is_that_of_scikit_image(channels):
    """scikit-image pads; its border, where the window does not lie inside the image, is left out here."""
    decoded, target = (images[..., :channels] for images in crops(64))
    expected = []
    for one, other in zip(decoded, target, strict=True):
        _, full = structural_similarity(
            one / 255.0,
            other / 255.0,
            win_size=11,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
            data_range=1.0,
            channel_axis=-1,
            full=True,
        )
        expected.append(full[RADIUS:-RADIUS, RADIUS:-RADIUS].mean())
    np.testing.assert_allclose(score("ssim", decoded, target), expected, atol=5e-5)


def test_ms_ssim_is_that_of_the_package():
    decoded, target = crops(176)
    expected = ms_ssim(seen(decoded).double(), seen(target).double(), data_range=1, size_average=False)
    np.testing.assert_allclose(score("ms_ssim", decoded, target), expected.numpy(), atol=2e-7)


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_both_implementations_agree(name):
    decoded, target = (seen(images) for images in crops(176))
    shape = ImageShape(3, 176, 176)
    fast, reference = (create(name, shape, implementation=kind)(decoded, target) for kind in ("fast", "reference"))
    np.testing.assert_allclose(fast.numpy(), reference.numpy(), atol=4e-6)


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_equal_images_score_one(name):
    _, target = crops(64)
    assert (score(name, target, target) == 1).all()


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_more_damage_scores_less(name):
    decoded, target = crops(64)
    halfway = ((decoded.astype(int) + target) // 2).astype(np.uint8)
    assert (score(name, halfway, target) > score(name, decoded, target)).all()
    assert ENTRIES[name].direction == "higher"


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_an_image_is_scored_alone(name):
    pair = crops(64)
    whole = score(name, *pair)
    alone = [score(name, pair[0][i : i + 1], pair[1][i : i + 1])[0] for i in range(len(whole))]
    np.testing.assert_allclose(whole, alone, rtol=1e-6)


def test_a_metric_refuses_what_the_loss_of_its_name_refuses():
    losses = {entry.name: entry for entry in recbench_losses()}
    for name, entry in ENTRIES.items():
        assert entry.parameters == losses[name].parameters
        assert entry.family == losses[name].family == "ssim"
        for side in (8, 10, 11, 16, 32, 161):
            for params in ({}, {"window": 9}, {"window": 10}, *([{"scales": 3}] if name == "ms_ssim" else [])):
                shape, complete = ImageShape(3, side, side), entry.complete(params)
                assert entry.refusals(shape, complete) == losses[name].refusals(shape, complete)
