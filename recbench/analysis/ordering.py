"""Tiers, rank intervals and other orderings of methods, most of them from significant differences. Pure functions.

A matrix (M, M) of flags says for all pairs whether the first method is significantly better than the second; its
p-values come from :mod:`recbench.analysis.statistics`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recbench.analysis.board import LETTERS
from recbench.analysis.statistics import Flags, Numbers


def better(costs: Numbers, corrected: Numbers, confidence: float = 0.95) -> Flags:
    """Return whether the first method is significantly better than the second, for all pairs: (M, M).

    Args:
        costs: (M,) means, smaller is better.
        corrected: (M, M) corrected p-values.
        confidence: in (0, 1).

    >>> better(np.array([1.0, 2.0]), np.array([[1.0, 0.01], [0.01, 1.0]]))
    array([[False,  True],
           [False, False]])
    """
    return np.asarray((corrected <= 1 - confidence) & (costs[:, None] < costs[None, :]))


def rank_intervals(better: Flags) -> NDArray[np.int64]:
    """Return the rank interval of each method, its best and worst rank that the significant differences leave: (M, 2).

    All intervals hold at once unless one of the differences is a false alarm, so their joint confidence is that of the
    pairs (Mogstad, Romano, Shaikh & Wilhelm 2024, Rev. Econ. Stud. 91).

    Args:
        better: (M, M), whether the first method is significantly better than the second.

    >>> rank_intervals(np.array([[False, False, True], [False, False, True], [False, False, False]]))
    array([[1, 2],
           [1, 2],
           [3, 3]])
    """
    return np.stack([1 + better.sum(axis=0), len(better) - better.sum(axis=1)], axis=1)


def tiers(costs: Numbers, better: Flags) -> list[list[int]]:
    """Return the tiers, best first: groups of methods of which no two differ significantly, as indices, best first.

    This is the compact letter display of Piepho (2004, J. Comput. Graph. Stat. 13): two methods share a tier if, and
    only if, they do not differ significantly, so that a method may be in several. A tier is made for the first pair
    that none holds yet, and takes in every further method, best first, that differs from none of its own; so none of
    them could be larger.

    Args:
        costs: (M,), smaller is better; the order of the methods.
        better: (M, M), whether the first method is significantly better than the second.

    >>> tiers(np.array([1.0, 2.0, 3.0]), np.array([[False, False, True], [False] * 3, [False] * 3]))
    [[0, 1], [1, 2]]
    """
    order = np.argsort(costs, kind="stable")
    alike = ~(better | better.T)[np.ix_(order, order)]
    np.fill_diagonal(alike, val=True)
    together = np.zeros_like(alike)
    found: list[list[int]] = []
    for one in range(len(order)):
        while (lacking := alike[one] & ~together[one]).any():
            other = int(lacking.argmax())
            members, fits = np.zeros(len(order), dtype=np.bool_), alike[one] & alike[other]
            members[[one, other]] = True
            while (candidates := fits & ~members).any():
                chosen = int(candidates.argmax())
                members[chosen] = True
                fits &= alike[chosen]
            together |= members[:, None] & members[None, :]
            found.append(order[members].tolist())
    return found


def letters(tiers: Sequence[Sequence[int]], count: int) -> list[str]:
    """Return the letters of each method's tiers: ``a`` for the first tier, and so on; after ``Z`` come ``(53)``, …

    Args:
        tiers: as `tiers` returns them.
        count: number of methods.

    >>> letters([[0, 1], [1, 2]], 3)
    ['a', 'ab', 'b']
    """
    found = [""] * count
    for place, members in enumerate(tiers):
        letter = LETTERS[place] if place < len(LETTERS) else f"({place + 1})"
        for method in members:
            found[method] += letter
    return found


def groups(costs: Numbers, better: Flags) -> list[list[int]]:
    """Return the longest runs of methods, best first, of which no two differ significantly, as indices.

    These are the bars of a critical-difference diagram (Demšar 2006, JMLR 7). Runs of one are left out.

    Args:
        costs: (M,), smaller is better; the order of the methods.
        better: (M, M), whether the first method is significantly better than the second.

    >>> groups(np.array([1.0, 2.0, 3.0]), np.array([[False, False, True], [False] * 3, [False] * 3]))
    [[0, 1], [1, 2]]
    """
    order = np.argsort(costs, kind="stable")
    differ = (better | better.T)[np.ix_(order, order)]
    found: list[list[int]] = []
    end = 0
    for start in range(len(order)):
        last = max(end, start + 1)
        while last < len(order) and not differ[start:last, last].any():
            last += 1
        if last > end and last - start > 1:
            found.append(order[start:last].tolist())
        end = last
    return found


def majority(per_metric: Sequence[Flags], mean_ranks: Numbers) -> Flags:
    """Return whether the first method is significantly better than the second over all metrics: (M, M).

    It is if it is significantly better by more metrics than it is significantly worse, and its mean rank is better.
    If the pairs were corrected over all metrics together, methods that are equal by every metric differ by false alarm
    no more often than by a single metric.

    Args:
        per_metric: (M, M) for each metric, as `better` returns them.
        mean_ranks: (M,).

    >>> wins = np.array([[False, True], [False, False]])
    >>> majority([wins, wins, wins.T], np.array([1.3, 1.7]))
    array([[False,  True],
           [False, False]])
    """
    count = len(mean_ranks)
    wins = sum((matrix.astype(np.int64) for matrix in per_metric), np.zeros((count, count), dtype=np.int64))
    return np.asarray((wins > wins.T) & (mean_ranks[:, None] < mean_ranks[None, :]))


def pareto_front(costs: ArrayLike) -> list[bool]:
    """Return, for each method, whether no other is at least as good by all metrics and better by one.

    Args:
        costs: (M, K), of M methods by K metrics, smaller is better.

    >>> pareto_front([[1.0, 3.0], [2.0, 2.0], [2.0, 3.0]])
    [True, True, False]
    """
    values = np.asarray(costs, dtype=np.float64)
    return [not ((values <= own).all(axis=1) & (values < own).any(axis=1)).any() for own in values]


def out_of_family_ranks(costs: Sequence[Sequence[float]], in_family: Sequence[Sequence[bool]]) -> list[float | None]:
    """Return mean ranks by metrics of neither method's family; None for a method that has no such comparison.

    Two methods are compared only by metrics that are in-family for neither. The share of comparisons that a method wins
    (ties count half) is mapped to the scale of mean ranks, 1 + (M − 1)(1 − share); if no metric is in-family for any
    method, this is the mean rank.

    Args:
        costs: (M, K), of M methods by K metrics, smaller is better.
        in_family: (M, K), whether the metric is of the family of the method's loss.

    >>> out_of_family_ranks([[1.0, 2.0], [2.0, 1.0]], [[False, False], [False, False]])
    [1.5, 1.5]
    >>> out_of_family_ranks([[1.0, 2.0], [2.0, 1.0]], [[True, False], [False, False]])
    [2.0, 1.0]
    """
    count = len(costs)
    values, excluded = np.asarray(costs, dtype=np.float64), np.asarray(in_family, dtype=np.bool_)
    found: list[float | None] = []
    for method, own in enumerate(values):  # one by one: all at once would take memory with the square of the methods
        fair = ~(excluded[method] | excluded)
        fair[method] = False
        won = (fair & (own < values)).sum() + 0.5 * (fair & ~(own < values) & ~(values < own)).sum()
        compared = int(fair.sum())
        found.append(1 + (count - 1) * (1 - float(won) / compared) if compared else None)
    return found
