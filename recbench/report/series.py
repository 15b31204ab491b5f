"""Numbers behind the plots of a report: drawn by plotly in the pages and by matplotlib for papers."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recbench.analysis.ranking import Row
from recbench.analysis.rate_distortion import RateDistortion
from recbench.plan.selection import best_of
from recbench.plan.strategies import KL_WEIGHT
from recbench.report.content import BoardView, JobView, MethodView
from recbench.report.spectra import radial_profile

Array = NDArray[np.float64]

POINTS = 240
"""Points of a training curve: more are thinned out evenly, with the first and the last kept."""
QUANTITIES = {
    "objective": "objective",
    "reconstruction": "reconstruction loss",
    "kl": "KL [nats per image]",
    "validation": "objective on validation images",
    "auxiliary": "auxiliary objective",
    "learning_rate": "learning rate",
    "images_per_second": "images per second",
}


@dataclass(frozen=True)
class PlotCurve:
    """A quantity over the epochs of one job."""

    method: MethodView
    seed: int
    status: str
    epochs: tuple[float, ...]
    values: tuple[float, ...]


def curves(view: BoardView, quantity: str) -> list[PlotCurve]:
    """One curve for each job that has any, of jobs that failed or diverged too."""
    found = []
    for method in view.methods:
        for job in method.jobs:
            points = [(line["epoch"], line[quantity]) for line in job.history if quantity in line]
            if points:
                epochs, values = zip(*thinned(points, POINTS), strict=True)
                found.append(PlotCurve(method, job.planned.seed, job.status, epochs, values))
    return found


def quantities(view: BoardView) -> dict[str, str]:
    """What can be drawn over the epochs, by its key in the history: what is there, and is not zero throughout."""
    seen = {name for job in view.jobs for line in job.history for name, value in line.items() if value != 0}
    return {name: title for name, title in QUANTITIES.items() if name in seen}


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """At most so many of the points, evenly spread, with the first and the last."""
    if len(points) <= most:
        return list(points)
    return [points[round(place)] for place in np.linspace(0, len(points) - 1, most)]


@dataclass(frozen=True)
class Profile:
    """A radial profile: mean log magnitude, averaged over channels, by frequency in cycles per pixel."""

    method: MethodView | None
    frequencies: Array
    values: Array


def profiles(view: BoardView) -> tuple[list[Profile], str]:
    """Radial profiles of the data (first, without a method) and of every method; and what they are means over."""
    found, what = view.spectra
    lines: list[Profile] = []
    for method in view.methods:
        if method.index in found:
            decoded, target = found[method.index]
            if not lines:
                frequencies, values = radial_profile(target)
                lines.append(Profile(None, frequencies, values.mean(axis=0)))
            frequencies, values = radial_profile(decoded)
            lines.append(Profile(method, frequencies, values.mean(axis=0)))
    return lines, what


@dataclass(frozen=True)
class PlotPoint:
    """A method in a plot of one quantity against another: means over its seeds, and each seed."""

    method: MethodView
    x: float
    y: float
    seeds: tuple[tuple[int, float, float], ...] = ()


Measure = Callable[[JobView], float | None]


def _cost(name: str) -> Measure:
    def measure(job: JobView) -> float | None:
        return None if job.record is None or job.record.cost is None else float(getattr(job.record.cost, name))

    return measure


def _seconds(job: JobView) -> float | None:
    return None if job.record is None or job.record.trained is None else job.record.trained.seconds / 60


def _memory(job: JobView) -> float | None:
    value = _cost("peak_memory_bytes")(job)
    return None if value is None else value / 2**30


def rate(job: JobView) -> float | None:
    """Mean KL in nats per test image."""
    return None if job.record is None or job.record.evaluated is None else job.record.evaluated.kl


COSTS: dict[str, tuple[str, Measure]] = {
    "step": ("time per step [ms]", _cost("step_milliseconds")),
    "training": ("training [min]", _seconds),
    "memory": ("peak memory [GiB]", _memory),
}


def points(view: BoardView, metric: str, measure: Measure) -> list[PlotPoint]:
    """Every method's mean score over its mean of another measure, where both are finite."""
    found = []
    for method in view.methods:
        seeds = []
        for job in method.done:
            score = job.record.scores.get(metric) if job.record is not None else None
            x = measure(job)
            if score is not None and x is not None and math.isfinite(score.mean) and math.isfinite(x):
                seeds.append((job.planned.seed, x, score.mean))
        if seeds:
            x, y = (statistics.fmean(seed[axis] for seed in seeds) for axis in (1, 2))
            found.append(PlotPoint(method, x, y, tuple(seeds)))
    return found


def front(found: Sequence[PlotPoint], *, higher: bool) -> list[PlotPoint]:
    """The Pareto front from the cheapest: no other point is as cheap and better, or as good and cheaper."""
    best: list[PlotPoint] = []
    for point in sorted(found, key=lambda point: (point.x, -point.y if higher else point.y)):
        if not best or (point.y > best[-1].y if higher else point.y < best[-1].y):
            best.append(point)
    return best


def ladders(found: Sequence[PlotPoint]) -> list[list[PlotPoint]]:
    """Points of one loss with one setting of its parameters, under several KL weights, in their order."""
    by_loss: dict[str, list[PlotPoint]] = {}
    for point in found:
        by_loss.setdefault(point.method.method.loss.model_dump_json(), []).append(point)
    several = (sorted(own, key=lambda point: point.method.method.kl_weight) for own in by_loss.values())
    return [own for own in several if len(own) > 1]


OVERALL = "all ranking metrics"


@dataclass(frozen=True)
class RankInterval:
    """A ranked method in the order of a ranking.

    Attributes:
        row: from 0, from the best.
        place: 1 is best; equals share the mean of their places by a metric.
        interval: best and worst place that cannot be ruled out.
    """

    method: MethodView
    row: int
    place: float
    interval: tuple[int, int]
    tier: int


def rank_intervals(view: BoardView) -> dict[str, list[RankInterval]]:
    """Rank intervals over all ranking metrics and by each metric, best first; empty without statistics."""
    ranked = [method for method in view.methods if method.row.place is not None]
    found: dict[str, list[RankInterval]] = {}
    overall = [(m, m.row.place, m.row.rank_interval, m.row.tier) for m in ranked]
    lists: dict[str, list[tuple[MethodView, float | None, tuple[int, int] | None, int | None]]] = {OVERALL: [*overall]}
    for column in view.board.columns:
        cells = [(m, m.row.cells.get(column.name)) for m in ranked]
        if column.name in view.board.verdicts and all(cell is not None for _, cell in cells):
            known = [(m, cell.rank, cell.rank_interval, cell.tier) for m, cell in cells if cell is not None]
            lists[column.name] = sorted(known, key=lambda entry: entry[1] or 0.0)
    for title, entries in lists.items():
        lines = [
            RankInterval(method, row, float(place), interval, tier)
            for row, (method, place, interval, tier) in enumerate(entries)
            if place is not None and interval is not None and tier is not None
        ]
        if lines and len(lines) == len(entries):
            found[title] = lines
    return found


def groups(view: BoardView, title: str) -> list[list[int]]:
    """The longest runs of methods that cannot be told apart, as rows of :func:`rank_intervals` of that title."""
    verdict = view.board.overall if title == OVERALL else view.board.verdicts.get(title)
    lines = rank_intervals(view).get(title, [])
    if verdict is None or not lines:
        return []
    rows = {line.method.label: line.row for line in lines}
    labels = [method.label for method in view.methods]
    return [sorted(rows[labels[place]] for place in group) for group in verdict.groups if len(group) > 1]


@dataclass(frozen=True)
class PlotLine:
    """A named line of a plot, of a loss rather than of a method on the board.

    Attributes:
        texts: what is known about each point.
        chosen: place of the point that tuning chose, if any.
        joined: whether its points are joined: not where they differ in more than what is drawn.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    texts: tuple[str, ...] = ()
    chosen: int | None = None
    joined: bool = True


def rate_curves(rate: RateDistortion, metric: str) -> list[PlotLine]:
    """Scores by KL, a line for each loss, where a point has a finite score."""
    lines = []
    for curve in rate.curves:
        known = [point for point in curve.points if math.isfinite(point.scores.get(metric, math.nan))]
        if known:
            texts = tuple(point.label for point in known)
            scores = tuple(point.scores[metric] for point in known)
            rates = tuple(point.rate for point in known)
            lines.append(PlotLine(curve.label, rates, scores, texts, joined=not curve.several))
    return lines


def tried(view: BoardView, axis: str) -> list[PlotLine]:
    """Scores of candidates by one of the values that were tuned, ascending, a line for each search."""
    lines = []
    for search in view.searches:
        entries = [
            (trial.values[axis], trial.score, place == search.chosen)
            for place, trial in enumerate(search.trials)
            if axis in trial.values and trial.score is not None and math.isfinite(trial.score)
        ]
        if entries:
            entries.sort()
            x, y, chosen = zip(*entries, strict=True)
            texts = tuple("chosen" if this else "" for this in chosen)
            place_of_chosen = chosen.index(True) if True in chosen else None
            lines.append(PlotLine(search.label, x, y, texts, place_of_chosen, joined=len(search.axes) == 1))
    return lines


def best_of_k(view: BoardView) -> list[PlotLine]:
    """The best-of-k curve of each search."""
    lines = []
    for search in view.searches:
        assert view.tuning is not None, "searches come with their rule"
        values = [(k, value) for k, value in enumerate(best_of(search, view.tuning), 1) if value is not None]
        if values:
            k, y = zip(*values, strict=True)
            lines.append(PlotLine(search.label, tuple(map(float, k)), y))
    return lines


def axes(view: BoardView) -> list[str]:
    """Names of the values that were tuned, the KL weight first."""
    names = dict.fromkeys(axis.name for search in view.searches for axis in search.axes)
    return sorted(names, key=lambda name: (name != KL_WEIGHT, name))


def families(rows: Sequence[Row]) -> dict[str, int]:
    """The losses' families and their place in the palette."""
    return {family: place for place, family in enumerate(sorted({row.family or "other" for row in rows}))}


def marks(view: BoardView) -> Mapping[int, int]:
    """A place in the palette for every method: its own where colours suffice, otherwise that of its family."""
    if len(view.methods) <= len(PALETTE):
        return {method.index: place for place, method in enumerate(sorted(view.methods, key=lambda m: m.index))}
    places = families(view.board.rows)
    return {method.index: places[method.row.family or "other"] % len(PALETTE) for method in view.methods}


PALETTE = (
    "#3b7dd8", "#d9622b", "#2a9d74", "#b2559c", "#c79a00", "#5aa9c9", "#8767c9", "#a3683a", "#7d8590", "#cf3f55",
)  # fmt: skip
"""Ten colours that can be told apart on white and on near black, also by most who see colours differently."""
