"""Leftovers: files in a suite's folder that are not needed any more. Finding them changes nothing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from recbench.files import holder, lock, unfinished
from recbench.plan.plan import Plan
from recbench.store import heartbeat
from recbench.store.attempt import attempts
from recbench.store.store import Store

LeftoverKind = Literal["set-aside", "orphans", "checkpoints", "unfinished"]
KINDS: dict[LeftoverKind, str] = {
    "set-aside": "folders of records that could not be used",
    "orphans": "jobs with their records that are not in the suite as last run",
    "checkpoints": "checkpoints of jobs that are done, and damaged ones",
    "unfinished": "temporary files of processes that were killed",
}
_ID = re.compile(r"[0-9a-f]{16}")


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
