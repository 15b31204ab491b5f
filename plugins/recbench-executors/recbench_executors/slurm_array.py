"""The files of one array of Slurm jobs: the tasks of its elements, and their events.

``results/<suite>/slurm/<key>/`` holds ``array.json`` and the batch script ``script.sh``, written before the array is
submitted, and for each element its events, a line each (``3.jsonl``), and its output (``3.out``). They are
hints only: the folders of the jobs say what is done.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from recbench import write_atomically
from recbench.contracts.executor import Ended, Event, JobProgress, Task

FOLDER = "slurm"
_KEY = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")


class SlurmArray(BaseModel):
    """The tasks of an array's elements.

    Attributes:
        name: of the array in Slurm; no other array has it.
        side_by_side: jobs that an element runs at the same time.
        threads: of each of them.
        gpus: of each element.
        elements: the jobs of each element, in the order of their indices.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")

    name: str
    side_by_side: int
    threads: int
    gpus: int
    elements: tuple[tuple[Task, ...], ...]


class _Line(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")

    event: JobProgress | Ended


def create(root: Path) -> Path:
    """A new folder for an array of the suite whose results are in ``root``; its name sorts by time."""
    folder = root / FOLDER / f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    return folder


def found(root: Path) -> Iterator[tuple[Path, SlurmArray]]:
    """All arrays of a suite that can be read, with their folders, in the order of their making."""
    for folder in sorted((root / FOLDER).glob("*")):
        if _KEY.fullmatch(folder.name):
            with suppress(OSError, ValidationError):  # never finished, or not written by this executor
                yield folder, read(folder)


def write(folder: Path, array: SlurmArray) -> None:
    """Write the array of a folder, whole or not at all."""
    write_atomically(folder / "array.json", array.model_dump_json().encode())


def read(folder: Path) -> SlurmArray:
    """The array of a folder.

    Raises:
        OSError: it cannot be read.
        ValidationError: the file does not describe an array.
    """
    return SlurmArray.model_validate_json((folder / "array.json").read_bytes())


def begun(folder: Path, index: int) -> bool:
    """Return True if recbench has ever started in this element."""
    return _events(folder, index).exists()


def tell(folder: Path, index: int, events: Sequence[Event] = ()) -> None:
    """Add events to those of an element; without any, only say that it has begun.

    The file is closed and on its disk afterwards, so that a file server shows it to whoever opens it then.
    """
    lines = "".join(_Line(event=event).model_dump_json() + "\n" for event in events)
    with _events(folder, index).open("a", encoding="utf-8") as stream:
        stream.write(lines)
        stream.flush()
        os.fsync(stream.fileno())


def told(folder: Path, index: int, start: int = 0) -> tuple[list[Event], int]:
    """Events of an element from byte ``start`` on, and where the next ones will begin."""
    try:
        with _events(folder, index).open("rb") as stream:
            stream.seek(start)
            text = stream.read()
    except FileNotFoundError:
        return [], start
    whole = text[: text.rfind(b"\n") + 1]  # a line that is being written is for the next time
    events: list[Event] = []
    for line in whole.splitlines():
        with suppress(ValidationError):  # torn by a death between two halves
            events.append(_Line.model_validate_json(line).event)
    return events, start + len(whole)


def ended(folder: Path, index: int) -> dict[str, Ended]:
    """The last word of an element about each of its jobs that has ended, by job id."""
    events, _ = told(folder, index)
    last = {event.job_id: event for event in events}
    return {job_id: event for job_id, event in last.items() if isinstance(event, Ended)}


def printed(folder: Path, index: int, characters: int = 600) -> str:
    """The end of what an element printed."""
    try:
        return (folder / f"{index}.out").read_text(encoding="utf-8", errors="replace")[-characters:].strip()
    except OSError:
        return ""


def _events(folder: Path, index: int) -> Path:
    return folder / f"{index}.jsonl"


def chunks(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    """Return ``items`` in consecutive parts of at most ``size``."""
    return [items[start : start + size] for start in range(0, len(items), size)]
