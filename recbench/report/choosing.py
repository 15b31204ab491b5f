"""Selection of the test images that a report shows: pure functions of the methods' scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Scores = NDArray[np.float64]


def disagreement(scores: Sequence[Scores]) -> Scores:
    """Return the disagreement of methods about each image: each method ranks the images by its scores, and the
    disagreement is the standard deviation of an image's rank over methods, divided by the number of images.

    Ranks make methods and metrics of any scale comparable and allow infinite scores. Methods that
    rank the images alike do not disagree, however much better one of them is.

    Args:
        scores: for each metric, an array of shape (methods, images).

    Returns:
        An array of shape (images,), averaged over metrics; 0 for a single method.

    Example:
        >>> disagreement([np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0]])]).round(3).tolist()
        [0.0, 0.167, 0.167]
    """
    spreads = [rankdata(values, axis=1).std(axis=0) / values.shape[1] for values in scores]
    mean: Scores = np.mean(spreads, axis=0)
    return mean


def quality(scores: Sequence[Scores], higher: Sequence[bool]) -> Scores:
    """Return how well the methods reconstruct each image, from 0 to 1: its rank among the images, averaged over metrics
    and methods.

    Args:
        scores: for each metric, an array of shape (methods, images).
        higher: for each metric, whether higher is better.

    Returns:
        An array of shape (images,).

    Example:
        >>> quality([np.array([[1.0, 3.0], [2.0, 4.0]])], higher=[True]).tolist()
        [0.25, 0.75]
    """
    ranks = []
    for values, up in zip(scores, higher, strict=True):
        places = rankdata(values if up else -values, axis=1) - 0.5
        ranks.append(places.mean(axis=0) / values.shape[1])
    mean: Scores = np.mean(ranks, axis=0)
    return mean


def choose(scores: Sequence[Scores], higher: Sequence[bool], count: int, available: int) -> dict[str, list[int]]:
    """Select images by disagreement, by quality (best and worst), and at random.

    Args:
        scores: for each metric, an array of shape (methods, images). Without any, images are only drawn at random.
        higher: for each metric, whether higher is better.
        count: number of images of each kind.
        available: only the first ``available`` images can be selected.

    Returns:
        Indices by kind (``disagreement``, ``best``, ``worst``, ``random``), the most extreme first. The random draw
        depends on ``available`` alone.
    """
    chosen = {}
    if scores:
        values = [each[:, :available] for each in scores]
        apart, good = disagreement(values), quality(values, higher)
        if len(values[0]) > 1:
            chosen["disagreement"] = _first(-apart, count)
        chosen["best"] = _first(-good, count)
        chosen["worst"] = _first(good, count)
    drawn = np.random.default_rng(0).permutation(available)[:count]
    chosen["random"] = sorted(int(index) for index in drawn)
    return chosen


def far_pairs(images: NDArray[np.uint8], count: int) -> list[tuple[int, int]]:
    """Return pairs of dissimilar images, chosen greedily by mean absolute pixel difference.

    Args:
        images: uint8, shape (N, C, H, W).
        count: the most pairs to return.

    Returns:
        Pairs of indices, the most dissimilar first; an image is in one pair at most.
    """
    flat = images.reshape(len(images), -1).astype(np.int16)
    apart = [(-float(np.abs(flat[i] - flat[j]).mean()), i, j) for i in range(len(flat)) for j in range(i)]
    pairs: list[tuple[int, int]] = []
    used: set[int] = set()
    for _, second, first in sorted(apart):
        if len(pairs) < count and not {first, second} & used:
            pairs.append((first, second))
            used |= {first, second}
    return pairs


def _first(keys: Scores, count: int) -> list[int]:
    """Return the indices of the smallest keys; ties are in the order of the images."""
    return [int(index) for index in np.argsort(keys, kind="stable")[:count]]
