"""Estimates of what a sweep will take: hours, memory and disk, from records of earlier jobs or from a few timed steps.

Imports no torch.
"""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from recbench.contracts.dataset import Split
from recbench.plan.model import BoardSetting, PlannedJob
from recbench.plan.plan import Plan
from recbench.plugin.registry import Registry
from recbench.store.record import Record
from recbench.store.store import Store
from recbench.sweep.preflight import flights

BUDGET = 30.0
"""Seconds after which no further method is timed."""


@dataclass(frozen=True)
class Usage:
    """The needs of one job: seconds, bytes of memory at its peak, and bytes of its files."""

    seconds: float
    memory: float
    disk: float


@dataclass(frozen=True)
class Estimate:
    """The needs of the jobs that are to run.

    Attributes:
        jobs: how many there are.
        seconds: of all of them, one after the other.
        memory: bytes at the peak of the largest.
        disk: bytes of the files of all of them.
        how: what it is known from.
        unknown: how many of the jobs nothing is known about; the other numbers leave them out.
    """

    jobs: int
    seconds: float
    memory: float
    disk: float
    how: str
    unknown: int = 0


@dataclass
class Known:
    """The needs of jobs as far as they are known, by index of setting and method."""

    usage: dict[tuple[int, int], list[Usage]] = field(default_factory=dict)

    def add(self, setting: int, method: int, usage: Usage) -> None:
        """Add what a job took."""
        self.usage.setdefault((setting, method), []).append(usage)

    def of(self, setting: int, method: int) -> Usage | None:
        """Return what a job takes: as those of its method did, or else as those of its setting."""
        found = self.usage.get((setting, method)) or [
            u for (s, _), us in self.usage.items() if s == setting for u in us
        ]
        if not found:
            return None
        mean = (fmean(getattr(each, name) for each in found) for name in ("seconds", "memory", "disk"))
        return Usage(*mean)


def from_records(plan: Plan, store: Store) -> tuple[Known, int]:
    """Return what the finished jobs of the plan took, and their number."""
    known, count = Known(), 0
    for planned in plan.jobs:
        try:
            record = store.read(planned.id)
        except ValueError:  # damaged, which others tell
            continue
        if record is None or record.trained is None or record.evaluated is None:
            continue
        memory = float(record.cost.peak_memory_bytes) if record.cost is not None else 0.0
        seconds = record.trained.seconds + record.evaluated.seconds
        known.add(planned.setting, planned.method, Usage(seconds, memory, _size(record)))
        count += 1
    return known, count


def _size(record: Record) -> float:
    return float(sum(file.bytes for file in record.files.values()))


def from_steps(
    plan: Plan, registry: Registry, plugin_files: Sequence[str], blocked: Sequence[str], device: str
) -> tuple[Known, int]:
    """Return what jobs will take by a few timed steps of each method on made-up images, and the number of methods that
    were timed. Without the number of a data set's images nothing is known about its jobs."""
    counts = {index: _images(setting, registry) for index, setting in enumerate(plan.settings)}
    wanted = [(s, m, form) for s, m, form in flights(plan) if counts[s] is not None]
    known = Known()
    request = {"plugin_files": list(plugin_files), "blocked": list(blocked), "device": device}
    for number, seconds, memory, size in _process({**request, "flights": {i: f for i, (*_, f) in enumerate(wanted)}}):
        setting, method, _ = wanted[number]
        training = plan.settings[setting].training
        images = counts[setting] or 0
        steps = training.epochs * max(1, images // min(training.batch_size, max(images, 1)))
        known.add(setting, method, Usage(seconds * steps, memory, size + 1e6))
    return known, sum(map(len, known.usage.values()))


def _images(setting: BoardSetting, registry: Registry) -> int | None:
    """Return the number of training images, if the data set says it without decoding any."""
    split: Split = "train"
    made = registry.get("datasets", setting.dataset.name).create(setting.dataset.arguments)
    count: int | None = made.image_count(split)
    return count


def _process(request: Mapping[str, Any]) -> Iterator[tuple[int, float, float, float]]:
    """Yield the lines of the process that times methods, until it ends or has taken too long."""
    command = [sys.executable, "-P", "-m", "recbench.job.timed_steps"]
    process = subprocess.Popen(  # noqa: S603 - this module of ours
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(json.dumps(request).encode())
        process.stdin.close()
        deadline, rest = time.monotonic() + BUDGET, b""
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while selector.select(max(0.0, deadline - time.monotonic())):
                chunk = os.read(process.stdout.fileno(), 1 << 16)
                if not chunk:
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    number, seconds, memory, size = json.loads(line)
                    yield int(number), seconds, memory, size
    except BrokenPipeError:
        return
    finally:
        process.kill()
        process.stdout.close()
        process.wait()


def estimate(plan: Plan, jobs: Sequence[PlannedJob], known: Known, how: str) -> Estimate | None:
    """Return what jobs will take by what is known; None if nothing is known about any of them."""
    usages = [usage for planned in jobs if (usage := known.of(planned.setting, planned.method)) is not None]
    if not usages:
        return None
    return Estimate(
        jobs=len(jobs),
        seconds=sum(usage.seconds for usage in usages),
        memory=max(usage.memory for usage in usages),
        disk=sum(usage.disk for usage in usages),
        how=how,
        unknown=len(jobs) - len(usages),
    )
