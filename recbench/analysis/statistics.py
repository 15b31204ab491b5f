"""Statistics of leaderboards: intervals of means, and tests of all pairs of methods. Pure functions.

A score of method m, seed s and test image i is modelled as the method's mean plus effects of the training (m, s), of
the image (i, shared by all methods), of the image for this method (m, i), and a residual (m, s, i). The variance of
trainings shrinks with the number of seeds, that of images with the number of test images, so they are estimated
separately. An image's shared effect cancels between methods, which is why methods are compared image by image.

With two to five seeds, a bootstrap that resamples seeds covers far too rarely. So trainings and images enter through
Student's t; for intervals, the t of images is corrected for the skewness of scores in closed form. A studentized
bootstrap follows skewness as well, but has no bound where few images differ: nearly all resamples of scores that are
clipped, binary or nearly constant have almost no spread to divide by. docs/statistics.md reports simulations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from recbench.analysis.moments import Numbers, ScoreMoments, moments, moments_of_means

__all__ = [
    "Flags",
    "MeanDifference",
    "Numbers",
    "ScoreMoments",
    "difference",
    "difference_of",
    "holm",
    "holm_factors",
    "holm_of_pairs",
    "intervals",
    "moments",
    "moments_of_means",
    "pairwise",
    "skewed_quantile",
]

Flags = NDArray[np.bool_]


def skewed_quantile(t: Numbers, skewness: Numbers, images: int) -> Numbers:
    """Return quantiles of the studentized mean of skewed scores, from those of symmetric ones.

    The inverse of Hall's monotone cubic transformation (Hall 1992, J. R. Stat. Soc. B 54, equation 3.2, for a
    studentized mean), by which the mean's t statistic loses its skewness to second order. Beyond the cubic's saddle,
    where its inverse jumps, it stays at that point: so it is hardly more than three times ``t``, whatever the scores
    are.

    Args:
        t: Student's quantiles.
        skewness: of the scores, of the same shape.
        images: number N of scores.

    >>> skewed_quantile(np.array([-2.0, 2.0]), np.array([0.0, 0.0]), 100)
    array([-2.,  2.])
    >>> skewed_quantile(np.array([-2.0, 2.0]), np.array([2.0, 2.0]), 100).round(2)
    array([-2.4 ,  1.75])
    """
    relative = skewness / np.sqrt(images)
    flat = np.abs(relative) < 1e-6  # there the quotient loses its digits, and its limit is t
    safe = np.where(flat, 1, relative)
    return np.asarray(np.where(flat, t, 3 / safe * (np.cbrt(np.maximum(1 + safe * (t - safe / 6), 0)) - 1)))


def intervals(
    moments: ScoreMoments, confidence: float = 0.95, score_range: tuple[float, float] = (-np.inf, np.inf)
) -> Numbers:
    """Return confidence intervals of each method's mean over all trainings and images.

    The half-width's square is the sum of those of its two parts: for trainings with Student's t of S − 1 degrees of
    freedom, for images with t of N − 1 or that corrected for skewness, whichever reaches further. For normal scores the
    interval covers at least at its nominal rate, whatever the two variances are (Banerjee 1960, Sankhya 22; Zou &
    Donner 2008, Stat. Med. 27). With a single seed the interval is over images only, for that training.

    Args:
        moments: of M methods.
        confidence: in (0, 1).
        score_range: lowest and highest possible score, which intervals do not leave.

    Returns:
        (M, 2): lower and upper ends; NaN where neither variance is known.

    >>> intervals(moments_of_means([np.array([1.0, 2.0, 3.0])])).round(3)
    array([[-0.484,  4.484]])
    """
    tail = (1 + confidence) / 2
    seeds = np.zeros(len(moments.means))
    several = moments.seeds > 1
    t = special.stdtrit(moments.seeds[several] - 1, tail)
    seeds[several] = t**2 * moments.seed_variances[several] / moments.seeds[several]
    low = high = np.zeros(len(moments.means))
    if moments.images > 1:
        error = np.sqrt(moments.image_variances)
        t_images = np.full(len(moments.means), special.stdtrit(moments.images - 1, tail))
        skewness = 0 * t_images if moments.skewness is None else moments.skewness
        left, right = (skewed_quantile(t, skewness, moments.images) for t in (-t_images, t_images))
        # Corrected for skewness alone, intervals of heavy-tailed scores would be too short on one side.
        low, high = (np.maximum(right, t_images) * error) ** 2, (np.maximum(-left, t_images) * error) ** 2
    found = np.stack([moments.means - np.sqrt(seeds + low), moments.means + np.sqrt(seeds + high)], axis=1)
    # A mean outside of the range would be a metric's mistake, and its interval still holds it.
    found[:, 0] = np.maximum(found[:, 0], np.minimum(score_range[0], moments.means))
    found[:, 1] = np.minimum(found[:, 1], np.maximum(score_range[1], moments.means))
    found[~(several | (moments.images > 1)) | ~np.isfinite(found).all(axis=1)] = np.nan
    return found


@dataclass(frozen=True)
class _Errors:
    """Variances of the differences (or sums) of all pairs of means, (M, M): due to trainings, with their degrees of
    freedom, and due to images."""

    seeds: Numbers
    freedom: Numbers
    images: Numbers

    def of(self, pairs: Any) -> _Errors:
        """Return those of some pairs, chosen by an index of the matrices."""
        return _Errors(self.seeds[pairs], self.freedom[pairs], self.images[pairs])


def _errors(moments: ScoreMoments, sign: int = -1, share: float = 1.0) -> _Errors:
    """Return the error variances, with a training's variance partly the method's own, partly the mean over all methods.

    The degrees of freedom are Satterthwaite's (1946), of all variances involved.

    Args:
        moments: of M methods.
        sign: −1 for differences, 1 for sums.
        share: of the method's own variance.
    """
    count = len(moments.means)
    several = (moments.seeds > 1) & np.isfinite(moments.seed_variances)
    zeros = np.zeros((count, count))
    seeds, freedom = zeros, zeros + 1
    if several.any():
        variances = np.where(several, moments.seed_variances, 0)
        own = np.where(several, share, 0) / moments.seeds
        pooled = (np.where(several, 1 - share, 1) / moments.seeds) / several.sum()
        both = pooled[:, None] + pooled[None, :]
        seeds = (own * variances)[:, None] + (own * variances)[None, :] + both * variances.sum()
        squares = variances**2 / np.maximum(moments.seeds - 1, 1)
        extra = ((own[:, None] + both) ** 2 - both**2) * squares[:, None]
        spread = both**2 * squares.sum() + extra + extra.T
        freedom = np.divide(seeds**2, spread, out=zeros + 1, where=spread > 0)
    variances = np.diag(moments.covariances)
    rests = moments.interactions / moments.seeds
    own_images = variances - rests
    images = own_images[:, None] + own_images[None, :] + 2 * sign * moments.covariances
    # A variance that cancels up to rounding is 0; otherwise the rounding would make equal methods differ significantly.
    images[np.abs(images) < 1e-13 * (variances[:, None] + variances[None, :])] = 0
    return _Errors(seeds, freedom, np.maximum(images, 0) / max(moments.images, 1))


def _tails(statistic: Numbers | float, errors: _Errors, images: int) -> Numbers:
    """Return two-sided p-values of an estimate over its standard error; see `pairwise`. All arguments broadcast."""
    total = errors.seeds + errors.images
    share = np.divide(errors.seeds, total, out=np.zeros_like(total), where=total > 0)
    p = 2 * share * special.stdtr(errors.freedom, -statistic)
    if images > 1:
        p = p + 2 * (1 - share) * special.stdtr(float(images - 1), -statistic)
    return np.asarray(np.minimum(p, 1))


IN_COMMON = 0.75
"""Share of the error rate of a pair's test for the variance that methods have in common."""


def _p_values(
    estimate: Numbers, size: Numbers, moments: ScoreMoments, sign: int, pairs: tuple[NDArray[np.int64], ...]
) -> Numbers:
    """Return p-values of differences or sums of pairs of means, each from two tests that share its error rate.

    In one, a training's variance is half the method's own and half the mean over all methods. Own variances would
    leave 1 to 2 degrees of freedom with two seeds, and no power; the mean alone would give false alarms for a method
    with erratic trainings. But with one such method on the board, the mean is so large that differences between others
    drown in it, and these are found by the other: by own variances alone, which is Welch's test. Rejecting what one of
    them rejects at its share of the rate keeps the rate (Bonferroni). Two methods have own variances only.
    """
    own = _p_of_zero(estimate, size, _errors(moments, sign).of(pairs), moments.images)
    if (moments.seeds > 1).sum() <= 2:
        return own
    mixed = _p_of_zero(estimate, size, _errors(moments, sign, share=0.5).of(pairs), moments.images)
    return np.minimum(np.minimum(mixed / IN_COMMON, own / (1 - IN_COMMON)), 1)


def _p_of_zero(estimate: Numbers, size: Numbers, errors: _Errors, images: int) -> Numbers:
    """Return two-sided p-values of estimates under the hypothesis that they are 0; 1 for what is not finite.

    Args:
        estimate: of any shape.
        size: of the numbers that it was computed from: below 1e-12 of it, it is a rounding error.
        errors: its variances.
        images: number of test images.
    """
    total = errors.seeds + errors.images
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.where(np.abs(estimate) <= 1e-12 * size, 0, np.abs(estimate))
        p = _tails(distance / np.sqrt(total), errors, images)
    p = np.where(total == 0, 0, p)
    return np.where((distance == 0) | ~np.isfinite(distance) | ~np.isfinite(total), 1, p)


def pairwise(moments: ScoreMoments, target: float | None = None) -> Numbers:
    """Return two-sided p-values of the hypothesis that two methods are equally good, not corrected for their number.

    Two methods are equally good if they have the same mean. The difference over its standard error is compared with
    Student's t: the p-values with the degrees of freedom of trainings and of images are averaged, weighted by their
    shares of the variance. This is Banerjee's argument (see `intervals`) for p-values, except that the shares are
    estimated. With single seeds it speaks about these trainings only.

    With a target, two methods are equally good if their means are equally far from it: if they are the same, or lie at
    the same distance on both sides. Both are tested, and the larger p-value counts (Berger 1982, Technometrics 24).

    Args:
        moments: of M methods.
        target: the mean that is best; None if higher means are better, or lower ones.

    Returns:
        (M, M), symmetric; 1 for methods of unknown variance or with infinite scores.

    >>> pairwise(moments_of_means([np.array([1.0, 2.0, 3.0]), np.array([7.0, 8.0, 9.0])])).round(4)
    array([[1.    , 0.0018],
           [0.0018, 1.    ]])
    >>> pairwise(moments_of_means([np.array([1.0, 2.0, 3.0]), np.array([7.0, 8.0, 9.0])]), target=5.0).round(4)
    array([[1., 1.],
           [1., 1.]])
    """
    means = moments.means
    if not (moments.seeds > 1).any() and moments.images < 2:
        return np.ones((len(means), len(means)))
    pairs = np.triu_indices(len(means), 1)
    first, second = (means[each] for each in pairs)
    size = np.maximum(np.abs(first), np.abs(second))
    with np.errstate(invalid="ignore"):
        found = _p_values(first - second, size, moments, -1, pairs)
        if target is not None:
            size, sums = np.maximum(size, abs(target)), (first - target) + (second - target)
            found = np.maximum(found, _p_values(sums, size, moments, 1, pairs))
    symmetric = np.ones((len(means), len(means)))
    symmetric[pairs] = symmetric.T[pairs] = found
    return symmetric


@dataclass(frozen=True)
class MeanDifference:
    """The difference of two means, first minus second: estimate, confidence interval, and p-value of no difference."""

    estimate: float
    low: float
    high: float
    p: float


def difference(
    first: Numbers, second: Numbers, confidence: float = 0.95, target: float | None = None
) -> MeanDifference:
    """Compare two methods on the same test images; see `difference_of`.

    Args:
        first: (S, N) scores by seed and image.
        second: (S', N).
        confidence: of the interval, in (0, 1).
        target: the mean that is best, if there is one.

    >>> found = difference(np.array([[3.0, 4.0, 5.0]]), np.array([[1.0, 2.5, 3.0]]))
    >>> round(found.estimate, 3), round(found.low, 3), round(found.high, 3), round(found.p, 3)
    (1.833, 1.116, 2.55, 0.008)
    """
    return difference_of(moments([first, second]), confidence, target)


def difference_of(both: ScoreMoments, confidence: float = 0.95, target: float | None = None) -> MeanDifference:
    """Return the difference of two means, or with a target of their distances from it.

    The interval holds the differences that `pairwise` would not reject, so that it leaves out 0 exactly if the p-value
    is at most 1 − confidence; NaN with one seed each and one image, and for infinite means.

    Args:
        both: the moments of two methods.
        confidence: of the interval, in (0, 1).
        target: the mean that is best, if there is one.
    """
    p = float(pairwise(both, target)[0, 1])
    first, second = (float(mean) for mean in both.means)
    ends = _ends(first - second, _errors(both), both, confidence)
    if target is None:
        return MeanDifference(first - second, *ends, p)
    sums = _ends(first + second - 2 * target, _errors(both, 1), both, confidence)
    # |x| − |y| is the smaller of |x − y| and |x + y|, with the sign of their product, and monotone in both.
    corners = [np.sign(a * b) * min(abs(a), abs(b)) for a in ends for b in sums]
    return MeanDifference(abs(first - target) - abs(second - target), float(min(corners)), float(max(corners)), p)


def _ends(estimate: float, errors: _Errors, both: ScoreMoments, confidence: float) -> tuple[float, float]:
    """Return the estimates that would not be rejected, between the first two methods."""
    if (not (both.seeds > 1).any() and both.images < 2) or not np.isfinite(estimate):
        return np.nan, np.nan
    one = errors.of((0, 1))
    total = float(one.seeds + one.images)
    if total == 0:
        return estimate, estimate
    low, high = 0.0, 2.0
    while _tails(high, one, both.images) > 1 - confidence:
        low, high = high, 2 * high
    for _ in range(100):  # bisection, to the last bit
        middle = (low + high) / 2
        low, high = (middle, high) if _tails(middle, one, both.images) > 1 - confidence else (low, middle)
    half = high * float(np.sqrt(total))
    return estimate - half, estimate + half


def holm(p_values: Numbers) -> Numbers:
    """Return p-values corrected for their number (Holm 1979, Scand. J. Stat. 6), in the same shape.

    Rejecting those up to α keeps the probability of any false alarm at α.

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    return np.minimum(p_values * holm_factors(p_values), 1)


def holm_factors(p_values: Numbers) -> Numbers:
    """Return what Holm's correction multiplies each p-value by, at least 1, in the same shape.

    An interval at the confidence 1 − α / factor leaves out 0 exactly if the corrected p-value is at most α.

    >>> holm_factors(np.array([0.01, 0.04, 0.03]))
    array([3. , 1.5, 2. ])
    """
    flat = np.asarray(p_values, dtype=np.float64).ravel()
    order = np.argsort(flat, kind="stable")
    counts = np.arange(len(flat), 0, -1, dtype=np.float64)
    corrected = np.maximum.accumulate(flat[order] * counts)
    found = np.empty_like(flat)
    found[order] = np.divide(corrected, flat[order], out=counts, where=flat[order] > 0)
    return found.reshape(np.shape(p_values))


def holm_of_pairs(matrices: Sequence[Numbers]) -> list[Numbers]:
    """Return the p-values of all pairs of methods, corrected over pairs and metrics together; the diagonal is 1.

    Args:
        matrices: (M, M), symmetric, for each metric.
    """
    if not matrices:
        return []
    upper = np.triu_indices(len(matrices[0]), 1)
    corrected = holm(np.concatenate([matrix[upper] for matrix in matrices])).reshape(len(matrices), -1)
    found = []
    for values in corrected:
        matrix = np.ones_like(matrices[0])
        matrix[upper] = values
        matrix.T[upper] = values
        found.append(matrix)
    return found
