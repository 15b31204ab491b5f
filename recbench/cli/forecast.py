"""The cost of trying a loss, estimated beforehand: from the records of the board, and a few timed steps here.

A training takes its steps. What else a job takes, such as loading images and writing files, and its evaluation are as
the board's jobs had them, scaled by the speed of this machine; processes start as one did here.
"""

from __future__ import annotations

import math
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from recbench.cli.beside import FinishedBoard
from recbench.cli.durations import duration
from recbench.cli.sweeping import Settings
from recbench.data.cache import Prepared
from recbench.errors import PluginError
from recbench.plan.model import BoardSetting, ComponentSpec, EvaluationSplit, Method, job_of
from recbench.plan.plan import Plan
from recbench.plan.tuning import REFERENCE
from recbench.plugin.isolation import call_in_fork
from recbench.plugin.registry import Registry
from recbench.store import scales
from recbench.store.record import Result
from recbench.store.store import Store
from recbench.sweep.state import grown

_STARTS = 3
"""Processes that import torch one after the other: those of preflight, of calibration, and of the jobs."""
_LOOKED_AT = 50
"""Jobs of the board that are looked at for what they took."""


@dataclass(frozen=True)
class Forecast:
    """The work that a try is, and the time that it will take.

    Attributes:
        trainings, evaluations: that are left.
        seconds: that they take together, with the jobs that run side by side.
        steps: seconds of a step of each loss on this machine, by label.
        reference: seconds of a step of l2 on this machine.
        before: seconds of a step of l2 where the board was made; None if the board has no l2.
        side: number of jobs side by side.
        device: where the steps were timed.
    """

    trainings: int
    evaluations: int
    seconds: float
    steps: Mapping[str, float]
    reference: float
    before: float | None
    side: int
    device: str

    def lines(self) -> Iterator[str]:
        """Yield what it will cost, in sentences."""
        each = ", ".join(f"{label} {1000 * seconds:.1f} ms a step" for label, seconds in self.steps.items())
        made = "" if self.before is None else f", {1000 * self.before:.1f} ms where the board was made"
        yield f"timed on this machine ({self.device}): {each}; {REFERENCE} {1000 * self.reference:.1f} ms{made}"
        if not self.trainings + self.evaluations:
            yield "all jobs are done; nothing is left to train"
            return
        yield (
            f"{self.trainings} trainings and {self.evaluations} evaluations, {self.side} side by side: about "
            f"{duration(max(1.0, self.seconds))} (h:mm:ss or m:ss), longer if the machine has other work"
        )


def forecast(
    plan: Plan,
    store: Store,
    board: FinishedBoard,
    registry: Registry,
    images: Mapping[int, Prepared],
    settings: Settings,
    *,
    quick: bool,
) -> Forecast:
    """Return what running a plan in a store will take.

    Args:
        plan: of one or more new losses, derived from the suite of a board.
        board: the board.
        images: prepared, by setting.
        settings: the options of the command line.
        quick: whether the plan has no tuning.

    Raises:
        PluginError: a step of a loss fails.
    """
    setting = plan.settings[0]
    parts = {search.label: search.loss for search in plan.searches} or {m.label: m.loss for m in plan.methods}
    given = settings["jobs_per_device"]
    side = given if isinstance(given, int) else len(os.sched_getaffinity(0))
    start, steps, reference, device = _timed(setting, parts, registry, settings["device"], scales.reference(registry))
    if device != "cpu" and not given:
        side = 1
    before = _before(board.plan, board.records)
    slower = reference / before if before else 1.0
    counts, seeds_done = _left(plan, store, registry, images)
    train = images[0].counts["train"]
    training = setting.training
    batches = training.epochs * max(1, train // min(training.batch_size, train))
    mean_step = statistics.fmean(steps.values())
    besides = _besides(board)
    trainings = 0
    seconds = _STARTS * start if sum(counts.values()) else 0.0
    splits: tuple[EvaluationSplit, ...] = ("validation", "test")
    for split in splits:
        jobs = counts[split]
        retrained = max(0, jobs - (seeds_done if split == "test" else 0))
        trainings += retrained
        other = slower * (_evaluation(board.plan, board.records, split) + besides)
        work = retrained * batches * mean_step + jobs * other
        seconds += work / jobs * math.ceil(jobs / side) if jobs else 0.0
    shown = {label: seconds for label, seconds in steps.items() if not quick or label != REFERENCE}
    return Forecast(trainings, sum(counts.values()), seconds, shown, reference, before, side, device)


def _timed(
    setting: BoardSetting, parts: Mapping[str, ComponentSpec], registry: Registry, device: str, reference: ComponentSpec
) -> tuple[float, dict[str, float], float, str]:
    """Return seconds that a process takes to start, those of a step of each loss and of l2, and the kind of device."""

    def measure() -> tuple[float, dict[str, float], float, str]:
        """Import torch and take steps: everything that a plugin could bring down."""
        began = time.perf_counter()
        from recbench.job.device import choose_device
        from recbench.job.timing import step_seconds

        where = choose_device(device)
        start = time.perf_counter() - began
        threads = 1 if where.type == "cpu" else 0

        def seconds(label: str, loss: ComponentSpec) -> float:
            job = job_of(setting, Method(label=label, loss=loss, kl_weight=1.0), {}, 0, "validation")
            return step_seconds(job, registry, setting.image_shape, where, threads=threads)

        steps = {label: seconds(label, loss) for label, loss in parts.items()}
        return start, steps, seconds(REFERENCE, reference), where.type

    try:
        return call_in_fork(measure)
    except PluginError as error:
        raise PluginError(f"a step of {', '.join(parts)} cannot be timed: it {error}") from None


def _before(board: Plan, records: Mapping[str, Result]) -> float | None:
    """Return the seconds of a step of l2 where the board was made."""
    found = [
        record.cost.step_milliseconds / 1000
        for job in board.jobs
        if board.methods[job.method].loss.name == REFERENCE
        and (record := records.get(job.id)) is not None
        and record.cost is not None
        and record.cost.step_milliseconds > 0
    ]
    return statistics.median(found) if found else None


def _evaluation(board: Plan, records: Mapping[str, Result], split: EvaluationSplit) -> float:
    """Return the median seconds of an evaluation of the board."""
    found = [
        record.evaluated.seconds
        for job in board.jobs
        if job.split == split and (record := records.get(job.id)) is not None and record.evaluated is not None
    ]
    return statistics.median(found) if found else 0.0


def _besides(board: FinishedBoard) -> float:
    """Return the median seconds that a job of the board took besides training and evaluation."""
    found = []
    for job in board.plan.jobs[:_LOOKED_AT]:
        with suppress(ValueError, TypeError):  # of another version, or damaged
            record = board.store.read(job.id)
            if record is None or record.trained is None or record.evaluated is None or record.rescored:
                continue
            where = record.provenance
            began, ended = map(datetime.fromisoformat, (where.started, where.finished))
            training = 0.0 if record.trained.job else record.trained.seconds
            found.append(max(0.0, (ended - began).total_seconds() - training - record.evaluated.seconds))
    return statistics.median(found) if found else 0.0


def _left(
    plan: Plan, store: Store, registry: Registry, images: Mapping[int, Prepared]
) -> tuple[dict[EvaluationSplit, int], int]:
    """Return the number of jobs that are left by split, and of those on test images whose models tuning has made."""
    prints = {index: found.fingerprint for index, found in images.items()}
    growth, state = grown(scales.filled_in(plan, store.root, registry), store, prints)
    done = {job.id for job in growth.jobs if job.id in state.records and state.records[job.id].status != "failed"}
    ended = Counter(job.split for job in growth.jobs if job.id in done)
    candidates, final = plan.counts
    left: dict[EvaluationSplit, int] = {
        "validation": max(0, candidates - ended["validation"]),
        "test": max(0, final - ended["test"]),
    }
    shared = 0
    if plan.tuning is not None:
        shared = len(plan.searches) * len(set(plan.tuning.seeds) & set(plan.tuning.candidate_seeds))
    return left, shared if left["test"] == final else 0
