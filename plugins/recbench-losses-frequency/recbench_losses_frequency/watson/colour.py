"""From RGB to the channels that the losses judge, Y, Cb and Cr, for blocks of relative pixels (see blocks)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# As the authors round it. Rows: Y, Cb, Cr.
YCBCR = ((0.299, 0.587, 0.114), (-0.1687, -0.3313, 0.5), (0.5, -0.4187, -0.0813))
CENTRE = (0.0, 0.5, 0.5)


class Colour(nn.Module):
    """The map from RGB to YCbCr, as sums that do not cancel; buffers in float64.

    Attributes:
        matrix: from R, G and B, (3, 3).
        from_green: from R − G, G and B − G, (3, 3).
        from_shares: from R, G, B, 1 − R, 1 − G, 1 − B and 1, (3, 7), with the 0.5 of Cb and Cr.
    """

    matrix: Tensor
    from_green: Tensor
    from_shares: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        grey = matrix.sum(1)
        grey = torch.where(grey.abs() < 1e-12, 0.0, grey)  # rounding errors of float64; those of a float32 matrix stay
        positive, negative = matrix.clamp(min=0), (-matrix).clamp(min=0)
        remainder = matrix.new_tensor(CENTRE) - negative.sum(1)
        self.register_buffer("matrix", matrix, persistent=False)
        self.register_buffer("from_green", torch.stack([matrix[:, 0], grey, matrix[:, 2]], dim=1), persistent=False)
        shares = torch.cat([positive, negative, remainder[:, None]], dim=1)
        self.register_buffer("from_shares", shares, persistent=False)


def relative_channels(blocks: Tensor, colour: Colour | None, *, centred: bool) -> Tensor:
    """Return channels of blocks of pixels (B, C, size², K), relative to each block's first pixel.

    Args:
        blocks: RGB, or grey; they are overwritten.
        colour: from RGB to YCbCr; None for grey, which is taken as it is.
        centred: add 0.5 to Cb and Cr. Not wanted for differences of images.

    Where R = G = B, Cb and Cr would be the rounding noise of sums that cancel; so the sums run over G, R − G and B − G.
    """
    first = blocks[:, :, :1].clone()
    relative = blocks.sub_(first)
    if colour is None:
        relative[:, :, :1] = first
        return relative
    channels = _from_green(relative.flatten(2), colour).reshape(blocks.shape)
    levels = _levels if centred else _from_green
    channels[:, :, 0] = levels(first[:, :, 0], colour)
    return channels


def to_rgb(slope: Tensor, colour: Colour | None) -> Tensor:
    """Return the gradient by the pixels of RGB images from that by channels, (B, C, size², K)."""
    if colour is None:
        return slope
    return torch.matmul(colour.matrix.T.to(slope.dtype), slope.flatten(2)).reshape(slope.shape)


def _from_green(pixels: Tensor, colour: Colour) -> Tensor:
    """Return YCbCr of RGB pixels (B, 3, K), which are overwritten, without the 0.5 of Cb and Cr."""
    pixels[:, 0].sub_(pixels[:, 1])
    pixels[:, 2].sub_(pixels[:, 1])
    return torch.matmul(colour.from_green.to(pixels.dtype), pixels)


def _levels(pixels: Tensor, colour: Colour) -> Tensor:
    """Return YCbCr of RGB pixels (B, 3, K), with 0.5 added to Cb and Cr.

    Cb of yellow and Cr of cyan are zero. They are summed from colour shares and missing colour shares, which are all
    positive, so that no rounding makes them negative.
    """
    one = torch.ones_like(pixels[:, :1])
    return torch.matmul(colour.from_shares.to(pixels.dtype), torch.cat([pixels, 1 - pixels, one], dim=1))
