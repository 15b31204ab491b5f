"""Grids: the items of a suite with the values of their parameters, and the combinations of these values."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from recbench.contracts.entries import DatasetEntry, Entry, ImageShape, MetricEntry
from recbench.data.weights import lacking
from recbench.errors import did_you_mean, quoted
from recbench.plan.components import component
from recbench.plan.model import ComponentSpec, brief
from recbench.plugin.registry import Registered
from recbench.suite.document import KeyPath


@dataclass(frozen=True)
class GridItem:
    """A valid item of a section, such as a loss, with the values of its parameters.

    Attributes:
        path: its place in the suite file.
        label: its label.
        registered: its entry.
        axes: the values of each parameter that the suite sets.
        extra: values of keys other than parameters, such as ``kl_weight``.
        only: for a loss, labels of the architectures that it is trained with; None for all.
    """

    path: KeyPath
    label: str
    registered: Registered
    axes: dict[str, list[Any]]
    extra: dict[str, list[Any]] = field(default_factory=dict)
    only: tuple[str, ...] | None = None

    @property
    def size(self) -> int:
        """The number of combinations."""
        return math.prod(len(values) for values in (*self.axes.values(), *self.extra.values()))

    def cells(self) -> Iterator[GridCell]:
        """Yield all combinations, each with a label that has the values that vary."""
        entry, axes = self.registered.entry, {**self.axes, **self.extra}
        named = {name: values for name, values in axes.items() if name not in _locations(entry)}
        for assignment in product(axes):
            params = entry.complete({key: assignment[key] for key in self.axes})
            extra = {key: assignment[key] for key in self.extra}
            label = " ".join([self.label, *varying(assignment, named)])
            given = frozenset(self.axes)
            cell = GridCell(self.path, label, self.registered, params, extra, self.label, self.only, given)
            scores = entry.scores if isinstance(entry, MetricEntry) else ()
            yield from (cell.of_score(score.name) for score in scores) if scores else [cell]


@dataclass(frozen=True)
class GridCell:
    """One combination of the values of an item.

    Attributes:
        path: place of the item in the suite file.
        label: the item's label, followed by the values that vary.
        registered: the entry.
        params: the complete parameters.
        extra: values of keys other than parameters.
        item: the item's label.
        only: for a loss, labels of the architectures that it is trained with; None for all.
        given: names of the parameters that the suite sets.
        score: of a metric with several scores, the name of the one that this cell stands for; each has its own cell.
        combination: of such a cell, the label without the score.
    """

    path: KeyPath
    label: str
    registered: Registered
    params: dict[str, Any]
    extra: dict[str, Any]
    item: str
    only: tuple[str, ...] | None
    given: frozenset[str]
    score: str = ""
    combination: str = ""

    def of_score(self, name: str) -> GridCell:
        """Return the cell of one of the metric's scores: in its label, the score's name stands in the place of the
        metric's, or comes last where the label does not begin with that."""
        metric, _, rest = self.label.partition(" ")
        words = [name, rest] if metric == self.registered.entry.name else [self.label, name]
        return replace(self, label=" ".join(filter(None, words)), score=name, combination=self.label)

    @property
    def whole(self) -> str:
        """The label, of a metric with several scores without the score."""
        return self.combination or self.label

    @property
    def is_first(self) -> bool:
        """True unless an earlier cell stands for the same metric with the same parameters, as one of its scores."""
        entry = self.registered.entry
        return not self.score or (isinstance(entry, MetricEntry) and entry.scores[0].name == self.score)

    def matches(self, label: str | None) -> bool:
        """Return True if a label is that of this cell or of its item, or is None, which matches every cell."""
        return label is None or label in (self.label, self.item)

    def goes_with(self, architecture: GridCell) -> bool:
        """Return True if this loss is trained with an architecture."""
        return self.only is None or any(architecture.matches(label) for label in self.only)

    def missing_weights(self, shape: ImageShape) -> str | None:
        """Return what is to be said of pretrained weights and packages for images of a shape that are not on this
        machine."""
        return lacking(self.registered.entry, shape, self.params)

    @property
    def places(self) -> tuple[str, ...]:
        """Names of the parameters that only say where images are."""
        return _locations(self.registered.entry)

    @property
    def resolved(self) -> dict[str, Any]:
        """The parameters, with all spellings of a place alike."""
        found = {name: os.path.realpath(Path(str(self.params[name])).expanduser()) for name in self.places}
        return {**self.params, **found}

    @property
    def spec(self) -> ComponentSpec:
        """The component as jobs define it."""
        return component(self.registered, self.params, self.score)


GridCells = Mapping[str, Sequence[GridCell]]
"""The cells of the suite by section: datasets, architectures, losses and metrics."""


def _locations(entry: Entry) -> tuple[str, ...]:
    return entry.locations if isinstance(entry, DatasetEntry) else ()


def product(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    """Yield all combinations of the values of each axis.

    >>> list(product({"a": [1, 2], "b": [3]}))
    [{'a': 1, 'b': 3}, {'a': 2, 'b': 3}]
    """
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def varying(assignment: Mapping[str, Any], axes: Mapping[str, Sequence[Any]]) -> list[str]:
    """Return ``C=0.1`` for every axis with more than one value."""
    return [f"{key}={brief(value)}" for key, value in assignment.items() if len(axes.get(key, ())) > 1]


def unknown_metric(label: str, metrics: Sequence[GridCell]) -> str:
    """Return what is wrong with a label that is of no metric of a suite."""
    scores = [cell.label for cell in metrics if label in (cell.combination, cell.registered.entry.name) and cell.score]
    if scores:
        return f"{quoted(label)} gives several scores: name one of {', '.join(scores)}"
    return f"the suite has no metric {quoted(label)}; {did_you_mean(label, [cell.label for cell in metrics])}"


def setting_loss_pairs(cells: GridCells, trainings: int) -> list[tuple[int, int]]:
    """Return the index pairs of the settings and losses that are trained together.

    Args:
        cells: the cells of the suite.
        trainings: number of combinations in the section ``training``.
    """
    architectures = [cell for _ in cells["datasets"] for cell in cells["architectures"] for _ in range(trainings)]
    pairs = itertools.product(range(len(architectures)), range(len(cells["losses"])))
    return [(setting, loss) for setting, loss in pairs if cells["losses"][loss].goes_with(architectures[setting])]


def duplicates(cells: Sequence[GridCell], key: Callable[[GridCell], str]) -> Iterator[tuple[GridCell, GridCell]]:
    """Yield each cell whose key an earlier cell has, after that one."""
    seen: dict[str, GridCell] = {}
    for cell in cells:
        if key(cell) in seen:
            yield seen[key(cell)], cell
        seen.setdefault(key(cell), cell)
