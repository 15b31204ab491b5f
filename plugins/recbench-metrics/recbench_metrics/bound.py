"""The evidence lower bound, and its KL term."""

from __future__ import annotations

import math

from torch import Tensor

from recbench.contracts.entries import ImageShape
from recbench.contracts.metric import BoundMetric


class NegativeBound(BoundMetric):
    """−log p(x|z) + KL(q(z|x) ‖ p(z)) in nats per image: an upper bound of −log p(x) (Kingma & Welling 2013, eq. 2)."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()

    def forward(self, log_prob: Tensor, kl: Tensor) -> Tensor:
        return kl - log_prob


class BitsPerDimension(BoundMetric):
    """The negative bound for each value of the image, in bits, as of 8-bit values.

    8-bit values lie 1/255 apart, so that a value's probability is its density, taken as constant in between, divided
    by 255.
    """

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()
        self.dimensions = shape.channels * shape.height * shape.width

    def forward(self, log_prob: Tensor, kl: Tensor) -> Tensor:
        return ((kl - log_prob) / self.dimensions + math.log(255)) / math.log(2)


class Divergence(BoundMetric):
    """KL(q(z|x) ‖ p(z)) in nats per image: the rate."""

    needs_log_prob = False

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()

    def forward(self, log_prob: Tensor, kl: Tensor) -> Tensor:
        return kl
