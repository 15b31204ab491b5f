"""The gradient loss against scipy's correlation, and GMSD against values of the package piq."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from torch import Tensor

from recbench import ImageShape
from recbench.contracts.loss import Context, Setting
from recbench_losses_structural.gradient import GMSD, Gradient, gradient_difference


def pair(channels: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """A decoded and a target batch in 0 to 1, float64; those that piq was given."""
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(2, channels, height, width, generator=generator, dtype=torch.float64)
    noise = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return (target + 0.1 * noise).clamp(0, 1), target


@pytest.mark.parametrize(("alpha", "weight", "p"), [(1.0, 1.0, 2), (2.0, 0.3, 1)])
def test_gradient_differences_are_those_of_scipy(alpha: float, weight: float, p: int) -> None:
    decoded, target = pair(3, 6, 7)
    expected = np.zeros(2)
    for axis in (2, 3):
        # correlate1d pairs each pixel with the one before it; the first has none
        one, other = (
            np.abs(np.delete(correlate1d(images.numpy(), [-1.0, 1.0], axis=axis), 0, axis))
            for images in (decoded, target)
        )
        expected += weight * (np.abs(other - one) ** alpha).sum((1, 2, 3))
    expected += (np.abs(decoded.numpy() - target.numpy()) ** p).sum((1, 2, 3))
    loss = Gradient(Setting(ImageShape(3, 6, 7), latent_size=2), alpha=alpha, gradient_weight=weight, p=p)
    assert loss(decoded, target, Context()).tolist() == pytest.approx(expected.tolist(), rel=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 1.5, 3.0])
def test_the_gradient_is_that_of_finite_differences_and_can_be_differentiated(alpha: float) -> None:
    decoded, target = pair(2, 4, 5)
    decoded.requires_grad_()
    assert torch.autograd.gradcheck(lambda images: gradient_difference(images, target, alpha), (decoded,))
    if alpha > 1:  # else it is piecewise constant
        assert torch.autograd.gradgradcheck(lambda images: gradient_difference(images, target, alpha), (decoded,))
    other = target.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda *both: gradient_difference(*both, alpha), (decoded, other))
    flat = torch.zeros(1, 1, 3, 3, dtype=torch.float64, requires_grad=True)  # where neighbours are equal
    gradient_difference(flat, target[:1, :1, :3, :3], alpha).sum().backward()
    assert flat.grad is not None and not flat.grad.any()


def test_blur_costs_more_than_a_shift_of_brightness_of_the_same_l2() -> None:
    edge = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    edge[..., 4:] = 1
    blurred = edge.clone()
    blurred[..., 3:5] = 0.5
    brighter = edge + ((blurred - edge).square().sum() / edge.numel()).sqrt()
    loss = Gradient(Setting(ImageShape(1, 8, 8), latent_size=2), alpha=1.0, gradient_weight=1.0, p=2)
    assert loss(brighter, edge, Context()).item() == pytest.approx((blurred - edge).square().sum().item())
    assert loss(blurred, edge, Context()) > 2 * loss(brighter, edge, Context())


# gmsd(decoded, target, reduction="none") of piq 0.8.0
PIQ = {
    (3, 32, 32): [0.07043720932338525, 0.0748669921110009],
    (1, 32, 32): [0.0977043223892001, 0.07031897131871113],
    (3, 17, 24): [0.04706414200913957, 0.04431738850229922],
}


@pytest.mark.parametrize("shape", PIQ, ids=str)
def test_gmsd_is_that_of_piq(shape: tuple[int, int, int]) -> None:
    metric = GMSD(ImageShape(*shape))
    decoded, target = pair(*shape)
    assert metric(decoded, target).tolist() == pytest.approx(PIQ[shape], rel=1e-10)
    assert metric(decoded.float(), target.float()).tolist() == pytest.approx(PIQ[shape], rel=1e-4)
    assert metric(target.float(), target.float()).tolist() == [0.0, 0.0]
