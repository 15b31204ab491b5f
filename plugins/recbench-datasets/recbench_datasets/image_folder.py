"""A folder of images."""

from __future__ import annotations

import hashlib
import os
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
_GREY = ("1", "L", "LA", "La")


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
        visible = sorted(
            path
            for path in self.root.rglob("*")
            if not any(part.startswith(".") for part in path.relative_to(self.root).parts)
        )
        lost = [f"{path}: leads to {path.readlink()}" for path in visible if path.is_symlink() and not path.exists()]
        if lost:
            raise UserError(f"{len(lost)} of the links in {self.root} lead nowhere:\n  {_listed(lost)}")
        found = [path for path in visible if path.is_file()]
        if not found:
            raise UserError(f"the folder {self.root} holds no images")
        return found

    def source(self) -> str:
        digest = hashlib.sha256()
        for path in self.files:
            facts = path.stat()
            digest.update(os.fsencode(path.relative_to(self.root)))  # names need not be UTF-8
            digest.update(f" {facts.st_size} {facts.st_mtime_ns}\0".encode())
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
        for path in self.splits[split]:
            try:
                image = self._decode(path)
            except ValueError:
                raise UserError(self._trouble()) from None
            yield image

    def _trouble(self) -> str:
        """All files that cannot be used, of all splits: whoever mends them wants to do it once."""
        bad = []
        for path in self.files:
            try:
                self._decode(path)
            except ValueError as error:
                bad.append(f"{path}: {error}")
        return f"{len(bad)} of the {len(self.files)} files in {self.root} cannot be used:\n  {_listed(bad)}"

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        """One image, (size, size, channels).

        Raises:
            ValueError: it cannot be used; the text says why, as the rest of a sentence about the file.
        """
        import numpy as np
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as opened:
                opened.load()
                mode, image = opened.mode, opened.convert("RGB" if self.channels == 3 else "L")
        except UnidentifiedImageError:
            raise ValueError("is not an image") from None
        except Exception as error:  # noqa: BLE001 - given a broken file, decoders raise anything
            raise ValueError(f"is broken: {error}") from None
        if mode == "F" or mode.startswith("I"):  # Pillow would clip them to white
            raise ValueError(f"has more than 8 bits a channel (Pillow's mode {mode}): convert it first")
        if self.channels == 3 and mode in _GREY:
            raise ValueError("is grey, where colour is wanted (channels: 3)")
        if self.channels == 1 and mode not in _GREY:
            raise ValueError("is in colour, where grey is wanted (channels: 1)")
        side = self.crop or min(image.size)
        if side > min(image.size):
            raise ValueError(f"is {image.width}x{image.height}, too small for a crop of {side}")
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        pixels = np.asarray(image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box))
        return pixels.reshape(self.size, self.size, self.channels)


def _listed(lines: list[str]) -> str:
    more = [f"… and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
    return "\n  ".join([*lines[:_NAMED], *more])
