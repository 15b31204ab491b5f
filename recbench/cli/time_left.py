"""The time that is left of a sweep, from what its jobs have taken and say themselves. Pure functions."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean


def seconds_left(running: Iterable[float], waiting: Iterable[float], slots: int) -> float:
    """Return the seconds until the last job ends, if each free slot takes the next of the waiting jobs.

    Args:
        running: seconds that each running job still takes.
        waiting: seconds of the jobs that wait, in the order in which they start.
        slots: number of jobs that run side by side; at least as many as are running.

    >>> seconds_left([100.0, 167.0], [], 2)
    167.0
    >>> seconds_left([100.0, 167.0], [50.0, 50.0], 2)
    200.0
    """
    free = [max(0.0, left) for left in running]
    free += [0.0] * (max(slots, 1) - len(free))
    heapq.heapify(free)
    for seconds in waiting:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def expected(known: Mapping[tuple[int, int], Sequence[float]], setting: int, method: int) -> float | None:
    """Return the seconds that a job is expected to take: the mean of those of its method under its setting, or of the
    setting, or of all; None if none is known.

    Args:
        known: seconds of jobs, by index of setting and method.

    >>> expected({(0, 0): [10.0], (0, 1): [20.0, 40.0]}, 0, 1), expected({(0, 0): [10.0], (0, 1): [20.0]}, 0, 2)
    (30.0, 15.0)
    """
    for fits in (
        lambda key: key == (setting, method),
        lambda key: key[0] == setting,
        lambda key: True,
    ):
        found = [fmean(times) for key, times in known.items() if times and fits(key)]
        if found:
            return fmean(found)
    return None
