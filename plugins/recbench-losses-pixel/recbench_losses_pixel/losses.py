"""Losses that compare pixel by pixel: their formulas as plain functions, and the classes that recbench calls.

All of them are sums over pixels and channels: negative log-likelihoods in nats per image, up to a constant, so that a
KL weight of 1 is the evidence lower bound.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from recbench.contracts.loss import Context, Likelihood, Loss, Setting

PER_IMAGE = (1, 2, 3)


def l2(decoded: Tensor, target: Tensor) -> Tensor:
    """Return ½ Σ (x − x̂)² (Kingma & Welling 2014, appendix C.2, with unit variance). Not a mean over pixels.

    Args:
        decoded: images x̂, (B, C, H, W), of any range.
        target: images x, of the same shape.

    Returns:
        Values (B,), at least 0; 0 for equal images.

    >>> l2(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2))
    tensor([6.])
    """
    return 0.5 * (decoded - target).square().sum(PER_IMAGE)


def l1(decoded: Tensor, target: Tensor) -> Tensor:
    """Return Σ |x − x̂| (Boyd & Vandenberghe 2004, section 7.1.1: Laplace noise). Not a mean over pixels.

    Args:
        decoded: images x̂, (B, C, H, W), of any range.
        target: images x, of the same shape.

    Returns:
        Values (B,), at least 0; 0 for equal images.

    >>> l1(torch.zeros(1, 3, 2, 2), torch.ones(1, 3, 2, 2))
    tensor([12.])
    """
    return (decoded - target).abs().sum(PER_IMAGE)


def cross_entropy(decoded: Tensor, target: Tensor) -> Tensor:
    """Return −Σ x log x̂ + (1 − x) log(1 − x̂) (Kingma & Welling 2014, appendix C.1), logarithms bounded at −100.

    Args:
        decoded: images x̂, (B, C, H, W), in 0 to 1.
        target: images x in 0 to 1, of the same shape.

    Returns:
        Values (B,), at least 0; for equal images the entropy of the pixels. NaN for images with NaN or infinity, and on
        a GPU also for those that leave 0 to 1.

    Raises:
        RuntimeError: on the CPU, a pixel is outside of 0 to 1.

    >>> half = torch.full((1, 1, 1, 1), 0.5)
    >>> cross_entropy(half, half)  # log 2
    tensor([0.6931])
    """
    # torch's function refuses NaN, and on a GPU what is out of range too: by an assertion that ends the process.
    inside = decoded.isfinite() if decoded.device.type == "cpu" else decoded == decoded.clamp(0, 1)
    usable = inside & ~target.isnan()
    decoded, target = (torch.where(usable, images, 0.5) for images in (decoded, target))
    values = functional.binary_cross_entropy(decoded, target, reduction="none")
    return torch.where(usable, values, math.nan).sum(PER_IMAGE)


def charbonnier(decoded: Tensor, target: Tensor, epsilon: float) -> Tensor:
    """Return Σ √((x − x̂)² + ε²) − ε (Charbonnier et al. 1994).

    Args:
        decoded: images x̂, (B, C, H, W), of any range.
        target: images x, of the same shape.
        epsilon: ε, above 0: the width of the smooth part.

    Returns:
        Values (B,), at least 0; 0 for equal images.

    >>> charbonnier(torch.zeros(1, 1, 1, 1), torch.full((1, 1, 1, 1), 4.0), epsilon=3.0)  # √(16 + 9) − 3
    tensor([2.])
    """
    smooth = torch.sqrt((decoded - target).square() + epsilon**2)
    return (smooth - epsilon).sum(PER_IMAGE)


class L2(Likelihood):
    """:func:`l2`: the negative logarithm of a Gaussian density with unit variance."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return l2(decoded, target)

    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        constant = 0.5 * math.log(2 * math.pi) * target[0].numel()
        return -constant - l2(decoded, target)


class L1(Likelihood):
    """:func:`l1`: the negative logarithm of a Laplace density with unit scale."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return l1(decoded, target)

    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return -math.log(2) * target[0].numel() - l1(decoded, target)


class CE(Loss):
    """:func:`cross_entropy`, for images in 0 to 1.

    Not a Likelihood: for grey values the Bernoulli density is not normalized.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return cross_entropy(decoded, target)


class Charbonnier(Loss):
    """:func:`charbonnier`."""

    def __init__(self, setting: Setting, *, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return charbonnier(decoded, target, self.epsilon)
