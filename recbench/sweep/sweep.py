"""Runs a suite: missing jobs go to an executor until the store holds a record of every job, and the plan of a
suite with tuning has no more to grow.

Imports no torch.
"""

from __future__ import annotations

import os
import signal
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import FrameType, MappingProxyType
from typing import Any, Protocol

from recbench.contracts.executor import Ended, Executor, Task
from recbench.errors import SuiteError, UserError
from recbench.job.provenance import now, provenance
from recbench.plan.model import NEEDS_VALIDATION, TUNING_NEEDS_VALIDATION, PlannedJob
from recbench.plan.plan import Plan
from recbench.plugin.registry import Registry
from recbench.store import scales
from recbench.store.artifacts import MODEL
from recbench.store.record import KEPT, Failure, Record
from recbench.store.repair import is_intact, repaired
from recbench.store.reuse import take_over
from recbench.store.store import Store
from recbench.suite.suite import Suite
from recbench.sweep import preflight
from recbench.sweep.attempts import Limits, Listener, Rounds
from recbench.sweep.preparation import calibrated, decoded
from recbench.sweep.state import PlanState, grown


@dataclass(frozen=True)
class Options:
    """Options of a sweep; none of them changes the result of a job.

    Attributes:
        cache: folder of the image caches.
        plugin_files, blocked: what the job processes are to load, as this process did.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        checkpoint_seconds: seconds of training between checkpoints.
        trackers: names of trackers that are to be shown every job, each with its complete parameters.
        timeout: seconds that an attempt at a job may run; None: as long as it takes.
        limits: how much may go wrong.
        only: ids of the jobs to run; None: all that are not done.
        train: whether jobs that need it are trained; otherwise only stored models are scored.
        preflight: whether methods that have no finished job yet take one step, in a process of its own, beforehand.
        engine: name and parameters of the executor, for ``recbench status``, which asks it about its queue.
    """

    cache: Path
    plugin_files: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    device: str = "auto"
    checkpoint_seconds: float = 30.0
    trackers: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    timeout: float | None = None
    limits: Limits = field(default_factory=Limits)
    only: frozenset[str] | None = None
    train: bool = True
    preflight: bool = True
    engine: tuple[str, Mapping[str, Any]] = ("local", MappingProxyType({}))


class Watcher(Listener, Protocol):
    """A receiver of a sweep's progress."""

    def preparing(self, name: str) -> AbstractContextManager[Callable[[int, int | None], None]]:
        """Return a callback for the decoding of a data set, called with the images done and, if known, their number."""

    def begin(self, plan: Plan, state: PlanState, how: str) -> None:
        """Handle the start of jobs."""


def run(suite: Suite, store: Store, registry: Registry, executor: Executor, options: Options, watcher: Watcher) -> bool:
    """Train and score every job that the store has no record of, and score stored models by metrics that are new or
    have changed; returns False if the sweep was interrupted.

    The first Ctrl-C (or SIGTERM) lets running jobs write a checkpoint; the second ends them at once. A terminal that
    is closed changes nothing. Outside of the main thread, signals are left alone.

    Raises:
        SuiteError: jobs are to be run, and pretrained weights that they need are missing.
        UserError: the results folder cannot be written, or a data set cannot be prepared.
        OutOfSpaceError: a disk is full; finished jobs are safe.
    """
    start = suite.plan
    _check_writable(store.root)
    store.check_folders()
    start = scales.filled_in(start, store.root, registry)
    if suite.lacking and (grown(start, store)[1].open or any(search.scale is None for search in start.searches)):
        raise SuiteError(suite.lacking)
    prepared = decoded(start, registry, options.cache, watcher.preparing, watcher.note)
    for index, images in prepared.items():
        for needed, why in (
            (start.settings[index].training.schedule == "plateau", NEEDS_VALIDATION),
            (start.tuning is not None, TUNING_NEEDS_VALIDATION),
        ):
            if needed and not images.counts["validation"]:
                raise UserError(f"{start.settings[index].label}: {why}")
    fingerprints = {index: images.fingerprint for index, images in prepared.items()}
    if options.preflight:
        growth, state = grown(start, store, fingerprints)
        open_jobs = _chosen(state.to_run, options) if options.train else ()
        rescored = [job for job in _chosen(state.to_score, options) if job.id in state.stale]
        preflight.check(
            start, registry, plugin_files=options.plugin_files, blocked=options.blocked, device=options.device,
            only=preflight.untried(growth, state.records, open_jobs, rescored), note=watcher.note,
        )  # fmt: skip
    tried: set[str] = set()
    mended: set[str] = set()
    checked: set[str] = set()
    with _signals(executor, watcher) as interrupted:
        if options.train:
            scaled = calibrated(
                start, store.root, registry, executor, task_of("", store, options),
                note=watcher.note, interrupted=interrupted,
            )  # fmt: skip
            if scaled is None:
                return False
            start = scaled
        rounds: Rounds | None = None
        while not interrupted():
            plan, state = grown(start, store, fingerprints, tried)
            settled = [job_id for job_id, record in state.records.items() if record.status != "failed"]
            unfit = repaired(store, [job_id for job_id in settled if job_id not in checked])
            checked.update(settled)
            lost = {job.id: state.lost[job.id] for job in _chosen(state.to_run, options) if job.id in state.lost}
            if options.train:
                lost |= _damaged(store, state, (job for job in _chosen(state.to_score, options) if job.id not in tried))
            unusable = {**state.unusable, **unfit, **lost}
            for job_id, why in unusable.items() if options.train else ():
                target = store.set_aside(job_id, why)
                if job_id not in mended:  # it may have been made just now, and damaged since; once is enough
                    tried.discard(job_id)
                    mended.add(job_id)
                watcher.note(
                    f"the record of job {job_id} cannot be used ({why}); it was moved to {target}, the job runs again"
                )
            if options.train and (unfit or lost):
                continue
            to_run = tuple(job for job in _chosen(state.to_run, options) if job.id not in tried and options.train)
            to_score = tuple(
                job for job in _chosen(state.to_score, options) if job.id not in tried and job.id not in unusable
            )
            if _set_misplaced_aside(store, (*to_run, *to_score), watcher):
                continue
            taken = take_over(store, plan, to_run, fingerprints)
            if taken:
                where = ", ".join(dict.fromkeys(taken.values()))
                watcher.note(f"{len(taken)} jobs were already done for other suites, and were taken over from {where}")
                continue
            now_open = replace(state, to_run=to_run, to_score=to_score)
            tasks = _tasks(plan, now_open, store, options)
            if tasks:
                executor.check(tasks)
            store.write_plan(plan, suite.resolved)
            if not tasks or (rounds is not None and rounds.given_up):
                return True
            for planned in (*to_run, *to_score):
                store.write_task(plan.job(planned), plan.suite)
            if rounds is None:
                rounds = Rounds(store, executor, options.limits, watcher, interrupted)
            if type(executor).queue is not Executor.queue:  # it has one
                store.write_engine(*options.engine)
            watcher.begin(plan, now_open, executor.describe(len(tasks)))
            rounds.run(tasks, partial(_crashed, plan, store, registry, options))
            tried.update(planned.id for planned in (*to_run, *to_score))
    return False


def _chosen(jobs: Sequence[PlannedJob], options: Options) -> tuple[PlannedJob, ...]:
    return tuple(job for job in jobs if options.only is None or job.id in options.only)


def _damaged(store: Store, state: PlanState, to_score: Iterable[PlannedJob]) -> dict[str, str]:
    """Return which of the models that are to be scored are not those that their records describe, by job id."""
    return {
        job.id: f"its {MODEL} is not the file that the record describes, so it cannot be scored"
        for job in to_score
        if not is_intact(store.folder(job.id) / MODEL, state.records[job.id].files[MODEL])
    }


def _set_misplaced_aside(store: Store, to_run: Sequence[PlannedJob], watcher: Watcher) -> bool:
    """Set the folders of jobs aside in which there is a link or a special file; return whether there were any."""
    found = {planned.id: what for planned in to_run if (what := store.misplaced(planned.id))}
    for job_id, what in found.items():
        target = store.set_aside(job_id, what)
        watcher.note(
            f"the folder of job {job_id} cannot be used ({what}); it was moved to {target}, the job runs again"
        )
    return bool(found)


def _tasks(plan: Plan, state: PlanState, store: Store, options: Options) -> list[Task]:
    """Return the tasks of a state's open jobs."""
    return [
        replace(
            task_of(planned.id, store, options),
            supersedes=store.identity(planned.id) if planned.id in state.records else "",
            title=_title(plan, planned),
            trackers=options.trackers,
        )
        for planned in (*state.to_run, *state.to_score)
    ]


def task_of(job_id: str, store: Store, options: Options) -> Task:
    """Return a task with what all jobs of the sweep share."""
    return Task(
        job_id=job_id,
        folder=f"{store.root.resolve()}/jobs/{job_id}",
        cache=str(options.cache.resolve()),
        plugin_files=options.plugin_files,
        blocked=options.blocked,
        device=options.device,
        checkpoint_seconds=options.checkpoint_seconds,
        timeout=options.timeout,
    )


def _title(plan: Plan, planned: PlannedJob) -> str:
    """``l2, seed 0``; with the setting where there are several, and with the images that it is scored on if not the
    test images."""
    parts = [plan.methods[planned.method].label, f"seed {planned.seed}"]
    parts += [plan.settings[planned.setting].label] if len(plan.settings) > 1 else []
    return ", ".join([*parts, *([planned.split] if planned.split != "test" else [])])


def _check_writable(root: Path) -> None:
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root):
            pass
    except OSError as error:
        raise UserError(
            f"the results folder {root} cannot be written: {error.strerror or error}; --results DIR sets another"
        ) from None


def _crashed(plan: Plan, store: Store, registry: Registry, options: Options, event: Ended) -> Record:
    """Return the record of a job whose process died without leaving one. A model that it was to score is kept."""
    planned = next(job for job in plan.jobs if job.id == event.job_id)
    log = store.folder(event.job_id) / "log.txt"
    kind = "TimedOut" if event.reason == "timeout" else "ProcessDied"
    before = store.read(event.job_id)
    kept = {name: getattr(before, name) for name in KEPT} if before is not None and MODEL in before.files else {}
    return Record(
        job_id=event.job_id,
        suite=plan.suite,
        status="failed",
        job=plan.job(planned),
        **{"protocol": None, **kept},
        failure=Failure(type=kind, reason=event.reason, message=event.detail, traceback=_tail(log)),
        provenance=provenance(registry.plugins, device=options.device, threads=0, started=now()),
    )


def _tail(log: Path, size: int = 4000) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, stream.seek(0, os.SEEK_END) - size))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


@contextmanager
def _signals(executor: Executor, watcher: Watcher) -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM stop the executor, and kill its jobs the second time; a closed terminal is ignored, also by
    processes that are started from here."""
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():  # where no handler can be set
        yield lambda: False
        return

    def handle(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            watcher.note("stopping: running jobs write a checkpoint (Ctrl-C again ends them at once)")
            executor.stop()
        else:
            executor.kill()

    numbers: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, handle) for number in numbers]
    hung_up = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
        signal.signal(signal.SIGHUP, hung_up)
