"""Rate–distortion curves of a suite: each metric against the KL divergence, and losses compared at the same rate.

A loss's scale is the inverse of its KL weight, so a comparison at one KL weight is a comparison of scales. Curves over
the ladder of KL weights compare losses at the same rate instead: the mean KL divergence in nats per image. The
mathematics is in :mod:`recbench.analysis.curves`.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field
from scipy.stats import rankdata

from recbench.analysis.curves import NotComparable, average_difference, frontier, interpolate, shared_rate
from recbench.plan.model import Column, EvaluationSplit, Frozen, Method, PlannedJob
from recbench.plan.plan import Plan
from recbench.plan.selection import usable
from recbench.plan.strategies import KL_WEIGHT
from recbench.store.record import Number, Result


class RatePoint(Frozen):
    """A method at one KL weight: means over its seeds.

    Attributes:
        rate: KL divergence in nats per image.
        values: in what the point differs from the others of its curve.
    """

    label: str
    kl_weight: float
    values: dict[str, object]
    seeds: int
    rate: float
    scores: dict[str, Number]


class RateDifference(Frozen):
    """The average difference between a curve and the reference in one metric, or why there is none."""

    value: float | None
    why_not: str = ""


class RateCurve(Frozen):
    """A loss over its KL weights.

    Attributes:
        points: by ascending rate.
        several: whether more than the KL weight varies; then the frontier is interpolated: the best score that the loss
            reaches up to each rate.
        differences: to the reference, by metric; empty for the reference itself, or without a reference.
        notes: what was left out.
    """

    label: str
    family: str
    points: tuple[RatePoint, ...]
    several: bool = False
    differences: dict[str, RateDifference] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def line(self, column: Column) -> tuple[list[float], list[float]]:
        """Return the rates, ascending, and the scores to interpolate a metric along.

        Raises:
            NotComparable: fewer than two points have a rate above 0 and a finite score.
        """
        sound = [
            (point.rate, point.scores[column.name])
            for point in self.points
            if point.rate > 0 and math.isfinite(point.scores.get(column.name, math.nan))
        ]
        rates, scores = [rate for rate, _ in sound], [score for _, score in sound]
        if self.several:
            rates, scores = frontier(rates, scores, column.direction)
        by_rate: dict[float, list[float]] = {}
        for rate, score in zip(rates, scores, strict=True):
            by_rate.setdefault(rate, []).append(score)
        if len(by_rate) < 2:
            raise NotComparable(
                f"expected at least two points with a rate above 0 and a finite score, got {len(by_rate)}"
            )
        return sorted(by_rate), [statistics.fmean(by_rate[rate]) for rate in sorted(by_rate)]


class MatchedRow(Frozen):
    """A loss at the rate at which all are compared.

    Attributes:
        scores: interpolated, by metric; only metrics whose curve spans the rate.
        ranks: 1 is best, ties share the mean place; of metrics that every loss of the board has a score for.
    """

    place: int
    label: str
    mean_rank: float
    scores: dict[str, float]
    ranks: dict[str, float]


class Matched(Frozen):
    """Losses at one rate.

    Attributes:
        rate: in nats per image.
        ranking: metrics whose ranks were averaged.
        absent: why other losses are missing, by label.
    """

    rate: float
    ranking: tuple[str, ...]
    rows: tuple[MatchedRow, ...]
    absent: dict[str, str]


class RateDistortion(Frozen):
    """The curves of one setting.

    Attributes:
        split: the images that the points are scored on: the validation images if they are candidates of tuning.
        reference: label of the curve that the others are compared with; None if the setting has no curve of that label.
    """

    setting: str
    split: EvaluationSplit
    columns: tuple[Column, ...]
    reference: str | None
    curves: tuple[RateCurve, ...]
    matched: Matched | None


def rate_distortion(
    plan: Plan, records: Mapping[str, Result], *, reference: str | None = None, rate: float | None = None
) -> tuple[RateDistortion, ...]:
    """Return the curves of every setting that has any.

    In a suite with tuning the points are the candidates, on the validation images; otherwise methods that differ only
    in their KL weight, on the test images.

    Args:
        plan: the suite, laid out as jobs.
        records: by job id.
        reference: label of the loss that the others are compared with; by default ``l2``.
        rate: in nats per image, for the board at matched KL; by default the middle of the rates that most losses span.

    Raises:
        ValueError: no setting has a curve with the label ``reference``; the text lists the labels.
    """
    found = []
    labels: list[str] = []
    for setting in range(len(plan.settings)):
        curves = [curve for curve in _curves(plan, setting, records) if len(curve.points) > 1]
        if not curves:
            continue
        labels += [curve.label for curve in curves]
        base = next((curve for curve in curves if curve.label == (reference or "l2")), None)
        compared = [_compared(curve, base, plan.columns) for curve in curves]
        found.append(
            RateDistortion(
                setting=plan.settings[setting].label,
                split="test" if plan.tuning is None else "validation",
                columns=plan.columns,
                reference=base.label if base else None,
                curves=tuple(compared),
                matched=matched(compared, plan.columns, plan.ranking, rate),
            )
        )
    if reference is not None and reference not in labels:
        available = ", ".join(dict.fromkeys(labels)) or "none"
        raise ValueError(f"no curve has the label {reference}; available: {available}")
    return tuple(found)


def _curves(plan: Plan, setting: int, records: Mapping[str, Result]) -> Iterator[RateCurve]:
    jobs: dict[int, list[PlannedJob]] = {}
    split = "test" if plan.tuning is None else "validation"
    for planned in plan.jobs:
        if planned.setting == setting and planned.split == split:
            jobs.setdefault(planned.method, []).append(planned)
    if plan.tuning is not None:
        for search in plan.searches:
            if search.setting == setting:
                tried = {trial.method: trial.values for trial in search.trials}
                names = [axis.name for axis in search.axes]
                yield _curve(plan, search.label, search.family, tried, names, jobs, records)
        return
    groups: dict[str, list[int]] = {}
    for method in jobs:
        groups.setdefault(json.dumps(plan.methods[method].loss.model_dump(mode="json")), []).append(method)
    for methods in groups.values():
        first = plan.methods[methods[0]]
        weights = {method: {KL_WEIGHT: plan.methods[method].kl_weight} for method in methods}
        yield _curve(plan, _stem(first), first.family, weights, [KL_WEIGHT], jobs, records)


def _stem(method: Method) -> str:
    """Return a method's label without the value of its KL weight."""
    return method.label.partition(f" {KL_WEIGHT}=")[0]


def _curve(
    plan: Plan,
    label: str,
    family: str,
    methods: Mapping[int, Mapping[str, float]],
    names: Sequence[str],
    jobs: Mapping[int, Sequence[PlannedJob]],
    records: Mapping[str, Result],
) -> RateCurve:
    points, left_out, unrated = [], 0, 0
    ended = [records[p.id] for method in methods for p in jobs.get(method, ()) if p.id in records]
    protocols = {record.protocol for record in ended if record.status == "done"}
    for method, values in methods.items():
        done = [records[p.id] for p in jobs.get(method, ()) if p.id in records and records[p.id].status == "done"]
        if not done or len(done) < len(jobs[method]) or len(protocols) > 1:
            left_out += 1
            continue
        rates = [r.evaluated.kl for r in done if r.evaluated is not None and r.evaluated.kl is not None]
        if len(rates) < len(done):
            unrated += 1
            continue
        points.append(
            RatePoint(
                label=plan.methods[method].label,
                kl_weight=plan.methods[method].kl_weight,
                values=dict(values),
                seeds=len(done),
                rate=statistics.fmean(rates),
                scores={
                    column.name: statistics.fmean(usable(record.scores[column.name], column) for record in done)
                    for column in plan.columns
                    if all(column.name in record.scores for record in done)
                },
            )
        )
    notes = [f"{left_out} of {len(methods)} points are missing: their jobs are not all done"] if left_out else []
    if len(protocols) > 1:
        notes = ["its records follow different protocols, so they are not drawn as one curve"]
    if unrated:
        notes.append("its architecture has no KL divergence, so there is no rate to draw scores against")
    if any(point.rate == 0 for point in points):
        notes.append("points with a KL divergence of 0 cannot be shown on a logarithmic axis and are not interpolated")
    ordered = tuple(sorted(points, key=lambda point: (point.rate, point.label)))
    return RateCurve(label=label, family=family, points=ordered, several=len(names) > 1, notes=tuple(notes))


def _compared(curve: RateCurve, base: RateCurve | None, columns: Sequence[Column]) -> RateCurve:
    """Return the curve with its differences to the reference."""
    if base is None or curve.label == base.label:
        return curve
    differences = {}
    for column in columns:
        try:
            value = average_difference(*curve.line(column), *base.line(column))
            differences[column.name] = RateDifference(value=value)
        except NotComparable as error:
            differences[column.name] = RateDifference(value=None, why_not=str(error))
    return curve.model_copy(update={"differences": differences})


def matched(
    curves: Sequence[RateCurve], columns: Sequence[Column], ranking: Sequence[str], rate: float | None = None
) -> Matched | None:
    """Return a board of the losses at one rate, best mean rank first; None if fewer than two have a curve.

    Args:
        rate: in nats per image; by default the middle, in log KL, of the rates that most curves span.
    """
    spans = {}
    absent = {}
    for curve in curves:
        rates = [point.rate for point in curve.points if point.rate > 0]
        if len(set(rates)) < 2:
            absent[curve.label] = "needs two points with different rates above 0"
        else:
            spans[curve.label] = (min(rates), max(rates))
    if len(spans) < 2:
        return None
    rate = shared_rate(list(spans.values())) if rate is None else rate
    scores: dict[str, dict[str, float]] = {}
    for curve in curves:
        if curve.label not in spans:
            continue
        found, reasons = {}, []
        for column in columns:
            try:
                found[column.name] = interpolate(*curve.line(column), rate)
            except NotComparable as error:
                reasons.append(str(error))
        if found:
            scores[curve.label] = found
        else:
            absent[curve.label] = reasons[0]
    ranks: dict[str, dict[str, float]] = {label: {} for label in scores}
    for column in columns:
        if scores and all(column.name in found for found in scores.values()):
            places = rankdata([column.cost(found[column.name]) for found in scores.values()])
            for label, place in zip(scores, places, strict=True):
                ranks[label][column.name] = float(place)
    used = tuple(name for name in ranking if all(name in place for place in ranks.values()))
    means = {label: statistics.fmean(ranks[label][name] for name in used) if used else 1.0 for label in scores}
    order = sorted(scores, key=lambda label: (means[label], label))
    rows = (
        MatchedRow(
            place=1 + sum(other < means[label] - 1e-9 for other in means.values()),
            label=label,
            mean_rank=means[label],
            scores=scores[label],
            ranks=ranks[label],
        )
        for label in order
    )
    return Matched(rate=rate, ranking=used, rows=tuple(rows), absent=absent)
