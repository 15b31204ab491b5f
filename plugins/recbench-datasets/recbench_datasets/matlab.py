"""Arrays of bytes in MATLAB files of level 5: just enough of the format to read images.

Source: MathWorks, "MAT-File Format", the chapter on level 5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_HEADER = 128
_INT8, _UINT8, _INT32, _UINT32, _MATRIX, _COMPRESSED = 1, 2, 5, 6, 14, 15
_UINT8_CLASS = 9


def read_uint8(content: bytes, name: str, largest: int) -> NDArray[np.uint8]:
    """The uint8 array called ``name``, in its shape in MATLAB, from the bytes of a file.

    Raises:
        ValueError: there is none, or this is no such file, or more than ``largest`` bytes would be unpacked; the text
            says why, as the rest of a sentence about the file.
    """
    if len(content) < _HEADER or content[124:128] not in (b"\x00\x01IM", b"\x01\x00MI"):
        raise ValueError("is no MATLAB file of level 5")
    order = "<" if content[126:128] == b"IM" else ">"
    try:
        for kind, data in _elements(memoryview(content)[_HEADER:], order):
            if kind == _COMPRESSED:
                unpacker = zlib.decompressobj()
                matrix = memoryview(unpacker.decompress(data, largest))
                if unpacker.unconsumed_tail:
                    raise ValueError(f"unpacks to more than {largest} bytes")
                found = [_matrix(inner, order, name) for kind, inner in _elements(matrix, order) if kind == _MATRIX]
            else:
                found = [_matrix(data, order, name)] if kind == _MATRIX else []
            for array in found:
                if array is not None:
                    return array
    except (struct.error, zlib.error) as error:
        raise ValueError(f"is broken: {error}") from None
    raise ValueError(f"holds no array {name}")


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """The elements one after the other: the number of their type, and their bytes."""
    while data:
        kind, size = struct.unpack_from(f"{order}II", data)
        if kind >> 16:  # up to four bytes fit in the tag itself
            kind, size, start, end = kind & 0xFFFF, kind >> 16, 4, 8
        else:
            start = 8
            end = start + size + (-size % 8 if kind != _COMPRESSED else 0)
        if start + size > len(data):
            raise ValueError(f"is incomplete: {start + size - len(data)} bytes are missing")
        yield kind, data[start : start + size]
        data = data[end:]


def _matrix(data: memoryview, order: str, name: str) -> NDArray[np.uint8] | None:
    """The array, if it has this name."""
    import numpy as np

    parts = list(_elements(data, order))
    if [kind for kind, _ in parts[:3]] != [_UINT32, _INT32, _INT8] or bytes(parts[2][1]) != name.encode():
        return None
    (flags,) = struct.unpack_from(f"{order}I", parts[0][1])
    if flags & 0xFF != _UINT8_CLASS or len(parts) != 4 or parts[3][0] != _UINT8:
        raise ValueError(f"holds an array {name} that is not of type uint8")
    shape = struct.unpack(f"{order}{len(parts[1][1]) // 4}i", parts[1][1])
    if min(shape) < 0 or np.prod(shape, dtype=np.int64) != len(parts[3][1]):
        raise ValueError(f"is broken: {len(parts[3][1])} bytes are no array of shape {shape}")
    return np.frombuffer(parts[3][1], dtype=np.uint8).reshape(shape, order="F")
