"""Jobs: one cell of a suite's grid and one seed, as plain data whose hash is its name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from recbench.contracts.entries import ImageShape
from recbench.errors import quoted

NUMERICS = 1
"""Version of the numbers that training and evaluation produce. Raised whenever the same job would give other numbers,
so that old and new records are never mixed; a test pins the numbers of a small job to it."""

NEEDS_VALIDATION = "schedule: plateau goes by the validation loss, and the data set has no validation images"

TUNING_NEEDS_VALIDATION = (
    "tuning chooses by the validation images, and the data set has none; many have a parameter that sets some apart, "
    "as validation of photos, arrays and image_folder (recbench show dataset NAME)"
)

EvaluationSplit = Literal["validation", "test"]
"""The images that a job is scored on: never those that it learned from."""

SUITE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""What the name of a suite must match, as it becomes the name of a folder."""

_ID = re.compile(r"[0-9a-f]{16}")


class Frozen(BaseModel):
    """Immutable plain data: unknown keys are refused, and infinities survive JSON as text."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")


class ComponentSpec(Frozen):
    """An entry with its complete parameters, and the digest of the code behind it."""

    name: str
    params: dict[str, Any] = {}
    code: str = ""


class Training(Frozen):
    """How every method of a suite is trained."""

    epochs: int = Field(ge=1, description="passes over the training images")
    batch_size: int = Field(64, ge=1, description="images per step; an incomplete last batch is left out")
    optimizer: Literal["adam", "lion"] = Field("adam", description="of network and loss, without weight decay")
    learning_rate: float = Field(1e-4, gt=0, allow_inf_nan=False, description="of the optimizer, at the start")
    beta1: float = Field(0.9, ge=0, lt=1, allow_inf_nan=False, description="decay of the optimizer's mean gradient")
    beta2: float = Field(
        0.999, ge=0, lt=1, allow_inf_nan=False, description="decay of Adam's mean square, or of Lion's momentum"
    )
    schedule: Literal["constant", "plateau"] = Field(
        "constant", description="plateau multiplies the learning rate by factor when the validation loss stalls"
    )
    patience: int = Field(3, ge=0, description="epochs without a lower validation loss before a plateau is called one")
    factor: float = Field(0.9, gt=0, lt=1, allow_inf_nan=False, description="of the learning rate, at a plateau")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="bf16 runs the network under autocast; losses always stay in float32"
    )
    compile: bool = Field(False, description="torch.compile the network (gains nothing on a CPU)")
    deterministic: bool = Field(True, description="only deterministic algorithms; an operation without one fails")


class Job(Frozen):
    """Everything that defines a job's result."""

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
    def id(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the canonical form.

        Taken through JSON, where infinity is text, so that a job that was read back has the id that it had.
        """
        return digest(json.loads(self.model_dump_json()))

    def protocol(self, fingerprint: str) -> str:
        """Hash of all that must be equal for two records to be compared: everything but method and seed.

        Args:
            fingerprint: of the images that the job really saw.
        """
        shared = json.loads(self.model_dump_json(exclude={"loss", "kl_weight", "seed"}))
        return digest({**shared, "fingerprint": fingerprint})


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(data: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of data as canonical JSON (sorted keys, no spaces, ASCII)."""
    return hashlib.sha256(_canonical.encode(data).encode()).hexdigest()[:16]


def brief(value: Any) -> str:
    """A value as a part of a label, which must not hold slashes."""
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return re.sub(r"[/\\]", "_", value) if isinstance(value, str) else quoted(value)


class Column(Frozen):
    """A metric as the leaderboard shows it."""

    name: str
    direction: Literal["higher", "lower"]
    unit: str = ""
    family: str = ""
    digits: int = 4
    rounded: bool = True


class BoardSetting(Frozen):
    """What is equal for all methods of one leaderboard."""

    label: str
    dataset: ComponentSpec
    architecture: ComponentSpec
    training: Training
    shape: tuple[int, int, int]

    @property
    def image_shape(self) -> ImageShape:
        return ImageShape(*self.shape)


class Method(Frozen):
    """What is compared: a loss with its parameters and its weight of the KL term."""

    label: str
    loss: ComponentSpec
    kl_weight: float
    family: str = ""


def job_of(
    setting: BoardSetting, method: Method, metrics: dict[str, ComponentSpec], seed: int, split: EvaluationSplit
) -> Job:
    """The job of a method under a setting."""
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
    """A job by its id, its place in the plan's settings and methods, and the images that it is scored on."""

    id: str
    setting: int
    method: int
    seed: int
    split: EvaluationSplit = "test"


class PublishedScore(Frozen):
    """A number that somebody printed for one method under one setting.

    Attributes:
        source: where it was printed.
        metric: label of the metric, whether the suite computes it or not, in the unit of recbench's metric.
        std: what was printed as its spread, if anything was.
    """

    source: str
    setting: int
    method: int
    metric: str
    mean: float
    std: float | None = None


class Axis(Frozen):
    """One value that tuning chooses: from ``low`` to ``high``, evenly spread over the values or over their logarithms.

    Attributes:
        name: ``"kl_weight"``, whose range is multiplied by the scale of the loss, or a parameter of the loss.
        whole: whether only whole numbers are meant.
    """

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False


class Tuning(Frozen):
    """The rule by which every method of a suite is tuned: all get the same.

    Attributes:
        budget: how many candidates each search tries.
        seed: of the strategies that draw.
        candidate_seeds: seeds that each candidate is trained with; its score is their mean.
        metric: label of the metric that selects, by its mean over the validation images.
        seeds: what the chosen candidate is trained with, to be scored on the test images.
        calibration_steps: steps over which the scale of a loss is measured where the suite does not give it.
    """

    strategy: Literal["grid", "random", "optuna"]
    budget: int = Field(ge=1)
    seed: int = 0
    candidate_seeds: tuple[int, ...]
    metric: str
    direction: Literal["higher", "lower"]
    seeds: tuple[int, ...]
    calibration_steps: int = Field(50, ge=1)

    @property
    def calibration_seed(self) -> int:
        """Seed of the network that calibration trains: that of the first candidate."""
        return self.candidate_seeds[0]


class Trial(Frozen):
    """A candidate of a search.

    Attributes:
        method: its place in the plan's methods.
        values: what was chosen for each axis, ``kl_weight`` with the scale of the loss in it.
        status: ``"open"`` while records are missing, ``"scored"``, or ``"lost"``: a job failed, diverged or has no
            value for the metric that selects.
        score: mean over its seeds of the metric that selects, on the validation images.
    """

    method: int
    values: dict[str, float]
    status: Literal["open", "scored", "lost"] = "open"
    score: float | None = None


class Search(Frozen):
    """What is tuned under one setting: a loss, its candidates, and which of them was chosen.

    Attributes:
        label: of the loss, and of the method that is chosen.
        loss: with the parameters that are not tuned; tuned ones stand at the value that they have without tuning.
        scale: what the ladder of KL weights is multiplied by, so that the loss's gradients are as long as those of l2;
            None until it is calibrated.
        tried: the candidates so far, in their order.
        chosen: place in ``tried`` of the best; None until all are done, or where all are lost.
        method: place in the plan's methods of what is scored on the test images; None like ``chosen``.
        edge: names of the values that were chosen at the edge of what was tried, so that a better one may lie beyond.
        published: what was printed for the method, to be placed when it is chosen; their ``method`` has no meaning yet.
    """

    setting: int
    label: str
    loss: ComponentSpec
    family: str = ""
    scale: float | None
    axes: tuple[Axis, ...]
    tried: tuple[Trial, ...] = ()
    chosen: int | None = None
    method: int | None = None
    edge: tuple[str, ...] = ()
    published: tuple[PublishedScore, ...] = ()


class Plan(Frozen):
    """A suite laid out as jobs: all that a leaderboard needs to know besides the records. Written to ``plan.json``.

    The plan of a suite with tuning grows: :func:`recbench.plan.search.grow` adds jobs as records come in. Its methods are
    then the candidates, whose jobs are scored on the validation images, and what was chosen of them.
    """

    schema_version: Literal[1] = 1
    suite: str
    description: str = ""
    metrics: dict[str, ComponentSpec]
    columns: tuple[Column, ...]
    ranking: tuple[str, ...]
    settings: tuple[BoardSetting, ...]
    methods: tuple[Method, ...]
    jobs: tuple[PlannedJob, ...]
    published: tuple[PublishedScore, ...] = ()
    tuning: Tuning | None = None
    searches: tuple[Search, ...] = ()

    @model_validator(mode="after")
    def _coherent(self) -> Plan:
        """Refuse a plan whose parts do not fit together, as in a file that was edited or damaged."""
        names = [column.name for column in self.columns]
        if sorted(names) != sorted(self.metrics) or not set(self.ranking) <= set(names):
            raise ValueError("its metrics, columns and ranking do not fit together")
        places = {(p.setting, p.method) for p in self.jobs} | {(p.setting, p.method) for p in self.published}
        for setting, method in places:
            if not (0 <= setting < len(self.settings) and 0 <= method < len(self.methods)):
                raise ValueError(f"it has no setting {setting} or no method {method}")
        if (self.tuning is None) != (not self.searches) or (self.tuning and self.tuning.metric not in names):
            raise ValueError("its tuning and searches do not fit together")
        for search in self.searches:
            methods = [tried.method for tried in search.tried] + ([] if search.method is None else [search.method])
            if not (0 <= search.setting < len(self.settings) and all(0 <= m < len(self.methods) for m in methods)):
                raise ValueError(f"the search of {search.label} has no setting, or a method that is not there")
            if search.chosen is not None and not 0 <= search.chosen < len(search.tried):
                raise ValueError(f"the search of {search.label} has chosen what it has not tried")
        for job in self.jobs:
            if not _ID.fullmatch(job.id):  # ids become names of folders
                raise ValueError(f"{job.id!r} is no id of a job")
        return self

    def job(self, planned: PlannedJob) -> Job:
        """The full job behind one line of the plan."""
        setting, method = self.settings[planned.setting], self.methods[planned.method]
        return job_of(setting, method, self.metrics, planned.seed, planned.split)

    def forms(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The id and the canonical form of every job; much faster than job by job."""
        shared: dict[tuple[int, int, str], dict[str, Any]] = {}
        for planned in self.jobs:
            place = planned.setting, planned.method, planned.split
            if place not in shared:
                shared[place] = json.loads(self.job(planned).model_dump_json())
            yield planned.id, {**shared[place], "seed": planned.seed}

    @property
    def counts(self) -> tuple[int, int]:
        """How many jobs there are in the end, at most: candidates of tuning, and those scored on test images."""
        if self.tuning is None:
            return 0, len(self.jobs)
        size = len(self.searches)
        return size * self.tuning.budget * len(self.tuning.candidate_seeds), size * len(self.tuning.seeds)
