"""Number and widths of a network's blocks; imported by entries, so without torch."""

from __future__ import annotations

from collections.abc import Sequence

from recbench import ImageShape

PUBLISHED_SIDE = 64
"""Up to this side of images, one block for each width is what Bredell et al. use."""

SMALLEST_CODE = 4
"""Side of the code, in pixels, that deeper networks for larger images end with."""


def block_widths(widths: Sequence[int], blocks: int, shape: ImageShape) -> list[int]:
    """Return the channels of each block that halves the image: ``widths``, of which the last is repeated.

    Args:
        blocks: how many there are. 0 is one for each width; for images with both sides over 64 pixels, as many as leave
            a code of at least 4 × 4 pixels, if these are more (four widths: five blocks at 128 pixels, six at 256).

    >>> block_widths([64, 128, 256, 512], 0, ImageShape(3, 128, 128))
    [64, 128, 256, 512, 512]
    >>> block_widths([64, 128, 256, 512], 2, ImageShape(3, 128, 128))
    [64, 128]
    """
    if blocks == 0:
        side = min(shape.height, shape.width)
        halvings = (side // SMALLEST_CODE).bit_length() - 1 if side > PUBLISHED_SIDE else 0
        blocks = max(len(widths), halvings)
    return [*widths, *[widths[-1]] * blocks][:blocks]
