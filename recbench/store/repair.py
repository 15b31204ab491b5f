"""Repair of finished jobs whose files do not fit their records: those of writers that died, and of earlier versions, in
which a process that was stopped and woken went on writing into a finished job's folder.

Sizes are compared, and the history's checksum where it is younger than its record; whoever reads a file verifies the
rest. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from recbench.files import lock, open_regular, write_atomically
from recbench.store.artifacts import HISTORY
from recbench.store.attempt import CHECKPOINT, PREFIX, RECORD, finish
from recbench.store.record import File
from recbench.store.store import Store

PATIENCE = 10.0
"""Seconds to wait for a process that has written its record, and is bringing its files to their places."""


def repaired(store: Store, job_ids: Iterable[str]) -> dict[str, str]:
    """Bring the files of finished jobs in order, and say of which jobs that was not possible, and why.

    Args:
        job_ids: of jobs that are done or have diverged. A file that is missing is no fault: models may be deleted.
    """
    unfit = {}
    for job_id in job_ids:
        folder = store.folder(job_id)
        with suppress(
            OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError
        ):  # reported when the record is used
            there = _entries(folder)
            deadline = time.monotonic() + PATIENCE
            while any(name.startswith(PREFIX) or name == CHECKPOINT for name in there):
                with lock(folder) as mine:
                    record = store.read(job_id)
                    if mine and record is not None and record.status != "failed":
                        finish(folder, record)
                there = _entries(folder)
                if mine or time.monotonic() > deadline:
                    break
                time.sleep(0.05)
            # Only what is needed: whoever called has checked the records, and there may be ten thousand.
            files = json.loads(store.record_file(job_id).read_bytes())["files"]
            why = _unfit(folder, {name: File.model_validate(file) for name, file in files.items()}, there)
            if why:
                unfit[job_id] = why
    return unfit


def is_intact(file: Path, described: File) -> bool:
    """Return whether a file has the content that a record describes; it is read in pieces."""
    try:
        with os.fdopen(open_regular(file), "rb") as stream:
            if os.fstat(stream.fileno()).st_size != described.bytes:
                return False
            return hashlib.file_digest(stream, "sha256").hexdigest() == described.sha256
    except OSError:
        return False


def _entries(folder: Path) -> dict[str, os.stat_result]:
    with os.scandir(folder) as entries:
        return {entry.name: entry.stat(follow_symlinks=False) for entry in entries}


def _unfit(folder: Path, files: Mapping[str, File], there: dict[str, os.stat_result]) -> str:
    """Return the first file that is not as the record says, and cannot be repaired; empty if there is none."""
    written = there[RECORD].st_mtime_ns
    for name, described in files.items():
        facts = there.get(name)
        if facts is None:
            continue
        same = facts.st_size == described.bytes
        if name == HISTORY and (not same or facts.st_mtime_ns > written):
            with (folder / name).open("rb") as stream:
                first = stream.read(described.bytes)
            same = File.of(first) == described
            if same and facts.st_size > described.bytes:  # another process has appended to it
                write_atomically(folder / name, first)
        if not same:
            return f"its {name} is not the file that the record describes"
    return ""
