"""Leftovers: files in a suite's folder that are not needed any more. Finding them changes nothing."""

from __future__ import annotations

import glob
import json
import re
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recbench.files import UNFINISHED, holder, lock, unfinished
from recbench.plan.plan import Plan
from recbench.store import heartbeat
from recbench.store.attempt import attempts
from recbench.store.record import Result
from recbench.store.store import Store

LeftoverKind = Literal["set-aside", "orphans", "checkpoints", "unfinished", "slurm"]
KINDS: dict[LeftoverKind, str] = {
    "set-aside": "folders of records that could not be used",
    "orphans": "jobs with their records that are not in the suite as last run",
    "checkpoints": "checkpoints of jobs that are done, and damaged ones",
    "unfinished": "temporary files of processes that were killed",
    "slurm": "folders of Slurm arrays whose jobs have all ended",
}
_ID = re.compile(r"[0-9a-f]{16}")
_ARRAY = re.compile(r"[0-9]{8}-[0-9]{6}-[0-9a-f]{8}")
_LONG_AGO = 3600.0
"""Seconds after which a file that nobody has written to is left over."""


@dataclass(frozen=True)
class Leftover:
    """A file or folder that may be removed.

    Attributes:
        job: folder of the job that it belongs to, which is locked during the removal; None outside of jobs.
    """

    kind: LeftoverKind
    path: Path
    job: Path | None = None

    @property
    def size(self) -> int:
        """Its size in bytes; links are not followed."""
        files = [self.path, *(self.path.rglob("*") if self.path.is_dir() else ())]
        total = 0
        for file in files:
            with suppress(OSError):
                total += file.lstat().st_size if not file.is_dir() or file.is_symlink() else 0
        return total


def find(store: Store, plan: Plan) -> Iterator[Leftover]:
    """Yield everything that may be removed.

    The folders of running jobs are left alone. If any orphan is running, so are all orphans, since another sweep of
    this suite must be in progress. Links are not followed, and files that recbench did not write are not touched.
    """
    for folder in _folders(store.root / "set-aside"):
        yield Leftover("set-aside", folder)
    planned = {job.id for job in plan.jobs}
    scan = store.scan(plan)
    orphans = []
    another_sweep = False
    for folder in _folders(store.root / "jobs"):
        if not _ID.fullmatch(folder.name):
            continue
        busy = holder(folder) is not None or heartbeat.at_work(folder) is not None
        if folder.name not in planned:
            another_sweep |= busy
            orphans.append(Leftover("orphans", folder, folder))
        elif not busy:
            record = scan.records.get(folder.name)
            settled = record is not None and record.status != "failed"
            yield from _within(folder, settled=settled)
    if not another_sweep:
        yield from orphans
    for file in unfinished(store.root):
        yield Leftover("unfinished", file)
    for folder in _folders(store.root / "slurm"):
        if _ARRAY.fullmatch(folder.name) and _is_over(folder, store, planned, scan.records):
            yield Leftover("slurm", folder)


def _is_over(folder: Path, store: Store, planned: Collection[str], records: Mapping[str, Result]) -> bool:
    """Return whether all jobs of a Slurm array have ended, so that none of them is in the queue or at work.

    A failure from before the array was written says nothing: the array may be there to try the job again. An array that
    cannot be read is kept, unless it was never written, and so never submitted.
    """
    try:
        listed = folder / "array.json"
        written = listed.stat().st_mtime
        elements = json.loads(listed.read_bytes())["elements"]
        jobs = {task["job_id"] for element in elements for task in element}
    except FileNotFoundError:
        return time.time() - folder.stat().st_mtime > _LONG_AGO
    except (OSError, ValueError, KeyError, TypeError):
        return False

    def ended(job_id: str) -> bool:
        if not _ID.fullmatch(str(job_id)) or heartbeat.at_work(store.folder(job_id)) is not None:
            return False
        record = store.folder(job_id) / "record.json"
        if job_id not in planned:
            return record.exists() or not record.parent.exists()
        found = records.get(job_id)
        return found is not None and (found.status != "failed" or record.stat().st_mtime > written)

    return all(map(ended, jobs))


def _folders(parent: Path) -> list[Path]:
    if parent.is_symlink() or not parent.is_dir():
        return []
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.is_symlink())


def _within(folder: Path, *, settled: bool) -> Iterator[Leftover]:
    checkpoint = folder / "checkpoint"
    if checkpoint.is_dir() and not checkpoint.is_symlink():
        if settled:
            yield Leftover("checkpoints", checkpoint, folder)
        else:
            for file in sorted(checkpoint.glob("*.damaged")):
                yield Leftover("checkpoints", file, folder)
            for file in sorted(checkpoint.glob("*.tmp")):
                yield Leftover("unfinished", file, folder)
    if not settled:  # of a job that is done, the next run brings the files to their places
        for path in attempts(folder):
            yield Leftover("unfinished", path, folder)
    for file in unfinished(folder):
        yield Leftover("unfinished", file, folder)


def stale_exports(file: Path) -> list[Path]:
    """Return the temporary files of exports to ``file`` that were killed; one that is being written is not among
    them."""
    found = []
    for path in file.parent.glob(f".{glob.escape(file.name[:100])}.*{UNFINISHED}"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink() and time.time() - path.stat().st_mtime > _LONG_AGO:
                found.append(path)
    return sorted(found)


def remove(leftover: Leftover) -> bool:
    """Remove a leftover; return False if its job is being run again.

    Raises:
        OSError: the file system refuses.
    """
    if leftover.job is None:
        _remove(leftover.path)
        return True
    with lock(leftover.job) as mine:
        found = heartbeat.read(leftover.job)
        if mine and (found is None or found.here):  # with the lock, no other process of this machine runs it
            _remove(leftover.path)
            return True
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
