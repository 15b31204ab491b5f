"""Statistics of a board: intervals, tests and tiers by each metric, and over all ranking metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from recbench.analysis import ordering, statistics
from recbench.analysis.per_image import PerImageScores, ScoreFiles
from recbench.analysis.statistics import Flags, Numbers, ScoreMoments
from recbench.plan.model import Column
from recbench.plan.selection import usable

_Dtype = TypeVar("_Dtype", bound=np.generic)
Basis = Literal["seeds and images", "images", "seeds", "nothing"]


@dataclass(frozen=True)
class Findings:
    """The statistics of M methods by one metric.

    Attributes:
        costs: (M,) means, smaller is better.
        intervals: (M, 2), of the means.
        p: (M, M), not corrected.
        corrected: (M, M), Holm-corrected over the pairs of this metric.
        better: (M, M), whether the first method is significantly better than the second.
        tiers: for each method, the letters of its tiers.
        groups: the longest runs of methods of which no two differ significantly, as indices.
    """

    basis: Basis
    by_image: bool
    costs: Numbers
    intervals: Numbers
    p: Numbers
    corrected: Numbers
    better: Flags
    rank_intervals: list[tuple[int, int]]
    tiers: list[str]
    groups: list[list[int]]


@dataclass(frozen=True)
class Overall:
    """The statistics of M methods over all ranking metrics; see :class:`Findings`."""

    better: Flags
    rank_intervals: list[tuple[int, int]]
    tiers: list[str]
    groups: list[list[int]]


def compare_methods(
    columns: Sequence[Column],
    methods: Sequence[Mapping[str, Sequence[PerImageScores]]],
    confidence: float,
    files: ScoreFiles | None,
) -> dict[str, Findings]:
    """Return the statistics of all methods by each column.

    Args:
        columns: metrics that every seed of every method has a score for.
        methods: for each method, the scores of its seeds by metric.
        confidence: of intervals and tests, in (0, 1).
        files: the scores per image; without them, methods are compared as if each had its own images.

    Returns:
        Findings by label of the metric.
    """
    found = {}
    for column in columns:
        by_seed = [method[column.name] for method in methods]
        moments = None
        if files is not None and all(scored.score.n for seeds in by_seed for scored in seeds):
            moments = files.moments(column, by_seed)
        by_image = moments is not None
        if moments is None:
            moments = _from_records(column, by_seed)
        found[column.name] = findings(column, moments, by_image, confidence)
    return found


def _from_records(column: Column, by_seed: Sequence[Sequence[PerImageScores]]) -> ScoreMoments:
    """Return the moments that records alone give."""
    scores = [[scored.score for scored in seeds] for seeds in by_seed]
    means = [np.array([usable(score, column) for score in seeds]) for seeds in scores]
    counts = {score.n for seeds in scores for score in seeds}
    spreads = [np.array([np.nan if score.std is None else score.std for score in seeds]) for seeds in scores]
    with np.errstate(invalid="ignore"):  # of infinite means
        if counts == {0} or len(counts) > 1:
            return statistics.moments_of_means(means)
        return statistics.moments_of_means(means, spreads, counts.pop())


def findings(column: Column, moments: ScoreMoments, by_image: bool, confidence: float) -> Findings:
    """Return the statistics of methods by one metric.

    Args:
        column: the metric: its direction and range.
        moments: of its scores.
        by_image: whether they were compared image by image.
        confidence: of intervals and tests, in (0, 1).
    """
    costs = np.array([column.cost(mean) for mean in moments.means.tolist()])
    p = statistics.pairwise(moments, column.target)
    (corrected,) = statistics.holm_of_pairs([p])
    better = ordering.better(costs, corrected, confidence)
    return Findings(
        basis=_basis(moments),
        by_image=by_image,
        costs=costs,
        intervals=statistics.intervals(moments, confidence, column.score_range),
        p=p,
        corrected=corrected,
        better=better,
        rank_intervals=_pairs(ordering.rank_intervals(better)),
        tiers=ordering.letters(ordering.tiers(costs, better), len(costs)),
        groups=ordering.groups(costs, better),
    )


def _pairs(ends: NDArray[np.int64]) -> list[tuple[int, int]]:
    return [(low, high) for low, high in ends.tolist()]


def _basis(moments: ScoreMoments) -> Basis:
    seeds, images = bool((moments.seeds > 1).any()), moments.images > 1
    return "seeds and images" if seeds and images else "images" if images else "seeds" if seeds else "nothing"


def overall(findings: Sequence[Findings], mean_ranks: Sequence[float], confidence: float) -> Overall:
    """Return the statistics over the ranking metrics, with p-values corrected over all pairs and metrics together.

    Args:
        findings: of each ranking metric.
        mean_ranks: of each of the M methods.
        confidence: of the tests, in (0, 1).
    """
    costs = np.asarray(mean_ranks)
    corrected = statistics.holm_of_pairs([found.p for found in findings])
    per_metric = [ordering.better(found.costs, p, confidence) for found, p in zip(findings, corrected, strict=True)]
    better = ordering.majority(per_metric, costs)
    return Overall(
        better=better,
        rank_intervals=_pairs(ordering.rank_intervals(better)),
        tiers=ordering.letters(ordering.tiers(costs, better), len(costs)),
        groups=ordering.groups(costs, better),
    )


def rounded(values: Numbers, digits: int = 4) -> Numbers:
    """Return numbers from 0 to 1 with so many significant digits; below 1e-12 they are 0.

    >>> rounded(np.array([0.123456, 1e-13]))
    array([0.1235, 0.    ])
    """
    scale = 10.0 ** (digits - 1 - np.floor(np.log10(np.maximum(values, 1e-12))))
    return np.asarray(np.where(values < 1e-12, 0, np.round(values * scale) / scale))


def condensed(matrix: NDArray[_Dtype], order: Sequence[int]) -> list[Any]:
    """Return the entries of all pairs of methods, in the order of ``itertools.combinations`` over ``order``.

    Args:
        matrix: (M, M).
        order: of the M methods.

    >>> condensed(np.array([[0, 1, 2], [3, 4, 5], [6, 7, 8]]), [2, 0, 1])
    [6, 7, 1]
    """
    upper = np.triu_indices(len(order), 1)
    entries: list[Any] = matrix[np.ix_(order, order)][upper].tolist()
    return entries
