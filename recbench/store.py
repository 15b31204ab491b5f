"""The store: the folder of one suite's records, which is the only truth about what has been done.

``results/<suite>/jobs/<job id>/record.json`` is written last and atomically, so a record is whole or absent. Nothing
here deletes a record: what cannot be used is moved to ``set-aside/`` with the reason beside it.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from recbench.errors import OutOfSpaceError, UserError
from recbench.jobs import Frozen, Job, Plan

SCHEMA = 1
Status = Literal["done", "failed", "diverged"]


class Score(Frozen):
    """A metric over the test images: mean and standard deviation over ``n`` images; ``std`` is null for metrics of
    whole sets."""

    mean: float
    std: float | None
    n: int


class Failure(Frozen):
    """Why a job has no scores. ``epoch`` and ``step`` (from 1) say where a diverged job met NaN or infinity."""

    type: str
    message: str
    traceback: str = ""
    epoch: int | None = None
    step: int | None = None


class Data(Frozen):
    """The images that the job saw: SHA-256 over shapes, splits and pixels, and the number of images."""

    fingerprint: str
    train: int
    validation: int
    test: int


class Trained(Frozen):
    """What training did. Speed is of training steps alone, without evaluation, over all parts of a resumed job."""

    epochs: int
    steps: int
    parameters: int
    loss_parameters: int
    seconds: float
    images_per_second: float
    final: dict[str, float] = Field(description="the last line of history.jsonl")


class Evaluated(Frozen):
    """How the scores were made."""

    images: Literal["rounded to 8 bits"] = "rounded to 8 bits"
    reconstruction: Literal["decoded posterior mean"] = "decoded posterior mean"
    n: int
    kl: float = Field(description="mean KL divergence in nats per test image")
    seconds: float


class Provenance(Frozen):
    """Where and with what the job ran."""

    recbench: str
    plugins: dict[str, str]
    packages: dict[str, str]
    python: str
    platform: str
    processor: str
    device: str
    threads: int
    git: str | None
    started: str
    finished: str


class File(Frozen):
    """A file beside the record."""

    bytes: int
    sha256: str


class Record(Frozen):
    """What a job leaves behind."""

    schema_version: Literal[1] = 1
    job_id: str
    suite: str
    status: Status
    job: Job
    protocol: str | None = Field(description="hash of all that must be equal for two records to be compared")
    scores: dict[str, Score] = Field(default_factory=dict)
    failure: Failure | None = None
    data: Data | None = None
    trained: Trained | None = None
    evaluated: Evaluated | None = None
    provenance: Provenance
    files: dict[str, File] = Field(default_factory=dict)


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

    records: dict[str, Record]
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

    def scan(self, job_ids: Iterable[str]) -> Scan:
        """Read the records of these jobs; absent ones are simply missing from the answer."""
        records, damaged = {}, []
        for job_id in job_ids:
            try:
                record = self.read(job_id)
            except ValueError as error:
                damaged.append(Damaged(job_id, str(error)))
            else:
                if record is not None:
                    records[job_id] = record
        return Scan(records, tuple(damaged))

    def read(self, job_id: str) -> Record | None:
        """The record of a job, or None where there is none.

        Raises:
            ValueError: there is a file, but no record of this job that this version can use; the text says why.
        """
        try:
            raw = self.record_file(job_id).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from None
        try:
            record = Record.model_validate_json(raw)
        except ValidationError:
            raise ValueError(_why_not(raw)) from None
        if record.job_id != job_id or record.job.id != job_id:
            raise ValueError(f"foreign: it is of the job {record.job.id}, which does not belong here")
        return record

    def add(self, record: Record) -> None:
        """Write a record; an earlier failed one is kept beside it as ``failed-N.json``.

        Raises:
            FileExistsError: there is a record of this job already that is not a failure.
        """
        file = self.record_file(record.job_id)
        if file.exists():
            earlier = self.read(record.job_id)
            if earlier is not None and earlier.status != "failed":
                raise FileExistsError(f"{file} exists already")
            file.rename(_free(file.parent, "failed-{}.json"))
        write_atomically(file, (record.model_dump_json(indent=1) + "\n").encode())

    def write_task(self, job: Job, suite: str) -> None:
        """Put a job's specification into its folder, for the process that will run it."""
        file = self.folder(job.id) / "job.json"
        if not file.is_file():
            write_atomically(file, _Specification(suite=suite, job=job).model_dump_json(indent=1).encode())

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
        for file, text in ((self.plan_file, plan.model_dump_json()), (self.root / "suite.yaml", resolved)):
            if not (file.is_file() and file.read_text(encoding="utf-8") == text):
                write_atomically(file, text.encode())

    def read_plan(self) -> Plan:
        """The plan of the last run.

        Raises:
            UserError: there is none, or it cannot be used.
        """
        try:
            return Plan.model_validate_json(self.plan_file.read_bytes())
        except OSError:
            raise UserError(f"there are no results in {self.root}; 'recbench run SUITE' makes some") from None
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise UserError(
                f"{self.plan_file} cannot be used ({where}: {first['msg']}); 'recbench run SUITE' writes it anew"
            ) from None


def _why_not(raw: bytes) -> str:
    """Say what is wrong with the bytes of a record."""
    try:
        data = json.loads(raw)
    except ValueError:
        return "truncated or damaged: not whole JSON"
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        return f"from a newer recbench: schema {version}, this one reads {SCHEMA}"
    try:
        Record.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors()[0]
        return f"foreign: not a record of recbench ({'.'.join(map(str, first['loc']))}: {first['msg']})"
    return "damaged"  # pragma: no cover - it was just found invalid


def _free(folder: Path, pattern: str) -> Path:
    number = 1
    while (folder / pattern.format(number)).exists():
        number += 1
    return folder / pattern.format(number)


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Hold a job's folder for this process; yields False where another process holds it.

    A POSIX record lock: it dies with the process, however that dies, and works on NFS.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            yield False
            return
        yield True


def write_atomically(file: Path, content: bytes) -> None:
    """Write a file so that it is there whole, or as it was before: temporary file, fsync, rename, fsync of the folder.

    Raises:
        OutOfSpaceError: the file system is full.
    """
    with full_disk_named(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            Path(temporary).chmod(0o644)
            Path(temporary).replace(file)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn "no space left" into an error that says where."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutOfSpaceError(
            f"no space left on the device that holds {folder}; all finished jobs are safe there: "
            "make room and run the same command again"
        ) from error


def record_schema() -> dict[str, Any]:
    """The JSON Schema of records, as shipped in ``record.schema.json``."""
    text = (files("recbench") / "record.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema
