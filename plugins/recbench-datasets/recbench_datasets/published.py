"""Small images in the files in which they were published: CIFAR, MNIST, Fashion-MNIST, STL-10 and SVHN.

None of these files is a pickle: CIFAR is read from its binary version.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from recbench.contracts.dataset import Duplicates, Split
from recbench.contracts.entries import ImageShape
from recbench.errors import UserError
from recbench_datasets.arrays import ArrayDataset, Parts, plain_arrays
from recbench_datasets.matlab import read_uint8
from recbench_datasets.raw import existing_folder, listed, stamp

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_BROKEN = (OSError, EOFError, zlib.error, tarfile.TarError)
_LARGEST = 4 << 30  # bytes of one file; the largest one published, STL-10's unlabelled images, has 2.8e9


class PublishedDataset(ArrayDataset):
    """A data set with published training and test images; validation images are drawn from those for training.

    ``root`` holds ``train.npy`` and ``test.npy`` with the images, or the published files, or the published archive of
    them; files may also be in the folder that the archive unpacks to. Nothing is unpacked to the disk.

    Attributes:
        title: its name in messages.
        image: (height, width, channels) of the images in the files.
        folder: what the archive unpacks to, or where other programs put the files.
        archive: name of the archive; empty where the files are published one by one, each compressed by gzip.
    """

    title: ClassVar[str]
    image: ClassVar[tuple[int, int, int]]
    folder: ClassVar[str]
    archive: ClassVar[str] = ""
    pickles: ClassVar[tuple[str, ...]] = ()

    def __init__(self, *, root: str, validation: float, split_seed: int, duplicates: Duplicates) -> None:
        super().__init__(existing_folder(root), validation, 0.0, split_seed, duplicates)

    @property
    @abstractmethod
    def names(self) -> dict[Split, tuple[str, ...]]:
        """Names of the files of each split."""

    @abstractmethod
    def parse(self, content: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the images (N, height, width, channels) in the bytes of a file.

        Raises:
            ValueError: the file is not of this kind; the text says why, as the rest of a sentence about it.
        """

    @property
    def shape(self) -> ImageShape:
        height, width, channels = self.image
        return ImageShape(channels, height, width)

    def source(self) -> str:
        plain = [path for split in ("train", "validation", "test") if (path := self.root / f"{split}.npy").is_file()]
        return stamp(self.root, plain or sorted(set(self.files.values())))

    @cached_property
    def files(self) -> dict[str, Path]:
        """Path of each published file, or of the archive that holds it.

        Raises:
            UserError: some are missing; the text names them.
        """
        wanted = [name for names in self.names.values() for name in names]
        for folder in (self.root, self.root / self.folder):
            found = {name: path for name in wanted if (path := _plain_or_compressed(folder, name))}
            if len(found) == len(wanted):
                return found
            if found:
                missing = [name for name in wanted if name not in found]
                raise UserError(
                    f"{len(missing)} of the {len(wanted)} files of {self.title} are missing in {folder}:\n"
                    f"  {listed(missing)}"
                )
        if self.archive and (self.root / self.archive).is_file():
            return dict.fromkeys(wanted, self.root / self.archive)
        for name in self.pickles:
            if (self.root / name).exists():
                raise UserError(
                    f"{self.root / name} is the Python version of {self.title}, made of pickles, which recbench never "
                    f"opens: expected the binary version, {self.archive}"
                )
        choices = ["train.npy and test.npy", ", ".join(wanted), *([self.archive] if self.archive else [])]
        raise UserError(f"the folder {self.root} holds no {self.title}; expected one of:\n  {listed(choices)}")

    def read(self) -> Parts:
        import numpy as np

        plain = plain_arrays(self.root, self.image)
        if plain is not None:
            return plain
        contents = _from_archive(self.root / self.archive, set(self.files)) if self._archived else {}
        arrays: dict[Split, NDArray[np.uint8]] = {}
        for split, names in self.names.items():
            parts = []
            for name in names:
                path = self.files[name]
                content = contents[name] if self._archived else _content(path)
                try:
                    parts.append(self.parse(content))
                except ValueError as error:
                    raise UserError(f"{path}{f': {name}' if self._archived else ''}: {error}") from None
            arrays[split] = parts[0] if len(parts) == 1 else np.concatenate(parts)
            if not len(arrays[split]):
                raise UserError(f"{self.files[names[0]]} holds no images")
        return arrays

    @property
    def _archived(self) -> bool:
        return bool(self.archive) and self.root / self.archive in self.files.values()


class Cifar10(PublishedDataset):
    """CIFAR-10, binary version: a byte for the class, then the three planes of the image."""

    title = "CIFAR-10"
    image = (32, 32, 3)
    folder = "cifar-10-batches-bin"
    archive = "cifar-10-binary.tar.gz"
    pickles = ("cifar-10-python.tar.gz", "cifar-10-batches-py")
    labels: ClassVar[int] = 1

    @property
    def names(self) -> dict[Split, tuple[str, ...]]:
        return {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}

    def parse(self, content: NDArray[np.uint8]) -> NDArray[np.uint8]:
        records = _records(content, self.labels + 3 * 32 * 32)
        return records[:, self.labels :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)


class Cifar100(Cifar10):
    """CIFAR-100, binary version: like CIFAR-10's, with two bytes for the classes."""

    title = "CIFAR-100"
    folder = "cifar-100-binary"
    archive = "cifar-100-binary.tar.gz"
    pickles = ("cifar-100-python.tar.gz", "cifar-100-python")
    labels = 2

    @property
    def names(self) -> dict[Split, tuple[str, ...]]:
        return {"train": ("train.bin",), "test": ("test.bin",)}


class Mnist(PublishedDataset):
    """MNIST in IDX files, plain or compressed; with ``pad``, 2 black pixels on each side."""

    title = "MNIST"
    image = (28, 28, 1)
    folder = "MNIST/raw"

    def __init__(self, *, root: str, pad: bool, validation: float, split_seed: int, duplicates: Duplicates) -> None:
        super().__init__(root=root, validation=validation, split_seed=split_seed, duplicates=duplicates)
        self.pad = pad

    @property
    def names(self) -> dict[Split, tuple[str, ...]]:
        return {"train": ("train-images-idx3-ubyte",), "test": ("t10k-images-idx3-ubyte",)}

    @property
    def shape(self) -> ImageShape:
        side = 32 if self.pad else 28
        return ImageShape(1, side, side)

    def parse(self, content: NDArray[np.uint8]) -> NDArray[np.uint8]:
        header = content[:16].tobytes()
        if len(header) < 16 or header[:4] != bytes((0, 0, 8, 3)):  # unsigned bytes, three axes
            raise ValueError("is not an IDX file of images")
        count, height, width = (int.from_bytes(header[start : start + 4], "big") for start in (4, 8, 12))
        if (height, width) != (28, 28):
            raise ValueError(f"holds images of {width}x{height}, expected 28x28")
        if len(content) != 16 + count * 28 * 28:
            raise ValueError(f"has {len(content)} bytes, expected {16 + count * 28 * 28} for {count} images")
        return content[16:].reshape(count, 28, 28, 1)

    def read(self) -> Parts:
        import numpy as np

        arrays = super().read()
        if not self.pad:
            return arrays
        return {split: np.pad(array, ((0, 0), (2, 2), (2, 2), (0, 0))) for split, array in arrays.items()}


class FashionMnist(Mnist):
    """Fashion-MNIST, in files of the same names and format as MNIST's."""

    title = "Fashion-MNIST"
    folder = "FashionMNIST/raw"


class Stl10(PublishedDataset):
    """STL-10, binary version: three planes an image, each column by column."""

    title = "STL-10"
    image = (96, 96, 3)
    folder = "stl10_binary"
    archive = "stl10_binary.tar.gz"

    def __init__(
        self, *, root: str, unlabeled: bool, validation: float, split_seed: int, duplicates: Duplicates
    ) -> None:
        super().__init__(root=root, validation=validation, split_seed=split_seed, duplicates=duplicates)
        self.unlabeled = unlabeled

    @property
    def names(self) -> dict[Split, tuple[str, ...]]:
        more = ("unlabeled_X.bin",) if self.unlabeled else ()
        return {"train": ("train_X.bin", *more), "test": ("test_X.bin",)}

    def parse(self, content: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return _records(content, 3 * 96 * 96).reshape(-1, 3, 96, 96).transpose(0, 3, 2, 1)


class Svhn(PublishedDataset):
    """The cropped digits of SVHN, format 2: MATLAB files with an array X (32, 32, 3, N)."""

    title = "SVHN"
    image = (32, 32, 3)
    folder = "SVHN"

    @property
    def names(self) -> dict[Split, tuple[str, ...]]:
        return {"train": ("train_32x32.mat",), "test": ("test_32x32.mat",)}

    def parse(self, content: NDArray[np.uint8]) -> NDArray[np.uint8]:
        array = read_uint8(content.tobytes(), "X", _LARGEST)
        if array.ndim != 4 or array.shape[:3] != self.image:
            raise ValueError(f"holds an array X of shape {array.shape}, expected (32, 32, 3, N)")
        return array.transpose(3, 0, 1, 2)


def _records(content: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    if len(content) % size:
        raise ValueError(f"has {len(content)} bytes, not a multiple of the {size} of an image: it is incomplete")
    return content.reshape(-1, size)


def _plain_or_compressed(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _content(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of a file; memory-mapped, unless it is compressed by gzip."""
    import numpy as np

    content: NDArray[np.uint8]
    try:
        if path.suffix != ".gz":
            empty = not path.stat().st_size  # NumPy maps no empty files
            content = np.zeros(0, dtype=np.uint8) if empty else np.memmap(path, dtype=np.uint8, mode="r")
        else:
            with gzip.open(path) as stream:
                raw = stream.read(_LARGEST + 1)
            if len(raw) > _LARGEST:
                raise UserError(f"{path} unpacks to more than {_LARGEST} bytes, more than any such file has")
            content = np.frombuffer(raw, dtype=np.uint8)
    except _BROKEN as error:
        raise UserError(f"{path} is broken: {error}") from None
    return content


def _from_archive(archive: Path, wanted: set[str]) -> dict[str, NDArray[np.uint8]]:
    """Return the bytes of the wanted files in a tar archive. Only plain files with these names count."""
    import numpy as np

    found: dict[str, NDArray[np.uint8]] = {}
    try:
        with tarfile.open(archive) as members:
            for member in members:
                name = member.name.rpartition("/")[2]
                if not member.isfile() or name not in wanted or name in found:
                    continue
                if member.size > _LARGEST:
                    raise UserError(f"{archive}: {name} has {member.size} bytes, more than any such file has")
                stream = members.extractfile(member)
                assert stream is not None, "a plain file"
                found[name] = np.frombuffer(stream.read(), dtype=np.uint8)
                if len(found) == len(wanted):  # what comes after them need not be unpacked
                    break
    except _BROKEN as error:
        raise UserError(f"{archive} is broken: {error}") from None
    missing = sorted(wanted - set(found))
    if missing:
        raise UserError(f"{len(missing)} of the {len(wanted)} files are missing in {archive}:\n  {listed(missing)}")
    return found
