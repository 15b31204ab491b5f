"""Bilinear upsampling whose gradient is deterministic on every device.

torch's own backward pass adds atomically on a GPU, in an order that changes from run to run. With
``torch.use_deterministic_algorithms`` it is refused, or replaced by many small operations. Upsampling is linear and
separable: its backward pass is two products with fixed matrices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def interpolation_matrix(inputs: int, outputs: int, *, align_corners: bool) -> Tensor:
    """Linear interpolation of ``inputs`` samples at ``outputs`` positions, (outputs, inputs); float32.

    Args:
        align_corners: whether the first and last positions are the first and last samples. If not, samples are the
            centres of cells that divide the same length, and positions beyond the outer centres take their values.
    """
    position = torch.arange(outputs, dtype=torch.float64)
    if align_corners:
        position = position * ((inputs - 1) / max(outputs - 1, 1))
    else:
        position = ((position + 0.5) * (inputs / outputs) - 0.5).clamp(min=0)
    sample = torch.arange(inputs, dtype=torch.float64)
    matrix = (1 - (position.clamp(max=inputs - 1)[:, None] - sample).abs()).clamp(min=0)
    return matrix.float()


def separable_product(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Product rows · image · columnsᵀ for every channel, (B, C, H, W) to (B, C, H', W').

    Both products run over contiguous memory where images are channels last, and so is the result.

    Args:
        rows: (H', H).
        columns: (W', W).
    """
    batch, channels, height, width = images.shape
    pixels = images.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    down = torch.matmul(rows, pixels).reshape(-1, width, channels)
    across = torch.matmul(columns, down)
    return across.reshape(batch, len(rows), len(columns), channels).permute(0, 3, 1, 2)


class _Upsample(torch.autograd.Function):
    """torch's forward pass, which is deterministic and fast, and the transposed matrices for its backward pass."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, rows: Tensor, columns: Tensor, align_corners: bool) -> Tensor:
        ctx.save_for_backward(rows, columns)
        # Not nn.functional.interpolate, which takes a slow way round where algorithms must be deterministic.
        upsampled: Tensor = torch.ops.aten.upsample_bilinear2d(images, [len(rows), len(columns)], align_corners)
        return upsampled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        rows, columns = ctx.saved_tensors
        # In the matrices' precision: bf16 would round the weights, where corners are aligned.
        product = separable_product(gradient.to(rows.dtype), rows.T, columns.T)
        return product.to(gradient.dtype), None, None, None


class BilinearUpsampling(nn.Module):
    """Double the sides of images (B, C, height, width): the values of ``torch.nn.functional.interpolate``.

    Args:
        align_corners: as in :func:`interpolation_matrix`. True is torch.nn.UpsamplingBilinear2d, False torch's default.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, height: int, width: int, *, align_corners: bool) -> None:
        super().__init__()
        self.align_corners = align_corners
        rows = interpolation_matrix(height, 2 * height, align_corners=align_corners)
        columns = interpolation_matrix(width, 2 * width, align_corners=align_corners)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        upsampled: Tensor = _Upsample.apply(images, self.rows, self.columns, self.align_corners)
        return upsampled
