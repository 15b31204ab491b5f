"""Suites: YAML files that span a grid of jobs. Reading one finds everything that is wrong with it, before any job runs.

Any parameter may be given as ``{grid: [a, b, …]}``; the suite then spans all combinations.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from recbench import yaml_lines
from recbench.contracts.dataset import Dataset
from recbench.entries import ImageShape, LossEntry, MetricEntry
from recbench.errors import Problem, SuiteError, UserError, did_you_mean
from recbench.jobs import Column, Method, Part, Plan, PlannedJob, Setting, Training
from recbench.registry import Registered, Registry
from recbench.yaml_lines import Document, Path_, dotted

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_LABEL = re.compile(r"[^\W_][^/\\\x00-\x1f\x7f]{0,79}")
_MAXIMUM_CELLS = 100_000


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Choice(_Strict):
    name: str
    label: str | None = None
    params: dict[str, Any] = {}


class _LossChoice(_Choice):
    kl_weight: Any = None


class _Ranking(_Strict):
    metrics: list[str] | None = Field(None, min_length=1)


class _SuiteFile(_Strict):
    """The structure of a suite file; parameters and training are checked one by one afterwards."""

    name: str | None = None
    description: str = ""
    datasets: list[_Choice] = Field(min_length=1)
    architectures: list[_Choice] = Field(min_length=1)
    losses: list[_LossChoice] = Field(min_length=1)
    metrics: list[_Choice] = Field(min_length=1)
    seeds: list[int] = Field(min_length=1)
    training: dict[str, Any]
    ranking: _Ranking = _Ranking()


_MODELS: dict[str, type[BaseModel]] = {
    "datasets": _Choice,
    "architectures": _Choice,
    "losses": _LossChoice,
    "metrics": _Choice,
    "ranking": _Ranking,
}


@dataclass(frozen=True)
class _Cell:
    """One combination of an item's grid: its complete parameters, and how to tell it from the others."""

    path: Path_
    label: str
    registered: Registered
    params: dict[str, Any]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def part(self) -> Part:
        return Part(name=self.registered.entry.name, params=self.params, code=self.registered.code)


@dataclass(frozen=True)
class Suite:
    """A valid suite: its plan, and its text as resolved (a suite file again, with every default filled in)."""

    plan: Plan
    resolved: str


def load_suite(file: Path, registry: Registry, overrides: Sequence[str] = (), *, maximum_jobs: int = 10_000) -> Suite:
    """Read, validate and expand a suite file.

    Args:
        overrides: ``dotted.key=value`` assignments, as from ``--set``.
        maximum_jobs: refuse to expand a larger grid.

    Raises:
        SuiteError: with every problem that was found, each with file, line and key.
    """
    document = yaml_lines.load(file)
    if not isinstance(document.data, dict):
        raise SuiteError([Problem(str(file), 1, "", "is not a suite: a mapping with datasets, losses … is needed")])
    for assignment in overrides:
        document.override(assignment)
    _unfold_short_forms(document.data)
    return _Validator(document, registry, default_name=file.stem, maximum_jobs=maximum_jobs).suite()


def _unfold_short_forms(data: dict[str, Any]) -> None:
    """``- l2`` is short for ``- {name: l2}``, everywhere where entries are chosen."""
    for key in ("datasets", "architectures", "losses", "metrics"):
        if isinstance(data.get(key), list):
            data[key] = [{"name": item} if isinstance(item, str) else item for item in data[key]]


class _Validator:
    """Collects problems; what depends on something that is already wrong is not checked."""

    def __init__(self, document: Document, registry: Registry, default_name: str, maximum_jobs: int) -> None:
        self.document = document
        self.registry = registry
        self.default_name = default_name
        self.maximum_jobs = maximum_jobs
        self.problems: list[Problem] = []

    def blame(self, path: Path_, message: str) -> None:
        self.problems.append(self.document.problem(path, message))

    def fail_if_any(self) -> None:
        if self.problems:
            raise SuiteError(self.problems)

    def suite(self) -> Suite:
        parsed = self.structure()
        cells = {
            kind: self.cells(kind, getattr(parsed, kind) if parsed else self.raw_choices(kind))
            for kind in ("datasets", "architectures", "losses", "metrics")
        }
        trainings = self.trainings()
        if parsed is None:
            raise SuiteError(self.problems)
        name = parsed.name if parsed.name is not None else self.default_name
        if not NAME.fullmatch(name):
            self.blame(("name",), f"{name!r} must start with a letter or digit and hold only those, '.', '_' and '-'")
        self.unique_seeds(parsed.seeds)
        ranking = self.ranking(parsed, cells["metrics"])
        shapes = self.shapes(cells["datasets"])
        self.compatible(cells, [shape for shape in shapes if shape is not None])
        size = len(trainings) * len(parsed.seeds) * math.prod(len(cells[k]) for k in cells if k != "metrics")
        if size > self.maximum_jobs:
            self.blame((), f"spans {size:,} jobs, more than {self.maximum_jobs:,}; --max-jobs raises the limit")
        self.fail_if_any()
        plan = _plan(name, parsed, cells, trainings, cast(list[ImageShape], shapes), ranking)
        return Suite(plan, _resolved(name, parsed, cells, trainings, ranking))

    def structure(self) -> _SuiteFile | None:
        try:
            return _SuiteFile.model_validate(self.document.data)
        except ValidationError as error:
            for detail in error.errors():
                path = tuple(detail["loc"])
                message = _message(detail)
                if detail["type"] == "extra_forbidden":
                    model = _MODELS.get(str(path[0]), _SuiteFile) if len(path) > 1 else _SuiteFile
                    message = f"unknown key; {did_you_mean(str(path[-1]), list(model.model_fields))}"
                self.blame(path, message)
            return None

    def raw_choices(self, kind: str) -> list[_Choice | None]:
        """The items of a section that are sound, where the file as a whole is not: their problems are told as well."""
        found = self.document.data.get(kind)
        choices: list[Any] = []
        for item in found if isinstance(found, list) else []:
            try:
                choices.append(_MODELS[kind].model_validate(item))
            except ValidationError:
                choices.append(None)
        return choices

    def cells(self, kind: str, choices: Sequence[_Choice | None]) -> list[_Cell]:
        cells: list[_Cell] = []
        for index, choice in enumerate(choices):
            if choice is not None:
                cells.extend(self.choice_cells(kind, (kind, index), choice))
        for first, second in _twins(cells, lambda cell: cell.label):
            message = f"the label '{second.label}' is also that of {dotted(first.path)}; give one of them another"
            self.blame(second.path, message)
        for first, second in _twins(cells, lambda cell: repr((cell.registered.entry.name, cell.params, cell.extra))):
            if first.label != second.label:
                self.blame(second.path, f"is the same as {dotted(first.path)}, under another label")
        return cells

    def choice_cells(self, kind: str, path: Path_, choice: _Choice) -> Iterator[_Cell]:
        if choice.label is not None and not _LABEL.fullmatch(choice.label):
            message = f"{choice.label!r} must start with a letter or digit, without slashes, in at most 80 characters"
            self.blame((*path, "label"), message)
        registered = self.registry.find(kind, choice.name)
        if registered is None:
            self.blame((*path, "name"), self.registry.unknown(kind, choice.name))
            return
        entry, before = registered.entry, len(self.problems)
        axes: dict[str, list[Any]] = {}
        for key, value in choice.params.items():
            parameter = entry.parameter(key)
            place = (*path, "params", key)
            if parameter is None:
                known = [parameter.name for parameter in entry.parameters]
                self.blame(place, f"{entry.name} has no such parameter; {did_you_mean(key, known)}")
            else:
                axes[key] = list(self.values(place, value, parameter.coerce))
        extra_axes: dict[str, list[Any]] = {}
        if isinstance(choice, _LossChoice) and choice.kl_weight is not None:
            extra_axes["kl_weight"] = list(self.values((*path, "kl_weight"), choice.kl_weight, _kl_weight))
        elif isinstance(choice, _LossChoice):
            default = self.document.data.get("training")
            default = default.get("kl_weight", 1.0) if isinstance(default, dict) else 1.0
            extra_axes["kl_weight"] = list(self.values(("training", "kl_weight"), default, _kl_weight))
        if len(self.problems) > before or self.too_many(path, {**axes, **extra_axes}):
            return
        for assignment in _product({**axes, **extra_axes}):
            varied = [f"{k}={_short(v)}" for k, v in assignment.items() if len((axes | extra_axes)[k]) > 1]
            label = " ".join([choice.label or choice.name, *varied])
            params = entry.complete({key: assignment[key] for key in axes})
            yield _Cell(path, label, registered, params, {key: assignment[key] for key in extra_axes})

    def values(self, path: Path_, value: Any, coerce: Any) -> Iterator[Any]:
        """The one value, or the values of a grid; those that cannot be coerced are blamed and left out."""
        grid = isinstance(value, dict) and set(value) == {"grid"}
        if grid and (not isinstance(value["grid"], list) or not value["grid"]):
            self.blame((*path, "grid"), "the grid is empty: a list with at least one value is needed")
            return
        seen = []
        for index, item in enumerate(value["grid"] if grid else [value]):
            place = (*path, "grid", index) if grid else path
            try:
                coerced = coerce(item)
            except ValueError as error:
                self.blame(place, str(error))
                continue
            if coerced in seen:
                self.blame(place, f"{_short(coerced)} stands in the grid twice")
            seen.append(coerced)
            yield coerced

    def too_many(self, path: Path_, axes: Mapping[str, Sequence[Any]]) -> bool:
        size = math.prod(len(values) for values in axes.values())
        if size > _MAXIMUM_CELLS:
            self.blame(path, f"its grid has {size:,} combinations, more than {_MAXIMUM_CELLS:,}")
        return size > _MAXIMUM_CELLS

    def trainings(self) -> list[tuple[str, Training]]:
        """Every combination of the training section with a label for what is varied ("" where nothing is)."""
        section = self.document.data.get("training")
        if not isinstance(section, dict):
            return []
        before = len(self.problems)
        axes = {}
        for key, value in section.items():
            if key == "kl_weight":
                continue
            if key not in Training.model_fields:
                known = [*Training.model_fields, "kl_weight"]
                self.blame(("training", key), f"unknown key; {did_you_mean(key, known)}")
                continue
            axes[key] = list(self.values(("training", key), value, lambda item, key=key: _training_value(key, item)))
        if "epochs" not in section:
            self.blame(("training",), "epochs is missing")
        if len(self.problems) > before or self.too_many(("training",), axes):
            return []
        found = []
        for assignment in _product(axes):
            varied = [f"{key}={_short(value)}" for key, value in assignment.items() if len(axes[key]) > 1]
            found.append((" ".join(varied), Training(**assignment)))
        return found

    def unique_seeds(self, seeds: Sequence[int]) -> None:
        for index, seed in enumerate(seeds):
            if seed in seeds[:index]:
                self.blame(("seeds", index), f"the seed {seed} is given twice")
            if not 0 <= seed < 2**32:
                self.blame(("seeds", index), f"{seed} is not between 0 and {2**32 - 1}")

    def ranking(self, parsed: _SuiteFile, metrics: Sequence[_Cell]) -> tuple[str, ...]:
        labels = [cell.label for cell in metrics]
        if parsed.ranking.metrics is None:
            return tuple(labels)
        for index, name in enumerate(parsed.ranking.metrics):
            if name not in labels and labels:
                message = f"the suite has no metric '{name}'; {did_you_mean(name, labels)}"
                self.blame(("ranking", "metrics", index), message)
            if name in parsed.ranking.metrics[:index]:
                self.blame(("ranking", "metrics", index), f"'{name}' is given twice")
        return tuple(parsed.ranking.metrics)

    def shapes(self, datasets: Sequence[_Cell]) -> list[ImageShape | None]:
        """The image shape of each data set; None, and a problem, for one that cannot be made."""
        shapes: list[ImageShape | None] = []
        for cell in datasets:
            try:
                dataset: Dataset = cell.registered.create(**cell.params)
                shapes.append(dataset.shape)
            except UserError as error:
                self.blame(cell.path, str(error))
                shapes.append(None)
            else:
                for reason in cell.registered.entry.refusals(dataset.shape, cell.params):
                    self.blame(cell.path, reason)
        return shapes

    def compatible(self, cells: Mapping[str, Sequence[_Cell]], shapes: Sequence[ImageShape]) -> None:
        for kind in ("architectures", "losses", "metrics"):
            for cell in cells[kind]:
                for shape in dict.fromkeys(shapes):
                    for reason in cell.registered.entry.refusals(shape, cell.params):
                        self.blame(cell.path, f"{cell.label} cannot take this suite's {shape} images: it {reason}")


def _message(detail: Mapping[str, Any]) -> str:
    kind, given = detail["type"], detail["input"]
    if kind == "missing":
        return "is missing"
    if kind == "too_short":
        return "is empty: at least one is needed"
    expected = {
        "string_type": "text",
        "list_type": "a list",
        "dict_type": "a mapping",
        "int_type": "a whole number",
        "model_type": "a mapping, or a name",
        "model_attributes_type": "a mapping, or a name",
    }.get(kind)
    return f"{_short(given)} is not {expected}" if expected else str(detail["msg"])


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _kl_weight(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{_short(value)} is not a finite number from 0")
    return float(value)


def _training_value(key: str, value: Any) -> Any:
    """Check one value of the training section with the model's own field."""
    fields = {"epochs": 1, key: value}
    try:
        return getattr(Training.model_validate(fields, strict=True), key)
    except ValidationError as error:
        raise ValueError(f"{_short(value)}: {error.errors()[0]['msg']}") from None


def _product(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _twins(cells: Sequence[_Cell], key: Callable[[_Cell], str]) -> Iterator[tuple[_Cell, _Cell]]:
    """Each cell whose key an earlier one has, with that one."""
    seen: dict[str, _Cell] = {}
    for cell in cells:
        if key(cell) in seen:
            yield seen[key(cell)], cell
        seen.setdefault(key(cell), cell)


def _plan(
    name: str,
    parsed: _SuiteFile,
    cells: Mapping[str, Sequence[_Cell]],
    trainings: Sequence[tuple[str, Training]],
    shapes: Sequence[ImageShape],
    ranking: tuple[str, ...],
) -> Plan:
    settings = []
    for dataset, shape in zip(cells["datasets"], shapes, strict=True):
        for architecture, (varied, training) in itertools.product(cells["architectures"], trainings):
            settings.append(
                Setting(
                    label=" · ".join(filter(None, [dataset.label, architecture.label, varied])),
                    dataset=dataset.part,
                    architecture=architecture.part,
                    training=training,
                    shape=(shape.channels, shape.height, shape.width),
                )
            )
    methods = [
        Method(
            label=cell.label,
            loss=cell.part,
            kl_weight=cell.extra["kl_weight"],
            family=cast(LossEntry, cell.registered.entry).family,
        )
        for cell in cells["losses"]
    ]
    plan = Plan(
        suite=name,
        description=parsed.description,
        metrics={cell.label: cell.part for cell in cells["metrics"]},
        columns=tuple(_column(cell) for cell in cells["metrics"]),
        ranking=ranking,
        settings=tuple(settings),
        methods=tuple(methods),
        jobs=(),
    )
    jobs = []
    for setting, method, seed in itertools.product(range(len(settings)), range(len(methods)), parsed.seeds):
        planned = PlannedJob(id="", setting=setting, method=method, seed=seed)
        jobs.append(planned.model_copy(update={"id": plan.job(planned).id}))
    return plan.model_copy(update={"jobs": tuple(jobs)})


def _column(cell: _Cell) -> Column:
    entry = cast(MetricEntry, cell.registered.entry)
    return Column(name=cell.label, direction=entry.direction, unit=entry.unit, family=entry.family, digits=entry.digits)


def _resolved(
    name: str,
    parsed: _SuiteFile,
    cells: Mapping[str, Sequence[_Cell]],
    trainings: Sequence[tuple[str, Training]],
    ranking: tuple[str, ...],
) -> str:
    """The suite file with all defaults filled in. Grids over parameters are written out; loading it gives the same
    jobs."""

    def item(cell: _Cell) -> dict[str, Any]:
        return {"name": cell.registered.entry.name, "label": cell.label, "params": cell.params, **cell.extra}

    def axis(key: str) -> Any:
        values = list(dict.fromkeys(getattr(training, key) for _, training in trainings))
        return values[0] if len(values) == 1 else {"grid": values}

    data = {
        "name": name,
        "description": parsed.description,
        **{kind: [item(cell) for cell in cells[kind]] for kind in cells},
        "seeds": parsed.seeds,
        "training": {key: axis(key) for key in Training.model_fields},
        "ranking": {"metrics": list(ranking)},
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=120)
