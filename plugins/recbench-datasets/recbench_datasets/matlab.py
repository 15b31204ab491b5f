"""Arrays of bytes in MATLAB files of level 5, read by SciPy after their sizes are checked."""

from __future__ import annotations

import io
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HEADER = 128
_COMPRESSED = 15
_CHUNK = 1 << 16


def read_uint8(content: bytes, name: str, largest: int) -> NDArray[np.uint8]:
    """Return the uint8 array called ``name``, in its shape in MATLAB.

    Args:
        content: the bytes of a file.
        name: of the array.
        largest: bytes that may be unpacked: a small file can claim, or unpack to, any size.

    Raises:
        ValueError: there is none, or this is not such a file, or more than ``largest`` bytes would be unpacked; the
            text says why, as the rest of a sentence about the file.
    """
    from scipy.io import loadmat, whosmat

    if len(content) < _HEADER or content[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise ValueError("is not a MATLAB file of level 5")
    _check_sizes(content, "<" if content[126:128] == b"IM" else ">", largest)
    with _said_of_files():
        found = {each: (shape, kind) for each, shape, kind in whosmat(io.BytesIO(content))}
    if name not in found:
        raise ValueError(f"holds no array {name}")
    shape, kind = found[name]
    if kind != "uint8":
        raise ValueError(f"holds an array {name} of type {kind}, expected uint8")
    if min(shape) < 0 or math.prod(shape) > largest:
        raise ValueError(f"is broken: it claims an array {name} of shape {shape}, more than {largest} bytes")
    with _said_of_files():
        array: NDArray[np.uint8] = loadmat(io.BytesIO(content), variable_names=[name])[name]
    return array


@contextmanager
def _said_of_files() -> Iterator[None]:
    """Turn what SciPy raises about a file into the rest of a sentence about it."""
    from scipy.io.matlab import MatReadError

    try:
        yield
    except (MatReadError, ValueError, TypeError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"is broken: {error}") from None


def _check_sizes(content: bytes, order: str, largest: int) -> None:
    """Check that no element reaches beyond the end of the file or unpacks to more than ``largest`` bytes.

    SciPy trusts both sizes. What is unpacked here is dropped chunk by chunk.
    """
    view, start = memoryview(content), _HEADER
    while start < len(view):
        if start + 8 > len(view):
            raise ValueError(f"is incomplete: {start + 8 - len(view)} bytes are missing")
        kind, size = struct.unpack_from(f"{order}II", view, start)
        end = start + 8 + size
        if end > len(view):
            raise ValueError(f"is incomplete: {end - len(view)} bytes are missing")
        if kind == _COMPRESSED:
            _check_unpacked(view[start + 8 : end], largest)
        start = end


def _check_unpacked(data: memoryview, largest: int) -> None:
    unpacker, unpacked = zlib.decompressobj(), 0
    try:
        for start in range(0, len(data), _CHUNK):
            rest = bytes(data[start : start + _CHUNK])
            while rest:
                unpacked += len(unpacker.decompress(rest, 1 << 20))
                if unpacked > largest:
                    raise ValueError(f"unpacks to more than {largest} bytes")
                rest = unpacker.unconsumed_tail
    except zlib.error as error:
        raise ValueError(f"is broken: {error}") from None
