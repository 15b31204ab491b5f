"""Records: the results of jobs, in one versioned schema, sealed by a checksum."""

from __future__ import annotations

import builtins
import hashlib
import json
import math
import sys
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, WithJsonSchema, model_validator

from recbench.contracts.executor import Reason
from recbench.plan.model import SCHEMA, ComponentSpec, Frozen, Job, digest, identity

JobStatus = Literal["done", "failed", "diverged"]
LARGEST = 1e100
"""No finite number that a job measures is as large: they come from sums and squares of 32-bit floats."""


def _measurable(value: float) -> float:
    if math.isnan(value) or LARGEST < abs(value) < math.inf:
        raise ValueError(f"expected a number of at most {LARGEST:g}, or an infinite one")
    return value


Number = Annotated[
    float,
    AfterValidator(_measurable),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["Infinity", "-Infinity"]}]}),
]
"""A number that may be infinite, such as the PSNR of equal images, which JSON stores as text; never NaN."""
Finite = Annotated[float, Field(ge=-LARGEST, le=LARGEST)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
"""A time, or a speed."""
Count = Annotated[int, Field(ge=0, lt=2**63)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
"""The name of a file in the job's folder, which cannot lead out of it."""

MOST_BYTES = 1 << 24
"""Largest size of a record: a thousand times what a record has."""


class ComparedSets(Frozen):
    """The two sets of images that a distance compared: values by different conventions are not comparable.
    ``reference`` says which images the evaluated ones were compared with, ``references`` and ``images`` how many of
    these and of those, ``resize`` how they reached the network."""

    reference: Literal["test", "validation", "train", "given"]
    references: Count
    images: Count
    resize: str


class Score(Frozen):
    """A metric over the test images: mean and standard deviation over ``n`` images; ``std`` is null for metrics of
    whole sets. ``infinite`` images have an infinite score; if the mean is, and some score is not, ``finite`` is the
    mean with infinite scores counted as the nearest finite one. ``warning`` says how the score is limited,
    ``compared`` what a distance between sets of images is the distance of; older records do not have it."""

    mean: Number
    std: Number | None
    n: Count
    warning: str = ""
    infinite: int = 0
    finite: float | None = None
    compared: ComparedSets | None = None


class Cost(Frozen):
    """The cost of training. ``peak_memory_bytes`` is that of the GPU if there is one, otherwise of the process."""

    images_per_second: Amount
    step_milliseconds: Amount
    peak_memory_bytes: Count
    parameters: Count


class Failure(Frozen):
    """The reason why a job has no scores. A diverged job met NaN or infinity at ``epoch`` and ``step`` (from 1); where
    training was done, ``metric`` is the label of the metric at fault, and the model is kept to be scored."""

    type: str
    reason: Reason = Field("exception", description="the reason as one of a few fixed words")
    message: str
    traceback: str = ""
    epoch: Count | None = None
    step: Count | None = None
    metric: str = ""


class Data(Frozen):
    """The images that the job saw: SHA-256 over shapes, splits and pixels, and the number of images."""

    fingerprint: str
    train: Count
    validation: Count
    test: Count


class Trained(Frozen):
    """The training as it was done. Speed excludes evaluation, and covers all parts of a resumed job."""

    epochs: Count
    steps: Count
    parameters: Count
    loss_parameters: Count
    seconds: Amount
    images_per_second: Amount
    final: dict[str, Finite] = Field(description="the last line of history.jsonl")
    job: str = Field("", description="id of the job that trained the model, if it was scored on another split")


class Evaluated(Frozen):
    """The conditions of the evaluation."""

    images: Literal["rounded to 8 bits"] = "rounded to 8 bits"
    reconstruction: Literal["decoded posterior mean"] = "decoded posterior mean"
    n: Count
    kl: Finite | None = Field(description="mean KL divergence in nats per image; null without one")
    seconds: Amount


class Provenance(Frozen):
    """The software and the machine that ran the job; of a GPU also its driver, and torch's CUDA and cuDNN.

    ``precision`` is what the network computed in: of a suite that says ``auto``, what was chosen.
    """

    recbench: str
    plugins: dict[str, str]
    packages: dict[str, str]
    python: str
    platform: str
    processor: str
    device: str
    threads: Count
    git: str | None
    started: str
    finished: str
    precision: str | None = None
    driver: str | None = None
    cuda: str | None = None
    cudnn: str | None = None


class Symptom(Frozen):
    """A health check that a finished job did not pass (docs/health.md): the number that raised it, the threshold that
    it crossed, and a sentence with both."""

    check: str
    value: Finite
    threshold: Finite
    sentence: str


class Rescored(Frozen):
    """A later scoring of the stored model: the labels of its metrics, and where and with what it was done."""

    metrics: tuple[str, ...]
    seconds: Amount
    provenance: Provenance


class File(Frozen):
    """A file next to the record."""

    bytes: Count
    sha256: str

    @classmethod
    def of(cls, content: builtins.bytes) -> File:
        """Return size and checksum of a file with this content."""
        return cls(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


KEPT = ("protocol", "data", "trained", "cost", "files")
"""What a record says of training, whether or not its model could be scored."""
_SCORED = ("protocol", "data", "evaluated")


class Result(Frozen):
    """The part of a record that leaderboards use: scores if the job is done, otherwise the failure."""

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

    schema_version: Literal[1, 2] = SCHEMA
    job_id: str
    suite: str
    status: JobStatus
    protocol: str | None = Field(description="hash of everything that must be equal for records to be comparable")
    scores: dict[str, Score] = Field(default_factory=dict)
    without: tuple[str, ...] = Field((), description="metrics that are not defined for the loss or the architecture")
    reasons: dict[str, str] = Field(default_factory=dict, description="why, by metric; not in older records")
    cost: Cost | None = None
    failure: Failure | None = None
    data: Data | None = None
    evaluated: Evaluated | None = None
    health: tuple[Symptom, ...] = Field((), description="health checks that it did not pass; none in older records")
    files: dict[Name, File] = Field(default_factory=dict)
    checksum: str | None = Field(None, exclude=True)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.status != "done":
            if self.failure is None:
                raise ValueError(f"it is {self.status}, but does not say why: expected a failure")
        elif self.failure is not None or any(getattr(self, name) is None for name in _SCORED):
            raise ValueError(f"it is done, but has a failure, or lacks one of {', '.join(_SCORED)}")
        return self


class Record(Result):
    """The record of a job."""

    job: Job
    trained: Trained | None = None
    provenance: Provenance
    rescored: tuple[Rescored, ...] = Field((), description="later scorings of the stored model, in order")

    @model_validator(mode="after")
    def _scored(self) -> Self:
        check_scores(self, self.job.metrics)
        return self


def check_scores(result: Result, metrics: Mapping[str, object]) -> None:
    """Raise a ValueError if the scores of a finished record are not those of its job's metrics."""
    if result.status == "done" and {*result.scores, *result.without} != metrics.keys():
        raise ValueError("it is done, but its scores are not those of its job's metrics")


_AnyResult = TypeVar("_AnyResult", bound=Result)


def fitted(record: Record, metrics: Mapping[str, ComponentSpec]) -> Record:
    """Return a record with the scores that these metrics, by label, have given, and no others.

    A score counts only if it comes from the same code with the same parameters.
    """
    return only(record, {label for label, spec in metrics.items() if record.job.metrics.get(label) == spec})


def only(result: _AnyResult, labels: Collection[str]) -> _AnyResult:
    """Return a result with the scores of the metrics of these labels alone."""
    if all(label in labels for label in (*result.scores, *result.without)):
        return result
    scores = {label: score for label, score in result.scores.items() if label in labels}
    without = tuple(label for label in result.without if label in labels)
    return result.model_copy(update={"scores": scores, "without": without})


_SEAL = b',\n "checksum": "'


def sealed(text: str) -> bytes:
    """Return the content of a record's file: its JSON with the SHA-256 of the preceding bytes as its last member."""
    content = text.encode().removesuffix(b"\n}")
    return content + _SEAL + hashlib.sha256(content).hexdigest().encode() + b'"\n}\n'


def _unsealed(raw: bytes) -> bytes:
    """Return a record's JSON without its checksum if that is right; otherwise unchanged."""
    content, _, seal = raw.rpartition(_SEAL)
    fits = seal == hashlib.sha256(content).hexdigest().encode() + b'"\n}\n'
    return content + b"\n}" if fits else raw


def parse_record(job_id: str, raw: bytes) -> Record:
    """Parse the content of a job's record file.

    Raises:
        ValueError: it is not a record of this job that this version can read; the text says why.
    """
    record = validated(Record, raw)
    check_owner(job_id, record.job_id, digest(identity(record.job.form, record.schema_version)))
    return record


def validated(kind: type[_AnyResult], raw: bytes, context: object = None) -> _AnyResult:
    """Parse and check the content of a record file.

    Args:
        kind: the model that is returned.
        raw: the content.
        context: for the validators of ``kind``.

    Raises:
        ValueError: it cannot be used; the text says why.
    """
    content = _unsealed(raw)
    try:
        result = kind.model_validate_json(content, context=context)
        if content is raw:  # without a checksum every field has to be in order
            Record.model_validate_json(raw)
    except ValidationError as error:
        raise ValueError(_why_not(raw, error)) from None
    if result.checksum is not None:  # a right one was removed
        raise ValueError("damaged: its checksum is not that of its content")
    return result


def check_owner(job_id: str, claimed: str, found: str) -> None:
    """Raise a ValueError if a record is not of the job in whose folder it is."""
    if claimed != job_id or found != job_id:
        raise ValueError(f"foreign: it is of the job {found}, expected {job_id}")


def _why_not(raw: bytes, error: ValidationError) -> str:
    """Return the reason why these bytes are not a valid record."""
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError):
        return "truncated or damaged: not valid JSON"
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA:
        return f"from a newer recbench: schema {version}, this one reads {SCHEMA}"
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"foreign: not a record of recbench ({where + ': ' if where else ''}{first['msg']})"


def record_schema() -> dict[str, Any]:
    """Return the JSON Schema of records (Draft 2020-12).

    It is shipped as ``record.schema.json``, which ``python -m recbench.store.record`` writes.
    """
    schema = Record.model_json_schema(mode="serialization")
    schema["properties"]["checksum"] = {  # added when the file is written
        "type": "string",
        "pattern": "^[0-9a-f]{64}$",
        "description": "SHA-256 of all bytes of the file before the comma that precedes this last member",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(record_schema(), indent=1, ensure_ascii=False) + "\n")
