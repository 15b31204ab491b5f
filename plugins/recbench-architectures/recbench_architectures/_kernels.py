"""The fast kernel of bilinear upsampling; its formula is in :mod:`recbench_architectures.upsampling`.

torch's own backward pass adds atomically on a GPU, in an order that changes from run to run. With
``torch.use_deterministic_algorithms`` it is refused, or replaced by many small operations. Upsampling is linear and
separable: its backward pass is two products with the transposed matrices.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def separable_product(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows · image · columnsᵀ for every channel, (B, C, H, W) to (B, C, H', W').

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


class Upsample(torch.autograd.Function):
    """Bilinear upsampling by torch's forward pass, and a backward pass that is deterministic on every device."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, rows: Tensor, columns: Tensor, align_corners: bool) -> Tensor:
        ctx.save_for_backward(rows, columns)
        # Not nn.functional.interpolate, which takes a slow path where algorithms must be deterministic.
        upsampled: Tensor = torch.ops.aten.upsample_bilinear2d(images, [len(rows), len(columns)], align_corners)
        return upsampled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = gradients
        rows, columns = ctx.saved_tensors
        # In the matrices' precision: bf16 would round the weights, where corners are aligned.
        product = separable_product(gradient.to(rows.dtype), rows.T, columns.T)
        return product.to(gradient.dtype), None, None, None
