"""Perceptual losses: distances between deep features, as losses."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from recbench.contracts.loss import Context, Loss, Setting
from recbench_losses_perceptual.distance import DeepDistance, czolbe, lpips, st_lpips
from recbench_losses_perceptual.reference import ReferenceLPIPS
from recbench_losses_perceptual.trunks import TrunkPrecision


class VGG(Loss):
    """The learned VGG loss of Czolbe et al. 2020 ("Deeploss-VGG"), for images in 0 to 1.

    d of :mod:`recbench_losses_perceptual.distance` over VGG16's relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 with
    the authors' weights, other ones for colour than for grey images, which are repeated to three channels.

    ``trunk="st"`` is :class:`STLPIPSLoss` with ``net="vgg"``, trunk and weights: that trunk was trained from random
    values, so the authors' weights do not fit its channels.
    """

    def __init__(self, setting: Setting, *, trunk: Literal["imagenet", "st"], precision: TrunkPrecision) -> None:
        super().__init__()
        self.distance: DeepDistance
        self.from_unit = trunk == "st"
        if trunk == "imagenet":
            self.distance = czolbe(setting.shape.channels, precision)
        else:
            self.distance = st_lpips("vgg", linear=True, precision=precision)

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        if self.from_unit:
            decoded, target = 2 * decoded - 1, 2 * target - 1
        value: Tensor = self.distance(decoded, target)
        return value


class LPIPSLoss(Loss):
    """LPIPS, version 0.1, of Zhang et al. 2018, equation 1, for images in −1 to 1."""

    def __init__(
        self,
        setting: Setting,
        *,
        net: Literal["alex", "vgg", "squeeze"],
        linear: bool,
        precision: TrunkPrecision,
        implementation: Literal["fast", "reference"],
    ) -> None:
        super().__init__()
        self.distance = ReferenceLPIPS(net, linear) if implementation == "reference" else lpips(net, linear, precision)

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        value: Tensor = self.distance(decoded, target)
        return value


class STLPIPSLoss(Loss):
    """Shift-tolerant LPIPS of Ghildyal & Liu 2022, for images in −1 to 1."""

    def __init__(
        self, setting: Setting, *, net: Literal["alex", "vgg"], linear: bool, precision: TrunkPrecision
    ) -> None:
        super().__init__()
        self.distance = st_lpips(net, linear, precision)

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        value: Tensor = self.distance(decoded, target)
        return value
