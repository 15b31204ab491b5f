"""Selection among the trials of a search, and its best-of-k curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

from recbench.plan.tuning import Search, Tuning

Direction = Literal["higher", "lower"]


def select(scores: Sequence[float | None], direction: Direction) -> int | None:
    """Return the index of the best score; the first of equal ones; None if all trials failed.

    Args:
        scores: one for each trial; None for a trial that failed.
        direction: whether higher or lower scores are better.

    >>> select([0.3, None, 0.1, 0.1], "lower")
    2
    """
    sign = 1 if direction == "lower" else -1
    ordered = [(sign * score, index) for index, score in enumerate(scores) if score is not None]
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
        direction: whether higher or lower scores are better.

    Returns:
        One value for each k; None as long as a draw of k could contain failed trials only.

    >>> expected_best([1.0, 2.0, 3.0], "higher")
    (2.0, 2.6666666666666665, 3.0)
    >>> expected_best([1.0, None], "lower")
    (None, 1.0)
    """
    sign = 1 if direction == "higher" else -1
    failed = sum(score is None for score in scores)
    ordered = sorted((score for score in scores if score is not None), key=lambda score: sign * score)
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
        direction: whether higher or lower scores are better.

    Returns:
        One value for each k; None as long as all trials so far failed.

    >>> running_best([None, 2.0, 3.0, 1.0], "lower")
    (None, 2.0, 2.0, 1.0)
    """
    best = max if direction == "higher" else min
    values: list[float | None] = []
    for score in scores:
        known = [value for value in (values[-1] if values else None, score) if value is not None]
        values.append(best(known) if known else None)
    return tuple(values)


def best_of(search: Search, tuning: Tuning) -> tuple[float | None, ...]:
    """Return the best-of-k curve of a search over the trials that have ended.

    See :func:`expected_best`, and for the strategy ``optuna`` :func:`running_best`.
    """
    scores = [trial.score for trial in search.trials if trial.status != "open"]
    curve = running_best if tuning.strategy == "optuna" else expected_best
    return curve(scores, tuning.direction)
