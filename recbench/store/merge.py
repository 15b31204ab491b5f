"""Merging the results of several machines, exports or folders of results, into one folder.

Everything is checked before anything is written. Records are copied byte by byte after their artifacts, so the same
command continues an interrupted merge. Existing records are never replaced.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from recbench.errors import UserError
from recbench.files import lock, read_regular, write_atomically
from recbench.plan.merge import join_plans
from recbench.plan.plan import Plan, sealed_plan
from recbench.store import artifacts
from recbench.store.archive import MOST_SUITE
from recbench.store.attempt import AttemptFolder
from recbench.store.choice import SourceSelection, counted
from recbench.store.record import MOST_BYTES, File, Record
from recbench.store.relabelling import kept_apart
from recbench.store.sources import FolderSource, RecordSource
from recbench.store.store import Store


@dataclass
class Merged:
    """The outcome of a merge for one suite.

    Attributes:
        added: ids of jobs whose records were written.
        completed: ids of jobs that were there already, and to which artifacts were added.
        present: number of jobs that were there already.
        done, jobs: number of jobs of the joined plan with scores, and of all its jobs.
        notes: remarks for the user.
    """

    suite: str
    added: list[str] = field(default_factory=list)
    completed: list[str] = field(default_factory=list)
    present: int = 0
    done: int = 0
    jobs: int = 0
    notes: list[str] = field(default_factory=list)


def merge(found: Sequence[RecordSource], into: Path, prefer: Path | None = None) -> list[Merged]:
    """Merge results into a folder of results, one folder below it for each suite.

    Identical records count once. Records of jobs that are done or diverged have precedence over failures.

    Args:
        found: the results to merge.
        into: the folder of all suites' results.
        prefer: the source whose record is taken where records of a job differ.

    Raises:
        UserError: plans do not fit together, records of a job differ, or a file is damaged; the message lists all such
            problems, and nothing was written. Or a job is being run in ``into``.
        OutOfSpaceError: the disk is full; the same command continues.
    """
    if (into / "plan.json").is_file():
        raise UserError(f"{into} is the folder of one suite; --into expects the folder above it")
    suites = dict.fromkeys(source.plan.suite for source in found)
    work = []
    problems: list[str] = []
    for suite in suites:
        target = into / suite
        mine = [source for source in found if source.plan.suite == suite]
        there = FolderSource(target) if (target / "plan.json").is_file() else None
        if there is not None:
            mine = [there, *(s for s in mine if Path(s.name).resolve() != target.resolve())]
        mine, notes = kept_apart(mine)
        plan, reasons = join_plans([(source.name, source.plan) for source in mine])
        problems += reasons
        if plan is not None:
            chosen = SourceSelection(plan, mine, there, prefer)
            chosen.notes[:0] = notes
            problems += [*chosen.problems, *_misplaced(Store(target), chosen)]
            work.append((Store(target), plan, mine, chosen))
    if problems:
        raise UserError("\n  ".join([f"nothing was merged: {counted(len(problems), 'problem')}", *problems]))
    return [_write(store, plan, mine, chosen) for store, plan, mine, chosen in work]


def _misplaced(store: Store, chosen: SourceSelection) -> Iterator[str]:
    """Yield what must be removed from the target before anything can be written there."""
    store.check_folders()
    for job_id in chosen.taken:
        found = store.misplaced(job_id)
        if found:
            yield f"job {job_id}: in {store.folder(job_id)} {found}, where recbench writes; remove it"


# Writing


def _write(store: Store, plan: Plan, found: Sequence[RecordSource], chosen: SourceSelection) -> Merged:
    merged = Merged(plan.suite, jobs=len(plan.jobs), notes=list(chosen.notes))
    merged.done = sum(record.status == "done" for record in chosen.records.values())
    for job_id, source in chosen.taken.items():
        record, raw, made = chosen.merged(job_id)
        folder = store.folder(job_id)
        here = None
        with suppress(OSError):
            here = read_regular(store.record_file(job_id), MOST_BYTES)
        if here != raw:
            _set_unfinished_aside(store, job_id)
        with lock(folder) as mine:
            if not mine:
                raise UserError(f"job {job_id} is being run in {store.root}; merge again when it is done")
            if made and source is chosen.there:
                attempt = AttemptFolder.begin(folder)
                for name, content in made.items():
                    write_atomically(attempt.path / name, content)
                attempt.replace(record)
                merged.present += 1
                merged.completed.append(job_id)
                continue
            files = {**_missing_files(folder, record, chosen.equal[job_id]), **made}
            for name, content in files.items():
                write_atomically(folder / name, content)
            if here == raw:
                merged.present += 1
                merged.completed += [job_id] if files else []
                continue
            store.write_task(record.job, plan.suite)
            store.adopt(job_id, raw)
            merged.added.append(job_id)
    _write_suites(store, found)
    write_atomically(store.plan_file, sealed_plan(plan))
    return merged


def _set_unfinished_aside(store: Store, job_id: str) -> None:
    """Set an unfinished attempt aside, unless it is still running."""
    folder = store.folder(job_id)
    if not (folder / "checkpoint").is_dir():
        return
    with lock(folder) as mine:
        if not mine:
            raise UserError(f"job {job_id} is being run in {store.root}; merge again when it is done")
    store.set_aside(job_id, "it was unfinished, and its record was merged from elsewhere")


def _missing_files(folder: Path, record: Record, found: Sequence[RecordSource]) -> dict[str, bytes]:
    """Return the files that the record describes, that some source has, and that are missing or wrong in the folder."""
    missing = {}
    for name in artifacts.ALL:
        described = record.files.get(name)
        if described is None:
            continue
        with suppress(OSError):
            if File.of(read_regular(folder / name, described.bytes)) == described:
                continue
        for source in found:
            with suppress(ValueError):  # there in another state than before; another source may have it
                content = source.file(record, name)
                if content is not None:
                    missing[name] = content
                    break
    return missing


def _write_suites(store: Store, found: Sequence[RecordSource]) -> None:
    """Write ``suite.yaml`` if all sources agree; otherwise every text that is not there yet as ``suite-N.yaml``."""
    texts = list(dict.fromkeys(text for source in found if (text := source.resolved()) is not None))
    if len(texts) == 1:
        if not (store.root / "suite.yaml").is_file():
            write_atomically(store.root / "suite.yaml", texts[0])
        return
    there = set()
    for file in store.root.glob("suite*.yaml"):
        with suppress(OSError):
            there.add(read_regular(file, MOST_SUITE))
    number = 1
    for text in texts:
        if text not in there:
            while os.path.lexists(store.root / f"suite-{number}.yaml"):
                number += 1
            write_atomically(store.root / f"suite-{number}.yaml", text, new=True)
