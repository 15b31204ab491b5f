"""The store: the folder of one suite's records, which is the only truth about what has been done.

``results/<suite>/jobs/<job id>/record.json`` is written last and atomically, so a record is whole or absent. Nothing
here deletes a record: what cannot be used is moved to ``set-aside/`` with the reason beside it.
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

from pydantic import ConfigDict, PlainValidator, ValidationError, ValidationInfo

from recbench.errors import UserError
from recbench.files import link_new, unfinished, update, write_atomically
from recbench.plan.model import Frozen, Job, digest
from recbench.plan.plan import Plan
from recbench.store.record import (
    JobStatus,
    Record,
    Result,
    check_owner,
    check_scores,
    parse_record,
    sealed,
    validated,
)


def _id_of(job: dict[str, Any], info: ValidationInfo) -> str:
    """The id of a job in canonical form; the context holds the id and form that are expected, as it is cheaper to
    compare forms than to hash them."""
    assert info.context is not None, "set by scan"
    job_id, form = info.context
    return str(job_id) if job == form else digest(job)


class _Line(Result):
    """A record as a scan reads it: nothing is checked that leaderboards do not need, and of the job its id is kept."""

    model_config = ConfigDict(extra="ignore")

    job: Annotated[str, PlainValidator(_id_of)]


class _Specification(Frozen):
    suite: str
    job: Job


@dataclass(frozen=True)
class Damaged:
    """A record that cannot be used, and why."""

    job_id: str
    reason: str


@dataclass(frozen=True)
class Scan:
    """What a store holds of the jobs that were asked for."""

    records: dict[str, Result]
    damaged: tuple[Damaged, ...]


class Store:
    """The records of one suite, under ``root`` (``results/<suite>``)."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def plan_file(self) -> Path:
        return self.root / "plan.json"

    def folder(self, job_id: str) -> Path:
        return self.root / "jobs" / job_id

    def record_file(self, job_id: str) -> Path:
        return self.folder(job_id) / "record.json"

    def scan(self, plan: Plan) -> Scan:
        """Read the results of a plan's jobs; absent ones are simply missing from the answer."""
        records: dict[str, Result] = {}
        damaged = []
        with _out_of_sight_of_the_collector():
            for job_id, form in plan.forms():
                try:
                    raw = self._raw(job_id)
                    if raw is not None:
                        line = validated(_Line, raw, (job_id, form))
                        check_owner(job_id, line.job_id, line.job)
                        check_scores(line, form["metrics"])
                        records[job_id] = line
                except ValueError as error:
                    damaged.append(Damaged(job_id, str(error)))
        return Scan(records, tuple(damaged))

    def read(self, job_id: str) -> Record | None:
        """The record of a job, or None where there is none.

        Raises:
            ValueError: there is a file, but no record of this job that this version can use; the text says why.
        """
        raw = self._raw(job_id)
        if raw is None:
            return None
        return parse_record(job_id, raw)

    def _raw(self, job_id: str) -> bytes | None:
        try:
            # Among ten thousand records, putting paths together with pathlib would cost more than reading the files.
            with open(f"{self.root}/jobs/{job_id}/record.json", "rb", buffering=0) as stream:  # noqa: PTH123
                return stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from None

    def add(self, record: Record) -> None:
        """Write a record; an earlier failed one is kept beside it as ``failed-N.json``.

        Raises:
            FileExistsError: there is a record of this job already that is not a failure.
            ValueError: there is one that cannot be used.
        """
        self.adopt(record.job_id, sealed(record.model_dump_json(indent=1)))

    def adopt(self, job_id: str, raw: bytes) -> None:
        """:meth:`add` for a record that was written elsewhere, byte by byte."""
        file = self.record_file(job_id)
        if self.read(job_id) is not None:
            self.keep_aside(job_id, {"failed"})
        write_atomically(file, raw, new=True)
        for leftover in unfinished(file.parent):  # of processes that were killed while they wrote
            leftover.unlink(missing_ok=True)

    def keep_aside(self, job_id: str, statuses: Set[JobStatus]) -> Path:
        """Move a record with one of these statuses to ``failed-N.json`` (or ``diverged-N.json``) beside it.

        Raises:
            FileExistsError: it has another status, at the latest when it is moved.
        """
        file = self.record_file(job_id)
        record = self.read(job_id)
        if record is None or record.status not in statuses:
            raise FileExistsError(f"{file} exists already")
        kept = _free(file.parent, record.status + "-{}.json")
        file.rename(kept)
        moved = validated(Record, kept.read_bytes())
        if moved.status not in statuses:  # another machine wrote it since; this folder may be out of a lock's reach
            link_new(kept, file)
            kept.unlink()
            raise FileExistsError(f"{file} exists already")
        return kept

    def identity(self, job_id: str) -> str:
        """What tells a job's record from any other that it may have had; empty where there is none."""
        try:
            return hashlib.sha256(self.record_file(job_id).read_bytes()).hexdigest()[:16]
        except (FileNotFoundError, NotADirectoryError):
            return ""

    def settled(self, job_id: str, supersedes: str = "") -> bool:
        """Whether a job has a record that stands: one of success or divergence, or of a failure other than the one
        that is to be superseded (:class:`~recbench.contracts.executor.Task`).

        Raises:
            ValueError: there is one that cannot be used.
        """
        record = self.read(job_id)
        return record is not None and (record.status != "failed" or self.identity(job_id) != supersedes)

    def write_task(self, job: Job, suite: str) -> None:
        """Put a job's specification into its folder, for the process that will run it."""
        text = _Specification(suite=suite, job=job).model_dump_json(indent=1)
        update(self.folder(job.id) / "job.json", text, durable=False)

    def read_task(self, job_id: str) -> tuple[Job, str]:
        """A job's specification, and the name of its suite.

        Raises:
            ValueError: the specification is missing, damaged, or of another job.
        """
        try:
            found = _Specification.model_validate_json((self.folder(job_id) / "job.json").read_bytes())
        except OSError as error:
            raise ValueError(f"{job_id}: no specification: {error.strerror}") from None
        if found.job.id != job_id:
            raise ValueError(f"{job_id}: its specification is of the job {found.job.id}")
        return found.job, found.suite

    def set_aside(self, job_id: str, reason: str) -> Path:
        """Move a job's folder out of the way, with the reason in it; nothing is deleted."""
        target = _free(self.root / "set-aside", job_id + "-{}")
        target.parent.mkdir(parents=True, exist_ok=True)
        self.folder(job_id).rename(target)
        (target / "why.txt").write_text(reason + "\n", encoding="utf-8")
        return target

    def write_plan(self, plan: Plan, resolved: str) -> None:
        """Write ``plan.json`` and ``suite.yaml``; unchanged files are left alone."""
        update(self.plan_file, plan.model_dump_json())
        update(self.root / "suite.yaml", resolved)

    def write_engine(self, name: str, params: Mapping[str, Any]) -> None:
        """Remember with what parameters an executor was used, so that it can be asked about its queue."""
        update(self.root / "executors" / f"{name}.json", json.dumps(dict(params), indent=1) + "\n", durable=False)

    def engines(self) -> dict[str, dict[str, Any]]:
        """Executors with queues that this suite was run with, and their parameters; unreadable files are left out."""
        found = {}
        for file in sorted((self.root / "executors").glob("*.json")):
            with suppress(OSError, ValueError):
                found[file.stem] = dict(json.loads(file.read_bytes()))
        return found

    def read_plan(self) -> Plan:
        """The plan of the last run.

        Raises:
            UserError: there is none, or it cannot be used.
        """
        try:
            return Plan.model_validate_json(self.plan_file.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"there are no results in {self.root}; 'recbench run SUITE' makes some") from None
        except OSError as error:
            raise UserError(f"{self.plan_file} cannot be read: {error.strerror}") from None
        except ValidationError as error:
            first = error.errors()[0]
            what = ": ".join(
                filter(None, [".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, ")])
            )
            raise UserError(f"{self.plan_file} cannot be used ({what}); 'recbench run SUITE' writes it anew") from None


@contextmanager
def _out_of_sight_of_the_collector() -> Iterator[None]:
    """Keep Python's garbage collector from walking through all records again and again, while they are read and
    afterwards: it would find nothing, and take longer than the reading."""
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
