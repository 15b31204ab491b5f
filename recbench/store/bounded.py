"""Arrays out of files that nobody vouches for: what they claim is checked before memory is taken for it."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_IMAGES = 10_000_000
"""The largest number of test images of a job."""
MOST_COLUMNS = 1_000
MOST_VALUES = 1 << 27
"""The largest number of scores of a job, over all images and metrics."""
MOST_MEMBERS = 1_000
"""The largest number of arrays in one file."""


def npz_arrays(raw: bytes, names: Collection[str] | None, most: int) -> dict[str, NDArray[Any]]:
    """Return arrays of numbers out of the content of an ``.npz`` file.

    Args:
        raw: the content.
        names: the arrays to read, as far as they are there; None for all.
        most: the largest size in bytes of all arrays together.

    Raises:
        ValueError: it is not such a file, or holds something else, or more.
    """
    found: dict[str, NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        members = archive.infolist()
        if len(members) > MOST_MEMBERS:
            raise ValueError(f"it has {len(members):,} members, expected at most {MOST_MEMBERS:,}")
        for member in members:
            name = member.filename.removesuffix(".npy")
            if names is not None and name not in names:
                continue
            if name in found:
                raise ValueError(f"{name[:100]} occurs twice")
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name[:100]} is compressed in a way that recbench does not use")
            found[name] = _array(archive, member, name[:100], most - sum(array.nbytes for array in found.values()))
    return found


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, name: str, most: int) -> NDArray[Any]:
    import numpy as np

    with archive.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"{name} is of version {version} of NumPy's format")
        shape, by_column, kind = readers[version](stream)
        if kind.hasobject or kind.kind not in "biuf" or kind.itemsize > 8:
            raise ValueError(f"{name} has values of type {str(kind)[:100]}, expected numbers")
        if len(shape) > 16 or any(length < 0 for length in shape):
            raise ValueError(f"{name} has the shape {str(shape)[:100]}")
        size = math.prod(shape) * kind.itemsize
        if size > most:
            raise ValueError(f"{name} claims to have {size:,} bytes, expected at most {most:,}")
        if member.file_size - stream.tell() != size:
            raise ValueError(f"{name} does not have as many bytes as its shape needs")
        array = np.empty(math.prod(shape), dtype=kind)
        target, place = array.view(np.uint8), 0
        while chunk := stream.read(1 << 20):  # to the end, where zipfile compares the checksum
            target[place : place + len(chunk)] = np.frombuffer(chunk, dtype=np.uint8)
            place += len(chunk)
        if place != size:
            raise ValueError(f"{name} is truncated")
    return array.reshape(shape, order="F" if by_column else "C")


def parquet_columns(raw: bytes, metric: str | None, images: int | None) -> dict[str, NDArray[np.float64]]:
    """Return columns of numbers out of the content of a ``.parquet`` file, each (N,).

    Args:
        raw: the content.
        metric: the column to read; None for all.
        images: the number of rows that is expected; None if it is not known.

    Raises:
        ValueError: it is not such a file, or holds something else, or more.
        KeyError: there is no such column.
    """
    import numpy as np
    from pyarrow import parquet

    # Without Arrow's own threads: one that still starts while the interpreter ends would abort the process.
    with parquet.ParquetFile(io.BytesIO(raw), pre_buffer=False) as opened:
        facts = opened.metadata
        rows, columns = facts.num_rows, [facts.schema.column(i) for i in range(min(facts.num_columns, MOST_COLUMNS))]
        names = [column.name for column in columns]
        if not columns and metric is None:  # of metrics of whole sets alone, and without a KL divergence
            return {}
        if images is not None and rows != images:
            raise ValueError(f"it has scores of {rows:,} images, expected {images:,}")
        if facts.num_columns > MOST_COLUMNS or len(set(names)) < len(names):
            raise ValueError(f"it has {facts.num_columns:,} columns, expected one for each metric")
        wanted = names if metric is None else [metric]
        if metric is not None and metric not in names:
            raise KeyError(f"no column {metric}")
        if not 0 <= rows <= MOST_IMAGES or rows * len(wanted) > MOST_VALUES:
            raise ValueError(f"it claims to have scores of {rows:,} images, expected at most {MOST_IMAGES:,}")
        chosen = [index for index, name in enumerate(names) if name in wanted]
        _check_columns(facts, chosen, rows)
        table = opened.read(columns=wanted, use_threads=False)
    found: Mapping[str, Any] = {name: table.column(name).to_numpy() for name in wanted}
    return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}


def _check_columns(facts: Any, chosen: Sequence[int], rows: int) -> None:
    """Raise a ValueError if chosen columns of a parquet file have more values than it has rows, or no numbers."""
    groups = [facts.row_group(index) for index in range(facts.num_row_groups)]
    if sum(group.num_rows for group in groups) != rows:
        raise ValueError("its parts do not have as many rows as it says")
    for index in chosen:
        column = facts.schema.column(index)
        if column.physical_type not in ("DOUBLE", "FLOAT", "INT32", "INT64") or column.max_repetition_level:
            raise ValueError(f"its column {column.name[:100]} has values of type {column.physical_type}, not numbers")
        for group in groups:
            chunk = group.column(index)
            # A value takes 8 bytes, or 8 in a dictionary and 4 for its index; the rest is for headers.
            if chunk.num_values != group.num_rows or not 0 <= chunk.total_uncompressed_size <= 32 * rows + (1 << 20):
                raise ValueError(f"its column {column.name[:100]} claims to have more than a value for each image")
