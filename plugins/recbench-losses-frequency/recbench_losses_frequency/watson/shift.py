"""The random shift that keeps the losses from favouring the grid of blocks."""

from __future__ import annotations

import torch
from torch import Tensor

SHIFTS = 8  # different shifts in each direction, from −4 to 3 pixels, whatever the size of the blocks


def random_shift() -> tuple[int, int]:
    """Draw a shift down and across; by the CPU's generator, so that nothing waits for another device."""
    down, across = (torch.randint(SHIFTS, (2,)) - SHIFTS // 2).tolist()
    return down, across


def shifted(images: Tensor, down: int, across: int) -> Tensor:
    """Images (B, C, H, W) read from ``down`` rows and ``across`` columns further on; edges repeat where they end."""
    return _along(_along(images, down, 2), across, 3)


def _along(images: Tensor, by: int, dim: int) -> Tensor:
    """Made of parts, because the gradient of padding by edges is not deterministic on a GPU."""
    if by == 0:
        return images
    size = images.shape[dim]
    count = min(abs(by), size)
    kept = images.narrow(dim, count if by > 0 else 0, size - count)
    edge = images.narrow(dim, size - 1 if by > 0 else 0, 1)
    repeated = edge.expand([count if axis == dim else length for axis, length in enumerate(images.shape)])
    return torch.cat([kept, repeated] if by > 0 else [repeated, kept], dim)
