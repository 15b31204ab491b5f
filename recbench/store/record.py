"""Records: what a job leaves behind, as one versioned schema, sealed by a checksum."""

from __future__ import annotations

import builtins
import hashlib
import json
import math
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from recbench.contracts.executor import Reason
from recbench.plan.model import Frozen, Job

SCHEMA = 1
JobStatus = Literal["done", "failed", "diverged"]
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
    """A file next to the record."""

    bytes: int
    sha256: str

    @classmethod
    def of(cls, content: builtins.bytes) -> File:
        """Return size and checksum of a file with this content."""
        return cls(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


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
    status: JobStatus
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
        check_scores(self, self.job.metrics)
        return self


def check_scores(result: Result, metrics: Mapping[str, object]) -> None:
    """Raise a ValueError where a finished record has other scores than those of its job's metrics."""
    if result.status == "done" and {*result.scores, *result.without} != metrics.keys():
        raise ValueError("it is done, but its scores are not those of its job's metrics")


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
    record = validated(Record, raw)
    check_owner(job_id, record.job_id, record.job.id)
    return record


def validated(kind: type[_Kind], raw: bytes, context: object = None) -> _Kind:
    """Return the record in the bytes of its file; a ValueError says why they hold none that can be used."""
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


def check_owner(job_id: str, claimed: str, found: str) -> None:
    """Raise a ValueError where a record is of another job than the folder that it lies in."""
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


def record_schema() -> dict[str, Any]:
    """The JSON Schema of records (Draft 2020-12). It is shipped as ``record.schema.json``, which
    ``python -m recbench.store.record`` writes."""
    schema = Record.model_json_schema(mode="serialization")
    schema["properties"]["checksum"] = {  # put there when the file is written
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
        "description": "SHA-256 of all bytes of the file before the comma that precedes this last member",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(record_schema(), indent=1, ensure_ascii=False) + "\n")
