"""Watson-DFT: differences of amplitudes and of phases of the blocks' Fourier coefficients, on half spectra."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recbench_losses_frequency.watson.blocks import sums_and_differences
from recbench_losses_frequency.watson.masking import EPSILON, Learned, pooled, slack

# The angle between two phases is acos(κ cos φ), whose slope is finite at φ = 0 and φ = π as well.
KAPPA = 1 - 1e-7
_SINE = 1 - KAPPA**2


def dft_distance(
    decoded: Tensor, target: Tensor, mean_error: Tensor, matrix: Tensor, learned: Learned, *, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Return the distance of blocks and, if wanted, its gradient by the decoded blocks' coefficients.

    The slope is taken in place, so it must not be asked for while autograd records.

    Angles are computed from sines and cosines, never as a difference of two phases or near the branch points of acos,
    where float32 has 3 digits: acos(κ cos φ) is the argument of κ cos φ + i √(1 − κ² + κ² sin² φ).

    Args:
        decoded: relative pixels of decoded blocks, (B, C, size², K), centred. They are overwritten.
        target: those of the target, overwritten as well.
        mean_error: means of the blocks of decoded minus target images, (B, C, 1, K). In float32 they are more exact
            than differences of means; with a small exponent of pooling, small differences have large gradients.
        matrix: from sums and differences of pixels to real and imaginary parts, (F, size²), see blocks.
        learned: the parameters.
        gradient: whether the gradient is wanted.

    Returns:
        The distance (B,), and the gradient (B, C, 2F, K) or None.
    """
    assert learned.phase is not None
    real0, imaginary0, modulus0, amplitude0 = _spectrum(target, matrix)
    real, imaginary, modulus, amplitude = _spectrum(decoded, matrix)
    overlooked = slack(amplitude0, learned)
    difference = amplitude - amplitude0
    difference[:, :, :1] = (
        mean_error * (real[:, :, :1] + real0[:, :, :1]) / (amplitude[:, :, :1] + amplitude0[:, :, :1])
    )
    norm, outer, inner = pooled(difference.abs().div_(overlooked), learned.beta)

    # Both times |decoded coefficient|. The sine is exactly zero for equal coefficients.
    unit = (modulus0 / KAPPA**2).rsqrt_()
    cosine = (real0 * real).addcmul_(imaginary0, imaginary).mul_(unit)
    sine = (imaginary0 * real).sub_(real0 * imaginary).mul_(unit)
    hypotenuse = (sine * sine).add_(modulus, alpha=_SINE).sqrt_()
    angle = torch.atan2(hypotenuse, cosine).sum(3, keepdim=True)
    weights = learned.channel[:, None, None]
    phase_weights = weights * learned.phase
    value = (weights * norm).sum((1, 2, 3)) + (phase_weights * angle).sum((1, 2, 3))
    if not gradient:
        return value, None

    by_amplitude = inner.mul_(difference.sign_()).div_(overlooked).div_(amplitude).mul_(weights * outer)
    by_phase = sine.div_(hypotenuse).div_(modulus).mul_(phase_weights)
    torch.mul(by_amplitude, real, out=real0).addcmul_(by_phase, imaginary)
    torch.mul(by_amplitude, imaginary.add_(EPSILON), out=imaginary0).addcmul_(by_phase, real, value=-1)
    return value, torch.cat([real0, imaginary0], dim=2)  # the target's coefficients are done with


def no_phase(size: int) -> list[int]:
    """Return indices into a half spectrum of real coefficients, without a phase: zero and Nyquist frequencies.

    ``size`` is even.
    """
    half = size // 2
    columns = half + 1
    return sorted({row * columns + column for row in (0, half) for column in (0, half)})


def _spectrum(pixels: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return real parts plus ε, imaginary parts, squared modulus and amplitude |c + ε + iε|, (B, C, F, K) each."""
    level = pixels[:, :, :1].clone()
    pixels[:, :, :1] = 0
    for_real, for_imaginary = sums_and_differences(pixels, math.isqrt(pixels.shape[2]))
    count = for_real.shape[2]
    real = torch.matmul(matrix[:, :count], for_real)
    imaginary = torch.matmul(matrix[:, count:], for_imaginary)
    real[:, :, :1].add_(level)
    real.add_(EPSILON)
    square = real * real
    modulus = torch.addcmul(square, imaginary, imaginary)
    shifted = imaginary + EPSILON
    return real, imaginary, modulus, square.addcmul_(shifted, shifted).sqrt_()
