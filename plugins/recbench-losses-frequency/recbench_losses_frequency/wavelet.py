"""Differences of wavelet coefficients, of images in 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from recbench.contracts.loss import Context, Loss, Setting


def haar(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return one level of the orthonormal Haar transform (Mallat 1989).

    Args:
        images: (B, C, H, W), of even sides.

    Returns:
        The approximation (B, C, H/2, W/2), and the horizontal, vertical and diagonal details, (B, 3, C, H/2, W/2).

    >>> haar(torch.ones(1, 1, 2, 2))[0]
    tensor([[[[2.]]]])
    """
    columns = images[..., ::2], images[..., 1::2]
    sums, differences = columns[0] + columns[1], columns[0] - columns[1]
    (upper, lower), (left, right) = ((each[..., ::2, :], each[..., 1::2, :]) for each in (sums, differences))
    details = torch.stack((upper - lower, left + right, left - right), dim=1) / 2
    return (upper + lower) / 2, details


def unhaar(approximation: Tensor, details: Tensor) -> Tensor:
    """Return the images whose :func:`haar` that is: the inverse, and the adjoint, as the transform is orthonormal.

    >>> images = torch.arange(8.0).view(1, 1, 2, 4)
    >>> torch.equal(unhaar(*haar(images)), images)
    True
    """
    horizontal, vertical, diagonal = details.unbind(1)
    upper, lower = approximation + horizontal, approximation - horizontal
    left, right = vertical + diagonal, vertical - diagonal
    images = approximation.new_empty(*upper.shape[:-2], 2 * upper.shape[-2], 2 * upper.shape[-1])
    for row, (mean, step) in enumerate(((upper, left), (lower, right))):
        torch.add(mean, step, out=images[..., row::2, ::2])
        torch.sub(mean, step, out=images[..., row::2, 1::2])
    return images.div_(2)


def weighted_coefficients(error: Tensor, details: Sequence[float], approximation: float) -> Tensor:
    """Return Σ w |c| over the coefficients c of all levels, (B,).

    Args:
        error: images (B, C, H, W), whose sides 2^levels divides.
        details: weight of the details of each level, from the finest.
        approximation: weight of the coarsest approximation.

    >>> weighted_coefficients(torch.ones(1, 1, 2, 2), [1.0], 0.5)
    tensor([1.])
    """
    value: Tensor = _WeightedCoefficients.apply(error, tuple(details), approximation)
    return value


def _by_autograd(error: Tensor, details: Sequence[float], approximation: float) -> Tensor:
    value = error.new_zeros(len(error))
    for weight in details:
        error, coefficients = haar(error)
        value = value + weight * coefficients.abs().flatten(1).sum(1)
    return value + approximation * error.abs().flatten(1).sum(1)


class _WeightedCoefficients(torch.autograd.Function):
    """The sum, with its gradient in closed form: the signs of the coefficients, weighted and transformed back. A
    backward pass that has to be differentiated itself is left to autograd."""

    @staticmethod
    def forward(ctx: Any, error: Tensor, details: Sequence[float], approximation: float) -> Tensor:
        left, value, signs = error, error.new_zeros(len(error)), []
        for weight in details:
            left, coefficients = haar(left)
            if ctx.needs_input_grad[0]:
                signs.append(coefficients.sign().mul_(weight))
            value += weight * coefficients.abs_().flatten(1).sum(1)
        gradient = None
        if ctx.needs_input_grad[0]:
            gradient = left.sign().mul_(approximation)
            while signs:
                gradient = unhaar(gradient, signs.pop())
        ctx.save_for_backward(error, gradient)
        ctx.weights = details, approximation
        return value + approximation * left.abs().flatten(1).sum(1)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        error, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # with create_graph
            value = _by_autograd(error, *ctx.weights)
            (differentiable,) = torch.autograd.grad(value, error, outer[0], create_graph=True)
            return differentiable, None, None
        return outer[0][:, None, None, None] * gradient, None, None


class Wavelet(Loss):
    """Σ over levels and bands of w |c − ĉ|, c the orthonormal Haar coefficients (weighted as by Huang et al. 2017).

    The coarsest approximation weighs ``approximation``, the details of level j, from the finest, ``details[j]``.
    """

    def __init__(self, setting: Setting, *, levels: int, approximation: float, details: Sequence[float]) -> None:
        super().__init__()
        self.approximation = approximation
        self.details = [details[min(level, len(details) - 1)] for level in range(levels)]

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        # the transform is linear
        return weighted_coefficients(decoded - target, self.details, self.approximation)
