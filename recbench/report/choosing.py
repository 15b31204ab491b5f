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


CANDIDATES = 2000
"""The most images that :func:`interesting` looks at, evenly spaced."""
_EDGE = 12
"""Grey levels between neighbouring blocks of 2 × 2 pixels from which there is an edge."""


def interesting(images: NDArray[np.uint8], count: int) -> list[int]:
    """Return indices of images with texture and edges rather than flat areas, from their pixels alone.

    Images are ranked by the strength of their edges, by the share of their area that has any, and by their contrast, in
    greys averaged over 2 × 2 pixels, so that noise of single pixels counts for little. Of images that are nearly
    alike, such as crops of one wall, the first is taken.

    Args:
        images: uint8, shape (N, C, H, W).
        count: the most indices to return.

    Returns:
        Indices, the most interesting first.
    """
    looked = np.unique(np.linspace(0, len(images) - 1, min(len(images), CANDIDATES)).round().astype(int))
    if not len(looked) or min(images.shape[2:]) < 4:
        return [int(index) for index in looked[:count]]
    grey = np.stack([images[index].mean(axis=0) for index in looked])
    height, width = (side // 2 for side in grey.shape[1:])
    coarse = grey[:, : 2 * height, : 2 * width].reshape(-1, height, 2, width, 2).mean(axis=(2, 4))
    slope = np.hypot(np.diff(coarse, axis=1)[:, :, 1:], np.diff(coarse, axis=2)[:, 1:])
    measures = (np.sqrt(slope).mean(axis=(1, 2)), (slope > _EDGE).mean(axis=(1, 2)), coarse.std(axis=(1, 2)))
    order = np.argsort(-np.sum([rankdata(values) for values in measures], axis=0), kind="stable")
    pool = order[: 6 * count]
    apart = np.abs(coarse[pool][:, None] - coarse[pool][None]).mean(axis=(2, 3))
    near = float(apart.mean()) / 2
    taken: list[int] = []
    for place in range(len(pool)):
        if len(taken) < count and all(apart[place, other] >= near for other in taken):
            taken.append(place)
    taken += [place for place in range(len(pool)) if place not in taken][: count - len(taken)]
    return [int(looked[pool[place]]) for place in taken]


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
