"""Losses and metrics of image gradients: the gradient difference loss, and gradient magnitude similarity deviation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from recbench.contracts.entries import ImageShape
from recbench.contracts.loss import Context, Loss, Setting
from recbench.contracts.metric import ImageMetric

_LUMA = (0.299, 0.587, 0.114)
_STABILITY = 170 / 255**2


def gradient_difference(decoded: Tensor, target: Tensor, alpha: float) -> Tensor:
    """Return Σ ||∂x| − |∂x̂||^α over both axes, ∂ the difference of neighbours: the gradient difference loss of
    Mathieu et al. 2016.

    Args:
        decoded: images x̂, (B, C, H, W), of any range.
        target: images x, of the same shape.
        alpha: exponent, at least 1.

    Returns:
        Values (B,), at least 0; 0 for equal images, and for images that differ by a constant or by their sign.

    >>> edge = torch.tensor([[0.0, 1.0], [0.0, 1.0]]).view(1, 1, 2, 2)
    >>> gradient_difference(torch.zeros(1, 1, 2, 2), edge, 1.0)
    tensor([2.])
    """
    if target.requires_grad:
        return _by_autograd(decoded, target, alpha)
    value: Tensor = _GradientDifference.apply(decoded, target, alpha)
    return value


_AXES = (-1, -2)


def _by_autograd(decoded: Tensor, target: Tensor, alpha: float) -> Tensor:
    terms = [
        (target.diff(dim=axis).abs() - decoded.diff(dim=axis).abs()).abs().pow(alpha).sum((1, 2, 3)) for axis in _AXES
    ]
    return terms[0] + terms[1]


class _GradientDifference(torch.autograd.Function):
    """The same value, with the gradient to ``decoded`` in closed form, from the same differences. A backward pass that
    has to be differentiated itself is left to autograd."""

    @staticmethod
    def forward(ctx: Any, decoded: Tensor, target: Tensor, alpha: float) -> Tensor:
        value = decoded.new_zeros(len(decoded))
        gradient = torch.zeros_like(decoded) if ctx.needs_input_grad[0] else None
        for axis in _AXES:
            steps = decoded.diff(dim=axis)
            excess = steps.abs().sub_(target.diff(dim=axis).abs_())
            slope = excess.sign()
            size = excess.abs_()
            if alpha == 1:
                terms = size
            else:
                power = size.pow(alpha - 1)
                slope.mul_(power).mul_(alpha)
                terms = power.mul_(size)
            value += terms.sum((1, 2, 3))
            if gradient is not None:
                slope.mul_(steps.sign_())
                gradient.narrow(axis, 1, slope.shape[axis]).add_(slope)
                gradient.narrow(axis, 0, slope.shape[axis]).sub_(slope)
        ctx.save_for_backward(decoded, target, gradient)
        ctx.alpha = alpha
        return value

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        decoded, target, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # with create_graph
            value = _by_autograd(decoded, target, ctx.alpha)
            (differentiable,) = torch.autograd.grad(value, decoded, outer[0], create_graph=True)
            return differentiable, None, None
        return outer[0][:, None, None, None] * gradient, None, None


class Gradient(Loss):
    """Σ |x − x̂|^p plus the weighted gradient difference loss (Mathieu et al. 2016)."""

    def __init__(self, setting: Setting, *, alpha: float, gradient_weight: float, p: int) -> None:
        super().__init__()
        self.alpha = alpha
        self.gradient_weight = gradient_weight
        self.p = p

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        error = decoded - target
        pixels = (error.abs() if self.p == 1 else error.square()).sum((1, 2, 3))
        return pixels + self.gradient_weight * gradient_difference(decoded, target, self.alpha)


def gradient_magnitudes(images: Tensor) -> Tensor:
    """Return √(gₓ² + g_y²) of Prewitt's filters divided by 3, zero outside of the image: (B, 1, H, W) as the images."""
    across = images.new_tensor([[1.0, 0.0, -1.0]] * 3) / 3
    kernels = torch.stack((across, across.T))[:, None]
    return functional.conv2d(images, kernels, padding=1).square().sum(1, keepdim=True).sqrt()


class GMSD(ImageMetric):
    """Gradient magnitude similarity deviation (Xue et al. 2014, equations 4 to 6), of luma halved in size.

    With gradient magnitudes m of both images, GMS = (2 m m̂ + c) / (m² + m̂² + c), c = 170 / 255²; the score is the
    standard deviation of GMS over the pixels, at least 0 and at most ½.
    """

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        ours, theirs = (gradient_magnitudes(_halved(images)) for images in (decoded, target))
        similarity = (2 * ours * theirs + _STABILITY) / (ours.square() + theirs.square() + _STABILITY)
        return similarity.flatten(1).std(1, correction=0)


def _halved(images: Tensor) -> Tensor:
    """Return the luma's means over blocks of 2 × 2 pixels; a border of zeros makes odd sides even."""
    if images.shape[1] == 3:
        images = (images * images.new_tensor(_LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)
    odd = max(images.shape[-2] % 2, images.shape[-1] % 2)
    return functional.avg_pool2d(functional.pad(images, (0, odd, 0, odd)), 2)
