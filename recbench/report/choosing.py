"""Which test images a report shows: pure functions of the methods' scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Scores = NDArray[np.float64]


def disagreement(scores: Sequence[Scores]) -> Scores:
    """How much methods differ about each image: how far apart its ranks are, among the images as each method ranks
    them, as the standard deviation over methods.

    Ranks make methods and metrics comparable whatever their scale, and bear infinite scores. That one method is better
    than another throughout is no disagreement.

    Args:
        scores: for each metric, (methods, images).

    Returns:
        (images,): the mean over metrics; zero for a single method.
    """
    spreads = [rankdata(values, axis=1).std(axis=0) / values.shape[1] for values in scores]
    mean: Scores = np.mean(spreads, axis=0)
    return mean


def quality(scores: Sequence[Scores], higher: Sequence[bool]) -> Scores:
    """How well all methods do on each image, from 0 to 1: the mean over metrics and methods of its rank among the
    images.

    Args:
        scores: for each metric, (methods, images).
        higher: for each metric, whether more is better.

    Returns:
        (images,).
    """
    ranks = []
    for values, up in zip(scores, higher, strict=True):
        places = rankdata(values if up else -values, axis=1) - 0.5
        ranks.append(places.mean(axis=0) / values.shape[1])
    mean: Scores = np.mean(ranks, axis=0)
    return mean


def choose(scores: Sequence[Scores], higher: Sequence[bool], count: int, available: int) -> dict[str, list[int]]:
    """Images by disagreement, best, worst and at random, each the most telling first.

    Args:
        scores: for each metric, (methods, images); may be empty, and then images are only chosen at random.
        count: how many of each kind.
        available: number of images to choose among, from the first.

    Returns:
        Indices by kind; the draw at random is the same for every report of as many images.
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
    """Pairs of images that look the least alike, each image in one pair at most: greedily by the mean absolute
    difference of their pixels.

    Args:
        images: (N, C, H, W).
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
    """Indices of the smallest keys; equal keys in the order of the images."""
    return [int(index) for index in np.argsort(keys, kind="stable")[:count]]
