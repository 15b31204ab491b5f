"""Drawn scenes of simple shapes: exactly known images of any size, with nothing to download."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from recbench.contracts.dataset import SPLITS, Dataset, Duplicates, Split
from recbench.contracts.entries import ImageShape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SHAPES = 4
_NUMBERS = 10  # random numbers a shape: kind, centre (2), size (2), angle, colour (3), opacity
_BATCH = 32


class Shapes(Dataset):
    """Discs, rectangles and lines before a gradient of colours.

    A scene is defined on the unit square: image number ``i`` shows the same scene at every size. Edges are
    anti-aliased over one pixel. No scene is drawn twice, as each has 46 random numbers of its own.
    """

    duplicates: Duplicates = "keep"  # by chance, tiny images may be equal

    def __init__(self, *, size: int, channels: int, train: int, validation: int, test: int, seed: int) -> None:
        self.size = size
        self.channels = channels
        self.counts: dict[Split, int] = {"train": train, "validation": validation, "test": test}
        self.seed = seed

    @property
    def shape(self) -> ImageShape:
        return ImageShape(self.channels, self.size, self.size)

    def source(self) -> str:
        return f"numpy {version('numpy')}"

    def image_count(self, split: Split) -> int:
        return self.counts[split]

    def images(self, split: Split) -> Iterator[NDArray[np.uint8]]:
        import numpy as np

        generator = np.random.default_rng([self.seed, SPLITS.index(split)])
        left = self.counts[split]
        while left:
            scenes = generator.random((min(left, _BATCH), 6 + SHAPES * _NUMBERS), dtype=np.float32)
            left -= len(scenes)
            images = draw(scenes, self.size)
            if self.channels == 1:
                images = images.mean(-1, keepdims=True)
            yield from np.rint(images * 255).astype(np.uint8)


def draw(scenes: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Return images (B, size, size, 3), 0 to 1, of scenes given as random numbers (B, 46), 0 to 1.

    The first six numbers are the colours of a gradient, from the left to the right edge. Ten more belong to each
    shape: later ones cover earlier ones. All shapes are boxes with rounded corners: half a disc's diameter of rounding
    makes discs of points, and lines of segments.
    """
    import numpy as np

    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    rows, columns = centres[None, :, None], centres[None, None, :]
    # Planes (3, B, height, width): a last axis of 3 would make every operation several times slower.
    planes = scenes[:, :6].T[..., None, None]
    images = planes[:3] * (1 - columns) + planes[3:] * columns
    images = np.broadcast_to(images, (3, len(scenes), size, size)).copy()
    for numbers in scenes[:, 6:].reshape(len(scenes), SHAPES, _NUMBERS).transpose(1, 2, 0)[..., None, None]:
        kind, x, y, length, width, angle = numbers[:6]
        colour, opacity = numbers[6:9], 0.5 + 0.5 * numbers[9]
        disc, line = kind < 1 / 3, kind > 2 / 3
        half_length = np.where(disc, 0, np.where(line, 0.1 + 0.4 * length, 0.05 + 0.25 * length))
        half_width = np.where(disc | line, 0, 0.05 + 0.25 * width)
        rounding = np.where(disc, 0.05 + 0.25 * length, np.where(line, 0.015 + 0.025 * width, 0))
        cosine, sine = np.cos(np.pi * angle), np.sin(np.pi * angle)
        right, down = columns - x, rows - y
        along = np.abs(cosine * right + sine * down) - half_length
        aside = np.abs(cosine * down - sine * right) - half_width
        outside = np.sqrt(np.square(np.maximum(along, 0)) + np.square(np.maximum(aside, 0)))
        distance = outside + np.minimum(np.maximum(along, aside), 0) - rounding
        cover = np.clip(0.5 - distance * size, 0, 1) * opacity
        images += (colour - images) * cover
    return images.transpose(1, 2, 3, 0)
