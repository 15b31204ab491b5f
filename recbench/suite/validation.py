"""Validation of a suite file: every problem is found, with its line and key."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar, cast

from recbench.contracts.dataset import Dataset
from recbench.contracts.entries import DatasetEntry, ImageShape
from recbench.data.cache import has_images
from recbench.errors import Problem, SuiteError, UserError, did_you_mean, quoted
from recbench.plan.model import NEEDS_VALIDATION, SUITE_NAME, TUNING_NEEDS_VALIDATION, PublishedScore, Training
from recbench.plan.tuning import REFERENCE
from recbench.plugin.registry import Registry
from recbench.suite.baselines import BaselineCell, baseline_cells
from recbench.suite.document import Document, KeyPath, dotted
from recbench.suite.executors import executor_params
from recbench.suite.grid import GridCell, GridCells, GridItem, duplicates, product, unknown_metric, varying
from recbench.suite.published import published_scores
from recbench.suite.schema import ITEMS, Choice, LossChoice, SuiteFile, read
from recbench.suite.sums import chosen_entry, default_label, given_params
from recbench.suite.tuning import TuningAxes, corner_text, corners, loss_axes, tuning_rule
from recbench.suite.values import UNWEIGHTED, check_seeds, is_label, kl_weight, repeated, scale, training_value

_Result = TypeVar("_Result")

_MAXIMUM_METRICS = 1_000


@dataclass(frozen=True)
class ValidSuite:
    """A suite file that was found valid, before it is expanded into a plan.

    Attributes:
        name: name of the suite.
        file: the file in its structure.
        cells: all combinations of parameters, by section.
        trainings: all combinations of training, each with the label of the values that vary.
        shapes: shape of the images of each data set.
        ranking: labels of the metrics that are ranked.
        published: published numbers; ``method`` is the index of the loss.
        tuning: the tuning rule and the axes of each loss, if the suite is tuned.
        executors: valid parameters by executor.
        lacking: pretrained weights that are missing on this machine.
        baselines: of each architecture.
    """

    name: str
    file: SuiteFile
    cells: GridCells
    trainings: Sequence[tuple[str, Training]]
    shapes: Sequence[ImageShape]
    ranking: tuple[str, ...]
    published: tuple[PublishedScore, ...]
    tuning: TuningAxes | None
    executors: Mapping[str, Mapping[str, Any]]
    lacking: tuple[Problem, ...]
    baselines: tuple[BaselineCell, ...] = ()


class Validator:
    """Checks a suite file and collects its problems. Whatever depends on an invalid value is not checked further."""

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
        self.confirm = ask
        self.problems = list(problems)
        self.lacking: list[Problem] = []
        self.validated_by: list[tuple[KeyPath, str]] = []
        """Why validation images are needed, and the key that says so; if it is empty, the data set's own."""
        self.unreadable = {problem.key for problem in problems}

    def add_problem(self, path: KeyPath, message: str) -> None:
        """Record a problem, unless the value could not even be read, which is a problem already."""
        if dotted(path) not in self.unreadable:
            self.problems.append(self.document.problem(path, message))

    def raise_problems(self) -> None:
        """Raise SuiteError if there are problems so far."""
        if self.problems:
            raise SuiteError(self.problems)

    def validate(self) -> ValidSuite:
        """Check the whole file.

        Raises:
            SuiteError: the file is invalid; carries all problems.
        """
        parsed = self.structure()
        name = self.name(parsed)
        check_seeds(("seeds",), parsed.seeds, self.add_problem)
        training = self.training(parsed.training)
        kl_weights = self.kl_weights(parsed)
        items = {kind: list(self.items(kind, getattr(parsed, kind), kl_weights)) for kind in ITEMS}
        candidates = parsed.tuning.budget * len(parsed.tuning.seeds or [0]) if parsed.tuning else 0
        self.check_size(items, training, candidates + len(parsed.seeds))
        cells = {kind: [cell for item in items[kind] for cell in item.cells()] for kind in ITEMS}
        for kind in ITEMS:
            self.check_labels(cells[kind])
        for cell in cells["metrics"]:
            if cell.label == "kl" and cell.registered.entry.name != "kl":
                what = "kl is the label of the KL divergence, which is always recorded; choose another label"
                self.add_problem(cell.path, what)
        all_valid = len(items["metrics"]) == len(parsed.metrics)
        ranking = self.ranking(parsed.ranking.metrics, cells["metrics"], all_valid=all_valid)
        if self.document.data.get("tuning") is not None:
            self.validated_by.append(((), TUNING_NEEDS_VALIDATION))
        if "plateau" in training.get("schedule", ()):
            self.validated_by.append((("training", "schedule"), NEEDS_VALIDATION))
        shapes = [self.shape(cell) for cell in cells["datasets"]]
        self.check_compatibility(cells, shapes)
        self.check_restrictions(cells)
        self.check_sources(cells)
        tuning = self.tuning(parsed, cells, shapes, all_valid=all_valid)
        baselines = tuple(baseline_cells(parsed, cells["architectures"], shapes, self.registry, self.add_problem))
        executors = dict(executor_params(parsed.executors, self.registry, self.add_problem))
        self.raise_problems()
        trainings = [(" ".join(varying(values, training)), Training(**values)) for values in product(training)]
        published = tuple(published_scores(parsed.published, cells, len(trainings), self.add_problem))
        self.raise_problems()
        return ValidSuite(
            name=name,
            file=parsed,
            cells=cells,
            trainings=trainings,
            shapes=cast(list[ImageShape], shapes),
            ranking=ranking,
            published=published,
            tuning=tuning,
            executors=executors,
            lacking=tuple(dict.fromkeys(self.lacking)),
            baselines=baselines,
        )

    def structure(self) -> SuiteFile:
        """Return the file in its structure, without the parts that are wrong, for which problems are added."""
        parsed, problems = read(self.document.data)
        for path, message in problems:
            self.add_problem(path, message)
        return parsed

    def name(self, parsed: SuiteFile) -> str:
        """Return the name of the suite: by default, that of its file."""
        name = parsed.name if parsed.name is not None else self.default_name
        if not SUITE_NAME.fullmatch(name):
            given = quoted(name) if parsed.name is not None else f"{quoted(name)}, from the file's name,"
            self.add_problem(
                ("name",), f"{given} must start with a letter or digit and contain only those, '.', '_' and '-'"
            )
        return name

    def training(self, section: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Return the values of every key of the section ``training`` except ``kl_weight``."""
        axes = {}
        for key, value in section.items():
            if key in Training.model_fields:
                axes[key] = list(self.values(("training", key), value, partial(training_value, key)))
            elif key != "kl_weight":
                known = [*Training.model_fields, "kl_weight"]
                self.add_problem(("training", key), f"unknown key; {did_you_mean(key, known)}")
        if "epochs" not in section and isinstance(self.document.data.get("training"), dict):
            self.add_problem(("training",), "epochs is missing")
        return {key: axes[key] for key in Training.model_fields if key in axes}

    def kl_weights(self, parsed: SuiteFile) -> list[float] | None:
        """Return the KL weights of losses that do not set their own; None if tuning chooses them."""
        if self.document.data.get("tuning") is None:
            return list(self.values(("training", "kl_weight"), parsed.training.get("kl_weight", UNWEIGHTED), kl_weight))
        if "kl_weight" in parsed.training:
            self.add_problem(("training", "kl_weight"), "tuning chooses the KL weights; remove this key")
        return None

    def tuning(
        self,
        parsed: SuiteFile,
        cells: GridCells,
        shapes: Sequence[ImageShape | None],
        *,
        all_valid: bool,
    ) -> TuningAxes | None:
        """Return the tuning rule and the axes of each loss; None if the suite is not tuned, or the rule is invalid."""
        if parsed.tuning is None:
            return None
        rule = tuning_rule(parsed.tuning, cells, parsed.seeds, self.add_problem, all_valid=all_valid)
        if self.registry.find("losses", REFERENCE) is None and any("scale" not in c.extra for c in cells["losses"]):
            what = f"a scale is relative to {REFERENCE}: {self.registry.unknown('losses', REFERENCE)}"
            self.add_problem(("tuning",), what)
        axes = loss_axes(parsed.tuning, cells["losses"], self.add_problem)
        for cell, tuned in zip(cells["losses"], axes, strict=True):
            for corner in corners(tuned):
                moved = replace(cell, params={**cell.params, **corner})
                for shape in dict.fromkeys(filter(None, shapes)):
                    for reason in self.refusals(moved, shape):
                        what = f"{cell.label} {corner_text(corner)} cannot take {shape} images: it {reason}"
                        self.add_problem(("tuning",), what)
        return None if rule is None else (rule, axes)

    def items(self, kind: str, choices: Sequence[Choice | None], kl_weights: list[float] | None) -> Iterator[GridItem]:
        """Yield the valid items of a section."""
        for index, choice in enumerate(choices):
            item = choice and self.item(kind, (kind, index), choice, kl_weights)
            if item:
                yield item

    def item(self, kind: str, path: KeyPath, choice: Choice, kl_weights: list[float] | None) -> GridItem | None:
        """Return an item of a section; None if it is invalid."""
        before = len(self.problems)
        if choice.label is not None and not is_label(choice.label):
            message = "must start with a letter or digit, without slashes, on one line of at most 200 characters"
            self.add_problem((*path, "label"), f"{quoted(choice.label)} {message}")
        extra = self.weighting(path, choice, kl_weights) if isinstance(choice, LossChoice) else {}
        registered = chosen_entry(kind, path, choice, self.registry, self.add_problem)
        if registered is None:
            return None
        entry, axes = registered.entry, {}
        for given in given_params(path, choice, entry):
            if given.parameter is None:
                self.add_problem(given.at, given.unknown)
            else:
                axes[given.key] = list(self.values(given.at, given.value, given.parameter.coerce))
        if len(self.problems) > before:
            return None
        axes = {parameter.name: axes[parameter.name] for parameter in entry.parameters if parameter.name in axes}
        only = tuple(choice.architectures) if isinstance(choice, LossChoice) and choice.architectures else None
        return GridItem(path, choice.label or default_label(choice), registered, axes, extra, only)

    def weighting(self, path: KeyPath, choice: LossChoice, kl_weights: list[float] | None) -> dict[str, list[Any]]:
        """Return the KL weights of a loss; if tuning chooses them, its scale, if it has one."""
        if kl_weights is not None:
            if choice.scale is not None:
                self.add_problem((*path, "scale"), "scale is used by tuning only, and the suite has no section tuning")
            if choice.kl_weight is not None:
                kl_weights = list(self.values((*path, "kl_weight"), choice.kl_weight, kl_weight))
            return {"kl_weight": kl_weights}
        if choice.kl_weight is not None:
            what = "tuning chooses the KL weights; the key scale multiplies their range for this loss"
            self.add_problem((*path, "kl_weight"), what)
        if choice.scale is None:
            return {}
        try:
            return {"scale": [scale(choice.scale)]}
        except ValueError as error:
            self.add_problem((*path, "scale"), str(error))
            return {}

    def values(self, path: KeyPath, value: Any, coerce: Callable[[Any], Any]) -> Iterator[Any]:
        """Yield the value, or the values of a grid; a problem is added for each that is invalid."""
        grid = isinstance(value, dict) and set(value) == {"grid"}
        if isinstance(value, dict) and not grid:
            self.add_problem(path, f"expected a value or a grid of values, as in {{grid: [1, 2]}}, got {quoted(value)}")
            return
        if grid and (not isinstance(value["grid"], list) or not value["grid"]):
            self.add_problem((*path, "grid"), "the grid is empty: a list with at least one value is needed")
            return
        seen: set[str] = set()
        for index, item in enumerate(value["grid"] if grid else [value]):
            at = (*path, "grid", index) if grid else path
            try:
                coerced = coerce(item)
            except ValueError as error:
                self.add_problem(at, str(error))
                continue
            if repr(coerced) in seen:
                self.add_problem(at, f"{quoted(coerced)} is in the grid twice")
            seen.add(repr(coerced))
            yield coerced

    def check_size(
        self, items: Mapping[str, Sequence[GridItem]], training: Mapping[str, list[Any]], seeds: int
    ) -> None:
        """Check the number of jobs before expansion, since a few lines can span more jobs than fit into memory."""
        counts = {kind: max(1, sum(item.size for item in items[kind])) for kind in ITEMS}
        metrics = counts.pop("metrics")
        size = math.prod([*counts.values(), *map(len, training.values()), seeds])
        if size > self.maximum_jobs and not (self.confirm and self.confirm(size)):
            self.add_problem((), f"spans {size:,} jobs, more than {self.maximum_jobs:,}; --max-jobs raises the limit")
        if metrics > _MAXIMUM_METRICS:
            self.add_problem(("metrics",), f"has {metrics:,} metrics, more than {_MAXIMUM_METRICS:,}")
        if max(size, *counts.values()) > self.maximum_jobs or metrics > _MAXIMUM_METRICS:
            self.raise_problems()

    def check_labels(self, cells: Sequence[GridCell]) -> None:
        """Check that labels are valid and unique, and that no two cells of a section are equal."""
        for cell in cells:
            if not is_label(cell.label):
                self.add_problem(
                    cell.path, f"its grid makes the invalid label {quoted(cell.label)}; give a shorter label"
                )
        for first, second in duplicates(cells, lambda cell: cell.label):
            message = f"the label '{second.label}' is also that of {dotted(first.path)}; give one of them another label"
            if first.path == second.path and first.places:
                message = f"{' and '.join(first.places)} is in no label: write an item with a label for each place"
            self.add_problem(second.path, message)
        for first, second in duplicates(
            cells, lambda cell: repr((cell.registered.entry.name, cell.resolved, cell.extra, cell.score))
        ):
            if first.label != second.label:
                self.add_problem(second.path, f"is the same as {dotted(first.path)}, under another label")

    def ranking(self, chosen: Sequence[str] | None, metrics: Sequence[GridCell], *, all_valid: bool) -> tuple[str, ...]:
        """Return the labels of the metrics that are ranked: by default, all."""
        labels = [cell.label for cell in metrics]
        for index, (name, earlier) in enumerate(repeated(chosen or ())):
            at = ("ranking", "metrics", index)
            if name not in labels and all_valid:
                self.add_problem(at, unknown_metric(name, metrics))
            if earlier:
                self.add_problem(at, f"{quoted(name)} is given twice")
        return tuple(labels if chosen is None else chosen)

    def shape(self, dataset: GridCell) -> ImageShape | None:
        """Return the shape of a data set's images; None, with a problem, if it cannot be created."""

        def create() -> ImageShape:
            made: Dataset = dataset.registered.create(dataset.params)
            if not isinstance(made.shape, ImageShape):
                raise TypeError(f"expected its shape to be an ImageShape, got {quoted(made.shape)}")
            for path, why in self.validated_by:
                if not has_images(made, "validation"):
                    self.add_problem(path or dataset.path, why)
            return made.shape

        before = len(self.problems)
        shape = self.call_plugin(dataset, create)
        if len(self.problems) > before and cast(DatasetEntry, dataset.registered.entry).files:
            hint = f"; 'recbench data prepare {dataset.registered.entry.name}' fetches its files"
            self.problems[-1] = replace(self.problems[-1], message=self.problems[-1].message + hint)
        for reason in self.refusals(dataset, shape) if shape else ():
            self.add_problem(dataset.path, reason)
        return shape

    def check_compatibility(self, cells: GridCells, shapes: Sequence[ImageShape | None]) -> None:
        """Check that architectures, losses and metrics accept the images, and have their weights."""
        first_of: dict[ImageShape | None, str] = {}
        for dataset, shape in zip(cells["datasets"], shapes, strict=True):
            first_of.setdefault(shape, dataset.label)
        first_of.pop(None, None)
        for kind in ("architectures", "losses", "metrics"):
            for cell in filter(lambda each: each.is_first, cells[kind]):
                for shape, label in first_of.items():
                    assert shape is not None
                    reasons = self.refusals(cell, shape)
                    for reason in reasons:
                        self.add_problem(
                            cell.path, f"{cell.whole} cannot take the {shape} images of {label}: it {reason}"
                        )
                    lacking = None if reasons else self.call_plugin(cell, partial(cell.missing_weights, shape))
                    if lacking:
                        self.lacking.append(self.document.problem(cell.path, f"{cell.whole} {lacking}"))

    def refusals(self, cell: GridCell, shape: ImageShape) -> list[str]:
        """Return the reasons why a component cannot take images of a shape."""
        return self.call_plugin(cell, lambda: cell.registered.entry.refusals(shape, cell.params)) or []

    def check_restrictions(self, cells: GridCells) -> None:
        """Check the architectures that losses name, and that every architecture is used."""
        known = [cell.label for cell in cells["architectures"]]
        for loss in cells["losses"]:
            for index, label in enumerate(loss.only or ()):
                if not any(cell.matches(label) for cell in cells["architectures"]):
                    what = f"the suite has no architecture {quoted(label)}; {did_you_mean(label, known)}"
                    self.add_problem((*loss.path, "architectures", index), what)
        for cell in cells["architectures"]:
            if cells["losses"] and not any(loss.goes_with(cell) for loss in cells["losses"]):
                self.add_problem(
                    cell.path,
                    f"no loss is trained with {cell.label}; remove it, or name it under architectures of a loss",
                )

    def check_sources(self, cells: GridCells) -> None:
        """Check that the source behind every entry is found, since job ids depend on it."""
        for kind in ITEMS:
            for cell in filter(lambda each: each.is_first, cells[kind]):
                self.call_plugin(cell, partial(getattr, cell.registered, "code"))

    def call_plugin(self, cell: GridCell, function: Callable[[], _Result]) -> _Result | None:
        """Call code of a plugin; an exception becomes a problem of the cell, and None is returned."""
        try:
            return function()
        except UserError as error:
            self.add_problem(cell.path, str(error))
        except Exception as error:  # noqa: BLE001
            culprit = f"{cell.registered.entry.name} of {cell.registered.plugin.provider}"
            self.add_problem(cell.path, f"{culprit} fails: {type(error).__name__}: {error}")
        return None
