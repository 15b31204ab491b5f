"""Linear maps of images in which the robust likelihood of Barron 2019 has its coefficients: DCT, wavelets, YUV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn


def dct_matrix(size: int) -> Tensor:
    """Return the orthonormal DCT-II as a (size, size) matrix; float64."""
    place = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * torch.outer(place, place + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def wavelet_matrix(size: int) -> Tensor:
    """Return one level of the CDF 9/7 wavelets of ``size`` ≥ 2 samples: low-pass, then high-pass rows; float64.

    By lifting (Daubechies and Sweldens 1998), mirrored at the ends about the last sample. Its determinant is 1 for
    even sizes; odd ones have one more low-pass row, and the determinant 1.1496.
    """
    identity = torch.eye(size, dtype=torch.float64)
    matrix = identity
    steps = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
    for number, factor in enumerate(steps):
        rows = torch.arange(1 - number % 2, size, 2)
        after = torch.where(rows + 1 < size, rows + 1, rows - 1)
        matrix = matrix.index_add(0, rows, factor * (matrix[(rows - 1).abs()] + matrix[after]))
    low = 1.149604398860241
    return torch.cat([matrix[0::2] * low, matrix[1::2] / low])


def yuv_matrix() -> Tensor:
    """Return the matrix (3, 3) from RGB to YUV (BT.601), scaled to determinant 1; float64.

    So a density of one is a density of the other.
    """
    y = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    red, _, blue = torch.eye(3, dtype=torch.float64)
    matrix = torch.stack([y, 0.492111 * (blue - y), 0.877283 * (red - y)])
    scaled: Tensor = matrix / torch.linalg.det(matrix).abs() ** (1 / 3)
    return scaled


class Representation(nn.Module):
    """Images (B, C, H, W) in another basis, in the same shape: their DCT, or their wavelet pyramid (coarse top left).

    Images of three channels are taken as RGB and brought to YUV, except as pixels.

    Attributes:
        log_volume: logarithm of the absolute determinant of this linear map of whole images.
    """

    def __init__(self, kind: Literal["pixel", "dct", "wavelet"], levels: int, size: Sequence[int]) -> None:
        super().__init__()
        channels, height, width = size
        self.levels = {"pixel": 0, "dct": 1, "wavelet": levels}[kind]
        self.pyramid = kind == "wavelet"
        self.coloured = kind != "pixel" and channels == 3
        self.register_buffer("colour", yuv_matrix(), persistent=False)
        self.log_volume = 0.0
        matrix = wavelet_matrix if self.pyramid else dct_matrix
        for level in range(self.levels):
            rows, columns = matrix(height), matrix(width)
            self.register_buffer(f"rows{level}", rows, persistent=False)
            self.register_buffer(f"columns{level}", columns, persistent=False)
            volume = width * torch.linalg.slogdet(rows).logabsdet + height * torch.linalg.slogdet(columns).logabsdet
            self.log_volume += channels * volume.item()
            height, width = (height + 1) // 2, (width + 1) // 2

    def forward(self, images: Tensor) -> Tensor:
        if self.coloured:
            colour = self.get_buffer("colour").to(images.dtype)
            images = (colour @ images.flatten(2)).reshape(images.shape)
        bands = []
        for level in range(self.levels):
            rows, columns = (self.get_buffer(f"{name}{level}").to(images.dtype) for name in ("rows", "columns"))
            images = rows @ images @ columns.T
            if self.pyramid:
                bands.append(images)
                images = images[..., : (images.shape[-2] + 1) // 2, : (images.shape[-1] + 1) // 2]
        for band in reversed(bands):
            height, width = images.shape[-2:]
            images = torch.cat([torch.cat([images, band[..., :height, width:]], -1), band[..., height:, :]], -2)
        return images
