"""Jobs that another suite has done already: the same job has the same id in every suite of a results folder.

A finished job is taken over into the own folder of this suite, which stays whole whatever becomes of the others.
Its record stays as it was written, and names the suite that it was run for. Imports no torch.
"""

from __future__ import annotations

import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from recbench.files import UNFINISHED, lock, write_atomically
from recbench.plan.model import PlannedJob
from recbench.plan.plan import Plan
from recbench.store.artifacts import HISTORY
from recbench.store.record import parse_record
from recbench.store.store import Store

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def elsewhere(store: Store, wanted: Iterable[PlannedJob]) -> dict[str, list[Store]]:
    """Stores beside this one with a record of a job, whatever it says, by job id."""
    beside = [
        Store(folder.parent)
        for folder in sorted(store.root.parent.glob("*/jobs"))
        if folder.is_dir() and not folder.parent.name.startswith(".") and folder.parent.name != store.root.name
    ]
    ids = [(other, {path.name for path in (other.root / "jobs").iterdir()}) for other in beside]
    found = {}
    for planned in wanted:
        others = [other for other, there in ids if planned.id in there and other.record_file(planned.id).is_file()]
        if others:
            found[planned.id] = others
    return found


def take_over(
    store: Store, plan: Plan, wanted: Iterable[PlannedJob], fingerprints: Mapping[int, str]
) -> dict[str, str]:
    """Take over what the suites beside this one have done of the wanted jobs.

    Args:
        fingerprints: of the images that the jobs are to see, by setting.

    Returns:
        For each job that was taken over, the name of the folder that it came from.
    """
    wanted = list(wanted)
    places = {planned.id: planned for planned in wanted}
    taken = {}
    for job_id, others in elsewhere(store, wanted).items():
        for other in others:
            if _take(store, plan.suite, job_id, other, fingerprints.get(places[job_id].setting)):
                taken[job_id] = other.root.name
                break
    return taken


def _take(store: Store, suite: str, job_id: str, other: Store, fingerprint: str | None) -> bool:
    """Whether a job is in this store now, all of it: files first, the record last."""
    try:
        raw = other.record_file(job_id).read_bytes()
        record = parse_record(job_id, raw)
    except (OSError, ValueError):
        return False  # what is wrong with it is that suite's business
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
        if not mine:
            return False
        store.write_task(record.job, suite)
        for name, source in sources.items():
            _bring(source, folder / name)
        try:
            store.adopt(job_id, raw)
        except (FileExistsError, ValueError):
            return False
        shutil.rmtree(folder / "checkpoint", ignore_errors=True)
    return True


def _bring(source: Path, target: Path) -> None:
    """Give a file a second name where the file system can, otherwise copy it; either way it appears at once."""
    if source.name != HISTORY:  # training appends to it, so two folders must not share it
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=UNFINISHED, dir=target.parent) as folder:
            try:
                (Path(folder) / target.name).hardlink_to(source)
                (Path(folder) / target.name).replace(target)
            except OSError:  # other file system, or one without hard links
                pass
            else:
                return
    write_atomically(target, source.read_bytes())
