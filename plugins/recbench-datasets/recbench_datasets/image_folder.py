"""Any folder of images."""

from __future__ import annotations

from pathlib import Path

from recbench.contracts.dataset import SPLITS, Duplicates, Split
from recbench.errors import UserError
from recbench_datasets.decoding import Decoder
from recbench_datasets.folder import FolderDataset
from recbench_datasets.raw import existing_folder
from recbench_datasets.splits import drawn


class ImageFolder(FolderDataset):
    """Splits by folders named after them, or drawn from the sorted names."""

    def __init__(
        self,
        *,
        root: str,
        size: int,
        channels: int,
        crop: int,
        validation: float,
        test: float,
        split_seed: int,
        duplicates: Duplicates,
    ) -> None:
        super().__init__(existing_folder(root), Decoder(size, channels, crop), duplicates)
        self.validation = validation
        self.test = test
        self.split_seed = split_seed

    def assign(self) -> dict[Split, list[Path]]:
        by_folder: dict[Split, list[Path]] = {split: [] for split in SPLITS}
        for path in self.files:
            first = path.relative_to(self.root).parts[0]
            if first in by_folder and path.parent != self.root:
                by_folder[first].append(path)
        if by_folder["train"] and by_folder["test"]:
            if sum(map(len, by_folder.values())) < len(self.files):
                raise UserError(f"{self.root} has folders train and test, but also images outside of them")
            return by_folder
        return drawn(self.files, self.validation, self.test, self.split_seed)
