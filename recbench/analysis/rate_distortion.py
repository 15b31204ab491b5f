"""Rate and distortion: each metric against the KL divergence, and methods compared where they spend the same.

A loss's scale is its KL weight turned round, so that a comparison at one KL weight is a comparison of scales. Curves
over the ladder compare losses at the same rate instead. The rate is the mean KL divergence in nats per image, and
curves are interpolated over its logarithm with monotone cubic Hermite polynomials (PCHIP).
"""

from __future__ import annotations

import itertools
import json
import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import Field
from scipy.interpolate import PchipInterpolator
from scipy.stats import rankdata

from recbench.plan.model import Column, EvaluationSplit, Frozen, Method, PlannedJob
from recbench.plan.plan import Plan
from recbench.plan.strategies import KL_WEIGHT
from recbench.store.record import Number, Result

MINIMUM_OVERLAP = 0.5
"""The least part of the shorter curve's range, in log KL, that a comparison has to cover: what is beside it would be
judged by what is known of the rest."""


class NotComparable(ValueError):
    """Two curves that say nothing about each other; the text says why."""


# Curves as numbers


def interpolate(rates: Sequence[float], scores: Sequence[float], rate: float) -> float:
    """The score at a rate, from a curve of rates (positive, ascending, at least two) and finite scores.

    Raises:
        NotComparable: the rate is not among those that the curve spans: nothing is extrapolated.
    """
    if not rates[0] <= rate <= rates[-1]:
        raise NotComparable(f"spans {rates[0]:.4g} to {rates[-1]:.4g} nats, not {rate:.4g}")
    return float(PchipInterpolator(np.log(rates), scores)(math.log(rate)))


def average_difference(
    rates: Sequence[float], scores: Sequence[float], other_rates: Sequence[float], other_scores: Sequence[float]
) -> float:
    """Mean of the first curve's score less the second's over the rates that both span, in the metric's unit.

    Bjøntegaard's difference (VCEG-M33, 2001), with piecewise cubic interpolation that is monotone where the points are,
    instead of one cubic through all of them (as in ITU-T HSTP-VID-WPOM, 2020); the mean is over log rates.

    Args:
        rates, other_rates: in nats, positive and ascending, at least two.

    Raises:
        NotComparable: they share less than half of the range of the shorter.
    """
    x, other = np.log(rates), np.log(other_rates)
    low, high = max(x[0], other[0]), min(x[-1], other[-1])
    shorter = min(x[-1] - x[0], other[-1] - other[0])
    if high <= low or high - low < MINIMUM_OVERLAP * shorter:
        spans = f"{rates[0]:.4g} to {rates[-1]:.4g} and {other_rates[0]:.4g} to {other_rates[-1]:.4g} nats"
        raise NotComparable(f"their rates hardly overlap: {spans}")
    areas = [PchipInterpolator(*curve).integrate(low, high) for curve in ((x, scores), (other, other_scores))]
    return float((areas[0] - areas[1]) / (high - low))


def frontier(
    rates: Sequence[float], scores: Sequence[float], direction: Literal["higher", "lower"]
) -> tuple[list[float], list[float]]:
    """The points, by ascending rate, that no point with a rate as low has a better score than."""
    sign = 1 if direction == "higher" else -1
    kept: list[tuple[float, float]] = []
    for rate, score in sorted(zip(rates, scores, strict=True), key=lambda point: (point[0], -sign * point[1])):
        if not kept or sign * score > sign * kept[-1][1]:
            kept.append((rate, score))
    return [rate for rate, _ in kept], [score for _, score in kept]


# Curves of a suite


class RatePoint(Frozen):
    """A method at one KL weight: means over its seeds.

    Attributes:
        rate: KL divergence in nats per image.
        values: what its point differs in from the others of the curve.
    """

    label: str
    kl_weight: float
    values: dict[str, object]
    seeds: int
    rate: float
    scores: dict[str, Number]


class RateDifference(Frozen):
    """The average difference of a curve to the reference's in one metric; or why there is none."""

    value: float | None
    why_not: str = ""


class RateCurve(Frozen):
    """A loss over its KL weights.

    Attributes:
        points: by ascending rate.
        several: whether more than the KL weight varies. Curves are then interpolated along the frontier: the best that
            the loss reaches with a rate up to there.
        differences: to the reference, by metric; empty for the reference itself, and where there is none.
        notes: what was left out.
    """

    label: str
    family: str
    points: tuple[RatePoint, ...]
    several: bool = False
    differences: dict[str, RateDifference] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def line(self, column: Column) -> tuple[list[float], list[float]]:
        """Rates and scores to interpolate a metric along; rates ascend.

        Raises:
            NotComparable: there are fewer than two points with a rate above 0 and a finite score.
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
            raise NotComparable(f"has {len(by_rate)} points with a rate above 0 and a finite score; two are needed")
        return sorted(by_rate), [statistics.fmean(by_rate[rate]) for rate in sorted(by_rate)]


class MatchedRow(Frozen):
    """A loss at the rate where all are compared.

    Attributes:
        scores: interpolated, by metric; those of its curve where it can be interpolated.
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
        absent: why other losses are not there, by label.
    """

    rate: float
    ranking: tuple[str, ...]
    rows: tuple[MatchedRow, ...]
    absent: dict[str, str]


class RateDistortion(Frozen):
    """The curves of one setting.

    Attributes:
        split: the images that the points are scored on: the validation images where they are candidates of tuning.
        reference: label of the curve that the others are compared to; None where there is none of that label.
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
    """The curves of every setting that has any.

    In a suite with tuning the points are the candidates, on the validation images; otherwise methods that differ in
    nothing but their KL weight, on the test images.

    Args:
        reference: label of the loss that the others are compared to; by default the curve of ``l2``.
        rate: in nats per image, for the board at matched KL; by default the middle of the rates that most losses span.

    Raises:
        ValueError: no setting has a curve of the label ``reference``; the text names those that there are.
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
        there = ", ".join(dict.fromkeys(labels)) or "none at all"
        raise ValueError(f"there is no curve of {reference}; there are {there}")
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
    """A method's label without the value of its KL weight."""
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
    points, left_out = [], 0
    ended = [records[p.id] for method in methods for p in jobs.get(method, ()) if p.id in records]
    protocols = {record.protocol for record in ended if record.status == "done"}
    for method, values in methods.items():
        done = [records[p.id] for p in jobs.get(method, ()) if p.id in records and records[p.id].status == "done"]
        if not done or len(done) < len(jobs[method]) or len(protocols) > 1:
            left_out += 1
            continue
        points.append(
            RatePoint(
                label=plan.methods[method].label,
                kl_weight=plan.methods[method].kl_weight,
                values=dict(values),
                seeds=len(done),
                rate=statistics.fmean(record.evaluated.kl for record in done if record.evaluated is not None),
                scores={
                    column.name: statistics.fmean(record.scores[column.name].mean for record in done)
                    for column in plan.columns
                    if all(column.name in record.scores for record in done)
                },
            )
        )
    notes = [f"{left_out} of {len(methods)} points are missing: their jobs are not all done"] if left_out else []
    if len(protocols) > 1:
        notes = ["its records follow different protocols, and make no curve"]
    if any(point.rate == 0 for point in points):
        notes.append("points with a KL divergence of 0 have no place on a logarithmic axis, and are not interpolated")
    ordered = tuple(sorted(points, key=lambda point: (point.rate, point.label)))
    return RateCurve(label=label, family=family, points=ordered, several=len(names) > 1, notes=tuple(notes))


def _compared(curve: RateCurve, base: RateCurve | None, columns: Sequence[Column]) -> RateCurve:
    """The curve with its differences to the reference."""
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
    """A board of the losses at one rate, best mean rank first; None where fewer than two have a curve.

    Args:
        rate: in nats per image; by default the middle, in log KL, of the rates that most curves span.
    """
    spans = {}
    absent = {}
    for curve in curves:
        rates = [point.rate for point in curve.points if point.rate > 0]
        if len(set(rates)) < 2:
            absent[curve.label] = "has no two points with different rates above 0"
        else:
            spans[curve.label] = (min(rates), max(rates))
    if len(spans) < 2:
        return None
    rate = _shared_rate(list(spans.values())) if rate is None else rate
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
            sign = -1 if column.direction == "higher" else 1
            places = rankdata([sign * found[column.name] for found in scores.values()])
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


def _shared_rate(spans: Sequence[tuple[float, float]]) -> float:
    """The middle, in log KL, of the widest interval of rates that as many spans as possible cover."""
    ends = sorted({end for span in spans for end in span})
    pieces = list(itertools.pairwise(ends))
    if not pieces:
        return ends[0]
    covered = [sum(low <= left and right <= high for low, high in spans) for left, right in pieces]
    most = max(covered)
    best: list[tuple[float, float]] = []
    for (left, right), count in zip(pieces, covered, strict=True):
        if count == most and best and best[-1][1] == left:
            best[-1] = (best[-1][0], right)
        elif count == most:
            best.append((left, right))
    left, right = max(best, key=lambda piece: math.log(piece[1] / piece[0]))
    return math.sqrt(left * right)
