"""A folder of images."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.contracts.dataset import SPLITS, Dataset, Split
from recbench.entries import ImageShape
from recbench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_NAMED = 10


class ImageFolder(Dataset):
    """Centre crop to a square, bicubic resize. Every visible file must be an image with the wanted channels."""

    def __init__(
        self, *, root: str, size: int, channels: int, crop: int, validation: float, test: float, split_seed: int
    ) -> None:
        self.root = Path(root).expanduser()
        self.size = size
        self.channels = channels
        self.crop = crop
        self.parts = {"validation": validation, "test": test}
        self.split_seed = split_seed
        if not self.root.is_dir():
            raise UserError(f"there is no folder {self.root}")

    @property
    def shape(self) -> ImageShape:
        return ImageShape(self.channels, self.size, self.size)

    @cached_property
    def files(self) -> list[Path]:
        """All visible files, in the order of their names, whatever the file system's."""
        found = sorted(
            path
            for path in self.root.rglob("*")
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(self.root).parts)
        )
        if not found:
            raise UserError(f"the folder {self.root} holds no images")
        return found

    def source(self) -> str:
        digest = hashlib.sha256()
        for path in self.files:
            facts = path.stat()
            digest.update(f"{path.relative_to(self.root).as_posix()} {facts.st_size} {facts.st_mtime_ns}\0".encode())
        return f"{digest.hexdigest()}, pillow {version('pillow')}"

    @cached_property
    def splits(self) -> dict[Split, list[Path]]:
        """The files of each split: by folders of that name, or drawn."""
        by_folder: dict[Split, list[Path]] = {split: [] for split in SPLITS}
        for path in self.files:
            first = path.relative_to(self.root).parts[0]
            if first in by_folder and path.parent != self.root:
                by_folder[first].append(path)
        if by_folder["train"] and by_folder["test"]:
            if sum(map(len, by_folder.values())) < len(self.files):
                raise UserError(f"{self.root} has folders train and test, but also images outside of them")
            return by_folder
        drawn = list(self.files)
        random.Random(self.split_seed).shuffle(drawn)  # noqa: S311
        test = max(1, round(self.parts["test"] * len(drawn)))
        validation = round(self.parts["validation"] * len(drawn))
        return {
            "train": sorted(drawn[test + validation :]),
            "validation": sorted(drawn[test : test + validation]),
            "test": sorted(drawn[:test]),
        }

    def images(self, split: Split) -> Iterator[NDArray[np.uint8]]:
        bad: list[str] = []
        for path in self.splits[split]:
            try:
                image = self._decode(path)
            except ValueError as error:
                bad.append(f"{path}: {error}")
                continue
            if not bad:
                yield image
        if bad:
            more = f"\n  … and {len(bad) - _NAMED} more" if len(bad) > _NAMED else ""
            listed = "\n  ".join(bad[:_NAMED])
            raise UserError(f"{len(bad)} of the {split} files in {self.root} cannot be used:\n  {listed}{more}")

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        import numpy as np
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as image:
                image.load()
                bands = len(image.convert("RGBA").getbands()) if image.mode == "P" else len(image.getbands())
                if self.channels == 3 and bands < 3:
                    raise ValueError("is grey, where colour is wanted (channels: 3)")
                if self.channels == 1 and bands >= 3:
                    raise ValueError("is in colour, where grey is wanted (channels: 1)")
                plain = image.convert("RGB" if self.channels == 3 else "L")
        except UnidentifiedImageError:
            raise ValueError("is not an image") from None
        except (OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise ValueError(f"is broken: {error}") from None
        side = self.crop or min(plain.size)
        if side > min(plain.size):
            raise ValueError(f"is {plain.width}x{plain.height}, too small for a crop of {side}")
        left, top = (plain.width - side) // 2, (plain.height - side) // 2
        box = (left, top, left + side, top + side)
        pixels = np.asarray(plain.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box))
        return pixels.reshape(self.size, self.size, self.channels)
