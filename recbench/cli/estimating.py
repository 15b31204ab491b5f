"""Says what the jobs of a suite will take, and how that is known."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from recbench.cli.durations import duration
from recbench.cli.text import say
from recbench.cli.weights import shown_size
from recbench.errors import RecbenchError
from recbench.plan.model import PlannedJob
from recbench.plan.plan import Plan
from recbench.plugin.registry import Registry
from recbench.store.store import Store
from recbench.sweep.estimate import Estimate, estimate, from_records, from_steps


def tell_estimate(
    plan: Plan,
    jobs: Sequence[PlannedJob],
    store: Store,
    registry: Registry,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    device: str,
    timed: bool | None,
) -> None:
    """Print what jobs will take, to stderr.

    Args:
        jobs: those that are to run.
        store: of the suite; the records of its jobs tell most.
        timed: whether to time a few steps if there are no records; None: if a person waits for the answer.
    """
    if not jobs:
        return
    known, count = from_records(plan, store)
    found = estimate(plan, jobs, known, f"from the records of {count} finished jobs of this suite")
    if found is None and (timed or (timed is None and sys.stderr.isatty())):
        try:
            known, count = from_steps(plan, registry, plugin_files, blocked, device)
        except RecbenchError:  # such as a data set that is not there, which is told elsewhere
            count = 0
        how = f"from a few timed steps of {count} methods on made-up images, with one thread, without evaluation"
        found = estimate(plan, jobs, known, how) if count else None
        if found is None:
            why = "no method could be timed, or the data set does not say how many images it has before it is decoded"
            say(f"how long it will take is not known: {why}", err=True)
            return
    if found is None:
        hint = "" if timed is False else "; --estimate times a few steps"
        say(f"how long it will take is not known: no job of this suite has finished yet{hint}", err=True)
        return
    say(text(found), err=True)


def text(found: Estimate) -> str:
    """Return an estimate in words."""
    jobs = "1 job" if found.jobs == 1 else f"{found.jobs} jobs"
    unknown = f", not counting {found.unknown} of which nothing is known" if found.unknown else ""
    memory = f"up to {shown_size(int(found.memory))} of memory each, " if found.memory else ""
    return (
        f"{jobs} will take about {duration(found.seconds)} one after the other, {memory}"
        f"and {shown_size(int(found.disk))} on disk{unknown} ({found.how})"
    )
