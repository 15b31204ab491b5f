"""The blocks that these networks are made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

from torch import nn

from recbench.contracts.entries import ImageShape
from recbench_architectures.upsampling import BilinearUpsampling

Reading = Literal["outputs", "inputs"]
"""Role of the encoder's reversed widths in the blocks of its decoder."""

Up = Callable[[int, int, tuple[int, int]], nn.Module]
"""A factory of blocks that double the sides: from its channels, its outputs' channels, and the sides of its input."""


def down(inputs: int, outputs: int) -> nn.Sequential:
    """Halve the sides: convolution (3, stride 2), batch norm, Leaky-ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU())


def up_transposed(inputs: int, outputs: int, sides: tuple[int, int]) -> nn.Sequential:
    """Double the sides: transposed convolution (4, stride 2), batch norm, Leaky-ReLU."""
    convolution = nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU())


def up_bilinear(inputs: int, outputs: int, sides: tuple[int, int]) -> nn.Sequential:
    """Double the sides: bilinear upsampling, convolution (3), batch norm, Leaky-ReLU."""
    upsampling = BilinearUpsampling(*sides, align_corners=False)
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1)
    return nn.Sequential(upsampling, convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU())


def downscaling(channels: int, widths: Sequence[int]) -> list[nn.Module]:
    """Return the encoder's blocks; each halves the sides."""
    return [down(inputs, outputs) for inputs, outputs in pairwise([channels, *widths])]


def code_shape(shape: ImageShape, widths: Sequence[int]) -> tuple[int, int, int]:
    """Return the channels, height and width of the encoder's output, after :func:`downscaling`."""
    factor = 2 ** len(widths)
    return widths[-1], shape.height // factor, shape.width // factor


def upscaling(shape: ImageShape, widths: Sequence[int], up: Up, reading: Reading) -> nn.Sequential:
    """Return the decoder: blocks, then a convolution (3) and tanh, from a code to an image in −1 to 1.

    Args:
        widths: of the encoder's blocks; the first block gets a code of the last width, whatever the reading.
        reading: whether the reversed widths are the blocks' outputs, or their inputs; then the last keeps its width.
    """
    code, height, width = code_shape(shape, widths)
    reverse = widths[::-1]
    outputs = reverse if reading == "outputs" else [*reverse[1:], reverse[-1]]
    blocks = [
        up(inputs, outputs, (height * 2**index, width * 2**index))
        for index, (inputs, outputs) in enumerate(pairwise([code, *outputs]))
    ]
    return nn.Sequential(*blocks, nn.Conv2d(outputs[-1], shape.channels, kernel_size=3, padding=1), nn.Tanh())
