"""Comparison of two suites or two methods: what changed in the runs, and which scores changed with it.

Methods are compared by the tests of leaderboards: paired over shared test images, nested in seeds, Holm-corrected over
all comparisons. Results that follow different protocols are compared only if the caller insists.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from recbench.analysis import statistics
from recbench.analysis.per_image import finite_scores
from recbench.analysis.protocols import differences, metric_differences
from recbench.analysis.statistics import Numbers, ScoreMoments
from recbench.errors import UserError, did_you_mean
from recbench.plan.merge import flat
from recbench.plan.model import Column, Frozen, PlannedJob
from recbench.plan.plan import Plan
from recbench.plan.selection import usable
from recbench.store.artifacts import SCORES, read_scores
from recbench.store.record import Number, Record, fitted, parse_record
from recbench.store.sources import RecordSource


@dataclass(frozen=True)
class Side:
    """One of the two sides of a comparison.

    Attributes:
        name: what the user calls it.
        method: label of the method to compare; None for all of the suite.
    """

    name: str
    source: RecordSource
    plan: Plan
    method: str | None = None


ChangeBasis = Literal["images, pair by pair", "images of their own", "seeds", "nothing"]


class Change(Frozen):
    """A metric of two methods.

    Attributes:
        first, second: means over seeds and test images.
        difference: second − first; of a metric with a best score, of their distances from it.
        low, high: the interval of the difference, corrected for all comparisons as p is: it leaves out 0 exactly if p
            is at most 1 − confidence; within what the metric's range allows; null if unknown.
        p: two-sided, corrected for all comparisons; null if no test is possible.
        verdict: whether ``second`` is significantly better or worse; ``"open"`` if they do not differ significantly.
        basis: the data of the test.
    """

    column: Column
    first: Number
    second: Number
    difference: Number
    low: Number | None
    high: Number | None
    p: float | None
    verdict: Literal["better", "worse", "open", "equal"]
    basis: ChangeBasis


class ComparedPair(Frozen):
    """Two methods under a setting.

    Attributes:
        changed: how their specifications differ.
        protocol: how their protocols differ, if the caller insisted on comparing them.
        metrics: how metrics of the same label differ; they are compared only if the caller insisted.
        same: whether all their jobs are the same, so that there is nothing to compare.
        seeds: how many seeds are done.
    """

    settings: tuple[str, str]
    methods: tuple[str, str]
    changed: tuple[str, ...]
    protocol: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    same: bool = False
    seeds: tuple[int, int]
    changes: tuple[Change, ...] = ()


class Comparison(Frozen):
    """All that two sides have in common, and what only one of them has.

    Attributes:
        environment: how their machines and packages differ.
        only_first, only_second: methods, with their settings, that only one side has, or that have no scores.
    """

    first: str
    second: str
    confidence: float
    environment: tuple[str, ...]
    pairs: tuple[ComparedPair, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]


def compare(first: Side, second: Side, *, anyway: bool = False, confidence: float = 0.95) -> Comparison:
    """Compare settings and methods of the same label, or the two methods that the sides name.

    Args:
        first: the side that changes are relative to.
        second: the other side.
        anyway: compare even if protocols differ.
        confidence: of intervals and tests, in (0, 1).

    Raises:
        UserError: the sides have nothing in common, a method does not exist, or protocols differ; the text lists how.
    """
    one, other = _cells(first), _cells(second)
    places = _matched(first, one, second, other)
    if not places:
        raise UserError(f"{first.name} and {second.name} have no method in common under a common setting")
    found = [_Found(_records(first, one[a]), _records(second, other[b])) for a, b in places]
    refused = [] if anyway else _refusals(places, found)
    if refused:
        raise UserError(
            "\n  ".join(
                [
                    "their protocols differ, so their scores cannot be compared (pass --anyway to do it all the same):",
                    *refused,
                ]
            )
        )
    pairs = [_pair(first, second, a, b, each, anyway) for (a, b), each in zip(places, found, strict=True)]
    taken = {a for a, _ in places}, {b for _, b in places}
    records = [(each.first[0], each.second[0]) for each in found if each.first and each.second]
    return Comparison(
        first=first.name,
        second=second.name,
        confidence=confidence,
        environment=_environment(*records[0]) if records else (),
        pairs=_corrected(pairs, confidence),
        only_first=tuple(f"{method} ({setting})" for setting, method in one if (setting, method) not in taken[0]),
        only_second=tuple(f"{method} ({setting})" for setting, method in other if (setting, method) not in taken[1]),
    )


_Place = tuple[str, str]
"""Labels of a setting and a method."""


def _cells(side: Side) -> dict[_Place, list[PlannedJob]]:
    """Return the jobs that are scored on test images, by setting and method."""
    plan = side.plan
    labels = [method.label for method in plan.methods]
    if side.method is not None and side.method not in labels:
        raise UserError(f"{side.name} has no method '{side.method}'; {did_you_mean(side.method, labels)}")
    cells: dict[_Place, list[PlannedJob]] = {}
    for planned in plan.jobs:
        method = labels[planned.method]
        if planned.split == "test" and side.method in (None, method):
            cells.setdefault((plan.settings[planned.setting].label, method), []).append(planned)
    return cells


def _matched(
    first: Side, one: dict[_Place, list[PlannedJob]], second: Side, other: dict[_Place, list[PlannedJob]]
) -> list[tuple[_Place, _Place]]:
    """Return the pairs of settings and methods to compare."""
    settings = {setting for setting, _ in one}, {setting for setting, _ in other}
    alone = all(len(known) == 1 for known in settings)  # one setting each, whatever their labels
    named = first.method is not None and second.method is not None
    return [
        (a, b) for a in one for b in other
        if (alone or a[0] == b[0]) and (named or a[1] == b[1])
    ]  # fmt: skip


@dataclass(frozen=True)
class _Found:
    """The finished records of both methods, by seed."""

    first: list[Record]
    second: list[Record]


def _records(side: Side, jobs: Sequence[PlannedJob]) -> list[Record]:
    found = []
    for planned in jobs:
        try:
            raw = side.source.raw(planned.id)
            record = fitted(parse_record(planned.id, raw), side.plan.metrics) if raw is not None else None
        except ValueError as error:
            raise UserError(f"{side.name}: the record of job {planned.id} cannot be used: {error}") from None
        if record is not None and record.status == "done":
            found.append(record)
    return found


def _refusals(places: Sequence[tuple[_Place, _Place]], found: Sequence[_Found]) -> list[str]:
    lines: dict[str, list[str]] = {}
    for ((setting, _), (_, method)), each in zip(places, found, strict=True):
        if each.first and each.second:
            for line in differences(each.first[0], each.second[0]):
                lines.setdefault(f"{setting}: {line}", []).append(method)
    return list(lines)


_Changes = list[tuple[Change, ScoreMoments | None]]  # before the tests, with the moments of second and first


def _pair(
    first: Side, second: Side, a: _Place, b: _Place, found: _Found, anyway: bool
) -> tuple[ComparedPair, _Changes]:
    ids = [{record.job_id for record in records} for records in (found.first, found.second)]
    same = bool(ids[0]) and ids[0] == ids[1]
    both = bool(found.first) and bool(found.second)
    pair = ComparedPair(
        settings=(a[0], b[0]),
        methods=(a[1], b[1]),
        changed=_changed(first, a[1], second, b[1], found),
        protocol=tuple(differences(found.first[0], found.second[0])) if both else (),
        metrics=tuple(metric_differences(found.first[0], found.second[0])) if both else (),
        same=same,
        seeds=(len(found.first), len(found.second)),
    )
    return pair, list(_changes(first, second, found, anyway)) if both and not same else []


def _changed(first: Side, one: str, second: Side, other: str, found: _Found) -> tuple[str, ...]:
    """Return how two methods and their seeds differ, as ``kl_weight: 0.1 → 0.2``."""
    methods = [
        next(method for method in side.plan.methods if method.label == label)
        for side, label in ((first, one), (second, other))
    ]
    before, after = (flat(method.model_dump(mode="json", exclude={"label", "families"})) for method in methods)
    another = methods[0].loss.name != methods[1].loss.name  # then parameters and code have nothing in common
    lines = [
        f"{name}: {before.get(name, 'nothing')} → {after.get(name, 'nothing')}"
        for name in {**before, **after}
        if before.get(name) != after.get(name) and not (another and name.startswith(("loss.params", "loss.code")))
    ]
    seeds = [sorted(record.job.seed for record in records) for records in (found.first, found.second)]
    return (*lines, *([f"seeds: {seeds[0]} → {seeds[1]}"] if seeds[0] != seeds[1] else []))


def _environment(one: Record, other: Record) -> tuple[str, ...]:
    ignored = {"git", "started", "finished", "plugins"}
    before, after = (flat(record.provenance.model_dump(mode="json", exclude=ignored)) for record in (one, other))
    return tuple(
        f"{name.removeprefix('packages.')}: {before.get(name, 'nothing')} → {after.get(name, 'nothing')}"
        for name in {**before, **after}
        if before.get(name) != after.get(name)
    )


def _changes(first: Side, second: Side, found: _Found, anyway: bool) -> Iterator[tuple[Change, ScoreMoments | None]]:
    columns = {column.name: column for column in second.plan.columns}
    for column in first.plan.columns:
        name = column.name
        records = [*found.first, *found.second]
        equal = anyway or first.plan.metrics[name] == second.plan.metrics.get(name)
        if name in columns and equal and all(name in record.scores for record in records):
            scores = _scores(first, found.first, column), _scores(second, found.second, column)
            yield _change(column, found, *scores)


def _scores(side: Side, records: Sequence[Record], column: Column) -> Numbers | None:
    """Return the scores by seed and test image, (S, N); None if they are unknown or differ in number."""
    rows, metric = [], column.name
    for record in records:
        score = record.scores[metric]
        try:
            content = side.source.file(record, SCORES)
            if content is None or (score.std is None and not score.infinite):
                return None
            values = read_scores(content, metric, images=score.n)[metric]
        except ValueError:  # damaged, or not the file of the record
            return None
        if len(values) != score.n or not np.isclose(values.mean(), score.mean, rtol=1e-9, atol=0):
            return None
        rows.append(finite_scores(values, score, column))
    return np.stack(rows) if len({len(row) for row in rows}) == 1 else None


def _change(
    column: Column, found: _Found, one: Numbers | None, other: Numbers | None
) -> tuple[Change, ScoreMoments | None]:
    sides = (found.first, found.second)
    means = [np.array([usable(record.scores[column.name], column) for record in records]) for records in sides]
    first, second = float(means[0].mean()), float(means[1].mean())
    moments: ScoreMoments | None
    basis: ChangeBasis
    if one is not None and other is not None and one.shape[1] == other.shape[1] and _same_images(found):
        with np.errstate(invalid="ignore"):  # infinite scores have no variance
            moments, basis = statistics.moments([other, one]), "images, pair by pair"
    else:
        moments, basis = _unpaired(column.name, found, means)
    before, after = (first, second) if column.target is None else (column.cost(first), column.cost(second))
    change = Change(
        column=column,
        first=first,
        second=second,
        difference=after - before if first != second else 0.0,
        low=None,
        high=None,
        p=None,
        verdict="equal" if first == second and all(np.array_equal(means[0], m) for m in means) else "open",
        basis=basis,
    )
    return change, moments


def _same_images(found: _Found) -> bool:
    fingerprints = {r.data.fingerprint for r in (*found.first, *found.second) if r.data is not None}
    splits = {r.job.split for r in (*found.first, *found.second)}
    return len(fingerprints) == 1 and len(splits) == 1


def _unpaired(metric: str, found: _Found, means: Sequence[Numbers]) -> tuple[ScoreMoments | None, ChangeBasis]:
    """Return moments of second and first from means and standard deviations alone."""
    scores = [[record.scores[metric] for record in records] for records in (found.second, found.first)]
    spreads = [[score.std for score in of_method] for of_method in scores]
    if all(std is not None for of_method in spreads for std in of_method):
        images = min(score.n for of_method in scores for score in of_method)
        stds = [np.array(s, dtype=np.float64) for s in spreads]
        return statistics.moments_of_means(means[::-1], stds, images), "images of their own"
    if not all(len(of_method) > 1 for of_method in scores):
        return None, "nothing"
    with np.errstate(invalid="ignore"):  # infinite scores have no variance
        return statistics.moments_of_means(means[::-1]), "seeds"


def _corrected(pairs: Sequence[tuple[ComparedPair, _Changes]], confidence: float) -> tuple[ComparedPair, ...]:
    """Return the pairs with p-values and intervals corrected over all of them, and the verdicts."""
    tests = [
        (change, moments, statistics.difference_of(moments, confidence, change.column.target).p)
        for _, changes in pairs
        for change, moments in changes
        if moments is not None
    ]
    factors = statistics.holm_factors(np.array([p for *_, p in tests], dtype=np.float64)).tolist()
    judged = {
        id(change): _judged(change, moments, p, factor, confidence)
        for (change, moments, p), factor in zip(tests, factors, strict=True)
    }
    return tuple(
        pair.model_copy(update={"changes": tuple(judged.get(id(change), change) for change, _ in changes)})
        for pair, changes in pairs
    )


def _judged(change: Change, moments: ScoreMoments, p: float, factor: float, confidence: float) -> Change:
    """Return a change with p-value, interval and verdict; ``factor`` is what Holm multiplies its p-value by."""
    column, alpha = change.column, 1 - confidence
    # As if it were tested alone at α / factor: so interval and corrected p-value cannot contradict each other.
    test = statistics.difference_of(moments, 1 - alpha / factor, column.target)
    low, high = column.score_range
    furthest = high - low if column.target is None else max(abs(low - column.target), abs(high - column.target))
    ends = [min(max(end, -furthest), furthest) if math.isfinite(end) else None for end in (test.low, test.high)]
    verdict = change.verdict
    if verdict != "equal" and p * factor <= alpha:
        verdict = "better" if column.cost(change.second) < column.cost(change.first) else "worse"
    return change.model_copy(update={"p": min(p * factor, 1.0), "low": ends[0], "high": ends[1], "verdict": verdict})
