"""The artifacts of a job: the files next to its record, their names, how they are written and how they are read.

=====================  ======================================================================
``history.jsonl``      one line of JSON for each epoch, appended while the job trains
``scores.parquet``     a row for each test image: its score by each per-image metric, and ``kl``
``images.npz``         the first test images, their reconstructions, and samples, uint8 (N, C, H, W)
``model.safetensors``  the trained tensors of architecture and loss
``traces.npz``         what loss and metrics show of themselves; written only if there is anything
=====================  ======================================================================

Nothing is unpickled. Every function takes the job's folder. Imports neither torch nor NumPy until an artifact is used.
"""

from __future__ import annotations

import io
import json
import math
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

from recbench.files import full_disk_named, write_atomically
from recbench.store.record import File

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

HISTORY = "history.jsonl"
SCORES = "scores.parquet"
IMAGES = "images.npz"
MODEL = "model.safetensors"
TRACES = "traces.npz"

ALWAYS = (HISTORY, SCORES, IMAGES, MODEL)
"""The artifacts of every finished job."""
ALL = (*ALWAYS, TRACES)

PICTURES = ("target", "decoded", "samples")
"""The arrays of ``images.npz``."""


class ArtifactError(ValueError):
    """An artifact is missing, damaged, or lacks what was asked for; the text is one line that says why."""


def describe(folder: Path, names: Collection[str]) -> dict[str, File]:
    """Return size and checksum of these files of a job, as its record states them."""
    return {name: File.of((folder / name).read_bytes()) for name in names}


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
    with full_disk_named(folder), (folder / HISTORY).open("a", encoding="utf-8") as stream:
        stream.write(line)


def read_history(folder: Path) -> list[dict[str, Any]]:
    """Return all epochs of a finished job.

    Raises:
        ArtifactError: there is no history, or one of its lines is damaged.
    """
    try:
        text = (folder / HISTORY).read_text(encoding="utf-8")
        epochs = [json.loads(line) for line in text.splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise _unreadable(error) from None
    if not all(isinstance(epoch, dict) for epoch in epochs):
        raise ArtifactError("a line is not a JSON object")
    return epochs


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
        lines = (folder / HISTORY).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            continue  # the last line of a job that was killed while it wrote
        if isinstance(values, dict) and _is_finite(values.get("epoch")):
            yield {str(name): float(value) for name, value in values.items() if _is_finite(value)}


def _is_finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


# scores.parquet


def write_scores(folder: Path, per_image: Mapping[str, NDArray[np.float64]]) -> None:
    """Write the scores of all test images, a column (N,) for each metric."""
    import pandas

    stream = io.BytesIO()
    pandas.DataFrame(per_image).to_parquet(stream, index=False)
    write_atomically(folder / SCORES, stream.getvalue())


def read_scores(source: Path | bytes, metric: str | None = None) -> dict[str, NDArray[np.float64]]:
    """Return the scores of all test images by metric, each (N,).

    Args:
        source: folder of the job, or the content of its ``scores.parquet``.
        metric: read this column only.

    Raises:
        ArtifactError: there is no such file or column, or it cannot be read.
    """
    import numpy as np
    from pyarrow import ArrowException, parquet

    file = io.BytesIO(source) if isinstance(source, bytes) else source / SCORES
    try:
        # Without Arrow's own threads: one that still starts while the interpreter ends would abort the process.
        with parquet.ParquetFile(file, pre_buffer=False) as opened:
            table = opened.read(columns=None if metric is None else [metric], use_threads=False)
        names = table.column_names if metric is None else [metric]
        return {name: np.asarray(table.column(name).to_numpy(), dtype=np.float64) for name in names}
    except (OSError, KeyError, ValueError, TypeError, ArrowException) as error:
        raise _unreadable(error) from None


# images.npz and traces.npz


def write_images(folder: Path, pictures: Mapping[str, NDArray[np.uint8]]) -> None:
    """Write test images, reconstructions and samples: the arrays :data:`PICTURES`, uint8 (N, C, H, W)."""
    _write_arrays(folder / IMAGES, pictures)


def read_images(folder: Path, names: Collection[str] = PICTURES) -> dict[str, NDArray[np.uint8]]:
    """Return those of the named arrays that the job has kept; normally all, uint8 (N, C, H, W).

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    return _read_arrays(folder / IMAGES, names)


def write_traces(folder: Path, traces: Mapping[str, Tensor]) -> None:
    """Write what the loss and the metrics show of themselves."""
    _write_arrays(folder / TRACES, {name: value.numpy() for name, value in traces.items()})


def read_traces(folder: Path) -> dict[str, NDArray[np.float64]]:
    """Return what the loss and the metrics have shown of themselves.

    Raises:
        ArtifactError: the file is missing, as of most jobs, or damaged.
    """
    return _read_arrays(folder / TRACES)


def _write_arrays(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    import numpy as np

    stream = io.BytesIO()
    named: dict[str, Any] = dict(arrays)
    np.savez_compressed(stream, allow_pickle=False, **named)
    write_atomically(file, stream.getvalue())


def _read_arrays(file: Path, names: Collection[str] | None = None) -> dict[str, NDArray[Any]]:
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files if names is None or name in names}
    except (OSError, EOFError, ValueError, KeyError, BadZipFile, zlib.error) as error:
        raise _unreadable(error) from None


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


def read_model(content: bytes) -> dict[str, Tensor]:
    """Return the tensors in the content of a ``model.safetensors``, on the CPU, by the names :func:`write_model` gave.

    Raises:
        ArtifactError: it is not a safetensors file.
    """
    import safetensors
    import safetensors.torch

    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(content)
    except (safetensors.SafetensorError, ValueError, RuntimeError) as error:
        raise _unreadable(error) from None
    return tensors


def _unreadable(error: Exception) -> ArtifactError:
    return ArtifactError(str(error).partition("\n")[0] or type(error).__name__)
