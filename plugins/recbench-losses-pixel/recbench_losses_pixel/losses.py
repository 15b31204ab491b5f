"""Losses that compare pixel by pixel.

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


class L2(Likelihood):
    """½ Σ (x − x̂)²: the negative logarithm of a Gaussian density with unit variance. Not a mean over pixels."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return 0.5 * (decoded - target).square().sum(PER_IMAGE)

    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        constant = 0.5 * math.log(2 * math.pi) * target[0].numel()
        return -constant - self.forward(decoded, target, context)


class L1(Likelihood):
    """Σ |x − x̂|: the negative logarithm of a Laplace density with unit scale. Not a mean over pixels."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return (decoded - target).abs().sum(PER_IMAGE)

    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return -math.log(2) * target[0].numel() - self.forward(decoded, target, context)


class CE(Loss):
    """−Σ x log x̂ + (1 − x) log(1 − x̂), for images in 0 to 1.

    Not a Likelihood: for grey values the Bernoulli density is not normalized.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__()

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return functional.binary_cross_entropy(decoded, target, reduction="none").sum(PER_IMAGE)


class Charbonnier(Loss):
    """Σ √((x − x̂)² + ε²) − ε."""

    def __init__(self, setting: Setting, *, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        smooth = torch.sqrt((decoded - target).square() + self.epsilon**2)
        return (smooth - self.epsilon).sum(PER_IMAGE)
