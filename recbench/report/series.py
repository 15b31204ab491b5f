"""The numbers behind the plots of a report, which plotly.js draws on its pages and matplotlib for papers."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recbench.analysis.board import Board, Row
from recbench.analysis.kernels import kernel_shapes
from recbench.analysis.rate_distortion import RateDistortion
from recbench.plan.model import Column
from recbench.plan.selection import best_of, usable
from recbench.plan.strategies import KL_WEIGHT
from recbench.report.content import BoardView, JobView, MethodView
from recbench.report.sheets import traced_kernels
from recbench.report.spectra import Array, radial_profile

POINTS = 240
"""The most points of a training curve; longer ones are thinned evenly, keeping the first and the last point."""
QUANTITIES = {
    "validation_psnr": "validation PSNR [dB]",
    "validation_ssim": "validation SSIM",
    "objective": "objective",
    "reconstruction": "reconstruction loss",
    "kl": "KL [nats per image]",
    "validation": "objective on validation images",
    "auxiliary": "auxiliary objective",
    "penalty": "penalty of the posterior",
    "learning_rate": "learning rate",
    "images_per_second": "images per second",
}
_LOGGED = re.compile(r"[A-Za-z][A-Za-z0-9_.#]{0,127}")
"""A name that a loss logs by, in a sum after the key of the part; a history from elsewhere may have anything."""


@dataclass(frozen=True)
class PlotCurve:
    """A quantity over the epochs of one job."""

    method: MethodView
    seed: int
    status: str
    epochs: tuple[float, ...]
    values: tuple[float, ...]


def curves(view: BoardView, quantity: str) -> list[PlotCurve]:
    """Return one curve per job with a history, including jobs that failed or diverged."""
    found = []
    for method in view.methods:
        for job in method.jobs:
            points = [(line["epoch"], line[quantity]) for line in job.history if quantity in line]
            if points:
                epochs, values = zip(*thinned(points, POINTS), strict=True)
                found.append(PlotCurve(method, job.planned.seed, job.status, epochs, values))
    return found


def quantities(view: BoardView) -> dict[str, str]:
    """Return the titles of recorded quantities that are not zero throughout, by their keys in the history: first those
    that every job records, last what losses and architectures log, by name.
    """
    seen = {name for job in view.jobs for line in job.history for name, value in line.items() if value != 0}
    common = [{name for line in job.history for name in line} for job in view.jobs if job.history]
    titles = {**QUANTITIES, **{name: name for name in logged(view.jobs)}}
    known = sorted(QUANTITIES, key=lambda name: any(name not in own for own in common))
    return {name: titles[name] for name in (*known, *logged(view.jobs)) if name in seen}


def logged(jobs: Iterable[JobView]) -> list[str]:
    """Return the names of what losses and architectures log in the histories of jobs, sorted; the first hundred."""
    names = {name for job in jobs for line in job.history for name in line}
    return sorted(filter(_LOGGED.fullmatch, names - {*QUANTITIES, "epoch", "step"}))[:100]


def thinned(points: Sequence[tuple[float, float]], most: int) -> list[tuple[float, float]]:
    """Return at most ``most`` of the points, evenly spaced, including the first and the last."""
    if len(points) <= most:
        return list(points)
    return [points[round(place)] for place in np.linspace(0, len(points) - 1, most)]


KERNEL_SHAPES = {
    "width": "width [pixels]",
    "pixels": "pixels, by entropy",
    "offset": "distance of centre from middle [pixels]",
}


@dataclass(frozen=True)
class KernelCurve:
    """One of :data:`KERNEL_SHAPES` over the epochs, of the kernel for one test image."""

    method: MethodView
    image: int
    epochs: tuple[float, ...]
    values: tuple[float, ...]


def kernels(view: BoardView, name: str) -> list[KernelCurve]:
    """Return one curve per method and image for which kernels were traced."""
    found = []
    for method, _, values in traced_kernels(view):
        measured = getattr(kernel_shapes(values), name)
        for image in range(measured.shape[1]):
            points = [(epoch + 1.0, float(value)) for epoch, value in enumerate(measured[:, image])]
            epochs, own = zip(*thinned(points, POINTS), strict=True)
            found.append(KernelCurve(method, image, epochs, own))
    return found


@dataclass(frozen=True)
class Profile:
    """A radial profile: mean log magnitude, averaged over channels, by frequency in cycles per pixel."""

    method: MethodView | None
    frequencies: Array
    values: Array


def profiles(view: BoardView) -> tuple[list[Profile], str]:
    """Return radial profiles of the data (first, without a method) and of every method, and the images averaged."""
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
    """A method in a scatter plot: the means over its seeds, and ``(seed, x, y)`` for each seed."""

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
    """Return the mean KL divergence in nats per test image."""
    return None if job.record is None or job.record.evaluated is None else job.record.evaluated.kl


COSTS: dict[str, tuple[str, Measure]] = {
    "step": ("time per step [ms]", _cost("step_milliseconds")),
    "training": ("training [min]", _seconds),
    "memory": ("peak memory [GiB]", _memory),
}


def points(view: BoardView, metric: str, measure: Measure) -> list[PlotPoint]:
    """Return every method's mean score (y) and the mean of another measure (x), where both are finite."""
    found = []
    column = next(column for column in view.board.columns if column.name == metric)
    for method in view.methods:
        seeds = []
        for job in method.done:
            score = job.record.scores.get(metric) if job.record is not None else None
            x = measure(job)
            y = math.nan if score is None else usable(score, column)
            if x is not None and math.isfinite(y) and math.isfinite(x):
                seeds.append((job.planned.seed, x, y))
        if seeds:
            x, y = (statistics.fmean(seed[axis] for seed in seeds) for axis in (1, 2))
            found.append(PlotPoint(method, x, y, tuple(seeds)))
    return found


def front(found: Sequence[PlotPoint], column: Column) -> list[PlotPoint]:
    """Return the Pareto front by ascending x: no other point is at least as good in x and y and better in one."""
    best: list[PlotPoint] = []
    for point in sorted(found, key=lambda point: (point.x, column.cost(point.y))):
        if not best or column.cost(point.y) < column.cost(best[-1].y):
            best.append(point)
    return best


def ladders(found: Sequence[PlotPoint]) -> list[list[PlotPoint]]:
    """Return groups of points that only differ in the KL weight, in ascending order of the weight."""
    by_loss: dict[str, list[PlotPoint]] = {}
    for point in found:
        by_loss.setdefault(point.method.method.loss.model_dump_json(), []).append(point)
    several = (sorted(own, key=lambda point: point.method.method.kl_weight) for own in by_loss.values())
    return [own for own in several if len(own) > 1]


OVERALL = "all ranking metrics"


def percent(board: Board) -> str:
    """Return the confidence of a board, such as ``95 %``."""
    return f"{100 * (board.confidence or 0):.3g} %"


@dataclass(frozen=True)
class RankInterval:
    """A method in a ranking, with its rank interval.

    Attributes:
        row: position in the ranking, from 0 (best).
        rank: from 1 (best); ties by a metric share their mean rank.
        interval: the rank interval, best rank first.
        tier: letters of its tiers.
    """

    method: MethodView
    row: int
    rank: float
    interval: tuple[int, int]
    tier: str


def rank_intervals(view: BoardView) -> dict[str, list[RankInterval]]:
    """Return rank intervals over all ranking metrics and by each metric, best first; empty without statistics."""
    ranked = [method for method in view.methods if method.row.place is not None]
    found: dict[str, list[RankInterval]] = {}
    overall = [(m, m.row.place, m.row.rank_interval, m.row.tier) for m in ranked]
    lists: dict[str, list[tuple[MethodView, float | None, tuple[int, int] | None, str | None]]] = {OVERALL: [*overall]}
    for column in view.board.columns:
        cells = [(m, m.row.cells.get(column.name)) for m in ranked]
        if column.name in view.board.verdicts and all(cell is not None for _, cell in cells):
            known = [(m, cell.rank, cell.rank_interval, cell.tier) for m, cell in cells if cell is not None]
            lists[column.name] = sorted(known, key=lambda entry: entry[1] or 0.0)
    for title, entries in lists.items():
        lines = [
            RankInterval(method, row, float(rank), interval, tier)
            for row, (method, rank, interval, tier) in enumerate(entries)
            if rank is not None and interval is not None and tier is not None
        ]
        if lines and len(lines) == len(entries):
            found[title] = lines
    return found


def groups(view: BoardView, title: str) -> list[list[int]]:
    """Return the longest runs of methods of which no two differ significantly, as rows of :func:`rank_intervals`."""
    verdict = view.board.overall if title == OVERALL else view.board.verdicts.get(title)
    lines = rank_intervals(view).get(title, [])
    if verdict is None or not lines:
        return []
    rows = {line.method.label: line.row for line in lines}
    labels = [method.label for method in view.methods]
    return [sorted(rows[labels[place]] for place in group) for group in verdict.groups if len(group) > 1]


@dataclass(frozen=True)
class PlotLine:
    """The line of a loss, with one point per method or trial.

    Attributes:
        texts: hover text of each point.
        chosen: index of the point that tuning chose, if any.
        joined: whether to join the points; not if they differ in more than the quantities drawn.
    """

    label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    texts: tuple[str, ...] = ()
    chosen: int | None = None
    joined: bool = True


def rate_curves(rate: RateDistortion, metric: str) -> list[PlotLine]:
    """Return scores against KL, one line per loss; points without a finite score are left out."""
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
    """Return the scores of trials by one of the tuned values, ascending, one line per search."""
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
    """Return the best-of-k curve of each search."""
    lines = []
    for search in view.searches:
        assert view.tuning is not None, "searches come with their rule"
        values = [(k, value) for k, value in enumerate(best_of(search, view.tuning), 1) if value is not None]
        if values:
            k, y = zip(*values, strict=True)
            lines.append(PlotLine(search.label, tuple(map(float, k)), y))
    return lines


def axes(view: BoardView) -> list[str]:
    """Return the names of the tuned values, the KL weight first."""
    names = dict.fromkeys(axis.name for search in view.searches for axis in search.axes)
    return sorted(names, key=lambda name: (name != KL_WEIGHT, name))


def families(rows: Sequence[Row]) -> dict[str, int]:
    """Return the families of the losses with their indices in the palette."""
    return {family: place for place, family in enumerate(sorted({row.family or "other" for row in rows}))}


def marks(view: BoardView) -> Mapping[int, int]:
    """Return each method's index in the palette: its own if there are enough colours, otherwise that of its family."""
    if len(view.methods) <= len(PALETTE):
        return {method.index: place for place, method in enumerate(sorted(view.methods, key=lambda m: m.index))}
    places = families(view.board.rows)
    return {method.index: places[method.row.family or "other"] % len(PALETTE) for method in view.methods}


PALETTE = (
    "#3b7dd8", "#d9622b", "#2a9d74", "#b2559c", "#c79a00", "#5aa9c9", "#8767c9", "#a3683a", "#7d8590", "#cf3f55",
)  # fmt: skip
"""Ten colours that are distinct on white and on near black, including for most colour-blind readers."""
