"""The store: the folder of one suite's records, the single source of truth about finished jobs.

``results/<suite>/jobs/<job id>/record.json`` is written last and atomically, so a record is complete or absent. Records
are never deleted: one that cannot be used is moved to ``set-aside/`` together with the reason.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, PlainValidator, ValidationInfo

from recbench.errors import UserError
from recbench.files import link_new, misplaced, read_regular, unfinished, update, write_atomically
from recbench.plan.model import SCHEMA, Frozen, Job, canonical, digest, identity
from recbench.plan.plan import MOST_PLAN, Plan, parse_plan, sealed_plan
from recbench.store import heartbeat
from recbench.store.record import (
    MOST_BYTES,
    JobStatus,
    Record,
    Result,
    check_owner,
    check_scores,
    only,
    parse_record,
    sealed,
    validated,
)


@dataclass(frozen=True)
class _ScannedJob:
    """The id of a record's job, and its metrics by label, as JSON has them."""

    id: str
    metrics: dict[str, Any]


def _scanned(job: dict[str, Any], info: ValidationInfo) -> _ScannedJob:
    """Return what is kept of a job in canonical form. The context holds the expected id and what it is made of:
    comparing is cheaper than hashing."""
    assert info.context is not None, "set by scan"
    job_id, expected = info.context
    form = canonical(job)
    mine = identity(form, info.data.get("schema_version", SCHEMA)) if isinstance(form, dict) else form
    metrics = form.get("metrics") if isinstance(form, dict) else None
    known = metrics if isinstance(metrics, dict) else {}
    return _ScannedJob(str(job_id) if mine == expected else digest(mine), known)


class _ScannedRecord(Result):
    """A record as a scan reads it: only what leaderboards need is checked, and only id and metrics of the job are
    kept."""

    model_config = ConfigDict(extra="ignore")

    job: Annotated[_ScannedJob, PlainValidator(_scanned)]


class _Specification(Frozen):
    suite: str
    job: Job


@dataclass(frozen=True)
class Damaged:
    """A record that cannot be used, and the reason."""

    job_id: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """The records of a plan's jobs, as far as there are any.

    Attributes:
        records: by job id, with the scores that count: those by the metrics of the plan, as they are now.
        stale: the labels of the plan's metrics that a record is not scored with, or not as they are now, by job id;
            only of jobs that lack some.
    """

    records: dict[str, Result]
    damaged: tuple[Damaged, ...]
    stale: dict[str, tuple[str, ...]]


class Store:
    """The records of one suite.

    Attributes:
        root: the folder ``results/<suite>``; it need not exist.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def plan_file(self) -> Path:
        """The path of the suite's plan."""
        return self.root / "plan.json"

    def folder(self, job_id: str) -> Path:
        """Return the folder of a job, whether it exists or not."""
        return self.root / "jobs" / job_id

    def record_file(self, job_id: str) -> Path:
        """Return the path of a job's record, whether it exists or not."""
        return self.folder(job_id) / "record.json"

    def scan(self, plan: Plan) -> Scan:
        """Return the records of a plan's jobs that exist, and those that cannot be used."""
        records: dict[str, Result] = {}
        stale: dict[str, tuple[str, ...]] = {}
        damaged = []
        metrics = {label: json.loads(spec.model_dump_json()) for label, spec in plan.metrics.items()}
        with _gc_paused():
            for job_id, form in plan.forms():
                try:
                    raw = self._raw(job_id)
                    if raw is not None:
                        record = validated(_ScannedRecord, raw, (job_id, form))
                        check_owner(job_id, record.job_id, record.job.id)
                        check_scores(record, record.job.metrics)
                        lacking = [label for label, spec in metrics.items() if record.job.metrics.get(label) != spec]
                        if lacking:
                            stale[job_id] = tuple(lacking)
                        records[job_id] = only(record, metrics.keys() - set(lacking))
                except ValueError as error:
                    damaged.append(Damaged(job_id, str(error)))
        return Scan(records, tuple(damaged), stale)

    def read(self, job_id: str) -> Record | None:
        """Return the record of a job; None if it has none.

        Raises:
            ValueError: the file is not a record of this job that this version can read; the text says why.
        """
        raw = self._raw(job_id)
        if raw is None:
            return None
        return parse_record(job_id, raw)

    def _raw(self, job_id: str) -> bytes | None:
        try:
            # Among ten thousand records, putting paths together with pathlib would cost more than reading the files.
            return read_regular(f"{self.root}/jobs/{job_id}/record.json", MOST_BYTES)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from None

    def add(self, record: Record) -> None:
        """Write a record; an earlier failed one is kept next to it as ``failed-N.json``.

        Args:
            record: names its job.

        Raises:
            FileExistsError: the job already has a record that is not a failure.
            ValueError: the job has a record that cannot be used.
            OutOfSpaceError: the file system is full.
        """
        self.adopt(record.job_id, sealed(record.model_dump_json(indent=1)))

    def adopt(self, job_id: str, raw: bytes) -> None:
        """Add a record as the bytes that were written elsewhere; see :meth:`add`."""
        file = self.record_file(job_id)
        if self.read(job_id) is not None:
            self.keep_aside(job_id, {"failed"})
        write_atomically(file, raw, new=True)
        for leftover in unfinished(file.parent):  # of processes that were killed while they wrote
            with suppress(IsADirectoryError):
                leftover.unlink(missing_ok=True)

    def keep_aside(self, job_id: str, statuses: Set[JobStatus]) -> Path:
        """Rename a record with one of these statuses to ``failed-N.json`` or ``diverged-N.json``, for another attempt.

        Returns:
            The new path.

        Raises:
            FileExistsError: there is no record with such a status, or it was replaced meanwhile.
        """
        file = self.record_file(job_id)
        record = self.read(job_id)
        if record is None or record.status not in statuses:
            raise FileExistsError(f"{file} exists already")
        kept = _free(file.parent, record.status + "-{}.json")
        file.rename(kept)
        moved = validated(Record, read_regular(kept, MOST_BYTES))
        if moved.status not in statuses:  # another machine replaced it; the lock may not reach it
            link_new(kept, file)
            kept.unlink()
            raise FileExistsError(f"{file} exists already")
        return kept

    def identity(self, job_id: str) -> str:
        """Return a digest of a job's current record, which changes whenever it is replaced; empty if it has none."""
        try:
            return hashlib.sha256(read_regular(self.record_file(job_id), MOST_BYTES)).hexdigest()[:16]
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def settled(self, job_id: str, supersedes: str = "") -> bool:
        """Return whether a job has a record that is not to be superseded.

        Args:
            job_id: the job.
            supersedes: the :meth:`identity` of an earlier record that is to be replaced: a failure by running the job
                again, another one by scoring its model again (see :class:`~recbench.contracts.executor.Task`).

        Raises:
            ValueError: its record cannot be used.
        """
        return self.read(job_id) is not None and self.identity(job_id) != supersedes

    def write_task(self, job: Job, suite: str) -> None:
        """Write a job's specification (``job.json``) into its folder, for the process that will run it."""
        text = _Specification(suite=suite, job=job).model_dump_json(indent=1)
        update(self.folder(job.id) / "job.json", text, durable=False)

    def read_task(self, job_id: str) -> tuple[Job, str]:
        """Return a job's specification, and the name of its suite.

        Raises:
            ValueError: the specification is missing, damaged, or of another job.
        """
        try:
            found = _Specification.model_validate_json(read_regular(self.folder(job_id) / "job.json", MOST_BYTES))
        except OSError as error:
            raise ValueError(f"job {job_id}: there is no specification (job.json): {error.strerror}") from None
        if found.job.id != job_id:
            raise ValueError(f"job {job_id}: its specification (job.json) is of the job {found.job.id}")
        return found.job, found.suite

    def note_death(self, job_id: str, process: int) -> None:
        """Remove the heartbeat of a job whose process, on this machine, has died."""
        heartbeat.clear(self.folder(job_id), process)

    def set_aside(self, job_id: str, reason: str) -> Path:
        """Move a job's folder to ``set-aside/`` with the reason in ``why.txt``, and return its new path.

        A link in the place of the folder is moved as such, and the reason is written next to it.
        """
        self.check_folders()
        target = _free(self.root / "set-aside", job_id + "-{}")
        target.parent.mkdir(parents=True, exist_ok=True)
        self.folder(job_id).rename(target)
        own = target.is_dir() and not target.is_symlink()
        why = target / "why.txt" if own else target.with_name(f"{target.name}-why.txt")
        write_atomically(why, f"{reason}\n".encode(), durable=False)
        return target

    def check_folders(self) -> None:
        """Check that the folders that recbench writes into are below the suite's folder, not links to others.

        Raises:
            UserError: one is a link.
        """
        for name in ("jobs", "set-aside", "executors", "slurm", "calibration"):
            if (self.root / name).is_symlink():
                raise UserError(
                    f"{self.root / name} is a link; recbench writes only into folders of its own: put a folder there"
                )

    def misplaced(self, job_id: str) -> str:
        """Return what must not be in the folder of a job that is to run, such as ``lock is a link``; empty if all is
        well. Writing there could change files outside of the folder."""
        return misplaced(self.folder(job_id))

    def write_plan(self, plan: Plan, resolved: str) -> None:
        """Write ``plan.json`` and ``suite.yaml`` if they have changed."""
        update(self.plan_file, sealed_plan(plan).decode())
        update(self.root / "suite.yaml", resolved)

    def write_engine(self, name: str, params: Mapping[str, Any]) -> None:
        """Save the parameters that an executor was used with, so that its queue can be inspected later."""
        update(self.root / "executors" / f"{name}.json", json.dumps(dict(params), indent=1) + "\n", durable=False)

    def engines(self) -> dict[str, dict[str, Any]]:
        """Return the executors with queues that this suite was run with, and their parameters, as far as readable."""
        found = {}
        for file in sorted((self.root / "executors").glob("*.json")):
            with suppress(OSError, ValueError, TypeError, RecursionError):
                found[file.stem] = dict(json.loads(read_regular(file, 1 << 20)))
        return found

    def read_plan(self) -> Plan:
        """Return the plan of the last run.

        Raises:
            UserError: there is none, or it cannot be used.
        """
        try:
            return parse_plan(read_regular(self.plan_file, MOST_PLAN))
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"there are no results in {self.root}; 'recbench run SUITE' creates them") from None
        except OSError as error:
            raise UserError(f"{self.plan_file} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise UserError(
                f"{self.plan_file} cannot be used ({error}); 'recbench run SUITE' writes it again"
            ) from None


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Pause Python's garbage collector while records are read, and exempt them from it afterwards: traversing them
    again and again would take longer than reading them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()


def _free(folder: Path, pattern: str) -> Path:
    number = 1
    while (folder / pattern.format(number)).exists():
        number += 1
    return folder / pattern.format(number)
