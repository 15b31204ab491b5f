"""Perceptual metrics: the same distances as the losses, of images in 0 to 1."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from recbench import ImageShape
from recbench.contracts.metric import ImageMetric
from recbench_losses_perceptual.distance import lpips, st_lpips
from recbench_losses_perceptual.reference import ReferenceLPIPS


class LPIPSMetric(ImageMetric):
    """LPIPS, version 0.1, of Zhang et al. 2018."""

    def __init__(
        self,
        shape: ImageShape,
        *,
        net: Literal["alex", "vgg", "squeeze"],
        linear: bool,
        implementation: Literal["fast", "reference"],
    ) -> None:
        super().__init__()
        self.distance = ReferenceLPIPS(net, linear) if implementation == "reference" else lpips(net, linear, "float32")

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        value: Tensor = self.distance(2 * decoded - 1, 2 * target - 1)
        return value


class STLPIPSMetric(ImageMetric):
    """Shift-tolerant LPIPS of Ghildyal & Liu 2022."""

    def __init__(self, shape: ImageShape, *, net: Literal["alex", "vgg"], linear: bool) -> None:
        super().__init__()
        self.distance = st_lpips(net, linear, "float32")

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        value: Tensor = self.distance(2 * decoded - 1, 2 * target - 1)
        return value
