"""What lies in a suite's folder and is not needed any more. Finding it changes nothing."""

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
from recbench.store.store import Store

Kind = Literal["set-aside", "orphans", "checkpoints", "unfinished"]
KINDS: dict[Kind, str] = {
    "set-aside": "folders of records that could not be used",
    "orphans": "jobs that are not in the suite as it was last run, with their records",
    "checkpoints": "checkpoints of jobs that are done, and damaged ones",
    "unfinished": "temporary files of processes that were killed",
}
_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that may go.

    Attributes:
        job: folder of the job that it belongs to, whose lock is taken while it is removed; None outside of jobs.
    """

    kind: Kind
    path: Path
    job: Path | None = None

    @property
    def size(self) -> int:
        """Bytes of it, links not followed."""
        files = [self.path, *(self.path.rglob("*") if self.path.is_dir() else ())]
        total = 0
        for file in files:
            with suppress(OSError):
                total += file.lstat().st_size if not file.is_dir() or file.is_symlink() else 0
        return total


def find(store: Store, plan: Plan) -> Iterator[Leftover]:
    """Everything that may go. Jobs that anybody works on are left alone, with all that is in their folders; so are all
    orphans while any of them is worked on, since another sweep of this suite is under way then. Links are not followed,
    and what recbench did not put there is not touched."""
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
    for file in unfinished(folder):
        yield Leftover("unfinished", file, folder)


def remove(leftover: Leftover) -> bool:
    """Remove it; False if its job has been taken up meanwhile.

    Raises:
        OSError: the file system does not let us.
    """
    if leftover.job is None:
        _remove(leftover.path)
        return True
    with lock(leftover.job) as mine:
        found = heartbeat.read(leftover.job)
        if mine and (found is None or found.here):  # on this machine nobody else can be at it
            _remove(leftover.path)
            return True
        return False


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
