"""Bredell et al. 2023, equations 7, 11 and 12, transcribed term by term: the other side of a comparison of speed.

The authors have published no code, so this is what the equations say in PyTorch when they are taken one by one: full
complex transforms, the complex filter itself, a convolution for a convolution. Values equal those of
``recbench_losses_likelihood.wiener`` to rounding.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def centred(kernel: Tensor, height: int, width: int) -> Tensor:
    """Kernels (B, size, size) as images (B, 1, height, width) with their centre at (0, 0)."""
    size = kernel.shape[-1]
    image = functional.pad(kernel, (0, width - size, 0, height - size)).unsqueeze(1)
    return torch.roll(image, (-(size // 2), -(size // 2)), dims=(2, 3))


def reconstruction(decoded: Tensor, target: Tensor, kernel: Tensor, C: float) -> Tensor:  # noqa: N803
    """Half of equation 7 with images (B, C, H, W) and kernels (B, size, size): (B,)."""
    transfer = torch.fft.fft2(centred(kernel, *target.shape[-2:]))
    wiener = transfer.conj() / (transfer.abs() ** 2 + C)
    weighted = wiener * (torch.fft.fft2(target, norm="ortho") - torch.fft.fft2(decoded, norm="ortho"))
    return 0.5 * (weighted.abs() ** 2).sum((1, 2, 3))


def log_determinant(kernel: Tensor, epsilon: float, channels: int, height: int, width: int) -> Tensor:
    """log|K + εI| of equation 11 from the eigenvalues of a block-circulant matrix, for all channels: (B,)."""
    eigenvalues = torch.fft.fft2(centred(kernel, height, width)) + epsilon
    return channels * torch.log(eigenvalues.abs()).sum((1, 2, 3))


def kernel_fit(decoded: Tensor, target: Tensor, kernel: Tensor) -> Tensor:
    """Equation 12, ‖x ∗ k − x̂‖², with one circular convolution for each image of the batch: (B,)."""
    batch, channels, height, _ = target.shape
    margin = kernel.shape[-1] // 2
    padded = functional.pad(target, (margin,) * 4, mode="circular").reshape(
        1, batch * channels, height + 2 * margin, -1
    )
    flipped = kernel.flip((1, 2)).repeat_interleave(channels, dim=0).unsqueeze(1)  # conv2d is a correlation
    blurred = functional.conv2d(padded, flipped, groups=batch * channels).reshape(target.shape)
    return ((blurred - decoded) ** 2).sum((1, 2, 3))
