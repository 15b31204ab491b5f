"""SSIM and MS-SSIM as in the papers: plain functions of two batches of images in 0 to 1.

Windows lie inside the image, and an odd side is padded with zeros before it is halved, as in the package
pytorch-msssim. The losses and metrics compute the same by :mod:`recbench_losses_structural._kernels`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Constants(NamedTuple):
    """C1 = K1² and C2 = K2² of SSIM, for images in 0 to 1."""

    c1: float
    c2: float


def gaussian_window(size: int, sigma: float) -> Tensor:
    """Return a Gaussian of unit sum, (size,).

    It is in float32 whatever the images are in, as in pytorch-msssim: in float64 its sum is 1 only to 1e-7, which moves
    the SSIM of flat regions by up to 1e-4.

    Args:
        size: number of samples, odd.
        sigma: standard deviation in pixels, above 0.

    >>> gaussian_window(3, 0.5)
    tensor([0.1065, 0.7870, 0.1065])
    """
    offset = torch.arange(size, dtype=torch.float32) - size // 2
    profile = torch.exp(-(offset**2) / (2 * sigma**2))
    return profile / profile.sum()


def local_mean(images: Tensor, window: Tensor) -> Tensor:
    """Return windowed means, (B, C, H − k + 1, W − k + 1), of images (B, C, H, W) for a separable window (k,)."""
    channels = images.shape[1]
    down = window.to(images).view(1, 1, -1, 1).repeat(channels, 1, 1, 1)
    means = functional.conv2d(images, down, groups=channels)
    return functional.conv2d(means, down.transpose(2, 3), groups=channels)


def luminance_and_structure(x: Tensor, y: Tensor, window: Tensor, constants: Constants) -> tuple[Tensor, Tensor]:
    """Return the two factors of SSIM at every pixel whose window lies inside the image (Wang et al. 2004, equation 13).

    l = (2 μx μy + C1) / (μx² + μy² + C1) and cs = (2 σxy + C2) / (σx² + σy² + C2).
    """
    mean_x, mean_y = local_mean(x, window), local_mean(y, window)
    variance_x = local_mean(x * x, window) - mean_x**2
    variance_y = local_mean(y * y, window) - mean_y**2
    covariance = local_mean(x * y, window) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + constants.c1) / (mean_x**2 + mean_y**2 + constants.c1)
    structure = (2 * covariance + constants.c2) / (variance_x + variance_y + constants.c2)
    return luminance, structure


def ssim(decoded: Tensor, target: Tensor, window: Tensor, constants: Constants) -> Tensor:
    """Return the mean SSIM of each image (Wang et al. 2004, equation 13): the mean of l · cs over pixels and channels.

    Args:
        decoded: images (B, C, H, W) in 0 to 1, with sides of at least k pixels.
        target: images of the same shape.
        window: weights (k,) of the separable window, see :func:`gaussian_window`.
        constants: C1 and C2.

    Returns:
        Values (B,) in −1 to 1; 1 for equal images.

    >>> image = torch.linspace(0, 1, 256).view(1, 1, 16, 16)
    >>> window, constants = gaussian_window(11, 1.5), Constants(0.01**2, 0.03**2)
    >>> ssim(image, image, window, constants)
    tensor([1.])
    >>> bool(ssim(1 - image, image, window, constants) < 0)
    True
    """
    luminance, structure = luminance_and_structure(decoded, target, window, constants)
    return (luminance * structure).mean((1, 2, 3))


def ms_ssim(decoded: Tensor, target: Tensor, window: Tensor, constants: Constants, weights: Tensor) -> Tensor:
    """Return the MS-SSIM of each image (Wang et al. 2003, equation 7): Π v_jʷʲ, averaged over channels.

    v_j is the mean of cs at scale j, and at the last scale that of l · cs. From scale to scale, images are halved by
    means of 2 × 2 pixels. Where one of the v_j is not positive, as for inverted images, the product is 0, and so is its
    gradient, which would be infinite at v_j = 0 for exponents below 1.

    Args:
        decoded: images (B, C, H, W) in 0 to 1, which still hold the window at the last scale.
        target: images of the same shape.
        window: weights (k,) of the separable window.
        constants: C1 and C2.
        weights: exponents (scales,), from the finest scale.

    Returns:
        Values (B,) in 0 to 1; 1 for equal images.

    >>> image = torch.linspace(0, 1, 24 * 24).view(1, 1, 24, 24)
    >>> weights = torch.tensor([0.4, 0.6])
    >>> ms_ssim(image, image, gaussian_window(11, 1.5), Constants(0.01**2, 0.03**2), weights)
    tensor([1.])
    """
    factors = []
    for scale in range(1, len(weights) + 1):
        luminance, structure = luminance_and_structure(decoded, target, window, constants)
        last = scale == len(weights)
        factors.append((luminance * structure if last else structure).mean((2, 3)))
        padding = [side % 2 for side in decoded.shape[-2:]]
        if not last:
            decoded, target = (functional.avg_pool2d(images, 2, padding=padding) for images in (decoded, target))
    product = (torch.stack(factors).relu() ** weights.to(decoded).view(-1, 1, 1)).prod(0)
    return product.mean(1)
