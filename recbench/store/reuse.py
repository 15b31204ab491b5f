"""Reuse of jobs that another suite has finished: a job has the same id in every suite of a results folder.

A finished job is copied or linked into this suite's folder, which therefore does not depend on the others. Its record
is not changed, and names the suite that it was run for. Imports no torch.
"""

from __future__ import annotations

import re
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from recbench.files import UNFINISHED, lock, read_regular, write_atomically
from recbench.plan.model import PlannedJob
from recbench.plan.plan import Plan
from recbench.store import heartbeat
from recbench.store.artifacts import HISTORY
from recbench.store.attempt import CHECKPOINT, AttemptFolder, SupersededError, discard
from recbench.store.record import MOST_BYTES, parse_record
from recbench.store.store import Store

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def elsewhere(store: Store, wanted: Iterable[PlannedJob]) -> dict[str, list[Store]]:
    """Return the sibling stores that have a record of a wanted job, of any status, by job id."""
    siblings = [
        Store(folder.parent)
        for folder in sorted(store.root.parent.glob("*/jobs"))
        if folder.is_dir() and not folder.parent.name.startswith(".") and folder.parent.name != store.root.name
    ]
    ids = [(other, {path.name for path in (other.root / "jobs").iterdir()}) for other in siblings]
    found = {}
    for planned in wanted:
        others = [other for other, there in ids if planned.id in there and other.record_file(planned.id).is_file()]
        if others:
            found[planned.id] = others
    return found


def take_over(
    store: Store, plan: Plan, wanted: Iterable[PlannedJob], fingerprints: Mapping[int, str]
) -> dict[str, str]:
    """Reuse the wanted jobs that sibling suites have finished.

    Args:
        store: receives the jobs.
        plan: of its suite.
        wanted: the jobs without a usable record.
        fingerprints: of the images that the jobs are to see, by setting.

    Returns:
        For each reused job, the name of the folder that it came from.
    """
    wanted = list(wanted)
    by_id = {planned.id: planned for planned in wanted}
    taken = {}
    for job_id, others in elsewhere(store, wanted).items():
        for other in others:
            if _take(store, plan.suite, job_id, other, fingerprints.get(by_id[job_id].setting)):
                taken[job_id] = other.root.name
                break
    return taken


def _take(store: Store, suite: str, job_id: str, other: Store, fingerprint: str | None) -> bool:
    """Bring one job into the store, files first and the record last; return False if it cannot be reused."""
    try:
        raw = read_regular(other.record_file(job_id), MOST_BYTES)
        record = parse_record(job_id, raw)
    except (OSError, ValueError):
        return False  # reported when that suite is used
    if record.status == "failed" or record.data is None or record.data.fingerprint != fingerprint:
        return False
    sources = {name: other.folder(job_id) / name for name in record.files if _FILE.fullmatch(name)}
    if len(sources) < len(record.files):
        return False
    for name, source in sources.items():
        try:
            facts = source.lstat()
        except OSError:
            return False
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != record.files[name].bytes:
            return False
    folder = store.folder(job_id)
    with lock(folder) as mine:
        if not mine or heartbeat.at_work(folder) is not None:
            return False
        store.write_task(record.job, suite)
        try:
            attempt = AttemptFolder.begin(folder)
            attempt.clear()
            for name, source in sources.items():
                _bring(source, attempt.path / name)
            attempt.adopt(store, record, raw)
        except (SupersededError, ValueError):
            return False
        discard(folder / CHECKPOINT)
    return True


def _bring(source: Path, target: Path) -> None:
    """Hard-link a file if the file system supports it, otherwise copy it; atomically in both cases."""
    if source.name != HISTORY:  # training appends to it, so two folders must not share it
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=UNFINISHED, dir=target.parent) as folder:
            try:
                (Path(folder) / target.name).hardlink_to(source)
                (Path(folder) / target.name).replace(target)
            except OSError:  # other file system, or one without hard links
                pass
            else:
                return
    write_atomically(target, read_regular(source, source.lstat().st_size))
