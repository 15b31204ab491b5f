"""A folder of images: listed, checked and decoded. Subclasses assign files to splits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.contracts.dataset import Dataset, Duplicates, Split
from recbench.contracts.entries import ImageShape
from recbench.errors import UserError
from recbench_datasets.decoding import Decoder, decode
from recbench_datasets.raw import RawDuplicate, copies, file_contents, listed, stamp, visible_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class FolderDataset(Dataset):
    """Images from files. Every visible file must be an image that ``decoder`` takes.

    ``duplicates`` says what becomes of an image that is in two splits: ``"error"``, or ``"drop"``, which leaves the
    copy in the training or validation split out. Files of equal content are found here, before anything is decoded.
    """

    def __init__(self, root: Path, decoder: Decoder, duplicates: Duplicates) -> None:
        self.root = root
        self.decoder = decoder
        self.duplicates = duplicates

    @abstractmethod
    def assign(self) -> dict[Split, list[Path]]:
        """Return the files of each split.

        Raises:
            UserError: the folder is not laid out as it should be.
        """

    @property
    def shape(self) -> ImageShape:
        return ImageShape(self.decoder.channels, self.decoder.size, self.decoder.size)

    def find(self) -> list[Path]:
        """Return all visible files, in the order of their names.

        Raises:
            UserError: there are none, or not as many as there should be; or folders are empty.
        """
        found = visible_files(self.root, empty_folders=False)
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
        if self._copies and self.duplicates == "error":
            told = {
                each.item: f"in {each.split} is the same as {each.other} in {each.other_split} "
                "(duplicates: drop leaves it out)"
                for each in self._copies
            }
            raise UserError(self._trouble(told))
        left_out = {each.item for each in self._copies}
        return {split: [path for path in files if path not in left_out] for split, files in self.assign().items()}

    @cached_property
    def _copies(self) -> list[RawDuplicate[Path]]:
        splits = self.assign()
        return copies(splits, file_contents([path for files in splits.values() for path in files]))

    def left_out(self) -> list[str]:
        if self.duplicates != "drop":
            return []
        return [f"{each.item} ({each.split}) is the same as {each.other} ({each.other_split})" for each in self._copies]

    def images(self, split: Split) -> Iterator[NDArray[np.uint8]]:
        for decoded in decode(self.splits[split], self.decoder):
            if isinstance(decoded, ValueError):
                raise UserError(self._trouble({})) from None
            yield decoded

    def image_count(self, split: Split) -> int:
        return len(self.splits[split])

    def image_label(self, split: Split, index: int) -> str:
        return f"{self.splits[split][index]} ({split})"

    def _trouble(self, told: dict[Path, str]) -> str:
        """Return a message that names all unusable files of all splits, so that they can be mended at once."""
        used = sorted({path for files in self.assign().values() for path in files})
        bad = []
        for path, decoded in zip(used, decode(used, self.decoder), strict=True):
            if isinstance(decoded, ValueError):
                bad.append(f"{path}: {decoded}")
            elif path in told:
                bad.append(f"{path}: {told[path]}")
        return f"{len(bad)} of the {len(used)} files in {self.root} cannot be used:\n  {listed(bad)}"
