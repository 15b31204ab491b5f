"""Statistics of leaderboards: intervals of means, tests of every two methods, what follows from them. Pure functions.

A score of method m, seed s and test image i is taken to be the method's mean plus an effect of the training (m, s), of
the image (i, shared by all methods), of the image for this method (m, i), and a rest (m, s, i). Two spreads are kept
apart, since they shrink with different things: that of trainings with seeds, that of images with test images. An
image's shared effect cancels between methods, which is why methods are compared image by image.

With two to five seeds, a bootstrap that resamples seeds covers far too rarely. So trainings enter through Student's t,
and images through the paired bootstrap: of a mean, its variance is known in closed form (that of infinitely many
replicates), and replicates are drawn where it is not, for the skewness of intervals. docs/statistics.md says what was
found in simulations.
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
"""Counts of resampled images that are held at a time (16 MB)."""


@dataclass(frozen=True)
class ScoreMoments:
    """What intervals and tests need to know of one metric of M methods.

    Attributes:
        means: (M,), over seeds and images.
        seeds: (M,), number of seeds.
        seed_variances: (M,), variance (n − 1) of the seeds' means; NaN for a single seed.
        images: number N of test images; 0 for a metric of whole sets.
        covariances: (M, M), over images, of the methods' scores of an image averaged over seeds; only variances, and
            zeros beside them, where the scores of single images are not known.
        interactions: (M,), variance of what neither seed nor image explains; 0 where it is not known.
        quantiles: (2, M) by the confidence that it was made for, of the studentized bootstrap of the mean over
            images; None where the scores of single images are not known.
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
        """(M,): variance of each mean that is due to the choice of test images.

        The scores averaged over S seeds still hold the rest's variance / S, which the seeds' means hold too.
        """
        own = np.diag(self.covariances) - self.interactions / self.seeds
        return np.maximum(own, 0) / max(self.images, 1)


def moments(scores: Sequence[Numbers], confidence: float = 0.95, replicates: int = REPLICATES) -> ScoreMoments:
    """ScoreMoments of one metric from the scores of single images.

    Args:
        scores: for each method (S, N): seeds, which may differ in number, by test images, which are the same for all.
        confidence: of the intervals to be made.
        replicates: of the bootstrap over images; 0 leaves it out.
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
    """ScoreMoments of one metric without the scores of single images.

    Args:
        means: for each method (S,), the seeds' means.
        stds: for each method (S,), the spread over test images; None for a metric of whole sets. Methods are then
            compared as if each had images of its own, which tells fewer of them apart than comparing image by image.
        images: number of test images.
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
    """Quantiles of the studentized mean over resampled images (Efron & Tibshirani 1993, section 12.5).

    Every replicate resamples the images once for all methods.

    Args:
        centred: (M, N) scores of images, with mean 0 for each method.

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
    """Confidence intervals of each method's mean over all trainings and images: (M, 2), NaN where nothing is known.

    The half-width's square is the sum of those of its two parts: for trainings with Student's t of S − 1 degrees of
    freedom, for images with t of N − 1 or the studentized bootstrap, whichever reaches further. For normal scores the
    interval covers at least at its nominal rate, whatever the two variances are (Banerjee 1960, Sankhya 22; Zou &
    Donner 2008, Stat. Med. 27). With a single seed only the images are left, and the interval is one for that training.
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
        # The bootstrap follows skewness; of few heavy-tailed scores, it has not seen the tails.
        low, high = (np.maximum(right, t_images) * error) ** 2, (np.maximum(-left, t_images) * error) ** 2
    found = np.stack([moments.means - np.sqrt(seeds + low), moments.means + np.sqrt(seeds + high)], axis=1)
    found[~(several | (moments.images > 1)) | ~np.isfinite(found).all(axis=1)] = np.nan
    return found


@dataclass(frozen=True)
class _Errors:
    """Variances of the differences of every two means, (M, M): due to trainings, with their degrees of freedom, and to
    images."""

    seeds: Numbers
    freedom: Numbers
    images: Numbers


def _errors(moments: ScoreMoments) -> _Errors:
    """The variance of a training is half the method's own and half the mean over all methods.

    Each method's own would leave 1 to 2 degrees of freedom with two seeds, and tell nothing apart; the mean alone would
    call a method with erratic trainings better or worse than its equals. The degrees of freedom are Satterthwaite's
    (1946), of all the variances that take part. Of two methods, each has its own: this is Welch's test.
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
    # What cancels to the last bit must not be told apart by what is left of rounding.
    images[np.abs(images) < 1e-13 * (variances[:, None] + variances[None, :])] = 0
    return _Errors(seeds, freedom, np.maximum(images, 0) / max(moments.images, 1))


def pairwise(moments: ScoreMoments) -> Numbers:
    """Two-sided p-values that two methods have the same mean: (M, M), not corrected for their number.

    The difference over its standard error is compared with Student's t, with the degrees of freedom of trainings and
    those of images in proportion to their shares of the variance. That is what Banerjee's argument (see `intervals`)
    gives for p-values, up to that the shares are estimated. With single seeds it is about these trainings only.
    Methods about which nothing is known, or whose scores are infinite, have 1.
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
    """Of two means, first minus second: the estimate, its confidence interval, and the p-value of no difference."""

    estimate: float
    low: float
    high: float
    p: float


def difference(first: Numbers, second: Numbers, confidence: float = 0.95) -> MeanDifference:
    """Compare two methods by the scores (S, N) of their seeds, which may differ in number, and the same test images.

    The interval holds the differences that `pairwise` would not reject; NaN with one seed each and one image.
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
    """P-values corrected so that none of them is a false alarm with the wanted probability (Holm 1979); same shape."""
    flat = np.asarray(p_values, dtype=np.float64).ravel()
    order = np.argsort(flat, kind="stable")
    corrected = np.maximum.accumulate(flat[order] * np.arange(len(flat), 0, -1))
    found = np.empty_like(flat)
    found[order] = np.minimum(corrected, 1)
    return found.reshape(np.shape(p_values))


def holm_of_pairs(matrices: Sequence[Numbers]) -> list[Numbers]:
    """Correct the p-values of every two methods, (M, M) for each metric, together; the diagonal is 1."""
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


def better(costs: Numbers, corrected: Numbers, confidence: float = 0.95) -> Flags:
    """(M, M): whether the first method is told apart from the second, and is the better one.

    Args:
        costs: (M,) means, smaller is better.
        corrected: (M, M) corrected p-values.
    """
    return np.asarray((corrected <= 1 - confidence) & (costs[:, None] < costs[None, :]))


def rank_intervals(better: Flags) -> NDArray[np.int64]:
    """Best and worst place of each method that the told-apart pairs leave: (M, 2).

    If no pair is told apart wrongly, all of them hold (Mogstad, Romano, Shaikh & Wilhelm 2024, Rev. Econ. Stud. 91),
    which is so for all methods together at the confidence of the pairs.
    """
    return np.stack([1 + better.sum(axis=0), len(better) - better.sum(axis=1)], axis=1)


def tiers(costs: Numbers, better: Flags) -> NDArray[np.int64]:
    """The tier of each method, from 1: (M,).

    A tier ends where every method above is told apart from every method below. So two equal methods are in different
    tiers only if they were told apart wrongly; methods of one tier may still be told apart, if others link them.
    """
    order = np.argsort(costs, kind="stable")
    told = better[np.ix_(order, order)]
    positions = np.arange(len(order))
    linked = np.where(~told & (positions[None, :] > positions[:, None]), positions[None, :], 0).max(axis=1, initial=0)
    reach = np.maximum.accumulate(linked)
    found = np.empty(len(order), dtype=np.int64)
    found[order] = 1 + np.concatenate([[0], np.cumsum(reach[:-1] <= positions[:-1])])[: len(order)]
    return found


def groups(costs: Numbers, better: Flags) -> list[list[int]]:
    """The longest runs of methods, best first, of which no two are told apart: the bars of a critical-difference
    diagram (Demšar 2006), as indices. Runs of one are left out."""
    order = np.argsort(costs, kind="stable")
    told = (better | better.T)[np.ix_(order, order)]
    found: list[list[int]] = []
    end = 0
    for start in range(len(order)):
        last = max(end, start + 1)
        while last < len(order) and not told[start:last, last].any():
            last += 1
        if last > end and last - start > 1:
            found.append(order[start:last].tolist())
        end = last
    return found


def majority(per_metric: Sequence[Flags], mean_ranks: Numbers) -> Flags:
    """(M, M): whether the first method is overall told to be better than the second.

    It is, if more metrics tell it to be better than tell it to be worse, and its mean rank is the better one. Given
    pairs that were corrected over all metrics together, methods that are equal by every metric are told apart no more
    often than by a single metric.
    """
    count = len(mean_ranks)
    wins = sum((matrix.astype(np.int64) for matrix in per_metric), np.zeros((count, count), dtype=np.int64))
    return np.asarray((wins > wins.T) & (mean_ranks[:, None] < mean_ranks[None, :]))


def pareto_front(costs: Numbers) -> Flags:
    """(M,): whether no other method is at least as good by all of K criteria and better by one.

    Args:
        costs: (M, K), smaller is better.
    """
    dominated = [bool(((costs <= own).all(axis=1) & (costs < own).any(axis=1)).any()) for own in costs]
    return ~np.array(dominated, dtype=np.bool_)
