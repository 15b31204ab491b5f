"""Leaderboards whose truth is known: intervals cover it, equal methods share a tier, unequal ones differ significantly.

Rates are compared with what so many synthetic boards can show: a true rate of 95% fails one test in a thousand.
"""

from __future__ import annotations

import dataclasses
import itertools
import zlib

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from recbench.analysis import ordering, statistics
from recbench.analysis.statistics import ScoreMoments, moments, moments_of_means
from tests.conftest import SOAK
from tests.synthetic import ODD, Tails, World, odd_mean, odd_scores

EQUAL, UNEQUAL, ERRATIC, SOME = "equal", "unequal", "erratic", "some"


def spreads(kind: str, methods: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Standard deviations of trainings: all alike, from a half to the double, one method four times the others, or a
    third of them ten times the others."""
    if kind == EQUAL:
        return np.ones(methods)
    if kind == UNEQUAL:
        return generator.uniform(0.5, 2, methods)
    if kind == SOME:
        return np.where(np.arange(methods) < methods // 3, 10.0, 1.0)
    return np.array([4.0] + [1.0] * (methods - 1))


def reject(moments_of: list[ScoreMoments]) -> list[NDArray[np.bool_]]:
    """For each metric, which methods are significantly better, corrected over all of them; smaller is better."""
    corrected = statistics.holm_of_pairs([statistics.pairwise(found) for found in moments_of])
    return [ordering.better(found.means, p) for found, p in zip(moments_of, corrected, strict=True)]


def at_least(hits: int, boards: int, rate: float = 0.95) -> bool:
    return bool(hits >= stats.binom.ppf(0.001, boards, rate))


CASES = [
    # methods, seeds, images, trainings' spreads, tails, image effects of a method relative to trainings' of 1
    (2, 2, 200, UNEQUAL, "normal", 5.0),
    (2, 5, 50, ERRATIC, "heavy", 5.0),
    (3, 3, 50, UNEQUAL, "skewed", 5.0),
    (5, 2, 500, EQUAL, "heavy", 20.0),
    (5, 3, 50, ERRATIC, "normal", 0.0),
    (10, 3, 200, UNEQUAL, "heavy", 5.0),
    (20, 2, 100, ERRATIC, "normal", 5.0),
    (20, 5, 50, EQUAL, "skewed", 5.0),
    (12, 2, 50, SOME, "normal", 0.1),
    (12, 3, 50, SOME, "normal", 0.1),
]
GRID = [
    (methods, seeds, images, kind, tails, 5.0)
    for methods, seeds, images, kind, tails in itertools.product(
        (2, 6, 20), (2, 3, 5), (50, 2000), (EQUAL, UNEQUAL, ERRATIC), ("normal", "heavy", "skewed")
    )
    if (methods == 6 or tails == "heavy") and (images == 50 or (methods == 6 and kind == UNEQUAL))
]
if not SOAK:
    GRID = GRID[::6]


def equal_methods(case: tuple[int, int, int, str, Tails, float], boards: int) -> None:
    """Both promises for methods that are all alike."""
    methods, seeds, images, kind, tails, both = case
    generator = np.random.default_rng(zlib.crc32(repr(case).encode()))
    covered, together = 0, 0
    for number in range(boards):
        world = World(
            [7.0] * methods, seeds, images, spreads(kind, methods, generator), both=both, rest=both / 2, tails=tails
        )
        found = moments(world.scores(generator))
        (better,) = reject([found])
        together += len(ordering.tiers(found.means, better)) == 1
        low, high = statistics.intervals(found)[number % methods]  # of one board, intervals share the images
        covered += low <= 7 <= high
    assert at_least(covered, boards), f"intervals cover {covered} times in {boards}"
    assert at_least(together, boards), f"equal methods are in one tier {together} times in {boards}"


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_intervals_cover_and_equal_methods_share_a_tier(case: tuple[int, int, int, str, Tails, float]) -> None:
    equal_methods(case, boards=150)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("case", GRID, ids=lambda case: "-".join(map(str, case)))
def test_intervals_cover_and_equal_methods_share_a_tier_everywhere(
    case: tuple[int, int, int, str, Tails, float],
) -> None:
    equal_methods(case, boards=200)


@pytest.mark.parametrize("shared", [0.5, 0.9])
@pytest.mark.parametrize(("methods", "seeds"), [(2, 2), (5, 3), (5, 5)])
def test_trainings_that_correlate_by_seed_take_no_validity(methods: int, seeds: int, shared: float) -> None:
    """Methods with the same seed see the images in the same order, and may start from the same weights."""
    generator = np.random.default_rng([methods, seeds, int(10 * shared)])
    boards, covered, together, held = 300, 0, 0, 0
    for _ in range(boards):
        world = World([7.0] * methods, seeds, 100, spreads(UNEQUAL, methods, generator), 5.0, 1.0, 1.0, shared=shared)
        scores = world.scores(generator)
        found = moments(scores)
        together += len(ordering.tiers(found.means, reject([found])[0])) == 1
        low, high = statistics.intervals(found)[0]
        covered += low <= 7 <= high
        difference = statistics.difference(scores[0], scores[1])
        held += difference.low <= 0 <= difference.high
    assert at_least(covered, boards), f"intervals of means cover {covered} times"
    assert at_least(held, boards), f"intervals of differences cover {held} times"
    assert at_least(together, boards), f"equal methods are in one tier {together} times"


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_intervals_are_not_wider_than_they_have_to_be(seeds: int) -> None:
    """With only one of the two variances, they cover at the nominal rate, and not more often."""
    generator = np.random.default_rng(seeds)
    boards, covered = 2000, 0
    for _ in range(boards):
        world = World([0.0], seeds, 50, image=0.0, both=0.0, rest=0.1)
        low, high = statistics.intervals(moments(world.scores(generator)))[0]
        covered += low <= 0 <= high
    assert at_least(covered, boards)
    assert at_least(boards - covered, boards, 0.05)


@pytest.mark.parametrize("seeds", [2, 3])
def test_equal_methods_among_others_share_a_tier_too(seeds: int) -> None:
    """Three between better and worse ones, at every distance: a link to a neighbour must not part them."""
    generator = np.random.default_rng(seeds)
    boards, together = 300, 0
    for number in range(boards):
        gap = (0.5, 2.0, 5.0, 20.0)[number % 4]
        world = World([0, gap, gap, gap, 2 * gap], seeds, 100, spreads(UNEQUAL, 5, generator))
        found = moments(world.scores(generator))
        tiers = ordering.tiers(found.means, reject([found])[0])
        together += any({1, 2, 3} <= set(members) for members in tiers)
    assert at_least(together, boards), f"{together} times in {boards}"


@pytest.mark.parametrize("spread", [0.5, 3.0])
def test_forty_methods_are_in_many_tiers_and_equal_ones_share_one(spread: float) -> None:
    """Twenty pairs of equal methods: all of them share a tier at once, while the first and the last share none."""
    generator = np.random.default_rng(40)
    means = np.repeat(np.arange(20.0), 2) * spread
    boards, together, apart, sizes = 100, 0, 0, []
    for _ in range(boards):
        found = moments(World(means.tolist(), 3, 60, spreads(UNEQUAL, 40, generator)).scores(generator))
        tiers = ordering.tiers(found.means, reject([found])[0])
        shared = np.zeros((40, 40), dtype=bool)
        for members in tiers:
            shared[np.ix_(members, members)] = True
        together += bool(shared[np.arange(0, 40, 2), np.arange(1, 40, 2)].all())
        apart += not shared[0, 39]
        sizes += [len(members) for members in tiers]
    assert at_least(together, boards), f"{together} times in {boards}"
    assert apart >= (0.95 * boards if spread > 1 else 0), f"{apart} times in {boards}"
    assert np.median(sizes) < (20 if spread > 1 else 41)


@pytest.mark.parametrize(("methods", "seeds"), [(4, 2), (8, 3)])
def test_equal_methods_share_a_tier_over_all_metrics(methods: int, seeds: int) -> None:
    """Three metrics, two of which see the same errors in another way."""
    generator = np.random.default_rng(methods)
    boards, together = 300, 0
    for _ in range(boards):
        world = World([0.0] * methods, seeds, 60, spreads(UNEQUAL, methods, generator), tails="heavy")
        scores, others = world.scores(generator), world.scores(generator)
        found = [moments(s) for s in (scores, [np.expm1(one / 40) for one in scores], others)]
        ranks = np.mean([stats.rankdata(one.means) for one in found], axis=0)
        together += len(ordering.tiers(ranks, ordering.majority(reject(found), ranks))) == 1
    assert at_least(together, boards), f"{together} times in {boards}"


def test_rank_intervals_hold_the_true_ranks_of_all_methods_at_once() -> None:
    generator = np.random.default_rng(0)
    means = np.array([0.0, 0.0, 3.0, 4.0, 4.0, 12.0, 30.0])
    best = stats.rankdata(means, method="min")
    worst = stats.rankdata(means, method="max")
    boards, held = 300, 0
    for _ in range(boards):
        found = moments(World(means.tolist(), 3, 80, spreads(UNEQUAL, 7, generator)).scores(generator))
        places = ordering.rank_intervals(reject([found])[0])
        held += bool((places[:, 0] <= best).all() and (worst <= places[:, 1]).all())
    assert at_least(held, boards), f"{held} times in {boards}"


@pytest.mark.parametrize(("methods", "seeds", "distance", "power"), [(5, 2, 30, 0.8), (5, 3, 8, 0.9), (20, 3, 12, 0.9)])
def test_unequal_methods_differ_significantly(methods: int, seeds: int, distance: float, power: float) -> None:
    """Two groups of equal methods, so many standard deviations of a training apart."""
    generator = np.random.default_rng(methods)
    boards, parted = 100, 0
    for _ in range(boards):
        means = np.where(np.arange(methods) < methods // 2, 0, distance)
        found = moments(World(means.tolist(), seeds, 500, both=2.0, rest=1.0).scores(generator))
        parted += reject([found])[0][0, -1]
    assert parted >= power * boards, f"{parted} times in {boards}"


def test_pairing_by_images_tells_apart_what_scores_alone_do_not() -> None:
    generator = np.random.default_rng(0)
    world = World([0.0, 4.0, 4.0, 4.0], 3, 200, training=0.3, image=40.0, both=2.0, rest=1.0)
    paired, alone = 0, 0
    for _ in range(50):
        scores = world.scores(generator)
        paired += reject([moments(scores)])[0][0, 1:].all()
        summary = moments_of_means([one.mean(axis=1) for one in scores], [one.std(axis=1) for one in scores], 200)
        alone += reject([summary])[0][0, 1:].any()
    assert paired >= 45
    assert alone <= 5


def test_single_seeds_are_judged_for_their_trainings() -> None:
    """The mean of this training over all images is covered; the mean over all trainings is not meant, nor covered."""
    generator = np.random.default_rng(0)
    world = World([0.0] * 4, 1, 100, training=0.0, image=5.0, both=1.0, rest=1.0, tails="heavy")
    boards, covered, together, elsewhere = 300, 0, 0, 0
    for _ in range(boards):
        found = moments(world.scores(generator))
        low, high = statistics.intervals(found)[0]
        covered += low <= 0 <= high
        together += len(ordering.tiers(found.means, reject([found])[0])) == 1
        other = moments(dataclasses.replace(world, training=5.0).scores(generator))
        low, high = statistics.intervals(other)[0]
        elsewhere += low <= 0 <= high
    assert at_least(covered, boards)
    assert at_least(together, boards)
    assert elsewhere < 0.6 * boards


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_metrics_of_whole_sets_hold_both_promises_by_seeds_alone(seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    boards, covered, together = 400, 0, 0
    for _ in range(boards):
        spread = spreads(UNEQUAL, 6, generator)
        found = moments_of_means(list(50 + spread[:, None] * generator.standard_normal((6, seeds))))
        low, high = statistics.intervals(found)[0]
        covered += low <= 50 <= high
        together += len(ordering.tiers(found.means, reject([found])[0])) == 1
    assert at_least(covered, boards)
    assert at_least(together, boards)


def test_without_scores_of_images_both_promises_hold_too() -> None:
    generator = np.random.default_rng(1)
    boards, covered, together = 300, 0, 0
    for _ in range(boards):
        scores = World([3.0] * 5, 3, 100, spreads(UNEQUAL, 5, generator), image=5.0).scores(generator)
        found = moments_of_means([one.mean(axis=1) for one in scores], [one.std(axis=1) for one in scores], 100)
        low, high = statistics.intervals(found)[0]
        covered += low <= 3 <= high
        together += len(ordering.tiers(found.means, reject([found])[0])) == 1
    assert at_least(covered, boards)
    assert at_least(together, boards)


def odd_boards(kind: str, seeds: int, images: int, boards: int) -> tuple[int, int, float]:
    """Return how often intervals cover, and equal methods share a tier, and the longest reach in standard errors."""
    generator = np.random.default_rng(zlib.crc32(f"{kind} {seeds} {images}".encode()))
    truth, covered, together, reach = odd_mean(kind), 0, 0, 0.0
    for number in range(boards):
        found = moments(odd_scores(kind, 3, seeds, images, generator))
        (better,) = reject([found])
        together += len(ordering.tiers(found.means, better)) == 1
        low, high = statistics.intervals(found)[number % 3]
        covered += low <= truth <= high
        mean, error = found.means[number % 3], np.sqrt(found.covariances[number % 3, number % 3] / images)
        reach = max(reach, (high - mean) / error, (mean - low) / error) if error else reach
    return covered, together, reach


@pytest.mark.parametrize("kind", ODD)
def test_intervals_of_odd_scores_cover_and_stay_near(kind: str) -> None:
    covered, together, reach = odd_boards(kind, 1, 200, 200)
    assert at_least(covered, 200), f"{covered} times in 200"
    assert at_least(together, 200), f"{together} times in 200"
    assert reach < 3.2 * stats.t.ppf(0.975, 199)


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(("seeds", "images"), [(1, 500), (1, 2000), (3, 200), (3, 2000)])
def test_intervals_of_odd_scores_cover_everywhere(kind: str, seeds: int, images: int) -> None:
    covered, together, _ = odd_boards(kind, seeds, images, 1000)
    assert at_least(covered, 1000), f"{covered} times in 1000"
    assert at_least(together, 1000), f"{together} times in 1000"
