from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from recbench.analysis import ordering


def relations(seed: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return costs of some methods, and which pairs of them differ significantly."""
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 9))
    costs = generator.normal(size=count)
    differ = np.abs(costs[:, None] - costs[None, :]) > generator.uniform(0.1, 1) + 0.3 * generator.random(
        (count, count)
    )
    differ = np.triu(differ, 1)
    return costs, np.asarray((differ | differ.T) & (costs[:, None] < costs[None, :]))


@pytest.mark.parametrize("seed", range(60))
def test_two_methods_share_a_tier_exactly_if_they_do_not_differ(seed: int) -> None:
    costs, better = relations(seed)
    tiers = ordering.tiers(costs, better)
    differ = better | better.T
    for pair in itertools.combinations_with_replacement(range(len(costs)), 2):
        assert any(set(pair) <= set(members) for members in tiers) == (not differ[pair])
    for members in tiers:
        assert members == sorted(members, key=lambda i: costs[i])
        others = set(range(len(costs))) - set(members)
        assert all(differ[other, members].any() for other in others), "a tier could be larger"
    assert len(set(map(tuple, tiers))) == len(tiers)
    letters = ordering.letters(tiers, len(costs))
    for i, j in itertools.combinations(range(len(costs)), 2):
        assert bool(set(letters[i]) & set(letters[j])) == (not differ[i, j])


def test_chains_do_not_make_one_tier_of_methods_that_differ_hugely() -> None:
    """Forty methods, of which each differs from all but its three nearest neighbours on both sides."""
    costs = np.arange(40.0)
    better = costs[None, :] - costs[:, None] > 3
    tiers = ordering.tiers(costs, better)
    assert tiers == [list(range(first, first + 4)) for first in range(37)]
    letters = ordering.letters(tiers, 40)
    assert (letters[0], letters[3], letters[4], letters[39]) == ("a", "abcd", "bcde", "K")
    assert ordering.letters([[0]] * 54, 1)[0].endswith("YZ(53)(54)")


@pytest.mark.parametrize("seed", range(60))
def test_rank_intervals_and_groups_are_what_their_definitions_say(seed: int) -> None:
    costs, better = relations(seed)
    count = len(costs)
    order = sorted(range(count), key=lambda i: costs[i])
    ranks = ordering.rank_intervals(better).tolist()
    assert ranks == [[1 + sum(better[:, i].tolist()), count - sum(better[i].tolist())] for i in range(count)]
    runs = [
        (start, end)
        for start, end in itertools.combinations(range(count + 1), 2)
        if end - start > 1
        and not any(better[i, j] or better[j, i] for i, j in itertools.combinations(order[start:end], 2))
    ]
    longest = [run for run in runs if not any(a <= run[0] and run[1] <= b and (a, b) != run for a, b in runs)]
    assert ordering.groups(costs, better) == [order[start:end] for start, end in longest]


def test_no_methods_have_no_tiers() -> None:
    nothing = np.zeros((0, 0), dtype=bool)
    assert ordering.tiers(np.zeros(0), nothing) == []
    assert ordering.groups(np.zeros(0), nothing) == []


def test_a_majority_of_metrics_and_the_mean_rank_must_agree() -> None:
    """Three metrics: the first is significantly better by two and worse by one."""
    wins = np.array([[False, True], [False, False]])
    ranks = np.array([1.0, 2.0])
    assert ordering.majority([wins, wins, wins.T], ranks).tolist() == wins.tolist()
    assert not ordering.majority([wins, wins.T], ranks).any()
    assert not ordering.majority([wins, wins, wins.T], ranks[::-1].copy()).any()
    assert not ordering.majority([], ranks).any()


@pytest.mark.parametrize("seed", range(5))
def test_the_pareto_front_is_what_nothing_dominates(seed: int) -> None:
    costs = np.random.default_rng(seed).integers(0, 4, (12, 3)).astype(float)
    expected = [not any((other <= one).all() and (other < one).any() for other in costs) for one in costs]
    assert ordering.pareto_front(costs) == expected


def test_out_of_family_ranks_are_mean_ranks_if_no_metric_is_in_family() -> None:
    costs = np.random.default_rng(0).integers(0, 3, (6, 4)).astype(float)
    expected = stats.rankdata(costs, axis=0).mean(axis=1)
    assert ordering.out_of_family_ranks(costs.tolist(), [[False] * 4] * 6) == pytest.approx(expected.tolist())


def test_out_of_family_ranks_leave_out_metrics_of_either_family() -> None:
    """The first metric is in-family for a, the second for b, the third for neither."""
    costs = [[1.0, 3.0, 2.0], [2.0, 1.0, 1.0], [3.0, 2.0, 3.0]]
    in_family = [[True, False, False], [False, True, False], [False, False, False]]
    # a: beats c by the third and loses the second; meets b by the third only, and loses. One of three is won.
    assert ordering.out_of_family_ranks(costs, in_family) == pytest.approx([1 + 2 * 2 / 3, 1.0, 1 + 2 * 3 / 4])
    assert ordering.out_of_family_ranks([[1.0], [2.0]], [[True], [False]]) == [None, None]
