"""Mathematics of rate–distortion curves: interpolation, average differences, frontiers. Pure functions of numbers.

A curve is a sequence of rates (mean KL divergence in nats per image) and one of scores. Curves are interpolated over
the logarithm of the rate with monotone cubic Hermite polynomials (PCHIP; Fritsch & Butland 1984, SIAM J. Sci. Stat.
Comput. 5).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

from recbench.contracts.direction import Direction, cost

MINIMUM_OVERLAP = 0.5
"""Smallest part of the shorter curve's range, in log KL, that a comparison must cover, so that it speaks for most of
that curve."""


class NotComparable(ValueError):
    """Two curves cannot be compared; the text says why."""


def interpolate(rates: Sequence[float], scores: Sequence[float], rate: float) -> float:
    """Return the score of a curve at a rate.

    Args:
        rates: of the curve's points, in nats, positive and strictly ascending, at least two.
        scores: of the same points, finite.
        rate: in nats, positive.

    Raises:
        NotComparable: the curve does not span the rate; nothing is extrapolated.

    >>> interpolate([1, 10, 100], [20.0, 25.0, 30.0], 10)
    25.0
    >>> round(interpolate([1, 100], [20.0, 30.0], 10), 6)  # halfway in log KL
    25.0
    """
    if not rates[0] <= rate <= rates[-1]:
        raise NotComparable(f"spans {rates[0]:.4g} to {rates[-1]:.4g} nats, not {rate:.4g}")
    return float(PchipInterpolator(np.log(rates), scores)(math.log(rate)))


def average_difference(
    rates: Sequence[float], scores: Sequence[float], other_rates: Sequence[float], other_scores: Sequence[float]
) -> float:
    """Return the mean of the first curve's score minus the second's over the rates that both span.

    This is Bjøntegaard's difference (VCEG-M33, 2001) with piecewise monotone cubics instead of one cubic through all
    points (as in ITU-T HSTP-VID-WPOM, 2020). The mean is over log rates.

    Args:
        rates: of the first curve's points, in nats, positive and strictly ascending, at least two.
        scores: of the same points, finite.
        other_rates: of the second curve's points.
        other_scores: of the second curve's points.

    Returns:
        The difference in the metric's unit.

    Raises:
        NotComparable: the curves share less than half of the range of the shorter.

    >>> round(average_difference([1, 10, 100], [21.0, 26.0, 31.0], [1, 10, 100], [20.0, 25.0, 30.0]), 6)
    1.0
    >>> average_difference([1, 2], [20.0, 21.0], [50, 100], [20.0, 21.0])
    Traceback (most recent call last):
        ...
    recbench.analysis.curves.NotComparable: their rates hardly overlap: 1 to 2 and 50 to 100 nats
    """
    x, other = np.log(rates), np.log(other_rates)
    low, high = max(x[0], other[0]), min(x[-1], other[-1])
    shorter = min(x[-1] - x[0], other[-1] - other[0])
    if high <= low or high - low < MINIMUM_OVERLAP * shorter:
        spans = f"{rates[0]:.4g} to {rates[-1]:.4g} and {other_rates[0]:.4g} to {other_rates[-1]:.4g} nats"
        raise NotComparable(f"their rates hardly overlap: {spans}")
    areas = [PchipInterpolator(*curve).integrate(low, high) for curve in ((x, scores), (other, other_scores))]
    return float((areas[0] - areas[1]) / (high - low))


def frontier(rates: Sequence[float], scores: Sequence[float], direction: Direction) -> tuple[list[float], list[float]]:
    """Return the rates and scores, by ascending rate, of points that no point of the same or a lower rate beats.

    >>> frontier([1, 2, 4, 8], [20.0, 25.0, 24.0, 26.0], "higher")
    ([1, 2, 8], [20.0, 25.0, 26.0])
    """
    kept: list[tuple[float, float]] = []
    for rate, score in sorted(zip(rates, scores, strict=True), key=lambda point: (point[0], cost(point[1], direction))):
        if not kept or cost(score, direction) < cost(kept[-1][1], direction):
            kept.append((rate, score))
    return [rate for rate, _ in kept], [score for _, score in kept]


def shared_rate(spans: Sequence[tuple[float, float]]) -> float:
    """Return the middle, in log KL, of the widest interval of rates that as many spans as possible cover.

    Args:
        spans: lowest and highest rate of each curve, in nats, positive; at least one.

    >>> shared_rate([(1, 100), (10, 1000)])  # both cover 10 to 100
    31.622776601683793
    """
    ends = sorted({end for span in spans for end in span})
    pieces = list(itertools.pairwise(ends))
    if not pieces:
        return ends[0]
    covered = [sum(low <= left and right <= high for low, high in spans) for left, right in pieces]
    most = max(covered)
    best: list[tuple[float, float]] = []
    for (left, right), count in zip(pieces, covered, strict=True):
        if count == most and best and best[-1][1] == left:
            best[-1] = (best[-1][0], right)
        elif count == most:
            best.append((left, right))
    left, right = max(best, key=lambda piece: math.log(piece[1] / piece[0]))
    return math.sqrt(left * right)
