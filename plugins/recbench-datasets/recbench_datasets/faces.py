"""Photographs and drawings of faces, in the folders in which they are published."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from recbench.contracts.dataset import SPLITS, Duplicates, Split
from recbench.errors import UserError
from recbench_datasets.decoding import Decoder
from recbench_datasets.folder import FolderDataset
from recbench_datasets.raw import existing_folder, listed, stamp, visible_files
from recbench_datasets.splits import by_number, in_order

_PARTITION = "list_eval_partition.txt"
"""The published partition of CelebA: a line for each image, with its name and 0, 1 or 2."""


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

    The split ``"paper"`` is Bredell et al.'s 80% and 20%, in the order of the numbers; persons are in several of its
    parts. The split ``"official"`` is the published partition, 162,770, 19,867 and 19,962 images, with no person in two
    parts; it is read from ``list_eval_partition.txt``.
    """

    def __init__(
        self,
        *,
        root: str,
        size: int,
        crop: int,
        count: int,
        split: str,
        validation: float,
        test: float,
        duplicates: Duplicates,
    ) -> None:
        decoder = Decoder(size, 3, crop, originals=((178, 218),))
        self.top = existing_folder(root)
        self.split = split
        folder = _inside(self.top, "img_align_celeba")
        super().__init__(folder, decoder, duplicates, count=count, validation=validation, test=test)

    def source(self) -> str:
        if self.split != "official":
            return super().source()
        return f"{super().source()}, partition {stamp(self.partition.parent, [self.partition])}"

    @cached_property
    def partition(self) -> Path:
        """The file of the published partition: in ``root``, in its folder Eval, or next to the folder of the images.

        Raises:
            UserError: it is in none of these places.
        """
        places = (self.top, self.top / "Eval", self.root.parent, self.root.parent / "Eval")
        found = next((place / _PARTITION for place in places if (place / _PARTITION).is_file()), None)
        if found is None:
            raise UserError(
                f"split: official needs the file {_PARTITION} of the published partition, which is not in {self.top}; "
                "get it from the folder Eval of the CelebA page (mmlab.ie.cuhk.edu.hk/projects/CelebA.html), or set "
                "split: paper"
            )
        return found

    def assign(self) -> dict[Split, list[Path]]:
        if self.split != "official":
            return super().assign()
        parts = self._parts()
        splits: dict[Split, list[Path]] = {split: [] for split in SPLITS}
        lost = []
        for path in sorted(self.files, key=by_number):
            if path.stem in parts:
                splits[parts[path.stem]].append(path)
            else:
                lost.append(str(path))
        if lost:
            raise UserError(
                f"{len(lost)} of the {len(self.files)} images are not in {self.partition}:\n  {listed(lost)}"
            )
        empty = [split for split in ("train", "test") if not splits[split]]
        if empty:
            raise UserError(f"{self.partition} leaves no images for {' and '.join(empty)}")
        return splits

    def _parts(self) -> dict[str, Split]:
        """Return the split of each image by its name without the ending, which other copies of the images change."""
        try:
            lines = self.partition.read_text("ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.partition} cannot be read: {error}") from None
        parts: dict[str, Split] = {}
        for number, line in enumerate(lines, start=1):
            name, _, part = line.strip().partition(" ")
            stem = name.rpartition(".")[0] or name
            if not line.strip():
                continue
            if part.strip() not in ("0", "1", "2") or stem in parts:
                why = "names an image again" if stem in parts else "expected a name and 0, 1 or 2"
                raise UserError(f"{self.partition}:{number}: {why}, got '{line.strip()[:60]}'")
            parts[stem] = SPLITS[int(part)]
        return parts


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
