"""Comparison of methods over several boards: average ranks and the tests of Demšar (2006, JMLR 7), as plain data."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from recbench.analysis import ordering, statistics
from recbench.analysis.board import Board, Leaderboard
from recbench.plan.model import Frozen


class MethodPair(Frozen):
    """Two methods, the better average rank first.

    Attributes:
        wilcoxon: p-value of the signed-rank test over the boards, Holm-corrected over all pairs; null if the
            two are equal on every board.
        nemenyi: whether their average ranks differ by the critical difference or more.
    """

    better: str
    worse: str
    difference: float
    wilcoxon: float | None
    nemenyi: bool


class Across(Frozen):
    """The contents of a critical-difference diagram.

    Attributes:
        by: ``"mean rank"``, or the metric that methods are ranked by on every board.
        boards: the blocks, as ``suite: setting``.
        methods: labels of the methods that are ranked on every board, by average rank.
        ranks: for each board the rank of each method among these; ties share their mean.
        average_ranks: of each method over the boards.
        friedman: statistic, approximately χ² with k − 1 degrees of freedom, and p-value; null if all ranks tie.
        iman_davenport: statistic, F with k − 1 and (k − 1)(N − 1) degrees of freedom, and p-value; infinite if all
            boards rank alike.
        critical_difference: of average ranks, after Nemenyi.
        nemenyi_groups: the longest runs of methods, as indices of ``methods``, whose average ranks differ by less.
        wilcoxon_groups: the longest runs of which no two differ significantly by the corrected signed-rank tests.
        left_out: methods that are not ranked on every board.
    """

    by: str
    confidence: float
    boards: tuple[str, ...]
    methods: tuple[str, ...]
    ranks: tuple[tuple[float, ...], ...]
    average_ranks: tuple[float, ...]
    friedman: tuple[float, float] | None
    iman_davenport: tuple[float, float] | None
    critical_difference: float
    nemenyi_groups: tuple[tuple[int, ...], ...]
    wilcoxon_groups: tuple[tuple[int, ...], ...]
    pairs: tuple[MethodPair, ...]
    left_out: tuple[str, ...] = ()


def across(leaderboards: Sequence[Leaderboard], metric: str | None = None, confidence: float = 0.95) -> Across:
    """Compare the methods that are ranked on every board, by label.

    Args:
        leaderboards: of one or more suites.
        metric: label of the metric to rank by; by default each board's mean rank.
        confidence: of the tests, in (0, 1).

    Raises:
        ValueError: fewer than two boards, or fewer than two methods, can be compared.
    """
    columns: dict[str, dict[str, float]] = {}
    for leaderboard in leaderboards:
        for board in leaderboard.boards:
            costs = _costs(board, metric)
            if costs:
                name = f"{leaderboard.suite}: {board.setting}"
                columns[name if name not in columns else f"{name} ({board.protocol})"] = costs
    if len(columns) < 2:
        ranked = f"with values of {metric}" if metric else "with ranked methods"
        raise ValueError(f"expected at least two boards {ranked}, got {len(columns)}")
    common = [label for label in next(iter(columns.values())) if all(label in costs for costs in columns.values())]
    if len(common) < 2:
        raise ValueError(
            f"expected at least two methods that are ranked on all {len(columns)} boards (by label), got {len(common)}"
        )
    labels = dict.fromkeys(label for costs in columns.values() for label in costs)
    table = np.array([[costs[label] for label in common] for costs in columns.values()])
    return compare_ranks(
        common,
        list(columns),
        table,
        by=metric or "mean rank",
        confidence=confidence,
        left_out=tuple(sorted(set(labels) - set(common))),
    )


def _costs(board: Board, metric: str | None) -> dict[str, float]:
    """Return the value that each ranked method is ranked by, smaller is better."""
    ranked = [row for row in board.rows if row.status == "ranked"]
    if metric is None:
        return {row.label: row.mean_rank for row in ranked if row.mean_rank is not None} if board.ranking else {}
    columns = {column.name: column for column in board.columns}
    if not ranked or any(metric not in row.cells for row in ranked):
        return {}
    return {row.label: columns[metric].cost(row.cells[metric].mean) for row in ranked}


def compare_ranks(
    methods: Sequence[str],
    boards: Sequence[str],
    costs: NDArray[np.float64],
    *,
    by: str = "",
    confidence: float = 0.95,
    left_out: tuple[str, ...] = (),
) -> Across:
    """Return average ranks of k methods over N boards, with the tests of Demšar (2006).

    Args:
        methods: k labels.
        boards: N labels.
        costs: (N, k), smaller is better.
        by: label of what methods are ranked by.
        confidence: of the tests, in (0, 1).
        left_out: labels of methods that are not ranked on every board.
    """
    from scipy import stats

    count, width = costs.shape
    ranks = np.asarray(stats.rankdata(costs, axis=1), dtype=np.float64)
    average = ranks.mean(axis=0)
    order = sorted(range(width), key=lambda i: (float(average[i]), methods[i]))
    quantile = float(stats.studentized_range.ppf(confidence, width, np.inf)) / float(np.sqrt(2))
    critical = quantile * float(np.sqrt(width * (width + 1) / (6 * count)))
    places = list(itertools.combinations(order, 2))
    raw = [_wilcoxon(costs[:, i], costs[:, j]) for i, j in places]
    corrected = statistics.holm(np.array([1.0 if p is None else p for p in raw]))
    differ = np.zeros((2, width, width), dtype=np.bool_)
    pairs = []
    for (i, j), p, found in zip(places, corrected, raw, strict=True):
        difference = float(average[j] - average[i])
        differ[0, i, j], differ[1, i, j] = difference >= critical, p <= 1 - confidence
        pairs.append(
            MethodPair(
                better=methods[i],
                worse=methods[j],
                difference=difference,
                wilcoxon=None if found is None else float(p),
                nemenyi=bool(differ[0, i, j]),
            )
        )
    place = {method: number for number, method in enumerate(order)}
    position = np.array([place[i] for i in range(width)], dtype=np.float64)
    bars = [tuple(tuple(place[i] for i in group) for group in ordering.groups(position, matrix)) for matrix in differ]
    friedman = _friedman(ranks)
    return Across(
        by=by,
        confidence=confidence,
        boards=tuple(boards),
        methods=tuple(methods[i] for i in order),
        ranks=tuple(tuple(float(line[i]) for i in order) for line in ranks),
        average_ranks=tuple(float(average[i]) for i in order),
        friedman=friedman,
        iman_davenport=None if friedman is None else _iman_davenport(friedman[0], count, width),
        critical_difference=critical,
        nemenyi_groups=bars[0],
        wilcoxon_groups=bars[1],
        pairs=tuple(pairs),
        left_out=left_out,
    )


def _friedman(ranks: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return Friedman's statistic, corrected for ties, and its p-value.

    Unlike scipy's function, it accepts two methods; for three or more, a test checks that they agree.
    """
    from scipy import special

    count, width = ranks.shape
    spread = float(((ranks - (width + 1) / 2) ** 2).sum())
    if spread == 0:
        return None
    between = count**2 * float(((ranks.mean(axis=0) - (width + 1) / 2) ** 2).sum())
    statistic = (width - 1) * between / spread
    return statistic, float(special.chdtrc(width - 1, statistic))


def _iman_davenport(friedman: float, count: int, width: int) -> tuple[float, float]:
    from scipy import special

    rest = count * (width - 1) - friedman
    if rest <= 1e-9 * count:
        return float("inf"), 0.0
    statistic = (count - 1) * friedman / rest
    return statistic, float(special.fdtrc(width - 1, (width - 1) * (count - 1), statistic))


def _wilcoxon(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    from scipy import stats

    with np.errstate(invalid="ignore"):
        difference = np.where(first == second, 0, first - second)
    if not difference.any():
        return None
    # Ranks tie often. Then scipy's exact distribution does not hold, and its normal approximation is far off for a few
    # boards, so all changes of signs are enumerated up to _EXACT boards.
    few = len(difference) <= _EXACT
    method = stats.PermutationMethod(n_resamples=2**_EXACT) if few else "approx"
    return float(stats.wilcoxon(difference, zero_method="zsplit", method=method).pvalue)


_EXACT = 12
