"""The number of jobs that should share a device: measured, by a few seconds of training of one method.

Imports no torch.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from recbench.contracts.executor import ChosenDevice
from recbench.errors import UserError
from recbench.plan.plan import Plan
from recbench.sweep.preflight import flights_of

COUNTS = (1, 2, 3, 4, 6, 8)
"""Numbers of jobs that are tried, one after the other."""
SECONDS = 3.0
"""For how long steps are counted."""
PATIENCE = 180.0
"""Seconds for all processes to begin: plugins are imported, and kernels chosen."""
WORTH = 1.05
"""A further job must add this factor to all jobs' images per second, or none is added."""
MEMORY = 0.9
"""The part of a GPU's memory that jobs may take together."""


@dataclass(frozen=True)
class Shared:
    """A measurement of jobs that share a device.

    Attributes:
        jobs: how many there are.
        rate: images per second of all of them together.
        memory: bytes at the peak of one of them.
        total: bytes of the device, or 0 if that is not known.
    """

    jobs: int
    rate: float
    memory: float
    total: float


def best_sharing(measure: Callable[[int], Shared | None], most: int) -> tuple[int, list[Shared]]:
    """Return how many jobs should share a device, and what was measured.

    Args:
        measure: lets so many jobs run at a time; None: they cannot.
        most: of them.

    Raises:
        UserError: not even one can run.
    """
    found: list[Shared] = []
    for jobs in (count for count in COUNTS if count <= most):
        if found and found[-1].total and jobs * found[-1].memory > MEMORY * found[-1].total:
            break
        shared = measure(jobs)
        if shared is None:
            break
        found.append(shared)
        if len(found) > 1 and shared.rate < WORTH * found[-2].rate:
            break
    if not found:
        raise UserError("--jobs-per-device auto: no job can run on the device; give a number to see why")
    fastest = max(shared.rate for shared in found)
    return next(shared.jobs for shared in found if WORTH * shared.rate >= fastest), found


def measured(
    plan: Plan, *, plugin_files: Sequence[str], blocked: Sequence[str], chosen: ChosenDevice, cores: int
) -> tuple[int, list[Shared]]:
    """Return how many jobs of a plan should share a device of this machine, by its first method, and what was measured.

    Args:
        chosen: the device.
        cores: of the processor, which jobs that run on it share.

    Raises:
        UserError: not even one can run, or the plan has nothing that is trained.
    """
    flights = flights_of(plan, lambda *_: True)
    if not flights:
        raise UserError("--jobs-per-device auto: the suite has nothing to train")
    request = {
        "plugin_files": list(plugin_files),
        "blocked": list(blocked),
        "device": chosen.device,
        "seconds": SECONDS,
    }
    flight = {**flights[0][1], "metrics": False}
    request["flights"] = {0: flight}
    return best_sharing(lambda jobs: _together(request, jobs, cores, chosen.variables), most=cores)


def _together(request: Mapping[str, Any], jobs: int, cores: int, variables: Mapping[str, str]) -> Shared | None:
    """Let jobs take steps at the same time; None if one of them ends early or is not ready in time."""
    line = json.dumps({**request, "threads": max(1, cores // jobs)}).encode() + b"\n"
    command = [sys.executable, "-P", "-m", "recbench.job.shared_steps"]
    with ExitStack() as stack:
        processes = [stack.enter_context(_process(command, variables)) for _ in range(jobs)]
        for each in processes:
            stack.callback(each.kill)
        try:
            for each in processes:
                _say(each, line)
            if any(text != b"ready\n" for text in _lines(processes, PATIENCE)):
                return None
            for each in processes:
                _say(each, b"go\n")
            found = [json.loads(text) for text in _lines(processes, SECONDS + PATIENCE)]
        except (BrokenPipeError, ValueError):
            return None
    rates, memory, totals = zip(*found, strict=True)
    return Shared(jobs, sum(rates), max(memory), max(totals))


def _process(command: Sequence[str], variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - a module of ours
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **variables},
        start_new_session=True,
    )


def _say(process: subprocess.Popen[bytes], line: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(line)
    process.stdin.flush()


def _lines(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> list[bytes]:
    """Return the next line of each process; an empty one for each that ended, or for all if time is over."""
    found: dict[int, bytes] = {}
    deadline = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        for number, process in enumerate(processes):
            assert process.stdout is not None
            selector.register(process.stdout, selectors.EVENT_READ, number)
        while len(found) < len(processes):
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                return [b""] * len(processes)
            for key, _ in ready:
                found[key.data] = key.fileobj.readline()  # type: ignore[union-attr]
                selector.unregister(key.fileobj)
    return [found[number] for number in range(len(processes))]
