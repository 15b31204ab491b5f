"""Images as blocks of pixels, and the transforms of blocks as matrices.

A block's pixels are kept relative to its first one, x₀ and xᵢ − x₀: a flat block is then flat to the last bit, and its
coefficients are zero instead of rounding noise. The noise would matter: a phase takes it for a signal, and so does a
power of a small coefficient. For the same reason the Fourier transform starts with sums and differences of pixels, as
an FFT does: what cancels in edges, ramps and stripes along an axis cancels there, to the last bit.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cut(images: Tensor, size: int) -> Tensor:
    """Return a copy of images (B, C, H, W) as size × size blocks, row by row: (B, C, size², K), K = H·W / size²."""
    batch, channels, height, width = images.shape
    parts = images.reshape(batch, channels, height // size, size, width // size, size)
    ordered = parts.permute(0, 1, 3, 5, 2, 4).clone(memory_format=torch.contiguous_format)
    return ordered.view(batch, channels, size * size, -1)


def means(images: Tensor, size: int) -> Tensor:
    """Return the mean of each block, (B, C, 1, K) of images (B, C, H, W)."""
    batch, channels, height, width = images.shape
    rows = images.reshape(batch, channels, height // size, size, width).mean(3)  # by steps in a third of the time
    return rows.view(batch, channels, 1, -1, size).mean(4)


def join(blocks: Tensor, size: int, height: int, width: int) -> Tensor:
    """Return images from blocks: the inverse of :func:`cut`."""
    batch, channels = blocks.shape[:2]
    parts = blocks.reshape(batch, channels, size, size, height // size, width // size)
    return parts.permute(0, 1, 4, 2, 5, 3).reshape(batch, channels, height, width)


def for_relative_pixels(matrix: Tensor) -> Tensor:
    """Return the matrix (F, size²) that takes x₀ and xᵢ − x₀ to what ``matrix`` makes of pixels.

    Its first column is the coefficient of a flat block, with rounding errors below 1e-12 taken out.
    """
    flat = matrix.sum(1)
    flat = torch.where(flat.abs() < 1e-12, 0.0, flat)
    return torch.cat([flat[:, None], matrix[:, 1:]], dim=1)


def sums_and_differences(pixels: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return sums and differences along both axes of a block's pixels (B, C, size², K): size² of them.

    At any step, two terms are added or subtracted which every Fourier coefficient takes with the same factor, but for
    its sign.

    Returns:
        Those that real parts of Fourier coefficients are made of, (B, C, R, K), and those of the imaginary parts,
        (B, C, size² - R, K).
    """
    batch, channels, _, count = pixels.shape
    cosines, sines = _along(pixels.view(batch, channels, size, size, count), 2)
    down = torch.cat(cosines + sines, 2)
    cosines, sines = _along(down, 3)
    half = size // 2 + 1  # as many cosines as an axis has
    real = [part[:, :, :half] for part in cosines] + [part[:, :, half:] for part in sines]
    imaginary = [part[:, :, half:] for part in cosines] + [part[:, :, :half] for part in sines]
    return torch.cat([part.flatten(2, 3) for part in real], 2), torch.cat([part.flatten(2, 3) for part in imaginary], 2)


def for_sums_and_differences(matrix: Tensor) -> Tensor:
    """Return ``matrix`` (2F, size²), which takes pixels, for what :func:`sums_and_differences` returns.

    Returns:
        (F, size²), float64: in the first R columns the matrix for the real parts, in the others that for the imaginary
        parts. Rounding errors below 1e-12 are taken out.
    """
    pixels = torch.eye(matrix.shape[1], dtype=matrix.dtype)[None, None]
    folded = []
    for rows, terms in zip(matrix.chunk(2), sums_and_differences(pixels, math.isqrt(matrix.shape[1])), strict=True):
        orthogonal = terms[0, 0]
        folded.append(rows @ orthogonal.T / orthogonal.square().sum(1))
    both = torch.cat(folded, dim=1)
    return torch.where(both.abs() < 1e-12, 0.0, both)


def _along(pixels: Tensor, dim: int) -> tuple[list[Tensor], list[Tensor]]:
    """Take the steps of a fast Fourier transform along ``dim`` that only add and subtract.

    Returns:
        What is multiplied by cosines, and what is multiplied by sines.
    """
    cosines: list[Tensor] = []
    sines: list[Tensor] = []
    while pixels.shape[dim] % 2 == 0:
        first, second = pixels.chunk(2, dim)
        alone, middle, mirrored = _mirrored(first - second, dim)
        cosines += [alone, *(ahead - behind for ahead, behind in mirrored)]
        sines += [*middle, *(ahead + behind for ahead, behind in mirrored)]
        pixels = first + second
    alone, _, mirrored = _mirrored(pixels, dim)
    cosines = [alone, *(ahead + behind for ahead, behind in mirrored), *cosines]
    return cosines, [*(ahead - behind for ahead, behind in mirrored), *sines]


def _mirrored(terms: Tensor, dim: int) -> tuple[Tensor, list[Tensor], list[tuple[Tensor, Tensor]]]:
    """Return term 0, the middle term (if any), and pairs of terms 1, 2, … with the last, last but one, …, if any."""
    size = terms.shape[dim]
    pairs = (size - 1) // 2
    alone = terms.narrow(dim, 0, 1)
    middle = [terms.narrow(dim, size // 2, 1)] if size % 2 == 0 else []
    if not pairs:
        return alone, middle, []
    behind = terms.narrow(dim, size - pairs, pairs)
    return alone, middle, [(terms.narrow(dim, 1, pairs), behind.flip(dim) if pairs > 1 else behind)]


def dct_matrix(size: int) -> Tensor:
    """Return the orthonormal two-dimensional DCT-II of pixels, (size², size²), float64; row 0 is the mean times size.

    Its one-dimensional factor is rounded to float32, as the authors have and publish it, at any precision. On a flat
    block this leaves 1e-8 of its level in the other coefficients, which contrast masking shows.
    """
    place = torch.arange(size, dtype=torch.float64)
    factor = math.sqrt(2 / size) * torch.cos(math.pi / size * place[:, None] * (place + 0.5))
    factor[0] /= math.sqrt(2)
    factor = factor.float().double()
    return torch.kron(factor, factor)


def dft_matrix(size: int) -> Tensor:
    """Return the half-spectrum transform of pixels, divided by size²: (2F, size²), float64, F = size (size / 2 + 1).

    First the F real parts, frequency by frequency along the rows of ``rfft2``'s result, then the imaginary parts. Row 0
    is the mean. ``size`` is even.
    """
    place = torch.arange(size)
    down, across = place[:, None].expand(size, size).reshape(-1), place.repeat(size)
    half = across <= size // 2
    turns = (torch.outer(down[half], down) + torch.outer(across[half], across)) % size
    angle = 2 * math.pi / size * place.double()
    cosine, sine = angle.cos(), angle.sin()
    sine[:: size // 2] = 0  # exactly, where a coefficient is real
    return torch.cat([cosine[turns], -sine[turns]]) / size**2
