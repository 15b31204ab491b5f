"""Photographs and drawings of faces, in the folders in which they are published."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from recbench.contracts.dataset import Duplicates, Split
from recbench.errors import UserError
from recbench_datasets.decoding import Decoder
from recbench_datasets.folder import FolderDataset
from recbench_datasets.raw import existing_folder, listed, visible_files
from recbench_datasets.splits import by_number, in_order


class _InOrder(FolderDataset):
    """All images of a folder, split in the order of their numbers; there must be as many as were published."""

    def __init__(
        self, root: Path, decoder: Decoder, duplicates: Duplicates, *, count: int, validation: float, test: float
    ) -> None:
        super().__init__(root, decoder, duplicates)
        self.wanted = count
        self.validation = validation
        self.test = test

    def find(self) -> list[Path]:
        found = super().find()
        if self.wanted and len(found) != self.wanted:
            raise UserError(
                f"the folder {self.root} holds {len(found)} files, but {self.wanted} are wanted "
                "(count: 0 takes as many as there are)"
            )
        return found

    def assign(self) -> dict[Split, list[Path]]:
        return in_order(sorted(self.files, key=by_number), self.validation, self.test)


class CelebA(_InOrder):
    """The aligned images of CelebA, 178 x 218 pixels, cut to a square of ``crop`` pixels from the centre and resized.

    The published partition is in the order of the numbers too (162,770, 19,867 and 19,962 images, no person in two
    parts), so that training on the first 80% and testing on the last 20% nearly keeps persons apart.
    """

    def __init__(
        self, *, root: str, size: int, crop: int, count: int, validation: float, test: float, duplicates: Duplicates
    ) -> None:
        decoder = Decoder(size, 3, crop, originals=((178, 218),))
        folder = _inside(existing_folder(root), "img_align_celeba")
        super().__init__(folder, decoder, duplicates, count=count, validation=validation, test=test)


class CelebAHQ(_InOrder):
    """The square images of CelebA-HQ, 256, 512 or 1024 pixels a side, resized."""

    def __init__(
        self, *, root: str, size: int, count: int, validation: float, test: float, duplicates: Duplicates
    ) -> None:
        sides = [side for side in (256, 512, 1024) if side >= size]
        decoder = Decoder(size, originals=tuple((side, side) for side in sides))
        folder = _inside(existing_folder(root), "CelebA-HQ-img")
        super().__init__(folder, decoder, duplicates, count=count, validation=validation, test=test)


class Selfie2Anime(FolderDataset):
    """The drawn faces of selfie2anime: ``trainB`` for training and validation, ``testB`` for testing."""

    def __init__(self, *, root: str, size: int, train: int, validation: int, test: int, duplicates: Duplicates) -> None:
        super().__init__(existing_folder(root), Decoder(size, originals=((256, 256),)), duplicates)
        self.counts = {"trainB": train + validation, "testB": test}
        self.train = train

    @cached_property
    def folders(self) -> dict[str, list[Path]]:
        """Files of ``trainB`` and of ``testB``, in the order of their numbers.

        Raises:
            UserError: a folder is missing, or holds fewer than expected.
        """
        missing = [str(self.root / name) for name in self.counts if not (self.root / name).is_dir()]
        if missing:
            raise UserError(f"{len(missing)} of the 2 folders of selfie2anime are missing:\n  {listed(missing)}")
        found = {
            name: sorted(visible_files(self.root / name, empty_folders=False), key=by_number) for name in self.counts
        }
        for name, wanted in self.counts.items():
            if len(found[name]) < wanted:
                raise UserError(f"the folder {self.root / name} holds {len(found[name])} images, expected {wanted}")
        return found

    def find(self) -> list[Path]:
        return [path for files in self.folders.values() for path in files]

    def assign(self) -> dict[Split, list[Path]]:
        trained, tested = self.folders["trainB"], self.folders["testB"]
        return {
            "train": trained[: self.train],
            "validation": trained[self.train : self.counts["trainB"]],
            "test": tested[: self.counts["testB"]],
        }


def _inside(root: Path, name: str) -> Path:
    """Return the folder that the published archive unpacks to, at any depth in ``root``; else ``root`` itself."""
    while (root / name).is_dir():
        root /= name
    return root
