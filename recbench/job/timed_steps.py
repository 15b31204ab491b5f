"""A few timed steps of training on made-up images, in a process of their own; see :mod:`recbench.sweep.estimate`."""

from __future__ import annotations

import json
import os
import resource
import sys
import time

import torch

from recbench.contracts.entries import ImageShape
from recbench.errors import RecbenchError
from recbench.job.device import choose_device
from recbench.job.preflight import Flight, FlightPlan
from recbench.job.timing import repeatable_step
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry

_STEPS = {"cpu": 3, "cuda": 8}  # on a GPU the first few are eager, and one is recorded
_LONG_ENOUGH = 0.5
"""Seconds of a method's timed steps after which no further one is taken."""


def timed(flight: Flight, registry: Registry, device: torch.device) -> tuple[float, int, int]:
    """Return the seconds of a step, the peak of memory in bytes, and the bytes of the trained parameters.

    Raises:
        RecbenchError: the method breaks its contract.
    """
    model, take = repeatable_step(flight.job, registry, ImageShape(*flight.shape), device)
    # Of the processor, its own time: what else the machine does at the moment says nothing about the jobs.
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    spent: list[float] = []
    for number in range(1 + _STEPS[device.type]):
        began = clock()
        float(take(number).sum())  # waits for a GPU
        spent.append(clock() - began)
        if number and sum(spent[1:]) > _LONG_ENOUGH:
            break
    size = sum(p.numel() * p.element_size() for part in (model.architecture, model.loss) for p in part.parameters())
    on_gpu = device.type == "cuda"
    peak = (
        torch.cuda.max_memory_allocated(device) if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    )
    return min(spent[1:]), peak, size


def main() -> int:
    """Time the methods of a :class:`~recbench.job.preflight.FlightPlan` on standard input, one after the other.

    Prints a line for each: its number, then what :func:`timed` returns. What plugins print goes to standard error.
    """
    torch.set_num_threads(1)  # as jobs that run side by side have
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    request = FlightPlan.model_validate_json(sys.stdin.buffer.read())
    registry = Registry(load_plugins(request.plugin_files, request.blocked))
    device = choose_device(request.device)
    for number, flight in request.flights.items():
        try:
            print(json.dumps([number, *timed(flight, registry, device)]), file=out, flush=True)
        except RecbenchError:  # preflight says what is wrong with it
            continue
    return 0


if __name__ == "__main__":
    sys.exit(main())
