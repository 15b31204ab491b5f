"""Steps of training on made-up images, counted while others share the device, in a process of their own; see
:mod:`recbench.sweep.sharing`."""

from __future__ import annotations

import json
import os
import sys
import time

import torch
from pydantic import Field

from recbench.contracts.entries import ImageShape
from recbench.job.device import choose_device, peak_memory
from recbench.job.preflight import FlightPlan
from recbench.job.timing import repeatable_step
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry

_WARM_UP = 6
"""Steps before the first that counts. In them a GPU's step is recorded."""


class SharedSteps(FlightPlan):
    """The first line of this module's standard input: a method, for how long its steps are counted, and by how many
    threads of the processor they are made."""

    seconds: float = Field(gt=0)
    threads: int = Field(ge=1)


def main() -> int:
    """Say that steps can begin; once a line says so, take them and print ``[images per second, bytes, bytes]``: at the
    peak of this process's memory, and of the device's in all, or 0 where that is not known."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    request = SharedSteps.model_validate_json(sys.stdin.buffer.readline())
    torch.set_num_threads(request.threads)
    registry = Registry(load_plugins(request.plugin_files, request.blocked))
    device = choose_device(request.device)
    flight = next(iter(request.flights.values()))
    _, take = repeatable_step(flight.job, registry, ImageShape(*flight.shape), device)
    done = 0
    while done < _WARM_UP:
        float(take(done).sum())  # waits for a GPU
        done += 1
    print("ready", file=out)
    sys.stdin.buffer.readline()
    begin, counted = time.perf_counter(), 0
    while time.perf_counter() - begin < request.seconds:
        float(take(done + counted).sum())
        counted += 1
    rate = counted * flight.job.training.batch_size / (time.perf_counter() - begin)
    total = torch.cuda.mem_get_info(device)[1] if device.type == "cuda" else 0
    print(json.dumps([rate, peak_memory(device), total]), file=out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
