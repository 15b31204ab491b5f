"""The focal frequency loss of Jiang et al. 2021, for images in 0 to 1. Equation numbers are the paper's.

The loss computes the same by :mod:`recbench_losses_frequency._kernels`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def patches(images: Tensor, factor: int) -> Tensor:
    """Cut images (B, C, H, W) into factor × factor patches: (B, C, factor, factor, H / factor, W / factor).

    >>> patches(torch.arange(16.0).view(1, 1, 4, 4), 2)[0, 0, 0, 1]
    tensor([[2., 3.],
            [6., 7.]])
    """
    batch, channels, height, width = images.shape
    return images.reshape(batch, channels, factor, height // factor, factor, width // factor).transpose(-3, -2)


def spectrum_weight(amplitude: Tensor, *, alpha: float, log_matrix: bool, batch_matrix: bool) -> Tensor:
    """Return w(u, v) of equation 8 from the amplitudes |F(u, v) − F̂(u, v)|: their power alpha by its maximum.

    Args:
        amplitude: |F − F̂|, (…, h, w).
        alpha: exponent, at least 0.
        log_matrix: take log(1 + w) first.
        batch_matrix: divide by the maximum of all spectra, not of each one.

    Returns:
        Weights in 0 to 1, in the shape of the amplitudes; 0 where the maximum is 0.

    >>> options = {"log_matrix": False, "batch_matrix": False}
    >>> spectrum_weight(torch.tensor([[1.0, 2.0, 4.0]]), alpha=1.0, **options)
    tensor([[0.2500, 0.5000, 1.0000]])
    """
    matrix = amplitude.pow(alpha)
    if log_matrix:
        matrix = matrix.log1p()
    largest = matrix.amax() if batch_matrix else matrix.amax((-2, -1), keepdim=True)
    return matrix / torch.where(largest > 0, largest, 1)


def focal_frequency(
    error: Tensor, *, alpha: float, patch_factor: int, ave_spectrum: bool, log_matrix: bool, batch_matrix: bool
) -> Tensor:
    """Return the mean of w |F − F̂|² over frequencies, channels and patches (equation 9), without a gradient through w.

    Args:
        error: decoded minus target images, (B, C, H, W).
        alpha: exponent of the weights w (equation 8), at least 0.
        patch_factor: number of patches across and down; divides H and W.
        ave_spectrum: compare the mean spectra of the batch; its value is that of every image.
        log_matrix: weigh by log(1 + w).
        batch_matrix: divide the weights by their maximum over the batch.

    Returns:
        Values (B,), at least 0, whose mean over the batch is the value of the authors' code.

    >>> options = {"patch_factor": 1, "ave_spectrum": False, "log_matrix": False, "batch_matrix": False}
    >>> focal_frequency(torch.ones(1, 1, 4, 4), alpha=1.0, **options)  # one of 16 frequencies, |F|² = 16
    tensor([1.])
    """
    spectrum = torch.fft.fft2(patches(error, patch_factor), norm="ortho")
    if ave_spectrum:
        spectrum = spectrum.mean(0, keepdim=True)
    weight = spectrum_weight(modulus(spectrum.detach()), alpha=alpha, log_matrix=log_matrix, batch_matrix=batch_matrix)
    power = spectrum.real.square() + spectrum.imag.square()
    value: Tensor = (weight * power).flatten(1).mean(1)
    return value.expand(len(error))


def modulus(values: Tensor) -> Tensor:
    """Return |v| of complex values, as the authors compute it: ``abs``, which minds overflow, takes twice the time."""
    return (values * values.conj()).real.sqrt()
