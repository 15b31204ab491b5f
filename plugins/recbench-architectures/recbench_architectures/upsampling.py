"""Bilinear upsampling: linear and separable, a product with one matrix for the rows and one for the columns.

Networks use a kernel with the same values and gradients, of :mod:`recbench_architectures._kernels`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbench_architectures._kernels import Upsample


def interpolation_matrix(inputs: int, outputs: int, *, align_corners: bool) -> Tensor:
    """Return the matrix of linear interpolation of samples at evenly spaced positions.

    Args:
        inputs: number of samples.
        outputs: number of positions.
        align_corners: whether the first and last positions are the first and last samples. If not, samples are the
            centres of cells that divide the same length, and positions beyond the outer centres take their values.

    Returns:
        (outputs, inputs), float32; rows add up to 1.

    >>> interpolation_matrix(2, 4, align_corners=False)
    tensor([[1.0000, 0.0000],
            [0.7500, 0.2500],
            [0.2500, 0.7500],
            [0.0000, 1.0000]])
    """
    position = torch.arange(outputs, dtype=torch.float64)
    if align_corners:
        position = position * ((inputs - 1) / max(outputs - 1, 1))
    else:
        position = ((position + 0.5) * (inputs / outputs) - 0.5).clamp(min=0)
    sample = torch.arange(inputs, dtype=torch.float64)
    matrix = (1 - (position.clamp(max=inputs - 1)[:, None] - sample).abs()).clamp(min=0)
    return matrix.float()


def upsampled(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return rows · image · columnsᵀ for every channel: the plain formula.

    Args:
        images: (B, C, H, W).
        rows: (H', H), from :func:`interpolation_matrix`.
        columns: (W', W), from :func:`interpolation_matrix`.

    Returns:
        (B, C, H', W').

    >>> corners = interpolation_matrix(2, 3, align_corners=True)
    >>> upsampled(torch.tensor([[[[0.0, 2.0], [4.0, 6.0]]]]), corners, corners)
    tensor([[[[0., 1., 2.],
              [2., 3., 4.],
              [4., 5., 6.]]]])
    """
    return rows @ images @ columns.T


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
        doubled: Tensor = Upsample.apply(images, self.rows, self.columns, self.align_corners)
        return doubled
