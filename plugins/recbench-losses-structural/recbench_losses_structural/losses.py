"""Losses that compare local structure."""

from __future__ import annotations

from pytorch_msssim import ssim
from torch import Tensor

from recbench.contracts.loss import Context, Loss, Setting


class SSIM(Loss):
    """1 − SSIM (Wang et al. 2004, equation 13), with an 11×11 Gaussian window, averaged over pixels and channels."""

    def __init__(self, setting: Setting, *, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        similarity: Tensor = ssim(decoded, target, data_range=1.0, size_average=False, win_sigma=self.sigma)
        return 1 - similarity
