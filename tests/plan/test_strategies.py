"""Strategies of tuning: grids of exactly the budget, and random draws that all methods share."""

from __future__ import annotations

import math
import statistics
from typing import Any

import pytest

from recbench.plan.strategies import candidates, grid_shape, ladder
from recbench.plan.tuning import Axis, Tuning

KL = Axis(name="kl_weight", low=1e-4, high=1.0, log=True)
ALPHA = Axis(name="alpha", low=0.0, high=1.0)
WHOLE = Axis(name="depth", low=1, high=3, whole=True)


def rule(**changes: Any) -> Tuning:
    facts = {"strategy": "grid", "budget": 4, "candidate_seeds": (0,), "metric": "ssim", "direction": "higher"}
    return Tuning(**{**facts, "seeds": (0, 1), **changes})


def test_a_ladder_has_equal_factors_between_its_ends() -> None:
    assert ladder(KL, 5) == [1e-4, 1e-3, 0.01, 0.1, 1.0]
    assert ladder(KL, 1) == [0.01]
    assert ladder(ALPHA, 3) == [0, 0.5, 1]
    assert ladder(WHOLE, 3) == [1, 2, 3]


@pytest.mark.parametrize(
    ("budget", "axes", "shape"),
    [
        (7, (KL,), (7,)),
        (6, (KL, ALPHA), (3, 2)),
        (9, (KL, ALPHA), (3, 3)),
        (12, (KL, ALPHA), (4, 3)),
        (8, (KL, WHOLE), (4, 2)),
        (16, (KL, WHOLE), (8, 2)),  # depth has three values only
        (12, (KL, ALPHA, WHOLE), (3, 2, 2)),
        (1, (KL, ALPHA), (1, 1)),
    ],
)
def test_a_grid_has_exactly_as_many_points_as_the_budget(
    budget: int, axes: tuple[Axis, ...], shape: tuple[int, ...]
) -> None:
    assert grid_shape(budget, axes) == shape
    points = candidates(rule(budget=budget), axes)
    assert len({tuple(point.items()) for point in points}) == len(points) == budget


@pytest.mark.parametrize(("budget", "axes"), [(7, (KL, ALPHA)), (4, (KL, ALPHA, WHOLE)), (25, (KL, WHOLE))])
def test_a_grid_that_cannot_be_is_refused(budget: int, axes: tuple[Axis, ...]) -> None:
    with pytest.raises(ValueError, match="no grid of"):
        grid_shape(budget, axes)


def test_random_candidates_are_log_uniform_and_the_same_for_every_method() -> None:
    drawn = candidates(rule(strategy="random", budget=4000), (KL, ALPHA, WHOLE))
    alone = candidates(rule(strategy="random", budget=4000), (KL,))
    assert [values["kl_weight"] for values in drawn] == [values["kl_weight"] for values in alone]
    logs = [math.log10(values["kl_weight"]) for values in drawn]
    assert -4 <= min(logs) < -3.99
    assert -0.01 < max(logs) <= 0
    assert statistics.fmean(logs) == pytest.approx(-2, abs=0.06)
    assert statistics.pvariance(logs) == pytest.approx(16 / 12, rel=0.05)
    counts = [sum(values["depth"] == depth for values in drawn) for depth in (1, 2, 3)]
    assert counts == pytest.approx([4000 / 3] * 3, rel=0.1)
    again = candidates(rule(strategy="random", budget=10), (KL, ALPHA, WHOLE))
    assert again == drawn[:10]
    assert candidates(rule(strategy="random", budget=10, seed=1), (KL, ALPHA, WHOLE)) != again
