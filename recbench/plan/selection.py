"""Selection among the trials of a search, and its best-of-k curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from recbench.contracts.direction import Direction, cost
from recbench.plan.tuning import Search, Tuning


class _Scored(Protocol):
    @property
    def mean(self) -> float: ...
    @property
    def finite(self) -> float | None: ...


class _Directed(Protocol):
    @property
    def direction(self) -> Direction: ...


def usable(score: _Scored, metric: _Directed) -> float:
    """Return the mean that methods are compared by.

    One image that a metric scores infinitely well would make the mean infinite, whatever the other images are. Such
    images count as the best finite one of the job; an infinitely bad image stays infinitely bad.

    Args:
        score: a :class:`recbench.store.record.Score`.
        metric: a column of a plan, or the rule of tuning.
    """
    worst = cost(score.mean, metric.direction) == math.inf
    return score.mean if score.finite is None or worst else score.finite


def select(scores: Sequence[float | None], direction: Direction) -> int | None:
    """Return the index of the best score; the first of equal ones; None if all trials failed.

    Args:
        scores: one for each trial; None for a trial that failed.
        direction: whether higher or lower scores are better, or the score that is best.

    >>> select([0.3, None, 0.1, 0.1], "lower")
    2
    """
    ordered = [(cost(score, direction), index) for index, score in enumerate(scores) if score is not None]
    return min(ordered)[1] if ordered else None


def at_edge(trials: Sequence[Mapping[str, float]], chosen: int) -> tuple[str, ...]:
    """Return the names of the hyperparameters whose chosen value is the lowest or the highest of all trials.

    Args:
        trials: the values of each trial by name.
        chosen: index of the chosen trial.

    >>> at_edge([{"a": 1, "b": 0}, {"a": 2, "b": 5}, {"a": 3, "b": 9}], 2)
    ('a', 'b')
    """
    found = []
    for name, value in trials[chosen].items():
        values = {other[name] for other in trials}
        if len(values) > 1 and value in (min(values), max(values)):
            found.append(name)
    return tuple(found)


def expected_best(scores: Sequence[float | None], direction: Direction) -> tuple[float | None, ...]:
    """Return the expected best score of k trials drawn without replacement, for k = 1, 2, …

    The expected validation performance of Dodge et al. 2019 (Show Your Work, EMNLP), with the unbiased estimator of
    Tang et al. 2020 (Showing Your Work Doesn't Always Work, ACL, equation 5), over all subsets of k. It is meant for
    strategies whose candidates do not depend on each other's scores.

    Args:
        scores: one for each trial; None for a trial that failed, which is worse than any score.
        direction: whether higher or lower scores are better, or the score that is best: then the values are distances
            from it, since scores on both sides of it would cancel.

    Returns:
        One value for each k; None as long as a draw of k could contain failed trials only.

    >>> expected_best([1.0, 2.0, 3.0], "higher")
    (2.0, 2.6666666666666665, 3.0)
    >>> expected_best([1.0, None], "lower")
    (None, 1.0)
    """
    failed = sum(score is None for score in scores)
    sign = -1 if direction == "higher" else 1
    ordered = [sign * c for c in sorted((cost(s, direction) for s in scores if s is not None), reverse=True)]
    count = len(scores)
    values: list[float | None] = []
    for k in range(1, count + 1):
        if failed >= k:
            values.append(None)
            continue
        # The i-th from the worst is the best of C(i - 1, k - 1) subsets of k.
        terms = (
            math.comb(rank - 1, k - 1) / math.comb(count, k) * score
            for rank, score in enumerate(ordered, start=failed + 1)
            if rank >= k
        )
        values.append(math.fsum(terms))
    return tuple(values)


def running_best(scores: Sequence[float | None], direction: Direction) -> tuple[float | None, ...]:
    """Return the best score of the first k trials, for k = 1, 2, …: for strategies that learn from earlier trials.

    Args:
        scores: one for each trial, in order; None for a trial that failed.
        direction: as for :func:`expected_best`.

    Returns:
        One value for each k; None as long as all trials so far failed.

    >>> running_best([None, 2.0, 3.0, 1.0], "lower")
    (None, 2.0, 2.0, 1.0)
    """
    sign = -1 if direction == "higher" else 1
    costs: list[float | None] = []
    for score in scores:
        now = None if score is None else cost(score, direction)
        known = [value for value in (costs[-1] if costs else None, now) if value is not None]
        costs.append(min(known) if known else None)
    return tuple(None if value is None else sign * value for value in costs)


def best_of(search: Search, tuning: Tuning) -> tuple[float | None, ...]:
    """Return the best-of-k curve of a search over the trials that have ended.

    See :func:`expected_best`, and for the strategy ``optuna`` :func:`running_best`.
    """
    scores = [trial.score for trial in search.trials if trial.status != "open"]
    curve = running_best if tuning.strategy == "optuna" else expected_best
    return curve(scores, tuning.direction)
