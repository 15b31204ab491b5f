"""The .npy files of the image cache: uint8 arrays (N, C, H, W), written image by image and read memory-mapped."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.contracts.dataset import SPLITS, Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

HEADER = 128
"""Bytes of a file before its pixels."""
_BATCH = 256


@contextmanager
def new_array(file: Path, image: tuple[int, int, int]) -> Iterator[Callable[[bytes], None]]:
    """Create a file; yields a function that appends an image. The header is written last, when their number is known.

    Args:
        file: is created or overwritten.
        image: height, width and number of channels of every image.
    """
    import numpy as np

    count = 0

    with file.open("wb") as stream:

        def write(raw: bytes) -> None:
            nonlocal count
            stream.write(raw)
            count += 1

        np.lib.format.write_array_header_1_0(stream, _header(0, image))
        assert stream.tell() == HEADER, "NumPy pads short headers to this size"
        yield write
        stream.seek(0)
        np.lib.format.write_array_header_1_0(stream, _header(count, image))
        assert stream.tell() == HEADER, "NumPy leaves room in the header for the first axis to grow"
        stream.flush()
        os.fsync(stream.fileno())


def _header(count: int, image: tuple[int, int, int]) -> dict[str, object]:
    height, width, channels = image
    return {"descr": "|u1", "fortran_order": False, "shape": (count, channels, height, width)}


def mapped(folder: Path, split: Split) -> NDArray[np.uint8]:
    """Return the images of a split, (N, C, H, W), memory-mapped and read-only.

    Raises:
        ValueError: the header is damaged.
    """
    import numpy as np

    images: NDArray[np.uint8] = np.load(folder / f"{split}.npy", mmap_mode="r", allow_pickle=False)
    if images.dtype != np.uint8 or images.ndim != 4 or not images.flags.c_contiguous:
        raise ValueError(f"the header of {split}.npy is damaged")
    return images


def check_header(file: Path) -> None:
    """Check that an .npy file is as long as its header says, before memory is taken for it; other files pass.

    Raises:
        ValueError: it is not.
    """
    import numpy as np

    with file.open("rb") as stream:
        if stream.read(len(np.lib.format.MAGIC_PREFIX)) != np.lib.format.MAGIC_PREFIX:
            return
        stream.seek(0)
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        claimed, rest = math.prod(shape) * dtype.itemsize, file.stat().st_size - stream.tell()
    if claimed > rest:
        raise ValueError(f"an array of shape {shape} does not fit into its {rest:,} bytes")


def without(file: Path, indices: Collection[int]) -> None:
    """Rewrite a file without the images at these indices."""
    if not indices:
        return
    import numpy as np

    images = np.load(file, mmap_mode="r", allow_pickle=False)
    _, channels, height, width = images.shape
    rest = file.with_suffix(".rest")
    with new_array(rest, (height, width, channels)) as write:
        for index, image in enumerate(images):
            if index not in indices:
                write(image.tobytes())
    rest.replace(file)


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 over shapes and pixels of all splits, by which records are compared."""
    hasher = hashlib.sha256()
    for split in SPLITS:
        images = mapped(folder, split)
        count, channels, height, width = images.shape
        hasher.update(f"{split} {(height, width, channels)}".encode())
        for start in range(0, count, _BATCH):
            hasher.update(images[start : start + _BATCH].data)
        hasher.update(str(count).encode())
    return hasher.hexdigest()
