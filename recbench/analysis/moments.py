"""Means, variances and skewness of scores: all that intervals and tests are computed from. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.float64]


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
        skewness: (M,), of the scores over images, averaged over seeds; 0 for constant scores; None without scores per
            image.
    """

    means: Numbers
    seeds: NDArray[np.int64]
    seed_variances: Numbers
    images: int
    covariances: Numbers
    interactions: Numbers
    skewness: Numbers | None = None

    @property
    def image_variances(self) -> Numbers:
        """The variance of each mean that is due to the choice of test images: (M,).

        The scores averaged over S seeds still contain the residual's variance / S, which the seeds' means contain too.
        """
        own = np.diag(self.covariances) - self.interactions / self.seeds
        return np.maximum(own, 0) / max(self.images, 1)


def moments(scores: Sequence[Numbers]) -> ScoreMoments:
    """Return the moments of one metric from its scores per image.

    Args:
        scores: for each method (S, N): seeds, which may differ in number, by test images, the same for all methods.

    >>> found = moments([np.array([[1.0, 3.0], [2.0, 4.0]]), np.array([[2.0, 6.0]])])
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
        skewness=_skewness(centred) if images > 1 else None,
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


def _skewness(centred: Numbers) -> Numbers:
    """Return the third standardized moment of each row, (M,), from rows (M, N) with mean 0; 0 for a row of zeros."""
    spread = np.sqrt((centred**2).mean(axis=1))
    scaled = np.divide(centred, spread[:, None], out=np.zeros_like(centred), where=spread[:, None] > 0)
    return np.asarray((scaled**3).mean(axis=1))
