"""The artifacts of a job: the files next to its record, their names, how they are written and how they are read.

=====================  ======================================================================
``history.jsonl``      one line of JSON for each epoch, appended while the job trains
``scores.parquet``     a row for each test image: its score by each per-image metric, and ``kl`` if there is one
``images.npz``         the first test images, their reconstructions, and samples if there are any, uint8 (N, C, H, W)
``model.safetensors``  the trained tensors of architecture and loss
``traces.npz``         what loss and metrics show of themselves; written only if there is anything
``epochs.npz``         reconstructions of a few images after some epochs (:mod:`recbench.store.epochs`)
=====================  ======================================================================

Nothing is unpickled. Every function takes the job's folder. Imports neither torch nor NumPy until an artifact is used.

A reader may meet anything: folders of results are copied, merged and sent around. Given the files that the record
describes, it returns what they hold, or raises; and before it takes memory it looks at type, size and shape.
"""

from __future__ import annotations

import io
import json
import lzma
import math
import struct
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from recbench.files import append_regular, full_disk_named, read_regular, write_atomically
from recbench.store.bounded import npz_arrays, parquet_columns
from recbench.store.record import LARGEST, File

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

HISTORY = "history.jsonl"
SCORES = "scores.parquet"
IMAGES = "images.npz"
MODEL = "model.safetensors"
TRACES = "traces.npz"
EPOCHS = "epochs.npz"

ALWAYS = (HISTORY, SCORES, IMAGES, MODEL)
"""The artifacts of every finished job."""
ALL = (*ALWAYS, TRACES, EPOCHS)

ALWAYS_PICTURES = ("target", "decoded")
PICTURES = (*ALWAYS_PICTURES, "samples")
"""The arrays of ``images.npz``; samples are of architectures with a prior."""


MOST_PICTURES = 64
"""The largest number of images in one array of ``images.npz``."""
MOST_EPOCHS = 1_000_000
_MOST_LINE = 1 << 16
_MOST_EACH = 256
"""The largest number of values of an epoch."""
_MOST = {HISTORY: 1 << 26, SCORES: 1 << 28, IMAGES: 1 << 28, TRACES: 1 << 28, EPOCHS: 1 << 28}
"""The largest sizes in bytes, of files and of what they unpack to; that of a model is the one in its record."""

Files = Mapping[str, File]
"""The files of a job as its record describes them, by name."""


class ArtifactError(ValueError):
    """An artifact is missing, damaged, or lacks what was asked for; the text is one line that says why."""


def describe(folder: Path, names: Collection[str]) -> dict[str, File]:
    """Return size and checksum of these files of a job, as its record states them."""
    return {name: File.of((folder / name).read_bytes()) for name in names}


def content(folder: Path, name: str, files: Files | None = None) -> bytes:
    """Return the content of an artifact.

    Args:
        folder: of the job.
        name: of the file.
        files: those that the job's record describes; a file that it does not describe is taken as it is.

    Raises:
        ArtifactError: it is missing, not a regular file, too large, or not the file that the record describes.
    """
    expected = files.get(name) if files else None
    try:
        raw = read_regular(folder / name, expected.bytes if expected else _MOST.get(name, 1 << 28))
    except OSError as error:
        raise _unreadable(error) from None
    if expected is not None and (len(raw) > _MOST.get(name, len(raw)) or File.of(raw) != expected):
        raise ArtifactError("it is not the file that the record describes")
    return raw


# history.jsonl


def history_line(values: Mapping[str, float]) -> str:
    """Return an epoch as a line of the history, line break included.

    Raises:
        ValueError: a value is NaN or infinite.
    """
    return json.dumps(values, allow_nan=False) + "\n"


def start_history(folder: Path, lines: Sequence[str] = ()) -> None:
    """Replace the history by these lines: none for a new job, those of the checkpoint for a resumed one."""
    write_atomically(folder / HISTORY, "".join(lines).encode())


def append_history(folder: Path, line: str) -> None:
    """Append a line to the history."""
    with full_disk_named(folder):
        append_regular(folder / HISTORY, line)


def read_history(folder: Path, files: Files | None = None) -> list[dict[str, Any]]:
    """Return all epochs of a finished job; see :func:`content` for ``files``.

    Raises:
        ArtifactError: there is no history, it is not the one that the record describes, or a line is damaged.
    """
    epochs = []
    for number, line in enumerate(io.BytesIO(content(folder, HISTORY, files)), 1):
        try:
            values = _epoch(line)
        except (ValueError, RecursionError) as error:
            raise ArtifactError(f"line {number}: {_unreadable(error)}") from None
        if number > MOST_EPOCHS:
            raise ArtifactError(f"it has more than {MOST_EPOCHS:,} lines")
        epochs.append(values)
    return epochs


def _epoch(line: bytes) -> dict[str, Any]:
    """Return a line of a history, whose values are finite numbers.

    Raises:
        ValueError: it is something else.
    """
    if len(line) > _MOST_LINE:
        raise ValueError(f"it has {len(line):,} bytes, expected at most {_MOST_LINE:,}")
    values = json.loads(line)
    if not isinstance(values, dict) or len(values) > _MOST_EACH:
        raise ValueError("it is not a JSON object with the values of an epoch")
    for name, value in values.items():
        if not _is_finite(value):
            raise ValueError(f"{name[:100]} is not a finite number")
    return values


def written_epochs(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield the epochs written so far by a job that may still be training; its last line may be half written.

    Raises:
        ValueError: a complete line is not JSON.
    """
    file = folder / HISTORY
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    for line in text.split("\n")[:-1]:
        yield json.loads(line)


def readable_epochs(folder: Path) -> Iterator[dict[str, float]]:
    """Yield the readable epochs of any job, finished or not: lines that name their epoch, with their finite numbers."""
    try:
        raw = read_regular(folder / HISTORY, _MOST[HISTORY])
    except OSError:
        return
    for number, line in enumerate(io.BytesIO(raw)):
        try:
            values = json.loads(line.decode(errors="replace")) if len(line) <= _MOST_LINE else None
        except (ValueError, RecursionError):
            continue  # the last line of a job that was killed while it wrote
        if number >= MOST_EPOCHS:
            return
        if isinstance(values, dict) and len(values) <= _MOST_EACH and _is_finite(values.get("epoch")):
            yield {str(name): float(value) for name, value in values.items() if _is_finite(value)}


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


# scores.parquet


def write_scores(folder: Path, per_image: Mapping[str, NDArray[np.float64]]) -> None:
    """Write the scores of all test images, a column (N,) for each metric."""
    write_atomically(folder / SCORES, scores_content(per_image))


def scores_content(per_image: Mapping[str, NDArray[np.float64]]) -> bytes:
    """Return the content of a ``scores.parquet``, with 32-bit numbers where they lose nothing."""
    import pyarrow
    from pyarrow import parquet

    table = pyarrow.table({name: _narrow(values) for name, values in per_image.items()})
    stream = io.BytesIO()
    encoding = dict.fromkeys(per_image, "BYTE_STREAM_SPLIT")
    parquet.write_table(table, stream, compression="zstd", use_dictionary=False, column_encoding=encoding)
    return stream.getvalue()


def _narrow(values: NDArray[np.float64]) -> NDArray[Any]:
    import numpy as np

    with np.errstate(over="ignore"):
        narrow = values.astype(np.float32)
    return narrow if np.array_equal(narrow.astype(np.float64), values, equal_nan=True) else values


def read_scores(
    source: Path | bytes, metric: str | None = None, *, files: Files | None = None, images: int | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return the scores of all test images by metric, each (N,).

    Args:
        source: folder of the job, or the content of its ``scores.parquet``.
        metric: read this column only.
        files: those that the record describes; see :func:`content`.
        images: the number of test images, if it is known.

    Raises:
        ArtifactError: there is no such file or column, it is not the one that the record describes, or of as many
            images, or it cannot be read.
    """
    from pyarrow import ArrowException

    raw = source if isinstance(source, bytes) else content(source, SCORES, files)
    try:
        return parquet_columns(raw, metric, images)
    except (OSError, KeyError, ValueError, TypeError, OverflowError, MemoryError, ArrowException) as error:
        raise _unreadable(error) from None


# images.npz and traces.npz


def write_images(folder: Path, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write test images, reconstructions and samples: those of the arrays :data:`PICTURES` that there are, uint8
    (N, C, H, W)."""
    write_atomically(folder / IMAGES, arrays_content(pictures))


def read_images(
    folder: Path,
    names: Collection[str] = PICTURES,
    *,
    files: Files | None = None,
    shape: tuple[int, int, int] | None = None,
) -> dict[str, NDArray[np.uint8]]:
    """Return those of the named arrays that the job has kept; normally all, uint8 (N, C, H, W).

    Args:
        folder: of the job.
        names: some of :data:`PICTURES`.
        files: those that the record describes; see :func:`content`.
        shape: (C, H, W) of the data set's images, if it is known.

    Raises:
        ArtifactError: the file is missing, damaged, not the one that the record describes, or holds other things.
    """
    most = _MOST[IMAGES] if shape is None else min(_MOST[IMAGES], len(PICTURES) * MOST_PICTURES * math.prod(shape))
    arrays = read_arrays(folder, IMAGES, files, names, most)
    for name, array in arrays.items():
        fits = array.ndim == 4 and 0 < len(array) <= MOST_PICTURES and min(array.shape) > 0
        if array.dtype != "uint8" or not fits or (shape is not None and array.shape[1:] != shape):
            wanted = "(N, C, H, W)" if shape is None else "(N, {}, {}, {})".format(*shape)
            raise ArtifactError(f"{name} is {array.dtype} of shape {array.shape}, expected uint8 {wanted}")
    if {"target", "decoded"} <= arrays.keys() and arrays["target"].shape != arrays["decoded"].shape:
        raise ArtifactError("it does not have as many decoded images as test images")
    return arrays


def write_traces(folder: Path, traces: Mapping[str, Tensor]) -> None:
    """Write what the loss and the metrics show of themselves."""
    write_atomically(folder / TRACES, traces_content({name: value.numpy() for name, value in traces.items()}))


def traces_content(traces: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the content of a ``traces.npz``, the same for the same traces."""
    return arrays_content(traces)


def read_traces(source: Path | bytes, files: Files | None = None) -> dict[str, NDArray[np.float64]]:
    """Return what the loss and the metrics have shown of themselves.

    Args:
        source: folder of the job, or the content of its ``traces.npz``.
        files: those that the record describes; see :func:`content`.

    Raises:
        ArtifactError: the file is missing, as of most jobs, damaged, or not the one that the record describes.
    """
    return read_arrays(source, TRACES, files, None, _MOST[TRACES])


def kept_traces(folder: Path, files: Files) -> dict[str, Tensor]:
    """Return the traces that a record describes, as they were given to :func:`write_traces`; empty if there are none,
    or if they cannot be read."""
    import torch

    try:
        found = read_traces(folder, files) if TRACES in files else {}
    except ArtifactError:
        return {}
    return {name: torch.from_numpy(values) for name, values in found.items()}


def is_trace_of(name: str, labels: Collection[str]) -> bool:
    """Return whether a trace is one of a metric with one of these labels; others are of the loss."""
    return any(name.startswith(f"{label}_") for label in labels)


def arrays_content(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Return the content of an ``.npz`` file, the same for the same arrays."""
    import numpy as np

    stream = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez_compressed(stream, allow_pickle=False, **named)
    return stream.getvalue()


def read_arrays(
    source: Path | bytes, name: str, files: Files | None, wanted: Collection[str] | None, most: int
) -> dict[str, NDArray[Any]]:
    """Return those of the wanted arrays of an ``.npz`` artifact that it has, all if ``wanted`` is None.

    Raises:
        ArtifactError: it is missing, damaged, not the file that the record describes, or of more than ``most`` bytes.
    """
    raw = source if isinstance(source, bytes) else content(source, name, files)
    try:
        return npz_arrays(raw, wanted, most)
    except (*_ZIP_ERRORS, OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
        raise _unreadable(error) from None


_ZIP_ERRORS = (BadZipFile, zlib.error, lzma.LZMAError, struct.error, OverflowError)


# model.safetensors


def write_model(folder: Path, modules: Mapping[str, nn.Module]) -> None:
    """Write the tensors of modules, named ``<name of the module>.<name of the tensor>``."""
    import safetensors.torch
    import torch

    state = {
        f"{prefix}.{name}": value for prefix, module in modules.items() for name, value in module.state_dict().items()
    }
    tensors = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in state.items()}
    write_atomically(folder / MODEL, safetensors.torch.save(tensors))


def has_model(folder: Path) -> bool:
    """Return True if the job's model is there."""
    return (folder / MODEL).is_file()


def read_model(raw: bytes) -> dict[str, Tensor]:
    """Return the tensors in the content of a ``model.safetensors``, on the CPU, by the names :func:`write_model` gave.

    Raises:
        ArtifactError: it is not a safetensors file.
    """
    import safetensors
    import safetensors.torch

    if int.from_bytes(raw[:8], "little") > min(_MOST_HEADER, len(raw)):
        raise ArtifactError("its header is longer than the file, or than that of any network")
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(raw)
    except (safetensors.SafetensorError, ValueError, KeyError, TypeError, RuntimeError, MemoryError) as error:
        raise _unreadable(error) from None
    return tensors


_MOST_HEADER = 1 << 24


def _unreadable(error: Exception) -> ArtifactError:
    """Return the error as one line of at most 300 characters."""
    text = (isinstance(error, OSError) and error.strerror) or str(error)
    return ArtifactError(text.partition("\n")[0][:300] or type(error).__name__)
