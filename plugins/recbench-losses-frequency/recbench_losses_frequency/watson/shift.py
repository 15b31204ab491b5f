"""The random shift that keeps the losses from favouring the grid of blocks."""

from __future__ import annotations

import torch
from torch import Tensor

SHIFTS = 8  # different shifts in each direction, from −4 to 3 pixels, whatever the size of the blocks

Shift = tuple[int, int] | Tensor  # rows and columns; on a GPU a tensor (2,) there, which a CUDA graph can draw anew


def random_shift(device: torch.device) -> Shift:
    """Draw a shift, by the generator of the device, so that no device waits for another."""
    drawn = torch.randint(SHIFTS, (2,), device=device) - SHIFTS // 2
    if device.type != "cpu":
        return drawn
    down, across = drawn.tolist()
    return down, across


def shifted(images: Tensor, shift: Shift) -> Tensor:
    """Return images (B, C, H, W) from that many rows and columns on, with their edges repeated at the end."""
    for dim, by in zip((2, 3), shift, strict=True):
        if isinstance(by, Tensor):
            images = images.index_select(dim, _sources(images, by, dim))
        else:
            images = _along(images, by, dim)
    return images


def before_shift(slope: Tensor, shift: Shift) -> Tensor:
    """Return the gradient by images, from that by the shifted ones: the adjoint of :func:`shifted`."""
    down, across = shift
    if isinstance(down, Tensor) and isinstance(across, Tensor):
        # A product with a matrix of zeros and ones: adding up by index would not be deterministic on a GPU.
        rows, columns = (_selection(slope, by, dim) for dim, by in ((2, down), (3, across)))
        return rows.T @ (slope @ columns)
    return _adjoint_along(_adjoint_along(slope, across, 3), down, 2)


def _sources(images: Tensor, by: Tensor, dim: int) -> Tensor:
    """Return the row or column of the images that each one of the shifted images is."""
    size = images.shape[dim]
    return (torch.arange(size, device=images.device) + by).clamp_(0, size - 1)


def _selection(images: Tensor, by: Tensor, dim: int) -> Tensor:
    """Return the matrix (shifted, original) with a one where a row or column is that one."""
    every = torch.arange(images.shape[dim], device=images.device)
    return (_sources(images, by, dim)[:, None] == every).to(images.dtype)


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
