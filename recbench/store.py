"""The store: the folder of one suite's records, which is the only truth about what has been done.

``results/<suite>/jobs/<job id>/record.json`` is written last and atomically, so a record is whole or absent. Nothing
here deletes a record: what cannot be used is moved to ``set-aside/`` with the reason beside it.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import gc
import hashlib
import json
import math
import os
import struct
import sys
import tempfile
from collections.abc import Iterator, Mapping, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import ConfigDict, Field, PlainValidator, ValidationError, ValidationInfo, WithJsonSchema, model_validator

from recbench.contracts.executor import Reason
from recbench.errors import OutOfSpaceError, UserError
from recbench.jobs import Frozen, Job, Plan, digest

SCHEMA = 1
Status = Literal["done", "failed", "diverged"]
Number = Annotated[
    float,
    Field(ge=-math.inf),  # anything but NaN
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["Infinity", "-Infinity"]}]}),
]
"""A number that may be infinite (the PSNR of equal images is), which JSON can only hold as text; never NaN."""


class Score(Frozen):
    """A metric over the test images: mean and standard deviation over ``n`` images; ``std`` is null for metrics of
    whole sets. ``warning`` is what a reader of the score must know."""

    mean: Number
    std: Number | None
    n: int
    warning: str = ""


class Cost(Frozen):
    """What training took. ``peak_memory_bytes`` is of the GPU where there is one, otherwise of the whole process."""

    images_per_second: float
    step_milliseconds: float
    peak_memory_bytes: int
    parameters: int


class Failure(Frozen):
    """Why a job has no scores. ``epoch`` and ``step`` (from 1) say where a diverged job met NaN or infinity."""

    type: str
    reason: Reason = Field("exception", description="the same in one word for programs")
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
    kl: float = Field(description="mean KL divergence in nats per image")
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


_SCORED = ("protocol", "data", "evaluated")


class Result(Frozen):
    """The part of a record that leaderboards are made of: scores if the job is done, otherwise what went wrong."""

    model_config = ConfigDict(
        json_schema_extra={
            "if": {"properties": {"status": {"const": "done"}}},
            "then": {
                "properties": {"failure": {"type": "null"}, **{name: {"not": {"type": "null"}} for name in _SCORED}},
                "required": ["scores", *_SCORED],
            },
            "else": {"properties": {"failure": {"type": "object"}}, "required": ["failure"]},
        }
    )

    schema_version: Literal[1] = 1
    job_id: str
    suite: str
    status: Status
    protocol: str | None = Field(description="hash of all that must be equal for two records to be compared")
    scores: dict[str, Score] = Field(default_factory=dict)
    without: tuple[str, ...] = Field((), description="metrics that the loss has no value for")
    cost: Cost | None = None
    failure: Failure | None = None
    data: Data | None = None
    evaluated: Evaluated | None = None
    checksum: str | None = Field(None, exclude=True)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.status != "done":
            if self.failure is None:
                raise ValueError(f"it is {self.status}, but does not say why")
        elif self.failure is not None or any(getattr(self, name) is None for name in _SCORED):
            raise ValueError(f"it is done, but has a failure, or lacks one of {', '.join(_SCORED)}")
        return self


class Record(Result):
    """What a job leaves behind."""

    job: Job
    trained: Trained | None = None
    provenance: Provenance
    files: dict[str, File] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _scored(self) -> Self:
        _check_scores(self, self.job.metrics)
        return self


def _check_scores(result: Result, metrics: Mapping[str, object]) -> None:
    if result.status == "done" and {*result.scores, *result.without} != metrics.keys():
        raise ValueError("it is done, but its scores are not those of its job's metrics")


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
                        line = _validated(_Line, raw, (job_id, form))
                        _check_owner(job_id, line.job_id, line.job)
                        _check_scores(line, form["metrics"])
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

    def keep_aside(self, job_id: str, statuses: Set[Status]) -> Path:
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
        moved = _validated(Record, kept.read_bytes())
        if moved.status not in statuses:  # another machine wrote it since; this folder may be out of a lock's reach
            _link(kept, file)
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
        _update(self.folder(job.id) / "job.json", text, durable=False)

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
        _update(self.plan_file, plan.model_dump_json())
        _update(self.root / "suite.yaml", resolved)

    def write_engine(self, name: str, params: Mapping[str, Any]) -> None:
        """Remember with what parameters an executor was used, so that it can be asked about its queue."""
        _update(self.root / "executors" / f"{name}.json", json.dumps(dict(params), indent=1) + "\n", durable=False)

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


_Kind = TypeVar("_Kind", bound=Result)


_SEAL = b',\n "checksum": "'


def sealed(text: str) -> bytes:
    """A record's file: its JSON, and as its last member the SHA-256 of all the bytes before that member's comma."""
    content = text.encode().removesuffix(b"\n}")
    return content + _SEAL + hashlib.sha256(content).hexdigest().encode() + b'"\n}\n'


def _unsealed(raw: bytes) -> bytes:
    """A record's JSON without a checksum that fits; with one that does not, it is left as it is."""
    content, _, seal = raw.rpartition(_SEAL)
    fits = seal == hashlib.sha256(content).hexdigest().encode() + b'"\n}\n'
    return content + b"\n}" if fits else raw


def parse_record(job_id: str, raw: bytes) -> Record:
    """The record of a job from the bytes of its file.

    Raises:
        ValueError: they are no record of this job that this version can use; the text says why.
    """
    record = _validated(Record, raw)
    _check_owner(job_id, record.job_id, record.job.id)
    return record


def _validated(kind: type[_Kind], raw: bytes, context: object = None) -> _Kind:
    content = _unsealed(raw)
    try:
        result = kind.model_validate_json(content, context=context)
        if content is raw:  # without a checksum every field has to be in order
            Record.model_validate_json(raw)
    except ValidationError as error:
        raise ValueError(_why_not(raw, error)) from None
    if result.checksum is not None:  # one that fits was taken off
        raise ValueError("damaged: its checksum is not that of its content")
    return result


def _check_owner(job_id: str, claimed: str, found: str) -> None:
    if claimed != job_id or found != job_id:
        raise ValueError(f"foreign: it is of the job {found}, which does not belong here")


def _why_not(raw: bytes, error: ValidationError) -> str:
    """Say why these bytes are not a record."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return "truncated or damaged: not whole JSON"
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        return f"from a newer recbench: schema {version}, this one reads {SCHEMA}"
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"foreign: not a record of recbench ({where + ': ' if where else ''}{first['msg']})"


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


def holder(folder: Path) -> int | None:
    """The process of this machine that holds a job's folder, or None; asks without touching the lock.

    Not for the process that holds it itself: to close any handle of a file gives up all locks on it.
    A holder on another machine is seen where the file system carries locks, as process 0 or less.
    """
    try:
        with (folder / "lock").open("rb+") as stream:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, process = struct.unpack(_FLOCK, fcntl.fcntl(stream, fcntl.F_GETLK, asked))
    except OSError:  # no such file, or not ours to open; who is to run the job finds out
        return None
    return None if kind == fcntl.F_UNLCK else process


_FLOCK = "hhqqi0q"
"""struct flock of 64-bit Linux: kind, whence, start, length, process."""


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Hold a job's folder for this process; yields False where another process holds it.

    A POSIX record lock: it dies with the process, however that dies, and works on NFS. It does not keep out the
    process that holds it, and the inner of two locks of one process would release both.
    """
    with full_disk_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / "lock").open("w")
    with stream as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            yield False
            return
        yield True


UNFINISHED = ".unfinished"


def unfinished(folder: Path) -> list[Path]:
    """Temporary files in a folder, of writes under way or of writers that were killed."""
    return sorted(folder.glob(f".*{UNFINISHED}"))


def write_atomically(file: Path, content: bytes, *, new: bool = False, durable: bool = True) -> None:
    """Write a file so that it is there whole, or as it was before: temporary file, fsync, rename, fsync of the folder.

    Args:
        new: do not replace a file, not even one that appears while this one is being written.
        durable: wait for the disk. Without, a power cut may leave the file damaged, which is good enough for what is
            compared and written anew before it is used, and a hundred times as fast.

    Raises:
        FileExistsError: it is there already, and should be new.
        OutOfSpaceError: the file system is full.
    """
    with full_disk_named(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=UNFINISHED, dir=file.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
            temporary.chmod(0o644)
            if new:
                _link(temporary, file)
            else:
                temporary.replace(file)
        except FileNotFoundError:
            if new and file.exists():  # whoever wrote it, out of a lock's reach, has taken our file for a leftover
                raise FileExistsError(f"{file} exists already") from None
            raise
        finally:
            temporary.unlink(missing_ok=True)
        if durable:
            folder = os.open(file.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def _link(temporary: Path, file: Path) -> None:
    """Give a file its name, unless that is taken: a rename would replace what has it."""
    try:
        file.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        _rename_to_new(temporary, file)  # no hard links on this file system


def _rename_to_new(temporary: Path, file: Path) -> None:
    """Rename, unless the new name is taken; as one step where the file system can do that."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        failed = renameat2(_HERE, os.fsencode(temporary), _HERE, os.fsencode(file), _NO_REPLACE)
        if not failed:
            return
        number = ctypes.get_errno()
        if number not in (*_CANNOT, errno.EINVAL):
            raise OSError(number, os.strerror(number), str(file))
    if file.exists():  # the best that is left; on one machine the job's lock keeps others out
        raise FileExistsError(f"{file} exists already")
    temporary.replace(file)


_CANNOT = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_HERE = -100  # AT_FDCWD
_NO_REPLACE = 1  # RENAME_NOREPLACE


def _update(file: Path, text: str, *, durable: bool = True) -> None:
    """Write a file, unless it holds this text already."""
    content = text.encode()
    if not (file.is_file() and file.read_bytes() == content):
        write_atomically(file, content, durable=durable)


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
    """The JSON Schema of records (Draft 2020-12). It is shipped as ``record.schema.json``, which
    ``python -m recbench.store`` writes."""
    schema = Record.model_json_schema(mode="serialization")
    schema["properties"]["checksum"] = {  # put there when the file is written
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
        "description": "SHA-256 of all bytes of the file before the comma that precedes this last member",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(record_schema(), indent=1, ensure_ascii=False) + "\n")
