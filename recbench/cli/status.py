"""``recbench status``: the progress of a suite, from any machine that can read its results folder."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click

from recbench.cli.completion import complete_suites
from recbench.cli.durations import duration
from recbench.cli.options import load, plugin_options, results_option
from recbench.cli.stored import shown_suite
from recbench.cli.terminal import err, out, print_table
from recbench.cli.text import echo
from recbench.cli.time_left import expected, seconds_left
from recbench.contracts.executor import Executor
from recbench.errors import UserError
from recbench.plan.model import PlannedJob
from recbench.plan.plan import Plan
from recbench.plugin.registry import Registry
from recbench.store import heartbeat
from recbench.store.heartbeat import RunningJob
from recbench.store.record import Record
from recbench.store.store import Store
from recbench.sweep.state import PlanState, inspect

_SAMPLE = 20
"""The number of finished jobs from whose times the time left is estimated."""
_OTHERS_SILENCE = 60.0
"""Seconds without a heartbeat after which a job of another machine is called silent."""


@dataclass(frozen=True)
class SuiteStatus:
    """The state of a suite's jobs; mappings are by job id."""

    plan: Plan
    state: PlanState
    at_work: dict[str, RunningJob]
    silent: dict[str, float]
    """Seconds since the last heartbeat of jobs at work that have been silent for long."""
    queued: dict[str, str]
    seconds_left: float | None

    def named(self, status: str) -> list[PlannedJob]:
        """Return the jobs with this status that are not running again."""
        found = self.state.records
        jobs = (job for job in self.plan.jobs if job.id in found and job.id not in self.at_work)
        return [job for job in jobs if found[job.id].status == status]

    @property
    def waiting(self) -> int:
        """The number of jobs without a usable record that are not running."""
        return sum(job.id not in self.state.records and job.id not in self.at_work for job in self.plan.jobs)


def status_of(store: Store, queued: Mapping[str, str]) -> SuiteStatus:
    """Return the status of a suite without changing anything."""
    plan = store.read_plan()
    state = inspect(plan, store)
    at_work, silent = {}, {}
    for planned in plan.jobs:
        record = state.records.get(planned.id)
        if record is None or record.status == "failed":
            found = heartbeat.at_work(store.folder(planned.id))
            if found is not None:
                at_work[planned.id] = found
                age = time.time() - (store.folder(planned.id) / heartbeat.FILE).stat().st_mtime
                if not found.here and age > _OTHERS_SILENCE:
                    silent[planned.id] = age
    waiting = {job_id: text for job_id, text in queued.items() if job_id not in at_work}
    return SuiteStatus(plan, state, at_work, silent, waiting, _seconds_left(plan, state, at_work, store))


def _seconds_left(plan: Plan, state: PlanState, at_work: Mapping[str, RunningJob], store: Store) -> float | None:
    """Estimate the time left from completed jobs and the present number of running jobs; None if it is unknown."""
    waiting = [job for job in plan.jobs if job.id not in state.records and job.id not in at_work]
    if not at_work:
        return None if waiting else 0.0
    running = [found.seconds_left for found in at_work.values() if found.epochs]
    starting = [job for job in plan.jobs if job.id in at_work and not at_work[job.id].epochs]
    done = [job for job in plan.jobs if job.id in state.records and state.records[job.id].status == "done"]
    known: dict[tuple[int, int], list[float]] = {}
    for job in done[-_SAMPLE:]:
        with suppress(ValueError):  # damaged in a part that the board does not need
            known.setdefault((job.setting, job.method), []).append(_seconds(store.read(job.id)))
    times = [expected(known, job.setting, job.method) for job in (*starting, *waiting)]
    if any(seconds is None for seconds in times):
        return None
    return seconds_left(running, [seconds for seconds in times if seconds is not None], len(at_work))


def _seconds(record: Record | None) -> float:
    if record is None or record.trained is None or record.evaluated is None:
        return 0.0
    return record.trained.seconds + record.evaluated.seconds


@click.command("status")
@click.argument("suite", required=False, shell_complete=complete_suites)
@results_option
@click.option(
    "--format", "form", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Format."
)
@plugin_options
def status_command(
    suite: str | None,
    results: Path,
    form: str,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Show the progress of SUITE, the name or file of a suite; by default the one that was run last.

    Shows which jobs are done, which are running where, which failed or diverged and why, and the estimated time left.
    """
    store = shown_suite(suite, results)
    status = status_of(store, _queues(store, plugin_files, blocked, strict))
    if form == "json":
        echo(json.dumps(_as_data(status), indent=1, ensure_ascii=False))
        return
    counts = [f"{len(status.named('done'))} of {len(status.plan.jobs)} jobs done", f"{len(status.at_work)} running"]
    counts += [f"{len(jobs)} {word}" for word in ("failed", "diverged") if (jobs := status.named(word))]
    counts += [f"{status.waiting} waiting"]
    if scored := len(status.state.to_score):
        counts += [f"{scored} to score"]
    left = status.seconds_left
    if left is None:
        tail = "" if status.at_work else "; no job is running; 'recbench run' continues"
    else:
        tail = f"; about {duration(left)} left" if left else ""
    out.print(f"{status.plan.suite}: {', '.join(counts)}{tail}", soft_wrap=True)
    if status.at_work:
        out.print()
        print_table("running", ("job", "method", "where", "device", "epoch", "time left"), _running_rows(status))
    if status.queued:
        rows = [(job.id, _name(status.plan, job), status.queued[job.id]) for job in _jobs(status, status.queued)]
        out.print()
        print_table("queued", ("job", "method", "where"), rows)
    for word in ("failed", "diverged"):
        if status.named(word):
            out.print()
            print_table(word, ("job", "method", "state", "why"), _trouble_rows(status, word))
    if failed := status.named("failed"):
        err.say(f"'recbench logs {failed[0].id[:8]}' shows why, 'recbench retry {status.plan.suite}' runs them again")
    for job_id, reason in status.state.unusable.items():
        err.print(f"job {job_id}: its record cannot be used: {reason}", soft_wrap=True)
    for job_id, reason in status.state.lost.items():
        err.print(f"job {job_id}: {reason}; 'recbench run' trains it again", soft_wrap=True)


def _queues(store: Store, plugin_files: tuple[str, ...], blocked: tuple[str, ...], strict: bool) -> dict[str, str]:
    """Return the queues of the executors that this suite was submitted to; print a warning if one does not answer."""
    queued: dict[str, str] = {}
    engines = store.engines()
    if not engines:
        return queued
    registry = Registry(load(plugin_files, blocked, strict))
    for name, params in engines.items():
        try:
            executor: Executor = registry.get("executors", name).create(params)
            queued.update(executor.queue(store.root))
        except (UserError, OSError) as error:
            err.print(f"the queue of {name} is unknown: {error}", soft_wrap=True)
    return queued


def _jobs(status: SuiteStatus, chosen: Mapping[str, object]) -> list[PlannedJob]:
    return [job for job in status.plan.jobs if job.id in chosen]


def _name(plan: Plan, planned: PlannedJob) -> str:
    """Return the name of a job, such as ``wiener, seed 1``, with the setting if there are several."""
    setting = f" ({plan.settings[planned.setting].label})" if len(plan.settings) > 1 else ""
    validation = f", {planned.split}" if planned.split != "test" else ""
    return f"{plan.methods[planned.method].label}, seed {planned.seed}{validation}{setting}"


def _running_rows(status: SuiteStatus) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for job in _jobs(status, status.at_work):
        found = status.at_work[job.id]
        epoch = f"{found.epoch}/{found.epochs}" if found.epochs else "–"
        left = duration(found.seconds_left) if found.epochs else "–"
        if job.id in status.silent:
            left = f"silent for {duration(status.silent[job.id])}"
        where = f"{found.host}, process {found.process}"
        rows.append((job.id, _name(status.plan, job), where, found.device, epoch, left))
    return rows


def _trouble_rows(status: SuiteStatus, word: str) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for job in status.named(word):
        failure = status.state.records[job.id].failure
        assert failure is not None, "a record without scores has a failure"
        first = next(iter(failure.message.splitlines()), failure.type)
        rows.append((job.id, _name(status.plan, job), failure.reason, first))
    return rows


def _as_data(status: SuiteStatus) -> dict[str, object]:
    """Return the status as data for JSON."""
    jobs = []
    for planned in status.plan.jobs:
        record, found = status.state.records.get(planned.id), status.at_work.get(planned.id)
        known: dict[str, object] = {"id": planned.id, "name": _name(status.plan, planned)}
        if found is not None:
            known["state"] = "running"
            known["running"] = found.model_dump(mode="json")
            known["silent_seconds"] = status.silent.get(planned.id)
        elif record is not None:
            known["state"] = record.status
            if record.failure is not None:
                known["failure"] = record.failure.model_dump(mode="json", exclude={"traceback"})
        else:
            known["state"] = "queued" if planned.id in status.queued else "waiting"
            known["queue"] = status.queued.get(planned.id)
        if planned.id in status.state.unusable:
            known["unusable"] = status.state.unusable[planned.id]
        jobs.append(known)
    return {"suite": status.plan.suite, "seconds_left": status.seconds_left, "jobs": jobs}
