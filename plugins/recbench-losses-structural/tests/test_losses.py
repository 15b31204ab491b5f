"""The SSIM loss against scikit-image, and against pytorch-msssim's published values."""

import importlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage import data, filters
from skimage.metrics import structural_similarity

from recbench.contracts.loss import Context, Setting
from recbench.entries import ImageShape
from recbench_losses_structural import recbench_losses
from recbench_losses_structural.losses import SSIM

ENTRIES = {entry.name: entry for entry in recbench_losses()}
SETTING = Setting(ImageShape(3, 64, 64), latent_size=8)
RADIUS = 5  # of the 11 x 11 window
WINDOW_ROUNDING = 5e-5  # pytorch-msssim makes its window in float32, whatever the images are in


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Three crops of a photograph, and blurred, noisy copies: float64 (3, 64, 64, 3) in 0 to 1."""
    photograph = data.astronaut() / 255.0
    target = np.stack([photograph[a : a + 64, a : a + 64] for a in (60, 130, 200)])
    noise = np.random.default_rng(0).normal(0, 0.02, target.shape)
    blurred = [filters.gaussian(t, 0.5 * (i + 1), channel_axis=-1) for i, t in enumerate(target)]
    return np.clip(np.stack(blurred) + noise, 0, 1), target


def by_scikit_image(decoded: np.ndarray, target: np.ndarray) -> float:
    """SSIM with the window of Wang et al., over pixels whose window lies inside the image: pytorch-msssim convolves
    without padding, scikit-image pads."""
    _, values = structural_similarity(
        decoded,
        target,
        win_size=2 * RADIUS + 1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
        full=True,
    )
    return values[RADIUS:-RADIUS, RADIUS:-RADIUS].mean()


def by_equation_13(decoded: np.ndarray, target: np.ndarray, sigma: float) -> float:
    """The same for windows of any sigma, for which scikit-image would take another size."""

    def local_mean(image: np.ndarray) -> np.ndarray:
        return gaussian_filter(image, sigma, radius=RADIUS, axes=(0, 1))[RADIUS:-RADIUS, RADIUS:-RADIUS]

    one, other = local_mean(decoded), local_mean(target)
    variance_one, variance_other = local_mean(decoded**2) - one**2, local_mean(target**2) - other**2
    covariance = local_mean(decoded * target) - one * other
    c1, c2 = 0.01**2, 0.03**2
    values = (2 * one * other + c1) * (2 * covariance + c2)
    return (values / ((one**2 + other**2 + c1) * (variance_one + variance_other + c2))).mean()


def torch_images(images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def test_ssim_is_one_minus_that_of_scikit_image(pair):
    expected = [by_scikit_image(*images) for images in zip(*pair, strict=True)]
    value = SSIM(SETTING, sigma=1.5)(*map(torch_images, pair), Context())
    np.testing.assert_allclose(1 - value.numpy(), expected, atol=WINDOW_ROUNDING)


@pytest.mark.parametrize("sigma", [0.5, 1.5, 2.5])
def test_sigma_is_that_of_the_window(pair, sigma):
    expected = [by_equation_13(*images, sigma) for images in zip(*pair, strict=True)]
    value = SSIM(SETTING, sigma=sigma)(*map(torch_images, pair), Context())
    np.testing.assert_allclose(1 - value.numpy(), expected, atol=WINDOW_ROUNDING)


def test_ssim_has_the_published_values():
    shared = os.environ.get("RECBENCH_SHARED")
    if not shared:
        pytest.skip("RECBENCH_SHARED names no folder with the shared reference data")
    golden = json.loads((Path(shared) / "golden" / "pairs_64.json").read_text())["ssim"]["values"]
    pairs = np.load(Path(shared) / "golden" / "pairs_64.npz")
    decoded, target = (torch.from_numpy(pairs[name]).double() for name in ("pred", "target"))
    value = SSIM(SETTING, sigma=1.5)(decoded, target, Context())
    np.testing.assert_allclose(1 - value.numpy(), golden, rtol=1e-6)


def test_no_difference_costs_nothing_and_has_a_finite_gradient(pair):
    target = torch_images(pair[1]).float()
    decoded = target.clone().requires_grad_()
    value = SSIM(SETTING, sigma=1.5)(decoded, target, Context())
    value.sum().backward()
    torch.testing.assert_close(value.detach(), torch.zeros(3), atol=1e-6, rtol=0)
    assert decoded.grad.isfinite().all()


def test_the_gradient_points_to_the_target(pair):
    decoded, target = torch_images(pair[0]).requires_grad_(), torch_images(pair[1])
    loss = SSIM(SETTING, sigma=1.5)
    before = loss(decoded, target, Context())
    (gradient,) = torch.autograd.grad(before.sum(), decoded)
    assert (loss(decoded - 1e-3 * gradient / gradient.norm(), target, Context()) < before).all()
    assert ((gradient * (decoded - target)).sum((1, 2, 3)) > 0).all()


def test_values_are_per_image(pair):
    decoded, target = map(torch_images, pair)
    loss = SSIM(SETTING, sigma=1.5)
    whole = loss(decoded, target, Context())
    assert whole.shape == (3,)
    torch.testing.assert_close(whole[1:2], loss(decoded[1:2], target[1:2], Context()))


def test_a_flat_image_gives_no_nan():
    """Both variances are zero there; only the constants keep the quotient a number."""
    decoded = torch.full((1, 3, 16, 16), 0.5, requires_grad=True)
    value = SSIM(SETTING, sigma=1.5)(decoded, torch.zeros(1, 3, 16, 16), Context())
    value.sum().backward()
    assert value.isfinite().all()
    assert decoded.grad.isfinite().all()


def test_the_entry_refuses_images_smaller_than_the_window():
    entry = ENTRIES["ssim"]
    assert not entry.refusals(ImageShape(1, 11, 11), entry.complete({}))
    assert entry.refusals(ImageShape(1, 10, 11), entry.complete({}))
    loss = SSIM(SETTING, sigma=1.5)
    assert loss(torch.rand(2, 1, 11, 11), torch.rand(2, 1, 11, 11), Context()).shape == (2,)


def test_the_entry_leads_to_the_loss():
    module, _, name = ENTRIES["ssim"].factory.partition(":")
    assert getattr(importlib.import_module(module), name) is SSIM
    assert ENTRIES["ssim"].complete({}) == {"sigma": 1.5}
