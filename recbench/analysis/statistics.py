"""Statistics of leaderboards: intervals of means, and tests of all pairs of methods. Pure functions.

A score of method m, seed s and test image i is modelled as the method's mean plus effects of the training (m, s), of
the image (i, shared by all methods), of the image for this method (m, i), and a residual (m, s, i). The variance of
trainings shrinks with the number of seeds, that of images with the number of test images, so they are estimated
separately. An image's shared effect cancels between methods, which is why methods are compared image by image.

With two to five seeds, a bootstrap that resamples seeds covers far too rarely. So trainings enter through Student's t,
and images through the paired bootstrap: its variance of a mean is known in closed form (that of infinitely many
replicates), and replicates are drawn only for the skewness of intervals. docs/statistics.md reports simulations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

Numbers = NDArray[np.float64]
Flags = NDArray[np.bool_]

REPLICATES = 2000
_CHUNK = 2_000_000
"""Counts of resampled images that are held in memory at a time (16 MB)."""


@dataclass(frozen=True)
class ScoreMoments:
    """The moments of one metric of M methods that intervals and tests are computed from.

    Attributes:
        means: (M,), over seeds and images.
        seeds: (M,), number of seeds.
        seed_variances: (M,), variance (n − 1) of the seeds' means; NaN for a single seed.
        images: number N of test images; 0 for a metric of whole sets.
        covariances: (M, M), over images, of the methods' scores averaged over seeds; without scores per image, a
            diagonal matrix of variances.
        interactions: (M,), variance of what neither seed nor image explains; 0 if unknown.
        quantiles: (2, M), of the studentized bootstrap of the mean over images, at one confidence; None without scores
            per image.
    """

    means: Numbers
    seeds: NDArray[np.int64]
    seed_variances: Numbers
    images: int
    covariances: Numbers
    interactions: Numbers
    quantiles: Numbers | None = None

    @property
    def image_variances(self) -> Numbers:
        """The variance of each mean that is due to the choice of test images: (M,).

        The scores averaged over S seeds still contain the residual's variance / S, which the seeds' means contain too.
        """
        own = np.diag(self.covariances) - self.interactions / self.seeds
        return np.maximum(own, 0) / max(self.images, 1)


def moments(scores: Sequence[Numbers], confidence: float = 0.95, replicates: int = REPLICATES) -> ScoreMoments:
    """Return the moments of one metric from its scores per image.

    Args:
        scores: for each method (S, N): seeds, which may differ in number, by test images, the same for all methods.
        confidence: of the intervals to be computed, in (0, 1).
        replicates: of the bootstrap over images; 0 leaves it out.

    >>> found = moments([np.array([[1.0, 3.0], [2.0, 4.0]]), np.array([[2.0, 6.0]])], replicates=0)
    >>> found.means, found.seeds, found.images
    (array([2.5, 4. ]), array([2, 1]), 2)
    >>> found.seed_variances
    array([0.5, nan])
    """
    by_image = np.stack([of_method.mean(axis=0) for of_method in scores])
    seeds = np.array([len(of_method) for of_method in scores])
    interactions = np.zeros(len(scores))
    images = by_image.shape[1]
    for number, of_method in enumerate(scores):
        if len(of_method) > 1 and images > 1:
            rest = of_method - of_method.mean(axis=1, keepdims=True) - by_image[number] + of_method.mean()
            interactions[number] = (rest**2).sum() / ((len(of_method) - 1) * (images - 1))
    centred = by_image - by_image.mean(axis=1, keepdims=True)
    return ScoreMoments(
        means=by_image.mean(axis=1),
        seeds=seeds,
        seed_variances=_variances([of_method.mean(axis=1) for of_method in scores]),
        images=images,
        covariances=centred @ centred.T / max(images - 1, 1),
        interactions=interactions,
        quantiles=bootstrap_quantiles(centred, confidence, replicates) if replicates and images > 1 else None,
    )


def moments_of_means(means: Sequence[Numbers], stds: Sequence[Numbers] | None = None, images: int = 0) -> ScoreMoments:
    """Return the moments of one metric without its scores per image.

    Methods are then compared as if each had its own images, which has less power than comparing image by image.

    Args:
        means: for each method (S,), the seeds' means.
        stds: for each method (S,), the standard deviations over test images; None for a metric of whole sets.
        images: number of test images.

    >>> found = moments_of_means([np.array([1.0, 2.0]), np.array([5.0, 5.5])], [np.ones(2), np.ones(2)], images=100)
    >>> found.means, found.seed_variances
    (array([1.5 , 5.25]), array([0.5  , 0.125]))
    """
    variances = np.zeros(len(means)) if stds is None else np.array([float(np.mean(std**2)) for std in stds])
    return ScoreMoments(
        means=np.array([of_method.mean() for of_method in means]),
        seeds=np.array([len(of_method) for of_method in means]),
        seed_variances=_variances(means),
        images=images if stds is not None else 0,
        covariances=np.diag(variances * images / max(images - 1, 1)),
        interactions=np.zeros(len(means)),
    )


def _variances(means: Sequence[Numbers]) -> Numbers:
    return np.array([of_method.var(ddof=1) if len(of_method) > 1 else np.nan for of_method in means])


def bootstrap_quantiles(centred: Numbers, confidence: float, replicates: int = REPLICATES, seed: int = 0) -> Numbers:
    """Return quantiles of the studentized mean over resampled images (Efron & Tibshirani 1993, section 12.5).

    Every replicate resamples the images once for all methods.

    Args:
        centred: (M, N) scores per image, with mean 0 for each method.
        confidence: in (0, 1).
        replicates: number of resamples.
        seed: of the random numbers.

    Returns:
        (2, M): the quantiles at (1 − confidence) / 2 and (1 + confidence) / 2.
    """
    methods, images = centred.shape
    generator = np.random.default_rng(seed)
    columns = np.ascontiguousarray(np.concatenate([centred, centred**2]).T)
    found = np.empty((replicates, methods))
    step = max(1, _CHUNK // images)
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        chosen = generator.integers(0, images, (size, images)) + images * np.arange(size)[:, None]
        counts = np.bincount(chosen.ravel(), minlength=size * images).reshape(size, images)
        sums = counts.astype(np.float64) @ columns / images
        mean, square = sums[:, :methods], sums[:, methods:]
        error = np.sqrt(np.maximum(square - mean**2, 0) / max(images - 1, 1))
        found[start : start + size] = np.divide(mean, error, out=np.zeros_like(mean), where=error > 0)
    tail = (1 - confidence) / 2
    return np.asarray(np.quantile(found, [tail, 1 - tail], axis=0))


def intervals(moments: ScoreMoments, confidence: float = 0.95) -> Numbers:
    """Return confidence intervals of each method's mean over all trainings and images.

    The half-width's square is the sum of those of its two parts: for trainings with Student's t of S − 1 degrees of
    freedom, for images with t of N − 1 or the studentized bootstrap, whichever reaches further. For normal scores the
    interval covers at least at its nominal rate, whatever the two variances are (Banerjee 1960, Sankhya 22; Zou &
    Donner 2008, Stat. Med. 27). With a single seed the interval is over images only, for that training.

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
        t_images = special.stdtrit(moments.images - 1, tail)
        left, right = (0, 0) if moments.quantiles is None else moments.quantiles
        # The bootstrap follows skewness, but underestimates heavy tails in small samples.
        low, high = (np.maximum(right, t_images) * error) ** 2, (np.maximum(-left, t_images) * error) ** 2
    found = np.stack([moments.means - np.sqrt(seeds + low), moments.means + np.sqrt(seeds + high)], axis=1)
    found[~(several | (moments.images > 1)) | ~np.isfinite(found).all(axis=1)] = np.nan
    return found


@dataclass(frozen=True)
class _Errors:
    """Variances of the differences of all pairs of means, (M, M): due to trainings, with their degrees of freedom, and
    due to images."""

    seeds: Numbers
    freedom: Numbers
    images: Numbers


def _errors(moments: ScoreMoments) -> _Errors:
    """Return the error variances, with a training's variance half the method's own and half the mean over all methods.

    Each method's own variance would leave 1 to 2 degrees of freedom with two seeds, and no power; the mean alone would
    give false alarms for a method with erratic trainings. The degrees of freedom are Satterthwaite's (1946), of all
    variances involved. With two methods, each has its own variance: this is Welch's test.
    """
    count = len(moments.means)
    several = (moments.seeds > 1) & np.isfinite(moments.seed_variances)
    zeros = np.zeros((count, count))
    seeds, freedom = zeros, zeros + 1
    if several.any():
        variances = np.where(several, moments.seed_variances, 0)
        share = 0.5 if several.sum() > 2 else 1.0
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
    images = own_images[:, None] + own_images[None, :] - 2 * moments.covariances
    # A variance that cancels up to rounding is 0; otherwise the rounding would make equal methods differ significantly.
    images[np.abs(images) < 1e-13 * (variances[:, None] + variances[None, :])] = 0
    return _Errors(seeds, freedom, np.maximum(images, 0) / max(moments.images, 1))


def pairwise(moments: ScoreMoments) -> Numbers:
    """Return two-sided p-values of the hypothesis that two methods have the same mean, not corrected for their number.

    The difference over its standard error is compared with Student's t: the p-values with the degrees of freedom of
    trainings and of images are averaged, weighted by their shares of the variance. This is Banerjee's argument (see
    `intervals`) for p-values, except that the shares are estimated. With single seeds it speaks about these trainings
    only.

    Returns:
        (M, M), symmetric; 1 for methods of unknown variance or with infinite scores.

    >>> pairwise(moments_of_means([np.array([1.0, 2.0, 3.0]), np.array([7.0, 8.0, 9.0])])).round(4)
    array([[1.    , 0.0018],
           [0.0018, 1.    ]])
    """
    errors = _errors(moments)
    found = np.ones_like(errors.seeds)
    if not (moments.seeds > 1).any() and moments.images < 2:
        return found
    first, second = upper = np.triu_indices(len(found), 1)
    seeds, total = errors.seeds[upper], errors.seeds[upper] + errors.images[upper]
    one, other = moments.means[first], moments.means[second]
    with np.errstate(invalid="ignore", divide="ignore"):
        difference = np.abs(one - other)
        difference[difference <= 1e-12 * np.maximum(np.abs(one), np.abs(other))] = 0
        statistic = difference / np.sqrt(total)
        share = np.where(total > 0, seeds / total, 0)
        p = 2 * share * special.stdtr(errors.freedom[upper], -statistic)
        if moments.images > 1:
            p += 2 * (1 - share) * special.stdtr(float(moments.images - 1), -statistic)
    p[total == 0] = 0
    p[(difference == 0) | ~np.isfinite(difference) | ~np.isfinite(total)] = 1
    found[upper] = np.minimum(p, 1)
    found.T[upper] = found[upper]
    return found


@dataclass(frozen=True)
class MeanDifference:
    """The difference of two means, first minus second: estimate, confidence interval, and p-value of no difference."""

    estimate: float
    low: float
    high: float
    p: float


def difference(first: Numbers, second: Numbers, confidence: float = 0.95) -> MeanDifference:
    """Compare two methods on the same test images.

    The interval holds the differences that `pairwise` would not reject; NaN with one seed each and one image.

    Args:
        first: (S, N) scores by seed and image.
        second: (S', N).
        confidence: of the interval, in (0, 1).

    >>> found = difference(np.array([[3.0, 4.0, 5.0]]), np.array([[1.0, 2.5, 3.0]]))
    >>> round(found.estimate, 3), round(found.low, 3), round(found.high, 3), round(found.p, 3)
    (1.833, 1.116, 2.55, 0.008)
    """
    both = moments([first, second], replicates=0)
    errors, p = _errors(both), float(pairwise(both)[0, 1])
    estimate = float(both.means[0] - both.means[1])
    seeds, images = float(errors.seeds[0, 1]), float(errors.images[0, 1])
    if not (both.seeds > 1).any() and both.images < 2:
        return MeanDifference(estimate, np.nan, np.nan, p)
    if seeds + images == 0:
        return MeanDifference(estimate, estimate, estimate, p)
    share, freedom = seeds / (seeds + images), float(errors.freedom[0, 1])
    low, high = 0.0, float(max(special.stdtrit(freedom, (1 + confidence) / 2), 2.0)) * 2
    for _ in range(100):  # bisection, to the last bit
        middle = (low + high) / 2
        tail = 2 * share * special.stdtr(freedom, -middle)
        if both.images > 1:
            tail += 2 * (1 - share) * special.stdtr(float(both.images - 1), -middle)
        low, high = (middle, high) if tail > 1 - confidence else (low, middle)
    half = high * float(np.sqrt(seeds + images))
    return MeanDifference(estimate, estimate - half, estimate + half, p)


def holm(p_values: Numbers) -> Numbers:
    """Return p-values corrected for their number (Holm 1979, Scand. J. Stat. 6), in the same shape.

    Rejecting those up to α keeps the probability of any false alarm at α.

    >>> holm(np.array([0.01, 0.04, 0.03]))
    array([0.03, 0.06, 0.06])
    """
    flat = np.asarray(p_values, dtype=np.float64).ravel()
    order = np.argsort(flat, kind="stable")
    corrected = np.maximum.accumulate(flat[order] * np.arange(len(flat), 0, -1))
    found = np.empty_like(flat)
    found[order] = np.minimum(corrected, 1)
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
