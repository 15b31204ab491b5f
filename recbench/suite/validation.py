"""Suites: YAML files that span a grid of jobs. Reading one finds everything that is wrong with it, before any job runs.

Any parameter may be given as ``{grid: [a, b, …]}``; the suite then spans all combinations.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from recbench.contracts.dataset import Dataset
from recbench.contracts.entries import DatasetEntry, ImageShape, LossEntry, MetricEntry
from recbench.data.weights import missing
from recbench.errors import Problem, SuiteError, UserError, did_you_mean, quoted
from recbench.plan.model import (
    SUITE_NAME,
    TUNING_NEEDS_VALIDATION,
    BoardSetting,
    Column,
    ComponentSpec,
    Method,
    PlannedJob,
    PublishedScore,
    Training,
    brief,
)
from recbench.plan.plan import Plan
from recbench.plan.tuning import Axis, Tuning
from recbench.plugin.registry import Registered, Registry
from recbench.suite import tuning as suite_tuning
from recbench.suite.document import Document, Path_, dotted, dump
from recbench.suite.document import load as load_document
from recbench.suite.schema import ITEMS, Choice, LossChoice, SuiteFile, Table, read

_Answer = TypeVar("_Answer")

_LABEL = re.compile(r"[^\W_]([^/\\]{0,198}[^/\\\s])?")


_MAXIMUM_METRICS = 1_000


@dataclass(frozen=True)
class _Item:
    """One item of a section: its entry, and the values that its parameters take. Those of ``extra`` are no
    parameters of the entry. A loss may be meant for some architectures ``only``."""

    path: Path_
    label: str
    registered: Registered
    axes: dict[str, list[Any]]
    extra: dict[str, list[Any]] = field(default_factory=dict)
    only: tuple[str, ...] | None = None

    @property
    def size(self) -> int:
        return math.prod(len(values) for values in (*self.axes.values(), *self.extra.values()))

    def cells(self) -> Iterator[_Cell]:
        """All combinations, told apart by what varies."""
        entry, axes = self.registered.entry, {**self.axes, **self.extra}
        for assignment in _product(axes):
            params = entry.complete({key: assignment[key] for key in self.axes})
            extra = {key: assignment[key] for key in self.extra}
            label = " ".join([self.label, *_varied(assignment, axes)])
            given = frozenset(self.axes)
            yield _Cell(self.path, label, self.registered, params, extra, self.label, self.only, given)


@dataclass(frozen=True)
class _Cell:
    """One combination of an item's grid: its complete parameters, those of them that are ``given`` by the suite, and
    how to tell it from the others."""

    path: Path_
    label: str
    registered: Registered
    params: dict[str, Any]
    extra: dict[str, Any]
    item: str
    only: tuple[str, ...] | None
    given: frozenset[str]

    def answers_to(self, label: str | None) -> bool:
        """Whether a label means this combination: its own, that of its whole item, or none at all."""
        return label is None or label in (self.label, self.item)

    def goes_with(self, architecture: _Cell) -> bool:
        """Whether this loss is tried with that architecture."""
        return self.only is None or any(architecture.answers_to(label) for label in self.only)

    @property
    def part(self) -> ComponentSpec:
        return ComponentSpec(name=self.registered.entry.name, params=self.params, code=self.registered.code)


@dataclass(frozen=True)
class Suite:
    """A valid suite: its plan, and its text as resolved (a suite file again, with every default filled in).

    Attributes:
        lacking: pretrained weights that are missing on this machine; without them its jobs cannot run.
        executors: parameters that it wants for executors, by name; no part of what a job is.
    """

    plan: Plan
    resolved: str
    lacking: tuple[Problem, ...] = ()
    executors: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def load_suite(
    file: Path,
    registry: Registry,
    overrides: Sequence[str] = (),
    *,
    maximum_jobs: int = 10_000,
    ask: Callable[[int], bool] | None = None,
) -> Suite:
    """Read, validate and expand a suite file.

    Args:
        overrides: ``dotted.key=value`` assignments, as from ``--set``.
        maximum_jobs: refuse to expand a larger grid.
        ask: given the number of jobs of a larger grid, says whether to expand it all the same.

    Raises:
        SuiteError: with every problem that was found, each with file, line and key.
    """
    document = load_document(file)
    if not isinstance(document.data, dict):
        raise SuiteError([Problem(str(file), 1, "", "is not a suite: a mapping with datasets, losses … is needed")])
    problems = list(document.problems)
    for assignment in overrides:
        try:
            document.override(assignment)
        except SuiteError as error:
            problems.extend(error.problems)
    _unfold_short_forms(document.data)
    return _Validator(document, problems, registry, default_name=file.stem, maximum_jobs=maximum_jobs, ask=ask).suite()


def _unfold_short_forms(data: dict[str, Any]) -> None:
    """``- l2`` is short for ``- {name: l2}``, everywhere where entries are chosen."""
    for key in ITEMS:
        if isinstance(data.get(key), list):
            data[key] = [{"name": item} if isinstance(item, str) else item for item in data[key]]


class _Validator:
    """Collects problems; what depends on something that is already wrong is not checked."""

    def __init__(
        self,
        document: Document,
        problems: Sequence[Problem],
        registry: Registry,
        default_name: str,
        maximum_jobs: int,
        ask: Callable[[int], bool] | None,
    ) -> None:
        self.document = document
        self.registry = registry
        self.default_name = default_name
        self.maximum_jobs = maximum_jobs
        self.allows = ask
        self.problems = list(problems)
        self.lacking: list[Problem] = []
        self.unreadable = {problem.key for problem in problems}

    def blame(self, path: Path_, message: str) -> None:
        if dotted(path) not in self.unreadable:  # once is enough
            self.problems.append(self.document.problem(path, message))

    def fail_if_any(self) -> None:
        if self.problems:
            raise SuiteError(self.problems)

    def suite(self) -> Suite:
        parsed = self.structure()
        name = self.name(parsed)
        self.seeds(parsed.seeds)
        training = self.training(parsed.training)
        kl_weights = self.kl_weights(parsed)
        items = {kind: list(self.items(kind, getattr(parsed, kind), kl_weights)) for kind in ITEMS}
        candidates = parsed.tuning.budget * len(parsed.tuning.seeds or [0]) if parsed.tuning else 0
        self.small_enough(items, training, candidates + len(parsed.seeds))
        cells = {kind: [cell for item in items[kind] for cell in item.cells()] for kind in ITEMS}
        for kind in ITEMS:
            self.distinct(cells[kind])
        for cell in cells["metrics"]:
            if cell.label == "kl" and cell.registered.entry.name != "kl":
                self.blame(cell.path, "kl is the label of the KL divergence, which is always kept; choose another")
        all_sound = len(items["metrics"]) == len(parsed.metrics)
        ranking = self.ranking(parsed.ranking.metrics, [c.label for c in cells["metrics"]], all_sound=all_sound)
        shapes = [self.shape(cell) for cell in cells["datasets"]]
        self.compatible(cells, shapes)
        self.restrictions(cells)
        self.sources(cells)
        tuning = self.tuning(parsed, cells, shapes, all_sound=all_sound)
        executors = dict(self.executors(parsed.executors))
        self.fail_if_any()
        trainings = [(" ".join(_varied(values, training)), Training(**values)) for values in _product(training)]
        plan = _plan(name, parsed, cells, trainings, cast(list[ImageShape], shapes), ranking)
        published = tuple(self.published(parsed.published, cells, len(trainings)))
        self.fail_if_any()
        if tuning is None:
            plan = plan.model_copy(update={"published": published})
        else:
            pairs = _pairs(cells, len(trainings))
            plan = suite_tuning.with_searches(plan, *tuning, cells["losses"], pairs, published)
        resolved = _resolved(name, parsed, cells, trainings, ranking, tuning)
        return Suite(plan, resolved, tuple(dict.fromkeys(self.lacking)), executors)

    def executors(self, wanted: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        """The parameters that are sound, by executor."""
        for name, params in wanted.items():
            registered = self.registry.find("executors", name)
            if registered is None:
                self.blame(("executors", name), self.registry.unknown("executors", name))
                continue
            sound = {}
            for key, value in params.items():
                parameter = registered.entry.parameter(key)
                try:
                    if parameter is None:
                        known = [parameter.name for parameter in registered.entry.parameters]
                        raise ValueError(f"{name} has no parameter '{key}'; {did_you_mean(key, known)}")
                    sound[key] = parameter.coerce(value)
                except ValueError as error:
                    self.blame(("executors", name, key), str(error))
            yield name, sound

    def structure(self) -> SuiteFile:
        """The file in its structure. What is wrong is blamed, and left out of what is returned."""
        parsed, problems = read(self.document.data)
        for path, message in problems:
            self.blame(path, message)
        return parsed

    def name(self, parsed: SuiteFile) -> str:
        name = parsed.name if parsed.name is not None else self.default_name
        if not SUITE_NAME.fullmatch(name):
            given = quoted(name) if parsed.name is not None else f"{quoted(name)}, from the file's name,"
            self.blame(("name",), f"{given} must start with a letter or digit and hold only those, '.', '_' and '-'")
        return name

    def seeds(self, seeds: Sequence[int]) -> None:
        for index, (seed, earlier) in enumerate(_repeated(seeds)):
            if earlier and seed is not None:
                self.blame(("seeds", index), f"the seed {quoted(seed)} is given twice")
            if type(seed) is int and not 0 <= seed < 2**32:
                self.blame(("seeds", index), f"{quoted(seed)} is not between 0 and {2**32 - 1}")

    def training(self, section: Mapping[str, Any]) -> dict[str, list[Any]]:
        """The values of every key of the training section but ``kl_weight``."""
        axes = {}
        for key, value in section.items():
            if key in Training.model_fields:
                axes[key] = list(self.values(("training", key), value, partial(_training_value, key)))
            elif key != "kl_weight":
                known = [*Training.model_fields, "kl_weight"]
                self.blame(("training", key), f"unknown key; {did_you_mean(key, known)}")
        if "epochs" not in section and isinstance(self.document.data.get("training"), dict):
            self.blame(("training",), "epochs is missing")
        return {key: axes[key] for key in Training.model_fields if key in axes}

    def kl_weights(self, parsed: SuiteFile) -> list[float] | None:
        """The KL weights of losses that do not set their own; None where tuning chooses them."""
        if self.document.data.get("tuning") is None:
            return list(self.values(("training", "kl_weight"), parsed.training.get("kl_weight", 1.0), _kl_weight))
        if "kl_weight" in parsed.training:
            self.blame(("training", "kl_weight"), "tuning chooses the KL weights; take this away")
        return None

    def tuning(
        self,
        parsed: SuiteFile,
        cells: Mapping[str, Sequence[_Cell]],
        shapes: Sequence[ImageShape | None],
        *,
        all_sound: bool,
    ) -> tuple[Tuning, list[tuple[Axis, ...]]] | None:
        """The rule by which the suite is tuned, and what is tuned of each loss; None where nothing is, or wrongly."""
        if parsed.tuning is None:
            return None
        rule = suite_tuning.rule(parsed.tuning, cells["metrics"], parsed.seeds, self.blame, all_sound=all_sound)
        axes = suite_tuning.axes(parsed.tuning, cells["losses"], self.blame)
        for cell, tuned in zip(cells["losses"], axes, strict=True):
            for corner in suite_tuning.corners(tuned):
                moved = replace(cell, params={**cell.params, **corner})
                for shape in dict.fromkeys(filter(None, shapes)):
                    for reason in self.refusals(moved, shape):
                        what = f"{cell.label} {suite_tuning.in_words(corner)} cannot take {shape} images: it {reason}"
                        self.blame(("tuning",), what)
        return None if rule is None else (rule, axes)

    def items(self, kind: str, choices: Sequence[Choice | None], kl_weights: list[float] | None) -> Iterator[_Item]:
        """The sound items of a section."""
        for index, choice in enumerate(choices):
            item = choice and self.item(kind, (kind, index), choice, kl_weights)
            if item:
                yield item

    def item(self, kind: str, path: Path_, choice: Choice, kl_weights: list[float] | None) -> _Item | None:
        before = len(self.problems)
        if choice.label is not None and not _is_label(choice.label):
            message = "must start with a letter or digit and have no slashes, in one line of at most 200 characters"
            self.blame((*path, "label"), f"{quoted(choice.label)} {message}")
        extra = self.weighting(path, choice, kl_weights) if isinstance(choice, LossChoice) else {}
        registered = self.registry.find(kind, choice.name)
        if registered is None:
            self.blame((*path, "name"), self.registry.unknown(kind, choice.name))
            return None
        entry, axes = registered.entry, {}
        known = [parameter.name for parameter in entry.parameters]
        for key, value in choice.params.items():
            parameter, place = entry.parameter(key), (*path, "params", key)
            if parameter is None:
                self.blame(place, f"{entry.name} has no such parameter; {did_you_mean(key, known)}")
            else:
                axes[key] = list(self.values(place, value, parameter.coerce))
        if len(self.problems) > before:
            return None
        axes = {key: axes[key] for key in known if key in axes}
        only = tuple(choice.architectures) if isinstance(choice, LossChoice) and choice.architectures else None
        return _Item(path, choice.label or choice.name, registered, axes, extra, only)

    def weighting(self, path: Path_, choice: LossChoice, kl_weights: list[float] | None) -> dict[str, list[Any]]:
        """The KL weights of a loss; where tuning chooses them, its scale if it has one."""
        if kl_weights is not None:
            if choice.scale is not None:
                self.blame((*path, "scale"), "only tuning asks for a scale, and the suite has no section tuning")
            if choice.kl_weight is not None:
                kl_weights = list(self.values((*path, "kl_weight"), choice.kl_weight, _kl_weight))
            return {"kl_weight": kl_weights}
        if choice.kl_weight is not None:
            what = "tuning chooses the KL weights; scale: is what its ladder is multiplied by for this loss"
            self.blame((*path, "kl_weight"), what)
        if choice.scale is None:
            return {}
        try:
            return {"scale": [_scale(choice.scale)]}
        except ValueError as error:
            self.blame((*path, "scale"), str(error))
            return {}

    def values(self, path: Path_, value: Any, coerce: Callable[[Any], Any]) -> Iterator[Any]:
        """The one value, or the values of a grid; those that cannot be coerced are blamed and left out."""
        grid = isinstance(value, dict) and set(value) == {"grid"}
        if isinstance(value, dict) and not grid:
            self.blame(path, f"{quoted(value)} is neither a value nor a grid of values, as in {{grid: [1, 2]}}")
            return
        if grid and (not isinstance(value["grid"], list) or not value["grid"]):
            self.blame((*path, "grid"), "the grid is empty: a list with at least one value is needed")
            return
        seen: set[str] = set()
        for index, item in enumerate(value["grid"] if grid else [value]):
            place = (*path, "grid", index) if grid else path
            try:
                coerced = coerce(item)
            except ValueError as error:
                self.blame(place, str(error))
                continue
            if repr(coerced) in seen:
                self.blame(place, f"{quoted(coerced)} stands in the grid twice")
            seen.add(repr(coerced))
            yield coerced

    def small_enough(self, items: Mapping[str, Sequence[_Item]], training: Mapping[str, list[Any]], seeds: int) -> None:
        """Multiply before anything is expanded, since a few lines can span more than any memory holds."""
        counts = {kind: max(1, sum(item.size for item in items[kind])) for kind in ITEMS}
        metrics = counts.pop("metrics")
        size = math.prod([*counts.values(), *map(len, training.values()), seeds])
        if size > self.maximum_jobs and not (self.allows and self.allows(size)):
            self.blame((), f"spans {size:,} jobs, more than {self.maximum_jobs:,}; --max-jobs raises the limit")
        if metrics > _MAXIMUM_METRICS:
            self.blame(("metrics",), f"has {metrics:,} metrics, more than {_MAXIMUM_METRICS:,}")
        if max(size, *counts.values()) > self.maximum_jobs or metrics > _MAXIMUM_METRICS:
            self.fail_if_any()

    def distinct(self, cells: Sequence[_Cell]) -> None:
        for cell in cells:
            if not _is_label(cell.label):
                self.blame(cell.path, f"its grid makes the label {quoted(cell.label)}, which cannot be; give a shorter")
        for first, second in _twins(cells, lambda cell: cell.label):
            message = f"the label '{second.label}' is also that of {dotted(first.path)}; give one of them another"
            self.blame(second.path, message)
        for first, second in _twins(cells, lambda cell: repr((cell.registered.entry.name, cell.params, cell.extra))):
            if first.label != second.label:
                self.blame(second.path, f"is the same as {dotted(first.path)}, under another label")

    def ranking(self, chosen: Sequence[str] | None, labels: Sequence[str], *, all_sound: bool) -> tuple[str, ...]:
        for index, (name, earlier) in enumerate(_repeated(chosen or ())):
            place = ("ranking", "metrics", index)
            if name not in labels and all_sound:
                self.blame(place, f"the suite has no metric {quoted(name)}; {did_you_mean(name, labels)}")
            if earlier:
                self.blame(place, f"{quoted(name)} is given twice")
        return tuple(labels if chosen is None else chosen)

    def shape(self, dataset: _Cell) -> ImageShape | None:
        """The shape of a data set's images; None, and a problem, where it cannot be made or does not fit itself."""

        def make() -> ImageShape:
            made: Dataset = dataset.registered.create(dataset.params)
            if not isinstance(made.shape, ImageShape):
                raise TypeError(f"its shape {quoted(made.shape)} is not an ImageShape")
            if self.document.data.get("tuning") is not None and made.image_count("validation") == 0:
                self.blame(dataset.path, TUNING_NEEDS_VALIDATION)
            return made.shape

        before = len(self.problems)
        shape = self.ask(dataset, make)
        if len(self.problems) > before and cast(DatasetEntry, dataset.registered.entry).files:
            hint = f"'recbench data prepare {dataset.registered.entry.name}' fetches what it needs"
            self.blame(dataset.path, hint)
        for reason in self.refusals(dataset, shape) if shape else ():
            self.blame(dataset.path, reason)
        return shape

    def compatible(self, cells: Mapping[str, Sequence[_Cell]], shapes: Sequence[ImageShape | None]) -> None:
        first_of: dict[ImageShape | None, str] = {}
        for dataset, shape in zip(cells["datasets"], shapes, strict=True):
            first_of.setdefault(shape, dataset.label)
        first_of.pop(None, None)
        for kind in ("architectures", "losses", "metrics"):
            for cell in cells[kind]:
                for shape, label in first_of.items():
                    assert shape is not None
                    reasons = self.refusals(cell, shape)
                    for reason in reasons:
                        self.blame(cell.path, f"{cell.label} cannot take the {shape} images of {label}: it {reason}")
                    lacking = None if reasons else self.ask(cell, partial(_missing_weights, cell, shape))
                    if lacking:
                        self.lacking.append(self.document.problem(cell.path, f"{cell.label} {lacking}"))

    def refusals(self, cell: _Cell, shape: ImageShape) -> list[str]:
        return self.ask(cell, lambda: cell.registered.entry.refusals(shape, cell.params)) or []

    def restrictions(self, cells: Mapping[str, Sequence[_Cell]]) -> None:
        """What losses say about the architectures that they go with."""
        known = [cell.label for cell in cells["architectures"]]
        for loss in cells["losses"]:
            for index, label in enumerate(loss.only or ()):
                if not any(cell.answers_to(label) for cell in cells["architectures"]):
                    what = f"the suite has no architecture {quoted(label)}; {did_you_mean(label, known)}"
                    self.blame((*loss.path, "architectures", index), what)
        for cell in cells["architectures"]:
            if cells["losses"] and not any(loss.goes_with(cell) for loss in cells["losses"]):
                self.blame(cell.path, f"no loss is tried with {cell.label}")

    def published(
        self, tables: Sequence[Table], cells: Mapping[str, Sequence[_Cell]], trainings: int
    ) -> Iterator[PublishedScore]:
        """The numbers of the section ``published``, each with its places in the plan."""
        pairs = list(itertools.product(cells["datasets"], cells["architectures"]))
        for index, table in enumerate(tables):
            path: Path_ = ("published", index)
            self.one_place(path, table, cells)
            meant = [
                place for place, (d, a) in enumerate(pairs)
                if d.answers_to(table.dataset) and a.answers_to(table.architecture)
            ]  # fmt: skip
            for label, scores in table.scores.items():
                method = next((i for i, cell in enumerate(cells["losses"]) if cell.label == label), None)
                if method is None:
                    known = [cell.label for cell in cells["losses"]]
                    what = f"the suite has no method {quoted(label)}; {did_you_mean(label, known)}"
                    self.blame((*path, "scores", label), what)
                    continue
                for metric, value in scores.items():
                    try:
                        mean, std = _printed(value)
                    except ValueError as error:
                        self.blame((*path, "scores", label, metric), str(error))
                        continue
                    for place, training in itertools.product(meant, range(trainings)):
                        if cells["losses"][method].goes_with(pairs[place][1]):
                            setting = place * trainings + training
                            yield PublishedScore(
                                source=table.source, setting=setting, method=method, metric=metric, mean=mean, std=std
                            )

    def one_place(self, path: Path_, table: Table, cells: Mapping[str, Sequence[_Cell]]) -> None:
        """A printed table belongs to one data set and one architecture of the suite."""
        for key, kind in (("dataset", "datasets"), ("architecture", "architectures")):
            label = getattr(table, key)
            known = [cell.label for cell in cells[kind]]
            meant = [cell.label for cell in cells[kind] if cell.answers_to(label)]
            if not meant:
                self.blame((*path, key), f"the suite has no {key} {quoted(label)}; {did_you_mean(label, known)}")
            elif len(meant) > 1:
                self.blame((*path, key), f"say for which {key} the numbers were printed: {', '.join(meant)}")

    def sources(self, cells: Mapping[str, Sequence[_Cell]]) -> None:
        """Job ids are made from the source behind the entries, which therefore must be there."""
        for kind in ITEMS:
            for cell in cells[kind]:
                self.ask(cell, partial(getattr, cell.registered, "code"))

    def ask(self, cell: _Cell, question: Callable[[], _Answer]) -> _Answer | None:
        """Call a plugin's code; whatever it raises is its problem."""
        try:
            return question()
        except UserError as error:
            self.blame(cell.path, str(error))
        except Exception as error:  # noqa: BLE001
            who = f"{cell.registered.entry.name} of {cell.registered.plugin.provider}"
            self.blame(cell.path, f"{who} fails: {type(error).__name__}: {error}")
        return None


def _missing_weights(cell: _Cell, shape: ImageShape) -> str | None:
    return missing(cell.registered.entry.needed_weights(shape, cell.params))


def _printed(value: Any) -> tuple[float, float | None]:
    """A printed number, or a pair of mean and spread."""
    numbers = value if isinstance(value, list) else [value]
    sound = all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers)
    if not sound or len(numbers) not in (1, 2):
        raise ValueError(f"{quoted(value)} is neither a number nor a pair [mean, std]")
    return float(numbers[0]), float(numbers[1]) if len(numbers) == 2 else None


def _repeated(values: Sequence[_Answer]) -> Iterator[tuple[_Answer, bool]]:
    """Each value, and whether it stood there before."""
    seen = set()
    for value in values:
        yield value, value in seen
        seen.add(value)


def _is_label(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None and text.isprintable()


def _varied(assignment: Mapping[str, Any], axes: Mapping[str, Sequence[Any]]) -> list[str]:
    """``C=0.1`` for everything that has more than one value."""
    return [f"{key}={brief(value)}" for key, value in assignment.items() if len(axes[key]) > 1]


def _kl_weight(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{quoted(value)} is not a finite number from 0")
    return float(value)


def _scale(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{quoted(value)} is not a finite number above 0")
    return float(value)


def _training_value(key: str, value: Any) -> Any:
    """Check one value of the training section with the model's own field."""
    fields = {"epochs": 1, key: value}
    try:
        return getattr(Training.model_validate(fields, strict=True), key)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        raise ValueError(
            f"{quoted(value)} {message[0].lower()}{message[1:]}".replace("input should", "should")
        ) from None


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
    parsed: SuiteFile,
    cells: Mapping[str, Sequence[_Cell]],
    trainings: Sequence[tuple[str, Training]],
    shapes: Sequence[ImageShape],
    ranking: tuple[str, ...],
) -> Plan:
    settings = []
    for dataset, shape in zip(cells["datasets"], shapes, strict=True):
        for architecture, (varied, training) in itertools.product(cells["architectures"], trainings):
            settings.append(
                BoardSetting(
                    label=" · ".join(filter(None, [dataset.label, architecture.label, varied])),
                    dataset=dataset.part,
                    architecture=architecture.part,
                    training=training,
                    shape=(shape.channels, shape.height, shape.width),
                )
            )
    tuned = parsed.tuning is not None
    methods = [
        Method(
            label=cell.label,
            loss=cell.part,
            kl_weight=cell.extra["kl_weight"],
            family=cast(LossEntry, cell.registered.entry).family,
        )
        for cell in (() if tuned else cells["losses"])
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
    for (setting, method), seed in itertools.product([] if tuned else _pairs(cells, len(trainings)), parsed.seeds):
        planned = PlannedJob(id="", setting=setting, method=method, seed=seed)
        jobs.append(planned.model_copy(update={"id": plan.job(planned).id}))
    return plan.model_copy(update={"jobs": tuple(jobs)})


def _pairs(cells: Mapping[str, Sequence[_Cell]], trainings: int) -> list[tuple[int, int]]:
    """Places of the settings and losses that go together."""
    used = [cell for _ in cells["datasets"] for cell in cells["architectures"] for _ in range(trainings)]
    everything = itertools.product(range(len(used)), range(len(cells["losses"])))
    return [(setting, loss) for setting, loss in everything if cells["losses"][loss].goes_with(used[setting])]


def _column(cell: _Cell) -> Column:
    entry = cast(MetricEntry, cell.registered.entry)
    facts = {key: getattr(entry, key) for key in ("direction", "unit", "family", "digits", "rounded")}
    return Column(name=cell.label, **facts)


def _resolved(
    name: str,
    parsed: SuiteFile,
    cells: Mapping[str, Sequence[_Cell]],
    trainings: Sequence[tuple[str, Training]],
    ranking: tuple[str, ...],
    tuning: tuple[Tuning, list[tuple[Axis, ...]]] | None,
) -> str:
    """The suite file with all defaults filled in. Grids over parameters are written out; loading it gives the same
    jobs."""

    def item(cell: _Cell, tuned: Sequence[Axis] = ()) -> dict[str, Any]:
        chosen = {axis.name for axis in tuned}
        params = {name: value for name, value in cell.params.items() if name not in chosen}
        told = {"name": cell.registered.entry.name, "label": cell.label, "params": params, **cell.extra}
        if cell.only is not None:
            told["architectures"] = [other.label for other in cells["architectures"] if cell.goes_with(other)]
        return told

    def axis(key: str) -> Any:
        values = list(dict.fromkeys(getattr(training, key) for _, training in trainings))
        return values[0] if len(values) == 1 else {"grid": values}

    items = {kind: [item(cell) for cell in cells[kind]] for kind in cells}
    if tuning is not None:
        items["losses"] = [item(cell, axes) for cell, axes in zip(cells["losses"], tuning[1], strict=True)]
    data = {
        "name": name,
        "description": parsed.description,
        **items,
        "seeds": parsed.seeds,
        "training": {key: axis(key) for key in Training.model_fields},
        "ranking": {"metrics": list(ranking)},
    }
    if parsed.published:
        data["published"] = [table.model_dump(exclude_none=True) for table in parsed.published]
    if parsed.executors:
        data["executors"] = parsed.executors
    if parsed.tuning is not None and tuning is not None:
        data["tuning"] = suite_tuning.resolved(parsed.tuning, *tuning, cells["losses"])
    return dump(data)
