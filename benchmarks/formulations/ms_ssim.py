"""MS-SSIM as the package pytorch-msssim computes it, for images that it refuses because they have no room for five
scales; and the mix of Kim & Jo, equations 11 to 13, on top of it.

Made of the package's own parts: what differs is the number of scales alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pytorch_msssim.ssim import _fspecial_gauss_1d, _ssim
from torch import Tensor
from torch.nn import functional


def ms_ssim(
    decoded: Tensor, target: Tensor, window: int, sigma: float, constants: tuple[float, float], weights: Sequence[float]
) -> Tensor:
    """MS-SSIM of images (B, C, H, W) in 0 to 1 with a scale for each of the weights: (B,)."""
    profile = _fspecial_gauss_1d(window, sigma).repeat(decoded.shape[1], 1, 1, 1)
    factors = []
    for scale in range(len(weights)):
        similarity, structure = _ssim(decoded, target, data_range=1.0, win=profile, size_average=False, K=constants)
        if scale < len(weights) - 1:
            factors.append(torch.relu(structure))
            padding = [side % 2 for side in decoded.shape[2:]]
            decoded, target = (functional.avg_pool2d(x, kernel_size=2, padding=padding) for x in (decoded, target))
    factors.append(torch.relu(similarity))
    exponents = decoded.new_tensor(weights).view(-1, 1, 1)
    return torch.prod(torch.stack(factors) ** exponents, dim=0).mean(1)


def renormalized(weights: Sequence[float], window: int, side: int) -> list[float]:
    """The first weights, for as many scales as images of that side have room for; fewer are divided by their sum."""
    fitting = [weight for scale, weight in enumerate(weights) if side > (window - 1) * 2**scale]
    return [weight / sum(fitting) for weight in fitting] if len(fitting) < len(weights) else fitting


def mix(decoded: Tensor, target: Tensor, similarity: Tensor, alpha: float) -> Tensor:
    """Equation 11 with the l1 of equation 12, up to epoch β, given the images' MS-SSIM (B,): (B,)."""
    return alpha * (1 - similarity) + (1 - alpha) * (decoded - target).abs().mean((1, 2, 3))
