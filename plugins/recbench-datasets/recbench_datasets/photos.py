"""Crops of the photographs in scikit-image's wheel: real images with nothing to download."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING

from recbench.contracts.dataset import Dataset, Duplicates, Split
from recbench.contracts.entries import ImageShape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PHOTOGRAPHS: dict[Split, tuple[str, ...]] = {
    "train": ("astronaut", "motorcycle_left", "hubble_deep_field", "retina", "ihc"),
    "validation": ("rocket",),
    "test": ("coffee", "chelsea"),
}
_SUFFIX = {"rocket": "jpg", "hubble_deep_field": "jpg", "retina": "jpg"}


class Photos(Dataset):
    """Square crops at random places and scales, resized. Drawn from a fixed seed.

    Half of them are mirrored. Training crops are also turned by a random multiple of 90°, and their colour channels
    are shuffled unless ``shuffle_colours`` is off: with so few photographs, a network would otherwise learn them by
    heart.
    """

    duplicates: Duplicates = "keep"  # crops of different photographs, of which two may be all black

    def __init__(
        self,
        *,
        size: int,
        train: int,
        validation: int,
        test: int,
        smallest: float,
        largest: float,
        shuffle_colours: bool,
    ) -> None:
        self.size = size
        self.counts: dict[Split, int] = {"train": train, "validation": validation, "test": test}
        self.smallest = smallest
        self.largest = largest
        self.shuffle_colours = shuffle_colours

    @property
    def shape(self) -> ImageShape:
        return ImageShape(3, self.size, self.size)

    def source(self) -> str:
        return f"scikit-image {version('scikit-image')}, pillow {version('pillow')}"

    def image_count(self, split: Split) -> int:
        return self.counts[split]

    def images(self, split: Split) -> Iterator[NDArray[np.uint8]]:
        import numpy as np
        from PIL import Image

        photographs = [_photograph(name) for name in PHOTOGRAPHS[split]]
        generator = np.random.default_rng([list(PHOTOGRAPHS).index(split), self.size])
        for index in range(self.counts[split]):
            photograph = photographs[index % len(photographs)]
            part = generator.uniform(self.smallest, self.largest)
            side = max(8, round(part * min(photograph.size)))
            left = int(generator.integers(photograph.width - side + 1))
            top = int(generator.integers(photograph.height - side + 1))
            crop = photograph.crop((left, top, left + side, top + side))  # resize(box=…) reads beyond the box
            crop = crop.resize((self.size, self.size), Image.Resampling.BICUBIC, reducing_gap=None)
            if generator.random() < 0.5:
                crop = crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            pixels = np.asarray(crop)
            if split == "train":
                pixels = np.rot90(pixels, int(generator.integers(4)))
                order = generator.permutation(3)  # drawn in any case, so that crops are the same with and without
                pixels = pixels[:, :, order] if self.shuffle_colours else pixels
            yield pixels


def _photograph(name: str) -> Image.Image:
    from importlib.resources import files

    from PIL import Image

    file = files("skimage.data") / f"{name}.{_SUFFIX.get(name, 'png')}"
    with file.open("rb") as stream:
        return Image.open(stream).convert("RGB")


if TYPE_CHECKING:
    from PIL import Image
