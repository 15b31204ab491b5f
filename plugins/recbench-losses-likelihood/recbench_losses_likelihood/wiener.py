"""The Wiener loss of Bredell et al. 2023, for images in 0 to 1. Equation numbers are the paper's.

All convolutions are circular, so in the orthonormal Fourier basis they are products, and norms are sums over
frequencies (Parseval). Images are real: half of the spectrum holds everything, and is what is computed.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PER_IMAGE = (1, 2, 3)


def gaussian_kernel(size: int, variance: float) -> Tensor:
    """Return a centred Gaussian of unit sum on size × size pixels, float64.

    Args:
        size: side in pixels.
        variance: in squared pixels, above 0.

    >>> gaussian_kernel(3, 1.0).sum().item()
    1.0
    """
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    profile = torch.exp(-(offset**2) / (2 * variance))
    kernel = torch.outer(profile, profile)
    return kernel / kernel.sum()


def starting_kernel(start: str, size: int, variance: float) -> Tensor:
    """Return the kernel of unit sum that G starts from, (size, size), float64.

    Args:
        start: ``flat``, ``delta`` (all of it in the centre) or ``gaussian``.
        size: side in pixels, odd.
        variance: of ``gaussian``, in squared pixels, above 0.

    >>> starting_kernel("delta", 3, 2.0)[1, 1].item()
    1.0
    """
    if start == "gaussian":
        return gaussian_kernel(size, variance)
    kernel = torch.full((size, size), 1 / size**2, dtype=torch.float64)
    if start == "delta":
        kernel.zero_()
        kernel[size // 2, size // 2] = 1
    return kernel


def transfer_function(kernel: Tensor, height: int, width: int) -> Tensor:
    """Return F(k): half-spectrum transform, (B, 1, height, width // 2 + 1), of kernels (B, size, size).

    The kernel's centre is moved to index (0, 0), so that a symmetric kernel shifts nothing.

    >>> transfer_function(torch.ones(1, 1, 1), 4, 4).shape  # a kernel of one pixel blurs nothing
    torch.Size([1, 1, 4, 3])
    """
    size = kernel.shape[-1]
    padded = nn.functional.pad(kernel, (0, width - size, 0, height - size))
    centred = padded.roll((-(size // 2), -(size // 2)), dims=(-2, -1))
    transform: Tensor = torch.fft.rfft2(centred)
    return transform.unsqueeze(1)


def multiplicity(width: int, like: Tensor) -> Tensor:
    """Return the number of times that each column of a half spectrum occurs in the full one, (width // 2 + 1,).

    >>> multiplicity(6, torch.zeros(()))
    tensor([1., 2., 2., 1.])
    """
    counts = torch.full((width // 2 + 1,), 2, dtype=like.dtype, device=like.device)
    counts[0] = 1
    if width % 2 == 0:
        counts[-1] = 1
    return counts


def squared_modulus(values: Tensor) -> Tensor:
    """Return |v|² of complex values, without the square root of ``abs``, whose gradient at zero is NaN."""
    return values.real.square() + values.imag.square()


def squared_norm(spectrum: Tensor, width: int) -> Tensor:
    """Return ‖v‖², (B,), of half spectra (B, C, H, W // 2 + 1) of real images of that width."""
    return (squared_modulus(spectrum) * multiplicity(width, spectrum.real)).sum(PER_IMAGE)


def weighted_squared_error(error: Tensor, transfer: Tensor, C: float) -> Tensor:  # noqa: N803 - the paper's name
    """Return ‖F*(k) / (|F(k)|² + C) · F(e)‖², the squared norm of equation 7, without its factor ½.

    Args:
        error: e = x − x̂, (B, C, H, W).
        transfer: F(k), (B, 1, H, W // 2 + 1), or one for all images.
        C: constant of the Wiener filter, above 0.

    Returns:
        Values (B,), at least 0.

    >>> identity = transfer_function(torch.ones(1, 1, 1), 4, 4)
    >>> weighted_squared_error(torch.ones(1, 1, 4, 4), identity, 1.0)  # Σ e² / (1 + C)²
    tensor([4.])
    """
    wiener_filter = transfer.conj() / (squared_modulus(transfer) + C)
    return squared_norm(wiener_filter * torch.fft.rfft2(error, norm="ortho"), error.shape[-1])


def log_determinant(transfer: Tensor, epsilon: float, channels: int, width: int) -> Tensor:
    """Return log|K + εI| from the eigenvalues F(k) + ε of the block-circulant K (section 3.4), (B,).

    Args:
        transfer: F(k), (B, 1, H, W // 2 + 1).
        epsilon: ε, above 0.
        channels: number of channels, all of which count.
        width: W of the images.

    >>> identity = transfer_function(torch.ones(1, 1, 1), 4, 4)
    >>> log_determinant(identity, 1.0, channels=1, width=4)  # 16 log 2
    tensor([11.0904])
    """
    shifted = torch.complex(transfer.real + epsilon, transfer.imag)
    logarithms = 0.5 * torch.log(squared_modulus(shifted))
    return channels * (logarithms * multiplicity(width, logarithms)).sum(PER_IMAGE)


def kernel_fit(target: Tensor, decoded: Tensor, transfer: Tensor) -> Tensor:
    """Return ‖x ∗ k − x̂‖² (equations 9, 10 and 12).

    Args:
        target: x, (B, C, H, W).
        decoded: x̂, of the same shape.
        transfer: F(k), (B, 1, H, W // 2 + 1), or one for all images.

    Returns:
        Values (B,), at least 0.

    >>> identity = transfer_function(torch.ones(1, 1, 1), 4, 4)
    >>> kernel_fit(torch.ones(1, 1, 4, 4), torch.zeros(1, 1, 4, 4), identity)
    tensor([16.])
    """
    residual = torch.fft.rfft2(target, norm="ortho") * transfer - torch.fft.rfft2(decoded, norm="ortho")
    return squared_norm(residual, target.shape[-1])
