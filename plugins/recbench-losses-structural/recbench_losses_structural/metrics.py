"""Metrics that compare local structure, on 8-bit-rounded images in 0 to 1."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from recbench.contracts.entries import ImageShape
from recbench.contracts.metric import ImageMetric
from recbench_losses_structural import scale_weights
from recbench_losses_structural.implementations import MSSSIMError, SSIMError


class SSIMMetric(ImageMetric):
    """SSIM (Wang et al. 2004, equation 13) over the pixels whose window lies inside the image, and channels."""

    def __init__(self, shape: ImageShape, **params: Any) -> None:
        super().__init__()
        self.error = SSIMError(**params)

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        error: Tensor = self.error(decoded, target)
        return 1 - error


class MSSSIMMetric(ImageMetric):
    """MS-SSIM (Wang et al. 2003, equation 7), with the scales that images of that shape have room for."""

    def __init__(self, shape: ImageShape, *, scales: int, weights: list[float], **params: Any) -> None:
        super().__init__()
        self.error = MSSSIMError(weights=scale_weights(shape, scales, weights, params["window"]), **params)

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        error: Tensor = self.error(decoded, target)
        return 1 - error
