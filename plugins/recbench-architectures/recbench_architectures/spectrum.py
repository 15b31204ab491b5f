"""The details of an image that Kim & Jo feed to their network: phase spectrum and high-passed image (section III.A).

Spectra are those of real images: half of them, (…, H, W // 2 + 1) as torch.fft.rfft2 gives it, holds everything.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ideal_high_pass(height: int, width: int, cutoff: float) -> Tensor:
    """Return the ideal high-pass filter, (H, W // 2 + 1): 0 up to the radius ``cutoff``, 1 beyond.

    The radius is the distance from the origin of the centred (H, W) spectrum in its pixels, which are cycles per image.

    >>> ideal_high_pass(4, 4, cutoff=1.0)
    tensor([[0., 0., 1.],
            [0., 1., 1.],
            [1., 1., 1.],
            [0., 1., 1.]])
    """
    rows = torch.fft.fftfreq(height, 1 / height, dtype=torch.float64)
    columns = torch.fft.rfftfreq(width, 1 / width, dtype=torch.float64)
    return (torch.hypot(rows[:, None], columns) > cutoff).float()


def own_conjugates(height: int, width: int) -> Tensor:
    """Return a mask, (H, W // 2 + 1), of frequencies that equal their negatives, where spectra of images are real."""
    rows = 2 * torch.arange(height) % height == 0
    columns = 2 * torch.arange(width // 2 + 1) % width == 0
    return rows[:, None] & columns


def phase_spectrum(spectrum: Tensor, width: int, real: Tensor) -> Tensor:
    """Return the phase of half spectra (…, H, W // 2 + 1) in radians, −π to π: whole and centred, (…, H, W).

    Finite everywhere: zero where the magnitude is zero, and so is its gradient there; arbitrary where the magnitude is
    mere rounding, as in constant images.

    Args:
        real: :func:`own_conjugates`. The imaginary part is a zero there, whose sign would else choose between −π and π.
    """
    imaginary = torch.where(real, 0, spectrum.imag)
    half = torch.angle(torch.complex(spectrum.real, imaginary))
    # F(−u, −v) is the conjugate of F(u, v): row u comes from row H − u, row 0 from itself.
    rest = -half[..., 1 : (width + 1) // 2].flip((-2, -1)).roll(1, -2)
    phase: Tensor = torch.fft.fftshift(torch.cat([half, rest], dim=-1), dim=(-2, -1))
    return phase
