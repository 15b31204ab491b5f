"""Losses that compare local structure, of images in 0 to 1."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbench.contracts.loss import Context, Loss, Setting
from recbench_losses_structural import scale_weights
from recbench_losses_structural.implementations import MSSSIMError, SSIMError

PER_IMAGE = (1, 2, 3)


class SSIMLoss(Loss):
    """1 − SSIM (Wang et al. 2004, equation 13) over the pixels whose window lies inside the image, and channels."""

    def __init__(self, setting: Setting, **params: Any) -> None:
        super().__init__()
        self.error = SSIMError(**params)

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        error: Tensor = self.error(decoded, target)
        return error


class MSSSIMLoss(Loss):
    """1 − MS-SSIM (Wang et al. 2003, equation 7), with the scales that the setting's images have room for."""

    def __init__(self, setting: Setting, *, scales: int, weights: list[float], **params: Any) -> None:
        super().__init__()
        self.error = MSSSIMError(weights=scale_weights(setting.shape, scales, weights, params["window"]), **params)

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        error: Tensor = self.error(decoded, target)
        return error


class Mix(Loss):
    """α (1 − MS-SSIM) + (1 − α) l, with l = mean |x − x̂| up to epoch β and mean (x − x̂)² after it (Kim & Jo, eq. 11).

    Outside of training, where the context has no epoch, the value is that of the first one.
    """

    def __init__(self, setting: Setting, *, alpha: float, beta: float, **params: Any) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.structure = MSSSIMLoss(setting, implementation="fast", **params)

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        structure: Tensor = self.structure(decoded, target, context)
        epoch = 1 if context.epoch is None else context.epoch
        difference = decoded - target
        pixels = difference.abs() if epoch <= self.beta else difference.square()
        return self.alpha * structure + (1 - self.alpha) * pixels.mean(PER_IMAGE)
