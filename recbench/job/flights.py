"""The standard input of processes that try or time methods of a suite."""

from __future__ import annotations

from recbench.plan.model import Frozen, Job


class Flight(Frozen):
    """A method to try, with the shape of its images."""

    job: Job
    shape: tuple[int, int, int]
    metrics: bool = True
    """Whether to try the metrics too, which the methods of a setting share."""


class FlightPlan(Frozen):
    """Methods to try, and the plugins to load: the standard input of a process."""

    flights: dict[int, Flight]
    plugin_files: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    device: str = "auto"
