"""Jobs, and the settings and methods that they are made of: plain data.

A job is one cell of a suite's grid and one seed. The hash of its canonical form is its id.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer, model_validator

from recbench.contracts.direction import cost, target
from recbench.contracts.entries import ImageShape
from recbench.errors import quoted

NUMERICS = 1
"""Version of the numbers that training and evaluation produce. Raised whenever the same job would give different
numbers, so that old and new records are never mixed; a test pins the numbers of a small job to it."""

SCHEMA: Final = 2
"""Version of records and plans that is written."""

NEEDS_VALIDATION = "schedule: plateau follows the validation loss, but the data set has no validation images"

TUNING_NEEDS_VALIDATION = (
    "tuning selects on the validation images, but the data set has none; many data sets have a parameter that holds "
    "some out, such as validation of photos, arrays and image_folder (recbench show dataset NAME)"
)

EvaluationSplit = Literal["validation", "test"]
"""The split that a job is scored on: never the one that it was trained on."""

SUITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""Pattern of the name of a suite, which becomes the name of a folder."""


class Frozen(BaseModel):
    """Immutable plain data: unknown keys are refused, and infinities are written to JSON as text."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class ComponentSpec(Frozen):
    """An entry with its complete parameters, and the digest of the code behind it.

    Attributes:
        locations: parameters of a data set that only say where its images are. They define nothing: not the job, its
            id or its protocol.
        variant: label of a data set where a suite has several that differ only in their locations.
        score: of a metric that gives several scores from one pass, the name of the one that is meant.
    """

    name: str
    params: dict[str, Any] = {}
    code: str = ""
    locations: dict[str, Any] = {}
    variant: str = ""
    score: str = ""

    @model_serializer(mode="wrap")
    def _without_empty(self, handler):  # type: ignore[no-untyped-def]
        data = handler(self)
        return {name: value for name, value in data.items() if value or name not in ("locations", "variant", "score")}

    @property
    def arguments(self) -> dict[str, Any]:
        """All parameters, for the factory."""
        return {**self.params, **self.locations}

    @property
    def identity(self) -> str:
        """All that defines the component, as JSON."""
        return self.model_dump_json(exclude={"locations"})


class Training(Frozen):
    """Training hyperparameters, shared by all methods of a suite."""

    epochs: int = Field(ge=1, description="passes over the training images")
    batch_size: int = Field(64, ge=1, description="images per step; an incomplete last batch is dropped")
    optimizer: Literal["adam", "lion"] = Field("adam", description="of network and loss, without weight decay")
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False, description="of the optimizer, at the start")
    beta1: float = Field(0.9, ge=0, lt=1, allow_inf_nan=False, description="decay of the optimizer's mean gradient")
    beta2: float = Field(
        0.999, ge=0, lt=1, allow_inf_nan=False, description="decay of Adam's mean square, or of Lion's momentum"
    )
    schedule: Literal["constant", "cosine", "plateau"] = Field(
        "constant",
        description="cosine lowers the learning rate to 0 along half a cosine; plateau multiplies it by factor when "
        "the validation loss stalls",
    )
    warmup: float = Field(
        0.05, ge=0, lt=1, description="part of the steps over which cosine first raises the learning rate from 0"
    )
    patience: int = Field(3, ge=0, description="epochs without a lower validation loss that make a plateau")
    factor: float = Field(0.9, gt=0, lt=1, allow_inf_nan=False, description="of the learning rate, at a plateau")
    precision: Literal["float32", "tf32", "bf16", "auto"] = Field(
        "float32",
        description="of the network, losses are always float32: tf32 on GPUs; bf16 by autocast; auto: bf16 where fast",
    )
    compile: bool = Field(False, description="torch.compile the network (gains nothing on a CPU)")
    deterministic: bool = Field(True, description="only deterministic algorithms; an operation without one fails")

    @model_serializer(mode="wrap")
    def _as_it_was(self, handler):  # type: ignore[no-untyped-def]
        """Leave out what a schedule does not use and what older records do not have: jobs keep their ids."""
        data = handler(self)
        return data if self.schedule == "cosine" else {name: one for name, one in data.items() if name != "warmup"}


class Job(Frozen):
    """Everything that determines a job's result: what trains its model, and the metrics that score it."""

    numerics: int = NUMERICS
    dataset: ComponentSpec
    architecture: ComponentSpec
    loss: ComponentSpec
    kl_weight: float
    training: Training
    metrics: dict[str, ComponentSpec] = Field(description="by label")
    split: EvaluationSplit = Field("test", description="the images that it is scored on")
    seed: int

    @property
    def form(self) -> dict[str, Any]:
        """The canonical form: all that defines the job, and its metrics.

        Goes through JSON, where infinity is text, so that a job keeps its id when it is written and read back.
        """
        return canonical(json.loads(self.model_dump_json()))

    @property
    def id(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the canonical form without metrics, which train nothing."""
        return digest(identity(self.form))

    def protocol(self, fingerprint: str, schema: int = SCHEMA) -> str:
        """Return the hash of everything that two records must share to be comparable: all but method, seed and metrics,
        which are compared one by one.

        Args:
            fingerprint: fingerprint of the images that the job was trained and scored on.
            schema: of the record.
        """
        shared = {name: value for name, value in identity(self.form, schema).items() if name not in METHOD}
        return digest({**shared, "fingerprint": fingerprint})


METHOD = ("loss", "kl_weight", "seed")
"""The parts of a job that may differ between records which are compared."""


def canonical(job: dict[str, Any]) -> dict[str, Any]:
    """Return a job as JSON has it without what does not define it: where its images are."""
    dataset = job.get("dataset") if isinstance(job, dict) else None  # a damaged record may hold anything
    if not isinstance(dataset, dict) or "locations" not in dataset:
        return job
    return {**job, "dataset": {name: value for name, value in dataset.items() if name != "locations"}}


def identity(form: dict[str, Any], schema: int = SCHEMA) -> dict[str, Any]:
    """Return the part of a job's canonical form that its id is made of: all but its metrics.

    Args:
        form: the canonical form.
        schema: of the record or plan; the ids of schema 1 were made of the metrics too.
    """
    return form if schema == 1 else {name: value for name, value in form.items() if name != "metrics"}


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(data: Any) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of data as canonical JSON (sorted keys, no spaces, ASCII).

    >>> digest({"b": 1, "a": [2.5]}) == digest({"a": [2.5], "b": 1})
    True
    >>> digest({})
    '44136fa355b3678a'
    """
    return hashlib.sha256(_canonical.encode(data).encode()).hexdigest()[:16]


_CHECKSUM = b',"checksum":"'


def with_checksum(content: bytes) -> bytes:
    """Return a JSON object without spaces with the SHA-256 of the bytes before it as its last member."""
    content = content.removesuffix(b"}")
    return content + _CHECKSUM + hashlib.sha256(content).hexdigest().encode() + b'"}'


def without_checksum(raw: bytes) -> tuple[bytes, bool]:
    """Return what :func:`with_checksum` was given, and whether there was a checksum.

    Raises:
        ValueError: the checksum is not that of the content.

    >>> without_checksum(with_checksum(b'{"a":1}'))
    (b'{"a":1}', True)
    """
    content, found, checksum = raw.rpartition(_CHECKSUM)
    if not found:
        return raw, False
    if checksum != hashlib.sha256(content).hexdigest().encode() + b'"}':
        raise ValueError("damaged: its checksum is not that of its content")
    return content + b"}", True


def brief(value: Any) -> str:
    """Return a value as part of a label, which must not contain slashes.

    >>> brief(0.1), brief(1e-7), brief("a/b"), brief([1, 2])
    ('0.1', '1e-07', 'a_b', '[1, 2]')
    """
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return re.sub(r"[/\\]", "_", value) if isinstance(value, str) else quoted(value)


class Column(Frozen):
    """A metric as the leaderboard shows it.

    Attributes:
        direction: whether higher or lower scores are better, or the score that is best.
        score_range: lowest and highest possible score, which intervals do not leave.
    """

    name: str
    direction: Literal["higher", "lower"] | Annotated[float, Field(allow_inf_nan=False)]
    unit: str = ""
    family: str = ""
    digits: int = Field(4, ge=0, le=20)
    rounded: bool = True
    score_range: tuple[float, float] = (-math.inf, math.inf)

    def cost(self, score: float) -> float:
        """Return a number by which scores are ordered: the lower, the better."""
        return cost(score, self.direction)

    @property
    def target(self) -> float | None:
        """The score that is best; None if higher or lower scores are better."""
        return target(self.direction)


Extent = Annotated[int, Field(ge=1, le=2**16)]
"""Channels, height or width of an image."""


class BoardSetting(Frozen):
    """A leaderboard's setting: data set, architecture and training, which all its methods share."""

    label: str
    dataset: ComponentSpec
    architecture: ComponentSpec
    training: Training
    shape: tuple[Extent, Extent, Extent]

    @property
    def image_shape(self) -> ImageShape:
        return ImageShape(*self.shape)


class OfFamilies(Frozen):
    """Plain data with families of losses.

    Attributes:
        families: names of the families, sorted; a weighted sum of losses has those of all its parts.
    """

    families: tuple[str, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _one_family(cls, data: Any) -> Any:
        """Read ``family``, as plans had it before a loss could have several."""
        if isinstance(data, dict) and isinstance(data.get("family"), str) and "families" not in data:
            data = {**data, "families": (data["family"],) if data["family"] else ()}
            del data["family"]
        return data

    @property
    def family(self) -> str:
        """The families as one text: ``"perceptual + pixel"``."""
        return " + ".join(self.families)


class Method(OfFamilies):
    """A method, the unit of comparison: a loss with its parameters and the weight of the KL term."""

    label: str
    loss: ComponentSpec
    kl_weight: float


def job_of(
    setting: BoardSetting, method: Method, metrics: dict[str, ComponentSpec], seed: int, split: EvaluationSplit
) -> Job:
    """Return the job that trains a method under a setting with a seed."""
    return Job(
        dataset=setting.dataset,
        architecture=setting.architecture,
        loss=method.loss,
        kl_weight=method.kl_weight,
        training=setting.training,
        metrics=metrics,
        split=split,
        seed=seed,
    )


class PlannedJob(Frozen):
    """A job by its id, the indices of its setting and method in the plan, and the split that it is scored on."""

    id: str
    setting: int
    method: int
    seed: int
    split: EvaluationSplit = "test"


class Baseline(Frozen):
    """A baseline of a board: its row's label, and the indices in the plan's settings of the board and of the setting
    with the architecture that is fitted, which has one job and no board of its own."""

    label: str
    setting: int
    fitted: int


class PublishedScore(Frozen):
    """A published number for one method under one setting.

    Attributes:
        source: the publication.
        setting: index in the plan's settings.
        method: index in the plan's methods.
        metric: label of the metric, which the suite need not compute, in the unit of recbench's metric.
        std: published standard deviation, if any.
    """

    source: str
    setting: int
    method: int
    metric: str
    mean: float
    std: float | None = None
