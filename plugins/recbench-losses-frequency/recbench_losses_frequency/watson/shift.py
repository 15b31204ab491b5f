"""The random shift that keeps the losses from favouring the grid of blocks."""

from __future__ import annotations

import torch
from torch import Tensor

SHIFTS = 8  # different shifts in each direction, from −4 to 3 pixels, whatever the size of the blocks

Shift = tuple[int, int]  # rows and columns


def random_shift() -> Shift:
    """Draw a shift, by the CPU's generator, so that nothing waits for another device."""
    down, across = (torch.randint(SHIFTS, (2,)) - SHIFTS // 2).tolist()
    return down, across


def shifted(images: Tensor, shift: Shift) -> Tensor:
    """Return images (B, C, H, W) from that many rows and columns on, with their edges repeated at the end."""
    for dim, by in zip((2, 3), shift, strict=True):
        images = _along(images, by, dim)
    return images


def before_shift(slope: Tensor, shift: Shift) -> Tensor:
    """Return the gradient by images, from that by the shifted ones: the adjoint of :func:`shifted`."""
    for dim, by in zip((3, 2), reversed(shift), strict=True):
        slope = _adjoint_along(slope, by, dim)
    return slope


def _along(images: Tensor, by: int, dim: int) -> Tensor:
    """Shift along one dimension, in parts, because the gradient of padding by edges is not deterministic on a GPU."""
    if by == 0:
        return images
    size = images.shape[dim]
    count = min(abs(by), size)
    kept = images.narrow(dim, count if by > 0 else 0, size - count)
    edge = images.narrow(dim, size - 1 if by > 0 else 0, 1)
    repeated = edge.expand([count if axis == dim else length for axis, length in enumerate(images.shape)])
    return torch.cat([kept, repeated] if by > 0 else [repeated, kept], dim)


def _adjoint_along(slope: Tensor, by: int, dim: int) -> Tensor:
    if by == 0:
        return slope
    size = slope.shape[dim]
    count = min(abs(by), size)
    kept = slope.narrow(dim, 0 if by > 0 else count, size - count)
    repeated = slope.narrow(dim, size - count if by > 0 else 0, count)
    lost = torch.zeros_like(repeated)
    moved = torch.cat([lost, kept] if by > 0 else [kept, lost], dim)
    moved.select(dim, size - 1 if by > 0 else 0).add_(repeated.sum(dim))
    return moved
