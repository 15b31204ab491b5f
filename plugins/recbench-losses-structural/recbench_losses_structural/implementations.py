"""1 − SSIM and 1 − MS-SSIM as modules, in the implementation that a suite asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from recbench_losses_structural._kernels import ms_ssim_error, ssim_error
from recbench_losses_structural.ssim import Constants, gaussian_window

Implementation = Literal["fast", "reference"]


class SSIMError(nn.Module):
    """1 − SSIM of each image, (B,), for images (B, C, H, W) in 0 to 1; between 0 and 2.

    Args:
        sigma: standard deviation of the window in pixels.
        window: its side in pixels, odd.
        K1: C1 = K1².
        K2: C2 = K2².
        implementation: ``fast`` for recbench's own, ``reference`` for the package pytorch-msssim. Both agree to
            rounding.
    """

    window: Tensor

    def __init__(self, *, sigma: float, window: int, K1: float, K2: float, implementation: Implementation) -> None:  # noqa: N803 - the paper's names
        super().__init__()
        self.constants = Constants(K1**2, K2**2)
        self.package = _package(window, sigma, K1, K2) if implementation == "reference" else None
        self.register_buffer("window", gaussian_window(window, sigma), persistent=False)

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        if self.package is not None:
            from pytorch_msssim import ssim

            similarity: Tensor = ssim(decoded, target, **self.package)
            return 1 - similarity
        return ssim_error(decoded, target, self.window, self.constants)


class MSSSIMError(nn.Module):
    """1 − MS-SSIM of each image, (B,), for images (B, C, H, W) in 0 to 1; between 0 and 1.

    Args:
        sigma: standard deviation of the window in pixels.
        window: its side in pixels, odd.
        K1: C1 = K1².
        K2: C2 = K2².
        weights: exponents, one for each scale.
        implementation: ``fast`` for recbench's own, ``reference`` for the package pytorch-msssim, which takes only
            images with sides of more than 16 (window − 1) pixels. Both agree to rounding.
    """

    window: Tensor
    weights: Tensor

    def __init__(
        self,
        *,
        sigma: float,
        window: int,
        K1: float,  # noqa: N803
        K2: float,  # noqa: N803
        weights: Sequence[float],
        implementation: Implementation,
    ) -> None:
        super().__init__()
        self.constants = Constants(K1**2, K2**2)
        self.package: dict[str, Any] | None = None
        if implementation == "reference":
            self.package = {**_package(window, sigma, K1, K2), "weights": list(weights)}
        self.register_buffer("window", gaussian_window(window, sigma), persistent=False)
        self.register_buffer("weights", torch.tensor(weights, dtype=torch.float64), persistent=False)

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        if self.package is not None:
            from pytorch_msssim import ms_ssim

            similarity: Tensor = ms_ssim(decoded, target, **self.package)
            return 1 - similarity
        return ms_ssim_error(decoded, target, self.window, self.constants, self.weights)


def _package(window: int, sigma: float, k1: float, k2: float) -> dict[str, Any]:
    """Return the arguments of pytorch-msssim's functions."""
    return {"data_range": 1.0, "size_average": False, "win_size": window, "win_sigma": sigma, "K": (k1, k2)}
