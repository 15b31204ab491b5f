"""What can be said of the methods of a board: intervals, tests and tiers of each metric, and over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from recbench.analysis import statistics
from recbench.analysis.per_image import PerImageScores, ScoreFiles
from recbench.analysis.statistics import Flags, Numbers, ScoreMoments
from recbench.plan.model import Column

_Kind = TypeVar("_Kind", bound=np.generic)
Basis = Literal["seeds and images", "images", "seeds", "nothing"]


@dataclass(frozen=True)
class Findings:
    """Of one metric and M methods, in their order.

    Attributes:
        p: (M, M), not corrected.
        corrected: (M, M), by Holm over the pairs of this metric.
        better: (M, M): whether the first method is told to be better than the second.
    """

    basis: Basis
    by_image: bool
    costs: Numbers
    intervals: Numbers
    p: Numbers
    corrected: Numbers
    better: Flags
    rank_intervals: list[tuple[int, int]]
    tiers: list[int]
    groups: list[list[int]]


@dataclass(frozen=True)
class Overall:
    """Of all ranking metrics together."""

    better: Flags
    rank_intervals: list[tuple[int, int]]
    tiers: list[int]
    groups: list[list[int]]


def judge(
    columns: Sequence[Column],
    methods: Sequence[Mapping[str, Sequence[PerImageScores]]],
    confidence: float,
    files: ScoreFiles | None,
) -> dict[str, Findings]:
    """Judge the methods by each column.

    Args:
        columns: metrics that every method has a score for, from every seed.
        methods: for each method, the scores of its seeds by metric.
        files: the scores of single images; without, methods are compared as if each had images of its own.
    """
    found = {}
    for column in columns:
        by_seed = [method[column.name] for method in methods]
        moments = None
        if files is not None and all(scored.score.n for seeds in by_seed for scored in seeds):
            moments = files.moments(column.name, by_seed, confidence)
        by_image = moments is not None
        if moments is None:
            moments = _summarised(by_seed)
        found[column.name] = _findings(column, moments, by_image, confidence)
    return found


def _summarised(by_seed: Sequence[Sequence[PerImageScores]]) -> ScoreMoments:
    """ScoreMoments from the records alone."""
    scores = [[scored.score for scored in seeds] for seeds in by_seed]
    means = [np.array([score.mean for score in seeds]) for seeds in scores]
    counts = {score.n for seeds in scores for score in seeds}
    spreads = [np.array([np.nan if score.std is None else score.std for score in seeds]) for seeds in scores]
    with np.errstate(invalid="ignore"):  # of infinite means
        if counts == {0} or len(counts) > 1:
            return statistics.moments_of_means(means)
        return statistics.moments_of_means(means, spreads, counts.pop())


def _findings(column: Column, moments: ScoreMoments, by_image: bool, confidence: float) -> Findings:
    costs = moments.means if column.direction == "lower" else -moments.means
    p = statistics.pairwise(moments)
    (corrected,) = statistics.holm_of_pairs([p])
    better = statistics.better(costs, corrected, confidence)
    return Findings(
        basis=_basis(moments),
        by_image=by_image,
        costs=costs,
        intervals=statistics.intervals(moments, confidence),
        p=p,
        corrected=corrected,
        better=better,
        rank_intervals=_pairs(statistics.rank_intervals(better)),
        tiers=statistics.tiers(costs, better).tolist(),
        groups=statistics.groups(costs, better),
    )


def _pairs(ends: NDArray[np.int64]) -> list[tuple[int, int]]:
    return [(low, high) for low, high in ends.tolist()]


def _basis(moments: ScoreMoments) -> Basis:
    seeds, images = bool((moments.seeds > 1).any()), moments.images > 1
    return "seeds and images" if seeds and images else "images" if images else "seeds" if seeds else "nothing"


def overall(findings: Sequence[Findings], mean_ranks: Sequence[float], confidence: float) -> Overall:
    """Judge over the ranking metrics, with p-values corrected over all of them together."""
    costs = np.asarray(mean_ranks)
    corrected = statistics.holm_of_pairs([found.p for found in findings])
    per_metric = [statistics.better(found.costs, p, confidence) for found, p in zip(findings, corrected, strict=True)]
    better = statistics.majority(per_metric, costs)
    return Overall(
        better=better,
        rank_intervals=_pairs(statistics.rank_intervals(better)),
        tiers=statistics.tiers(costs, better).tolist(),
        groups=statistics.groups(costs, better),
    )


def neutral_ranks(costs: Sequence[Sequence[float]], home: Sequence[Sequence[bool]]) -> list[float | None]:
    """Mean ranks on neutral ground; None where there is none.

    Of two methods, only criteria that are at home with neither are compared. A method's share of the comparisons that
    it wins (ties half) is put on the scale of mean ranks, 1 + (M − 1)(1 − share); without any criterion at home, this
    is the mean rank.

    Args:
        costs: for each of M methods K criteria, smaller is better.
        home: for each of M methods, which criteria are at home with it.
    """
    count = len(costs)
    values, at_home = np.asarray(costs, dtype=np.float64), np.asarray(home, dtype=np.bool_)
    found: list[float | None] = []
    for method, own in enumerate(values):  # one by one: all at once would take memory with the square of the methods
        ground = ~(at_home[method] | at_home)
        ground[method] = False
        won = (ground & (own < values)).sum() + 0.5 * (ground & ~(own < values) & ~(values < own)).sum()
        compared = int(ground.sum())
        found.append(1 + (count - 1) * (1 - float(won) / compared) if compared else None)
    return found


def pareto(costs: Sequence[Sequence[float]]) -> list[bool]:
    """Whether no other method is at least as good by all criteria and better by one; see `neutral_ranks` for costs."""
    front: list[bool] = statistics.pareto_front(np.asarray(costs, dtype=np.float64)).tolist()
    return front


def rounded(values: Numbers, digits: int = 4) -> Numbers:
    """Numbers from 0 to 1 with so many significant digits; below 1e-12 they are 0."""
    scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.maximum(values, 1e-12))))
    return np.asarray(np.where(values < 1e-12, 0, np.round(values * scale) / scale))


def condensed(matrix: NDArray[_Kind], order: Sequence[int]) -> list[Any]:
    """The entries of every two methods, in the order of ``itertools.combinations`` over ``order``."""
    upper = np.triu_indices(len(order), 1)
    entries: list[Any] = matrix[np.ix_(order, order)][upper].tolist()
    return entries
