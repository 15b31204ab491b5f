"""Patches of brain volumes in NIfTI files."""

from __future__ import annotations

import importlib
import itertools
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from recbench.contracts.dataset import SPLITS, Dataset, Duplicates, Split
from recbench.contracts.entries import ImageShape
from recbench.errors import UserError
from recbench_datasets.raw import copies, existing_folder, file_contents, listed, stamp, visible_files
from recbench_datasets.splits import drawn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}  # of a volume whose axes lead to the right, the front and the top
_BRIGHT = 25  # of 255: a tenth of white, above the noise around a head and below grey matter
_ATTEMPTS = 1000
_LARGEST = 1 << 28  # voxels, 1 GiB; 320 x 320 x 256 at 0.7 mm have a tenth, and a header can say anything


@dataclass(frozen=True)
class PatchSource:
    """A range of slices of a volume that patches of a split are drawn from.

    Attributes:
        path: the volume.
        first, last: the range of its slices, as parts of them all.
        patches: how many.
        stream: number of the random stream that draws them.
        before, after: slices left out at both ends of the range.
    """

    path: Path
    first: float
    last: float
    patches: int
    stream: int = 0
    before: int = 0
    after: int = 0


class Hcp(Dataset):
    """Random patches of the slices of T1-weighted volumes, grey, one volume for each subject.

    A volume is turned to the standard orientation and scaled to 0–255 by two percentiles of its voxels above zero;
    what lies outside of them is clipped. Slices are not resampled, so patches have the resolution of the scan.

    A patch is drawn anew, slice and place, until at least ``foreground`` of its pixels are brighter than a tenth of
    white. What is drawn depends on ``seed`` and on the file's name alone, not on the other files.

    Subjects are divided between the splits. A lone volume is cut along the slices instead: first training, then
    validation, then test slices, ``gap`` slices apart, as neighbours look alike.
    """

    duplicates: Duplicates = "keep"  # volumes are compared; two patches may well show nothing but background

    def __init__(
        self,
        *,
        root: str,
        pattern: str,
        size: int,
        volumes: int,
        patches: int,
        plane: str,
        first: float,
        last: float,
        step: int,
        lower: float,
        upper: float,
        foreground: float,
        validation: float,
        test: float,
        gap: int,
        seed: int,
    ) -> None:
        self.root = existing_folder(root)
        self.pattern = pattern
        self.size = size
        self.volumes = volumes
        self.patches = patches
        self.axis = _AXES[plane]
        self.first = first
        self.last = last
        self.step = step
        self.percentiles = (lower, upper)
        self.foreground = foreground
        self.validation = validation
        self.test = test
        self.gap = gap
        self.seed = seed

    @property
    def shape(self) -> ImageShape:
        return ImageShape(1, self.size, self.size)

    @cached_property
    def files(self) -> list[Path]:
        """The volumes, one for each subject, in the order of their names; the first ``volumes`` of them.

        Raises:
            UserError: there are none, or several for a subject.
        """
        named = [path for path in visible_files(self.root) if fnmatchcase(path.name, self.pattern)]
        if not named:
            raise UserError(f"the folder {self.root} holds no volumes, no file called {self.pattern}")
        subjects: dict[str, list[Path]] = {}
        for path in named:
            subjects.setdefault(path.relative_to(self.root).parts[0], []).append(path)
        several = [f"{self.root / subject}: {len(paths)}" for subject, paths in subjects.items() if len(paths) > 1]
        if several:
            raise UserError(
                f"{len(several)} of the {len(subjects)} subjects in {self.root} have several files called "
                f"{self.pattern}, expected one volume for each (set pattern):\n  {listed(several)}"
            )
        return named[: self.volumes or None]

    def source(self) -> str:
        try:
            reader = version("nibabel")
        except PackageNotFoundError:
            raise UserError("hcp needs nibabel, which is not installed: pip install 'recbench[mri]'") from None
        return f"{stamp(self.root, self.files)}, nibabel {reader}"

    @cached_property
    def splits(self) -> dict[Split, list[PatchSource]]:
        """The volumes, or slabs of a volume, that the patches of each split are drawn from.

        Raises:
            UserError: a volume is in two splits.
        """
        if len(self.files) == 1:
            return self._slabs(self.files[0])
        splits = drawn(self.files, self.validation, self.test, self.seed)
        found = copies(splits, file_contents(self.files))
        if found:
            lines = [f"{each.item} ({each.split}) is the same as {each.other} ({each.other_split})" for each in found]
            raise UserError(f"{len(found)} of the volumes in {self.root} are in two splits:\n  {listed(lines)}")
        return {
            split: [PatchSource(path, self.first, self.last, self.patches) for path in paths]
            for split, paths in splits.items()
        }

    def _slabs(self, path: Path) -> dict[Split, list[PatchSource]]:
        """Return three slabs of a volume. Gaps are taken from the training and test slabs, the larger ones."""
        parts = {"train": 1 - self.validation - self.test, "validation": self.validation, "test": self.test}
        before = {"test": self.gap}
        after = {"train": self.gap} if self.validation else {}
        splits: dict[Split, list[PatchSource]] = {}
        first = self.first
        for stream, split in enumerate(SPLITS):
            last = first + parts[split] * (self.last - self.first)
            patches = max(1, round(parts[split] * self.patches)) if parts[split] else 0
            source = PatchSource(path, first, last, patches, stream, before.get(split, 0), after.get(split, 0))
            splits[split] = [source] if patches else []
            first = last
        return splits

    def images(self, split: Split) -> Iterator[NDArray[np.uint8]]:
        for source in self.splits[split]:
            try:
                patches = self._draw(source)
            except ValueError:
                raise UserError(self._trouble()) from None
            yield from patches

    def image_count(self, split: Split) -> int:
        return sum(source.patches for source in self.splits[split])

    def _trouble(self) -> str:
        """Return a message that names all volumes that cannot be used, of all splits. Reads each: a second a volume.

        A lone volume is in every split: it counts once, and what is wrong with all of it is said once.
        """
        bad: dict[Path, list[str]] = {}
        sources = itertools.chain.from_iterable(self.splits.values())
        for source in sorted(sources, key=lambda source: (source.path, source.stream)):
            try:
                self._draw(source)
            except ValueError as error:
                bad.setdefault(source.path, []).append(str(error))
        lines = [f"{path}: {'; '.join(dict.fromkeys(reasons))}" for path, reasons in bad.items()]
        return f"{len(bad)} of the {len(self.files)} volumes in {self.root} cannot be used:\n  {listed(lines)}"

    def _draw(self, source: PatchSource) -> list[NDArray[np.uint8]]:
        """Return random patches (size, size, 1) of a volume.

        Raises:
            ValueError: the volume cannot be used; the text says why, as the rest of a sentence about it.
        """
        import numpy as np

        volume = np.moveaxis(scaled(read_volume(source.path), *self.percentiles), self.axis, 0)
        count, right, up = volume.shape
        if min(right, up) < self.size:
            raise ValueError(f"has slices of {right}x{up}, too small for patches of {self.size}")
        slices = self._slices(source, count)
        name = zlib.crc32(source.path.relative_to(self.root).as_posix().encode(errors="surrogateescape"))
        generator = np.random.default_rng([self.seed, name, source.stream])
        patches = []
        for _ in range(source.patches):
            for _ in range(_ATTEMPTS):
                index = slices[int(generator.integers(len(slices)))]
                left = int(generator.integers(right - self.size + 1))
                bottom = int(generator.integers(up - self.size + 1))
                patch = volume[index, left : left + self.size, bottom : bottom + self.size]
                if (patch > _BRIGHT).mean() >= self.foreground:
                    break
            else:
                raise ValueError(
                    f"in {_ATTEMPTS} attempts, no patch of {self.size}x{self.size} had {self.foreground:g} of its "
                    f"pixels brighter than the background (slices {slices[0]} to {slices[-1]})"
                )
            patches.append(np.rot90(patch)[:, :, np.newaxis])  # rows from top to bottom, or from front to back
        return patches

    def _slices(self, source: PatchSource, count: int) -> range:
        start, stop = round(source.first * count) + source.before, round(source.last * count) - source.after
        found = range(start, stop, self.step)
        if not found:
            raise ValueError(
                f"has {count} slices, too few to take any from {source.first:g} to {source.last:g} of them"
            )
        return found


def read_volume(path: Path) -> NDArray[np.float32]:
    """Return the volume in a NIfTI file, its axes leading to the right, the front and the top, or nearest to that.

    Raises:
        ValueError: it cannot be used; the text says why, as the rest of a sentence about it.
    """
    import numpy as np

    nibabel = importlib.import_module("nibabel")  # an optional dependency: the extra "mri"
    with _said_of_volumes(nibabel):
        image = nibabel.load(path)
        kind, voxels = image.get_data_dtype(), math.prod(image.shape)
    if kind.kind not in "iuf":
        raise ValueError(f"has voxels of type {kind}, expected real numbers")
    if voxels > _LARGEST:
        raise ValueError(f"has {voxels} voxels, more than the {_LARGEST} that are read")
    with _said_of_volumes(nibabel):
        volume = np.asarray(nibabel.as_closest_canonical(image).dataobj, dtype=np.float32)
    if volume.ndim == 4 and volume.shape[3] == 1:
        volume = volume[..., 0]
    if volume.ndim != 3:
        raise ValueError(f"has {volume.ndim} axes, expected 3")
    if not np.isfinite(volume).all():
        raise ValueError(f"has {int((~np.isfinite(volume)).sum())} voxels that are not finite")
    return volume


@contextmanager
def _said_of_volumes(nibabel: ModuleType) -> Iterator[None]:
    """Turn what nibabel raises about a file into the rest of a sentence about it."""
    try:
        yield
    except (nibabel.filebasedimages.ImageFileError, nibabel.spatialimages.HeaderDataError) as error:
        raise ValueError(f"is not a NIfTI volume: {error}") from None
    except (OSError, EOFError, ValueError, TypeError, zlib.error) as error:
        raise ValueError(f"is broken: {error}") from None


def scaled(volume: NDArray[np.float32], lower: float, upper: float) -> NDArray[np.uint8]:
    """Return grey values 0 to 255: black and white are these percentiles of the voxels above zero; the rest is clipped.

    Zero is the background of a volume from which the skull was removed, so that its size does not matter.

    Raises:
        ValueError: the two percentiles are equal.
    """
    import numpy as np

    inside = volume[volume > 0]
    if not inside.size:
        raise ValueError("has no voxels above zero")
    black, white = np.percentile(inside, (lower, upper))
    if not black < white:
        raise ValueError(f"has no contrast: its percentiles {lower:g} and {upper:g} are both {white:g}")
    grey: NDArray[np.uint8] = np.rint(np.clip((volume - black) * (255 / (white - black)), 0, 255)).astype(np.uint8)
    return grey
