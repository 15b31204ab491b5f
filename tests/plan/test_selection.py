"""Selection among trials: the best, values at the edge, and best-of-k curves."""

from __future__ import annotations

import itertools
import math
import statistics
from typing import Any

import pytest

from recbench.plan.selection import at_edge, best_of, expected_best, running_best, select, usable
from recbench.plan.tuning import Search, Trial, Tuning
from recbench.store.record import Score


def rule(**changes: Any) -> Tuning:
    facts = {"strategy": "grid", "budget": 4, "candidate_seeds": (0,), "metric": "ssim", "direction": "higher"}
    return Tuning(**{**facts, "seeds": (0, 1), **changes})


def test_the_first_of_equal_scores_is_chosen() -> None:
    assert select([1, 3, 3, None], "higher") == 1
    assert select([2, 1, 1], "lower") == 1
    assert select([math.inf, 1], "higher") == 0
    assert select([None, None], "lower") is None


def test_the_edge_is_the_lowest_or_highest_value_of_all_trials() -> None:
    trials = [{"kl_weight": w, "alpha": a} for w, a in itertools.product((1, 2, 3), (0, 1, 2))]
    assert at_edge(trials, 4) == ()
    assert at_edge(trials, 0) == ("kl_weight", "alpha")
    assert at_edge(trials, 5) == ("alpha",)
    assert at_edge([{"kl_weight": 1.0}], 0) == ()


@pytest.mark.parametrize("direction", ["higher", "lower"])
def test_expected_best_of_k_is_the_mean_over_all_subsets(direction: Any) -> None:
    scores = [0.3, 0.9, 0.1, 0.1, 0.7]
    best = max if direction == "higher" else min
    for k, value in enumerate(expected_best(scores, direction), start=1):
        assert value == pytest.approx(statistics.fmean(map(best, itertools.combinations(scores, k))))


def test_expected_best_counts_failed_trials_as_the_worst() -> None:
    values = expected_best([None, 0.5, None, 1.0], "higher")
    assert values[:2] == (None, None)  # two may both have failed
    pairs = [max(s for s in draw if s is not None) for draw in itertools.combinations([None, 0.5, None, 1.0], 3)]
    assert values[2] == pytest.approx(statistics.fmean(pairs))
    assert values[3] == 1.0
    assert expected_best([], "higher") == ()
    assert expected_best([math.inf, 1.0], "higher") == (math.inf, math.inf)


def test_running_best() -> None:
    assert running_best([None, 2, 1, 3], "lower") == (None, 2, 1, 1)
    assert running_best([None, 2, 1, 3], "higher") == (None, 2, 2, 3)


def test_best_of_k_of_optuna_is_a_running_best() -> None:
    trials = tuple(Trial(method=0, values={}, status="scored", score=score) for score in (3.0, 1.0, 2.0))
    search = Search.model_construct(trials=trials)
    assert best_of(search, rule(strategy="optuna", direction="lower")) == (3.0, 1.0, 1.0)
    assert best_of(search, rule(direction="lower")) == pytest.approx((2.0, 4 / 3, 1.0))


def test_the_best_is_the_nearest_to_a_best_score() -> None:
    assert select([0.5, 1.2, 0.9, 3.0, None], 1.0) == 2
    assert running_best([None, 0.5, 1.2, 0.7], 1.0) == pytest.approx((None, 0.5, 0.2, 0.2))
    assert expected_best([0.5, 1.5], 1.0) == (0.5, 0.5), "distances: scores on both sides do not cancel"


def score(mean: float, finite: float | None = None) -> Score:
    return Score(mean=mean, std=None, n=8, infinite=int(math.isinf(mean)), finite=finite)


def test_what_is_infinitely_good_for_some_images_is_compared_by_the_others() -> None:
    assert usable(score(math.inf, 31.0), rule(direction="higher")) == 31
    assert usable(score(-math.inf, 31.0), rule(direction="lower")) == 31
    assert usable(score(math.inf, 31.0), rule(direction="lower")) == math.inf
    assert usable(score(math.inf, 31.0), rule(direction=1.0)) == math.inf
    assert usable(score(math.inf), rule(direction="higher")) == math.inf
    assert usable(score(25.0), rule(direction="higher")) == 25
