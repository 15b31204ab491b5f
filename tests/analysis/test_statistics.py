from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from recbench.analysis import statistics
from recbench.analysis.statistics import ScoreMoments, moments, moments_of_means
from tests.synthetic import World

Numbers = NDArray[np.float64]


def made_up(seed: int, methods: int = 4, seeds: int = 3, images: int = 60) -> list[Numbers]:
    return World([0.0] * methods, seeds, images).scores(np.random.default_rng(seed))


# ScoreMoments


def test_covariances_are_numpys_and_variances_keep_seeds_and_images_apart() -> None:
    scores = made_up(0)
    found = moments(scores)
    by_image = np.stack([one.mean(axis=0) for one in scores])
    np.testing.assert_allclose(found.covariances, np.cov(by_image), rtol=1e-12)
    np.testing.assert_allclose(found.means, [one.mean() for one in scores])
    np.testing.assert_allclose(found.seed_variances, [one.mean(axis=1).var(ddof=1) for one in scores])
    assert found.seeds.tolist() == [3] * 4
    assert found.images == 60


def test_the_rest_is_that_of_a_two_way_analysis_of_variance() -> None:
    """Against the residual of a least-squares fit of seeds and images."""
    scores = made_up(1, methods=1, seeds=4, images=7)
    design = np.zeros((4, 7, 4 + 7))
    for seed, image in itertools.product(range(4), range(7)):
        design[seed, image, [seed, 4 + image]] = 1
    solution, _, rank, _ = np.linalg.lstsq(design.reshape(28, 11), scores[0].ravel(), rcond=None)
    residual = scores[0].ravel() - design.reshape(28, 11) @ solution
    found = moments(scores)
    assert found.interactions[0] == pytest.approx((residual**2).sum() / (28 - rank), rel=1e-12)


def test_the_closed_form_is_the_variance_over_many_paired_resamples() -> None:
    """Of the difference of two means, when the test images are resampled together."""
    first, second = (one.mean(axis=0) for one in made_up(2, methods=2, images=40))
    generator = np.random.default_rng(0)
    chosen = generator.integers(0, 40, (40_000, 40))
    drawn = (first[chosen] - second[chosen]).mean(axis=1).var()
    found = moments([first[None], second[None]])
    closed = (found.covariances[0, 0] + found.covariances[1, 1] - 2 * found.covariances[0, 1]) / 40
    assert drawn == pytest.approx(closed * 39 / 40, rel=0.03)


def test_without_scores_of_images_methods_are_compared_as_if_each_had_its_own() -> None:
    scores = made_up(3)
    paired = moments(scores)
    alone = moments_of_means([one.mean(axis=1) for one in scores], [one.std(axis=1) for one in scores], 60)
    np.testing.assert_allclose(alone.means, paired.means)
    np.testing.assert_allclose(alone.seed_variances, paired.seed_variances)
    expected = [one.var(axis=1, ddof=1).mean() for one in scores]
    np.testing.assert_allclose(np.diag(alone.covariances), expected)
    upper = np.triu_indices(4, 1)
    assert (statistics.pairwise(alone)[upper] >= statistics.pairwise(paired)[upper]).all()
    assert not np.triu(alone.covariances, 1).any()


# Tests of two methods: what they become where one source of spread is missing


@pytest.mark.parametrize("seed", range(4))
def test_a_metric_of_whole_sets_is_tested_by_welch(seed: int) -> None:
    generator = np.random.default_rng(seed)
    first, second = generator.normal(0, 1, 3), generator.normal(1, 4, 5)
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert statistics.pairwise(moments_of_means([first, second]))[0, 1] == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_single_seeds_are_tested_by_the_paired_t_test(seed: int) -> None:
    first, second = made_up(seed, methods=2, seeds=1)
    expected = stats.ttest_rel(first[0], second[0])
    p = statistics.pairwise(moments([first, second]))[0, 1]
    assert p == pytest.approx(expected.pvalue, rel=1e-9)
    found = statistics.difference(first, second, 0.9)
    interval = expected.confidence_interval(0.9)
    assert (found.estimate, found.p) == (pytest.approx((first - second).mean()), pytest.approx(expected.pvalue))
    assert (found.low, found.high) == (pytest.approx(interval.low, rel=1e-9), pytest.approx(interval.high, rel=1e-9))


def test_of_constant_images_only_seeds_are_left() -> None:
    generator = np.random.default_rng(5)
    means = generator.normal(0, 1, (2, 4))
    first, second = (np.repeat(mean[:, None], 30, axis=1) for mean in means)
    expected = stats.ttest_ind(*means, equal_var=False)
    found = statistics.difference(first, second)
    interval = expected.confidence_interval(0.95)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == (pytest.approx(interval.low, rel=1e-9), pytest.approx(interval.high, rel=1e-9))


@pytest.mark.parametrize("seed", range(4))
def test_an_interval_of_a_difference_ends_where_the_test_begins_to_reject(seed: int) -> None:
    first, second = made_up(seed, methods=2)
    found = statistics.difference(first, second, 0.95)
    for end in (found.low, found.high):
        assert statistics.difference(first - end, second, 0.95).p == pytest.approx(0.05, abs=1e-9)


def test_of_several_methods_half_of_a_trainings_variance_is_the_mean_over_all() -> None:
    """By hand: variances 1, 4 and 10 of three seeds each, so pooled 5. This test has three quarters of the rate,
    Welch's the other."""
    means = [np.array([-1.0, 0, 1]), 3 + 2 * np.array([-1.0, 0, 1]), np.sqrt(10) * np.array([-1.0, 0, 1])]
    variance = ((1 + 5) / 2 + (4 + 5) / 2) / 3
    weights = np.array([1 / 2 + 1 / 3, 1 / 2 + 1 / 3, 1 / 3]) / 3
    freedom = variance**2 / ((weights * np.array([1, 4, 10])) ** 2 / 2).sum()
    assert weights @ np.array([1, 4, 10]) == pytest.approx(variance)
    p = statistics.pairwise(moments_of_means(means))[0, 1]
    mixed = 2 * stats.t.sf(3 / np.sqrt(variance), freedom)
    assert p == pytest.approx(mixed / 0.75, rel=1e-9)
    assert mixed / 0.75 < 4 * stats.ttest_ind(*means[:2], equal_var=False).pvalue


def test_a_method_with_erratic_trainings_hides_no_difference_of_others() -> None:
    """Two that are far apart, three seeds each, by Welch's test of the two alone; beside them one of a hundred times
    their spread, in whose variance the difference drowns."""
    steady, other, erratic = np.array([0.0, 1, 2]), np.array([50.0, 51, 52]), 100 * np.array([0.0, 1, 2])
    alone = stats.ttest_ind(steady, other, equal_var=False).pvalue
    p = statistics.pairwise(moments_of_means([steady, other, erratic]))
    assert p[0, 1] == pytest.approx(4 * alone, rel=1e-9)
    assert p[0, 1] < 1e-4
    assert p[0, 2] > 0.1


def test_a_single_seed_among_several_borrows_the_variance_of_the_others() -> None:
    means = [np.array([0.0]), np.array([2.0, 3.0, 4.0]), np.array([5.0, 6.0, 7.0])]
    p = statistics.pairwise(moments_of_means(means))
    assert 0 < p[0, 1] < 1
    assert p[0, 2] < p[0, 1]
    intervals = statistics.intervals(moments_of_means(means))
    assert np.isnan(intervals[0]).all()
    assert np.isfinite(intervals[1:]).all()


# What cannot be tested


def test_equal_scores_never_differ_significantly_and_certain_ones_always() -> None:
    same = made_up(6, methods=1)[0]
    p = statistics.pairwise(moments([same, same.copy(), same + 1]))
    assert (p[0, 1], p[0, 0]) == (1, 1)
    certain = moments_of_means([np.array([1.0, 1.0]), np.array([2.0, 2.0]), np.array([1.0, 1.0])])
    np.testing.assert_array_equal(statistics.pairwise(certain), [[1, 0, 1], [0, 1, 0], [1, 0, 1]])


def test_rounding_does_not_tell_methods_apart() -> None:
    """Equal scores, summed in another order."""
    same = made_up(7, methods=1, images=1000)[0]
    shifted = np.nextafter(same, np.inf)
    assert statistics.pairwise(moments([same, shifted]))[0, 1] == 1


def test_one_seed_of_a_metric_of_whole_sets_says_nothing() -> None:
    alone = moments_of_means([np.array([1.0]), np.array([50.0])])
    assert (statistics.pairwise(alone) == 1).all()
    assert np.isnan(statistics.intervals(alone)).all()


def test_infinite_scores_are_not_tested() -> None:
    first, second, third = made_up(8, methods=3)
    first[0, 3] = np.inf
    with np.errstate(invalid="ignore"):
        found = moments([first, second, third])
    p = statistics.pairwise(found)
    assert (p[0] == 1).all()
    assert p[1, 2] == pytest.approx(statistics.pairwise(moments([first, second, third][1:]))[0, 1], rel=0.5)
    assert np.isnan(statistics.intervals(found)[0]).all()
    assert np.isfinite(statistics.intervals(found)[1:]).all()


# Intervals


def test_intervals_are_students_where_one_spread_is_missing() -> None:
    seeds = np.array([3.0, 4.0, 8.0])
    (interval,) = statistics.intervals(moments_of_means([seeds]), 0.9)
    expected = stats.t.interval(0.9, 2, loc=5, scale=stats.sem(seeds))
    np.testing.assert_allclose(interval, expected, rtol=1e-9)
    images = np.random.default_rng(0).normal(size=(1, 50))
    images = np.concatenate([images, -images], axis=1)  # no skewness
    (interval,) = statistics.intervals(moments([images]), 0.9)
    np.testing.assert_allclose(interval, stats.t.interval(0.9, 99, images.mean(), stats.sem(images[0])), rtol=1e-9)


def test_the_squares_of_half_widths_add_up() -> None:
    (scores,) = made_up(9, methods=1)
    found = dataclasses.replace(moments([scores]), skewness=np.zeros(1))
    low, high = statistics.intervals(found)[0]
    seeds = stats.t.ppf(0.975, 2) ** 2 * found.seed_variances[0] / 3
    images = stats.t.ppf(0.975, 59) ** 2 * (found.covariances[0, 0] - found.interactions[0] / 3) / 60
    assert ((high - low) / 2) ** 2 == pytest.approx(seeds + images, rel=1e-9)


def test_intervals_follow_skewness() -> None:
    generator = np.random.default_rng(0)
    skewed = np.exp(generator.standard_normal((1, 400)))
    left, right = statistics.intervals(moments([skewed]))[0]
    error = stats.sem(skewed[0])
    assert right - skewed.mean() > 2.1 * error, "few large values are easily missed: the mean may be much larger"
    assert skewed.mean() - left == pytest.approx(stats.t.ppf(0.975, 399) * error)
    mirrored = statistics.intervals(moments([-skewed]))[0]
    np.testing.assert_allclose(mirrored, [-right, -left], rtol=1e-12)


def test_quantiles_of_skewed_scores_are_those_of_their_studentized_mean() -> None:
    """Against 40,000 samples of an exponential distribution, whose skewness is 2."""
    samples = np.random.default_rng(1).exponential(size=(40_000, 50))
    studentized = (samples.mean(axis=1) - 1) / (samples.std(axis=1, ddof=1) / np.sqrt(50))
    t = stats.t.ppf([0.025, 0.975], 49)
    found = statistics.skewed_quantile(t, np.array([2.0, 2.0]), 50)
    true = np.quantile(studentized, [0.025, 0.975])
    assert (np.abs(found - true) < 0.5 * np.abs(t - true)).all()


@pytest.mark.parametrize("images", [16, 100, 2000])
@pytest.mark.parametrize("odd", [1, 2, 5])
def test_few_images_that_differ_do_not_send_the_interval_far_away(images: int, odd: int) -> None:
    """Scores that are nearly constant, or all zero, but for a few: a studentized bootstrap would reach to −3000."""
    nearly = 0.0103 + 1e-6 * np.random.default_rng(0).standard_normal((1, images))
    nearly[0, :odd] = 0
    binary = np.zeros((1, images))
    binary[0, :odd] = 0.3
    for scores in (nearly, binary):
        low, high = statistics.intervals(moments([scores]))[0]
        reach = 3.2 * stats.t.ppf(0.975, images - 1) * stats.sem(scores[0])
        assert scores.mean() - reach <= low < scores.mean() < high <= scores.mean() + reach
        assert high > stats.t.interval(0.95, images - 1, scores.mean(), stats.sem(scores[0]))[1] - 1e-12


def test_intervals_stay_within_the_range_of_scores_and_hold_the_mean() -> None:
    scores = np.zeros((1, 30))
    scores[0, 0] = 0.3
    assert statistics.intervals(moments([scores]), score_range=(0, 1))[0, 0] == 0
    low, high = statistics.intervals(moments([1 - scores]), score_range=(0, 1))[0]
    assert (low < 0.99, high) == (True, 1)
    seeds = moments_of_means([np.array([3.0, 50.0])])
    assert statistics.intervals(seeds, score_range=(0, np.inf))[0, 0] == 0
    low, high = statistics.intervals(moments([scores + 2]), score_range=(0, 1))[0]  # the metric declares a wrong range
    assert low <= (scores + 2).mean() <= high


def test_constant_scores_have_an_interval_without_width() -> None:
    assert statistics.intervals(moments([np.full((2, 20), 0.25)]))[0].tolist() == [0.25, 0.25]


# A best score


def test_methods_at_the_same_distance_from_the_best_score_do_not_differ() -> None:
    generator = np.random.default_rng(0)
    rejected = 0
    for _ in range(400):
        scores = [mean + 0.01 * generator.standard_normal((3, 1)) for mean in (0.9, 1.1)]
        found = moments_of_means([one[:, 0] for one in scores])
        rejected += statistics.pairwise(found, target=1.0)[0, 1] <= 0.05
        assert statistics.pairwise(found)[0, 1] < 0.01
    assert rejected <= stats.binom.ppf(0.999, 400, 0.05)


def test_the_nearer_to_the_best_score_differs_on_either_side() -> None:
    near, far, other = np.array([0.99, 1.0, 1.01]), np.array([0.69, 0.7, 0.71]), np.array([1.29, 1.3, 1.31])
    p = statistics.pairwise(moments_of_means([near, far, other]), target=1.0)
    assert max(p[0, 1], p[0, 2]) < 0.001
    assert p[1, 2] > 0.9


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("target", [None, 1.0])
def test_the_interval_leaves_out_zero_exactly_if_the_difference_is_significant(seed: int, target: float | None) -> None:
    generator = np.random.default_rng(seed)
    first, second = (mean + 0.05 * generator.standard_normal((3, 20)) for mean in generator.choice([0.9, 1, 1.04], 2))
    for confidence in (0.5, 0.9, 0.95, 0.999):
        found = statistics.difference(first, second, confidence, target)
        assert found.low <= found.estimate <= found.high
        assert (found.p <= 1 - confidence) == (not found.low <= 0 <= found.high)


# Corrections


def test_holm_gives_the_worked_example() -> None:
    """p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") of R gives 0.05 0.08 0.09 0.09 0.09."""
    found = statistics.holm(np.array([0.05, 0.02, 0.04, 0.01, 0.03]))
    np.testing.assert_allclose(found, [0.09, 0.08, 0.09, 0.05, 0.09])
    np.testing.assert_allclose(statistics.holm(np.array([0.6, 0.9])), [1, 1])
    assert statistics.holm(np.array([])).shape == (0,)


def test_intervals_at_holms_factors_agree_with_corrected_p_values() -> None:
    generator = np.random.default_rng(3)
    for _ in range(50):
        p = generator.choice([0.0, 1e-4, 0.004, 0.012, 0.02, 0.04, 0.3, 1.0], size=generator.integers(1, 9))
        factors = statistics.holm_factors(p)
        assert (factors >= 1).all()
        np.testing.assert_array_equal(statistics.holm(p) <= 0.05, p <= 0.05 / factors + 1e-15)


def test_moments_hold_what_a_board_of_sixty_methods_needs_and_no_scores() -> None:
    found = moments(made_up(11, methods=60, seeds=2, images=200))
    size = sum(value.nbytes for value in vars(found).values() if isinstance(value, np.ndarray))
    assert isinstance(found, ScoreMoments)
    assert size < 60 * 60 * 8 * 1.2
