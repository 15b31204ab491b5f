"""Images in .npy and .npz files."""

from __future__ import annotations

import hashlib
import math
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from recbench.contracts.dataset import SPLITS, Dataset, Duplicates, Split
from recbench.contracts.entries import ImageShape
from recbench.errors import UserError
from recbench_datasets.raw import RawDuplicate, copies, listed, stamp
from recbench_datasets.splits import drawn

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Parts = Mapping[Split, "NDArray[np.uint8]"]
_BROKEN = (OSError, ValueError, TypeError, OverflowError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What broken files raise; RuntimeError: encrypted ones."""
_LAYOUTS = {"NHWC": 4, "NCHW": 4, "NHW": 3}


class ArrayDataset(Dataset):
    """Images from arrays (N, height, width, channels), one for each split that the raw data have.

    Splits that they do not have are drawn from the training images by ``split_seed``: ``validation``, and also ``test``
    where even that is missing. Both are parts of those images.

    ``duplicates`` says what becomes of an image that is in two splits: ``"error"``, or ``"drop"``, which leaves the
    copy in the training or validation split out.
    """

    def __init__(self, root: Path, validation: float, test: float, split_seed: int, duplicates: Duplicates) -> None:
        self.root = root
        self.validation = validation
        self.test = test
        self.split_seed = split_seed
        self.duplicates = duplicates

    @abstractmethod
    def read(self) -> Parts:
        """Return the arrays, by split: always ``train``; memory-mapped where that is possible.

        Raises:
            UserError: they are missing, or not what they should be.
        """

    @cached_property
    def arrays(self) -> Parts:
        return self.read()

    @cached_property
    def splits(self) -> dict[Split, list[tuple[Split, int]]]:
        """Images of each split, each by its array and its index in it.

        Raises:
            UserError: an image is in two splits.
        """
        if self._copies and self.duplicates == "error":
            raise UserError(
                f"{len(self._copies)} of the images in {self.root} are in two splits "
                f"(duplicates: drop leaves them out):\n  {listed(self._told)}"
            )
        left_out = {each.item for each in self._copies}
        return {split: [item for item in items if item not in left_out] for split, items in self._divided.items()}

    @cached_property
    def _divided(self) -> dict[Split, list[tuple[Split, int]]]:
        whole: dict[Split, list[tuple[Split, int]]] = {
            split: [(split, index) for index in range(len(self.arrays[split]))] if split in self.arrays else []
            for split in SPLITS
        }
        splits = drawn(
            whole["train"],
            0.0 if whole["validation"] else self.validation,
            0.0 if whole["test"] else self.test,
            self.split_seed,
        )
        splits["validation"] += whole["validation"]
        splits["test"] += whole["test"]
        return splits

    @cached_property
    def _copies(self) -> list[RawDuplicate[tuple[Split, int]]]:
        return copies(self._divided, self._content)

    @property
    def _told(self) -> list[str]:
        return [
            f"image {each.item[1]} of {each.item[0]} ({each.split}) is the same as "
            f"image {each.other[1]} of {each.other[0]} ({each.other_split})"
            for each in self._copies
        ]

    def left_out(self) -> list[str]:
        return self._told if self.duplicates == "drop" else []

    def images(self, split: Split) -> Iterator[NDArray[np.uint8]]:
        for array, index in self.splits[split]:
            yield self.arrays[array][index]

    def image_count(self, split: Split) -> int:
        return len(self.splits[split])

    def _content(self, item: tuple[Split, int]) -> bytes:
        array, index = item
        return hashlib.blake2b(self.arrays[array][index].tobytes(), digest_size=16).digest()


class Arrays(ArrayDataset):
    """Arrays of any image shape: a folder with ``train.npy`` and ``test.npy``, one .npz file, or one .npy file."""

    def __init__(
        self, *, root: str, layout: str, validation: float, test: float, split_seed: int, duplicates: Duplicates
    ) -> None:
        super().__init__(Path(root).expanduser(), validation, test, split_seed, duplicates)
        self.layout = layout
        if not self.root.exists():
            raise UserError(f"there is no folder or file {self.root}")

    @cached_property
    def members(self) -> dict[Split, Path]:
        """Path of each split's array: a file, or a member of an .npz file as a path below it."""
        if self.root.is_dir():
            found: dict[Split, Path] = {
                split: self.root / f"{split}.npy" for split in SPLITS if (self.root / f"{split}.npy").is_file()
            }
            if "train" not in found:
                raise UserError(f"the folder {self.root} holds no train.npy")
            return found
        if self.root.suffix == ".npz":
            names = _names(self.root)
            named: dict[Split, Path] = {split: self.root / split for split in SPLITS if split in names}
            if "train" in named:
                return named
            if len(names) == 1:
                return {"train": self.root / names[0]}
            raise UserError(f"{self.root} holds {len(names)} arrays, but none called train: {', '.join(names)}")
        return {"train": self.root}

    @cached_property
    def headers(self) -> dict[Split, tuple[int, ...]]:
        """The shapes of the arrays, which all hold uint8 images of one shape in one layout."""
        shapes = {split: _header(member) for split, member in self.members.items()}
        first = self.members["train"]
        for split, shape in shapes.items():
            if not shape[0]:
                raise UserError(f"{self.members[split]} holds no images")
            if shape[1:] != shapes["train"][1:]:
                raise UserError(
                    f"{self.members[split]} holds images of shape {shape[1:]}, but {first} of {shapes['train'][1:]}"
                )
        return shapes

    @property
    def shape(self) -> ImageShape:
        _, height, width, channels = _channels_last(self.headers["train"], self._layout)
        return ImageShape(channels, height, width)

    def source(self) -> str:
        _ = self._layout
        if self.root.is_dir():
            return stamp(self.root, self.members.values())
        return stamp(self.root, [self.root])

    def read(self) -> Parts:
        import numpy as np

        layout = self._layout
        arrays: dict[Split, NDArray[np.uint8]] = {}
        for split, member in self.members.items():
            array = _load(member)
            if layout == "NCHW":
                array = array.transpose(0, 2, 3, 1)
            arrays[split] = array[..., np.newaxis] if layout == "NHW" else array
        return arrays

    @property
    def _layout(self) -> str:
        shape = self.headers["train"]
        told = f"{self.members['train']} has shape {shape}"
        if self.layout != "auto":
            if len(shape) != _LAYOUTS[self.layout]:
                raise UserError(f"{told}, expected layout {self.layout} with {_LAYOUTS[self.layout]} axes")
            return self.layout
        if len(shape) == 3:
            return "NHW"
        fitting = [name for name, axis in (("NHWC", 3), ("NCHW", 1)) if len(shape) == 4 and shape[axis] in (1, 3)]
        if len(fitting) == 1:
            return fitting[0]
        wanted = "(N, H, W, C), (N, C, H, W) or (N, H, W) with 1 or 3 channels"
        if fitting:
            raise UserError(f"{told}, whose channels may come first or last: set layout to NHWC or NCHW")
        raise UserError(f"{told}, expected {wanted} (with other channels, set layout to NHWC or NCHW)")


def plain_arrays(root: Path, image: tuple[int, ...]) -> Parts | None:
    """Return the arrays of ``train.npy``, ``test.npy`` and perhaps ``validation.npy`` in a folder; None if it has none.

    They hold images of the shape ``image``, (height, width, channels), in any layout.

    Raises:
        UserError: one of the two is missing, or an array is not of such images.
    """
    missing = [name for name in ("train.npy", "test.npy") if not (root / name).is_file()]
    if len(missing) == 2:
        return None
    if missing:
        raise UserError(f"the folder {root} holds no {missing[0]}")
    arrays = Arrays(root=str(root), layout="auto", validation=0.0, test=0.0, split_seed=0, duplicates="error").read()
    for split, array in arrays.items():
        if array.shape[1:] != image:
            raise UserError(f"{root / f'{split}.npy'} holds images of shape {array.shape[1:]}, expected {image}")
    return arrays


def _channels_last(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    if layout == "NHW":
        return (*shape, 1)
    return (shape[0], shape[2], shape[3], shape[1]) if layout == "NCHW" else shape


def _names(file: Path) -> list[str]:
    """Return the names of the arrays in an .npz file."""
    try:
        with zipfile.ZipFile(file) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{file} is not an .npz file: {error}") from None


def _header(member: Path) -> tuple[int, ...]:
    """Return the shape of the uint8 array in an .npy file, or in an .npz file's member. Reads its first bytes only."""
    try:
        if member.parent.suffix == ".npz" and member.parent.is_file():
            with zipfile.ZipFile(member.parent) as archive, archive.open(f"{member.name}.npy") as inner:
                shape, dtype = _read_header(inner)
                size = archive.getinfo(f"{member.name}.npy").file_size
        else:
            with member.open("rb") as stream:
                shape, dtype = _read_header(stream)
                size = member.stat().st_size
    except _BROKEN as error:
        raise UserError(f"{member} is not a NumPy array: {error}") from None
    if dtype.hasobject:
        raise UserError(f"{member} holds Python objects, which recbench never opens; expected uint8 images")
    if dtype != "uint8":
        raise UserError(f"{member} holds {dtype}, expected uint8 (0 to 255)")
    if math.prod(shape) > size:  # or memory would be taken for all that the header says
        raise UserError(f"{member} is broken: an array of shape {shape} does not fit into its {size} bytes")
    if len(shape) not in (3, 4) or min(shape) < 0:
        raise UserError(f"{member} has shape {shape}, expected (N, H, W, C), (N, C, H, W) or (N, H, W)")
    return shape


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    import numpy as np

    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if any(type(length) is not int for length in shape):
        raise ValueError(f"its shape {shape} is not of whole numbers")
    return shape, dtype


def _load(member: Path) -> NDArray[np.uint8]:
    """Return the array; memory-mapped, but for members of .npz files."""
    import numpy as np

    array: NDArray[np.uint8]
    try:
        if member.parent.suffix == ".npz" and member.parent.is_file():
            with np.load(member.parent, allow_pickle=False) as archive:
                array = archive[member.name]
        else:
            array = np.load(member, mmap_mode="r", allow_pickle=False)
    except _BROKEN as error:
        raise UserError(f"{member} is broken: {error}") from None
    except MemoryError:
        raise UserError(f"{member} does not fit into memory; .npy files are not read into it: unpack them") from None
    return array
