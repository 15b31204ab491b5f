"""A folder of images: listed, checked and decoded. What differs between folders is which file is in which split."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.contracts.dataset import Dataset, Split
from recbench.entries import ImageShape
from recbench.errors import UserError
from recbench_datasets.raw import duplicates, file_contents, listed, stamp, visible_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_GREY = ("1", "L", "LA", "La")


@dataclass(frozen=True)
class Decoder:
    """How a file becomes an image: turned upright, cut to a square from the centre, resized (bicubic, antialiased).

    Attributes:
        size: side of the image in pixels.
        channels: 3 for colour, 1 for grey; the file must have as many.
        crop: side of the square in the file's pixels; 0 stands for the shorter side.
        originals: the widths and heights that files may have; empty means any.
    """

    size: int
    channels: int = 3
    crop: int = 0
    originals: tuple[tuple[int, int], ...] = ()

    def __call__(self, path: Path) -> NDArray[np.uint8]:
        """One image, (size, size, channels).

        Raises:
            ValueError: the file cannot be used; the text says why, as the rest of a sentence about it.
        """
        import numpy as np
        from PIL import Image, ImageOps, UnidentifiedImageError

        try:
            with Image.open(path) as opened:
                opened.load()
                mode, upright = opened.mode, ImageOps.exif_transpose(opened)
                image = upright.convert("RGB" if self.channels == 3 else "L")
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
        if self.originals and image.size not in self.originals:
            wanted = " or ".join(f"{width}x{height}" for width, height in self.originals)
            raise ValueError(f"is {image.width}x{image.height}, where {wanted} is wanted")
        side = self.crop or min(image.size)
        if side > min(image.size):
            raise ValueError(f"is {image.width}x{image.height}, too small for a crop of {side}")
        left, top = (image.width - side) // 2, (image.height - side) // 2
        box = (left, top, left + side, top + side)
        pixels = np.asarray(image.resize((self.size, self.size), Image.Resampling.BICUBIC, box=box))
        return pixels.reshape(self.size, self.size, self.channels)


class FolderDataset(Dataset):
    """Images from files. Every visible file must be an image that ``decode`` takes.

    ``on_duplicates`` says what becomes of a file whose very content is in two splits: ``"error"``, or ``"drop"``, which
    leaves the copy in the training or validation split out.
    """

    def __init__(self, root: Path, decode: Decoder, on_duplicates: str) -> None:
        self.root = root
        self.decode = decode
        self.on_duplicates = on_duplicates

    @abstractmethod
    def assign(self) -> dict[Split, list[Path]]:
        """Which of ``files`` is in which split.

        Raises:
            UserError: the folder is not laid out as it should be.
        """

    @property
    def shape(self) -> ImageShape:
        return ImageShape(self.decode.channels, self.decode.size, self.decode.size)

    def find(self) -> list[Path]:
        """All visible files, in the order of their names.

        Raises:
            UserError: there are none, or not as many as there should be.
        """
        found = visible_files(self.root)
        if not found:
            raise UserError(f"the folder {self.root} holds no images")
        return found

    @cached_property
    def files(self) -> list[Path]:
        return self.find()

    def source(self) -> str:
        return f"{stamp(self.root, self.files)}, pillow {version('pillow')}"

    @cached_property
    def splits(self) -> dict[Split, list[Path]]:
        """The files of each split, no content in two of them.

        Raises:
            UserError: the folder is not laid out as it should be, or one content is in two splits.
        """
        splits = self.assign()
        found = duplicates(splits, file_contents([path for files in splits.values() for path in files]))
        if found and self.on_duplicates == "error":
            told = {
                each.item: f"in {each.split} is the same as {each.other} in {each.other_split} "
                "(duplicates: drop leaves it out)"
                for each in found
            }
            raise UserError(self._trouble(told))
        copies = {each.item for each in found}
        return {split: [path for path in files if path not in copies] for split, files in splits.items()}

    def images(self, split: Split) -> Iterator[NDArray[np.uint8]]:
        for path in self.splits[split]:
            try:
                image = self.decode(path)
            except ValueError:
                raise UserError(self._trouble({})) from None
            yield image

    def _trouble(self, told: dict[Path, str]) -> str:
        """All files that cannot be used, of all splits: whoever mends them wants to do it once."""
        used = sorted({path for files in self.assign().values() for path in files})
        bad = []
        for path in used:
            try:
                self.decode(path)
            except ValueError as error:
                bad.append(f"{path}: {error}")
            else:
                if path in told:
                    bad.append(f"{path}: {told[path]}")
        return f"{len(bad)} of the {len(used)} files in {self.root} cannot be used:\n  {listed(bad)}"
