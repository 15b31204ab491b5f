"""``recbench retry``: run again what went wrong."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Unpack

import click

from recbench.cli.options import load, plugin_options, results_option
from recbench.cli.stored import chosen_job, stored_suite
from recbench.cli.sweeping import Settings, execute, options_of, sweep_options
from recbench.cli.terminal import err
from recbench.errors import UserError
from recbench.files import lock
from recbench.plugin.registry import Registry
from recbench.store.record import JobStatus
from recbench.store.store import Store
from recbench.suite.validation import load_suite
from recbench.sweep.sweep import State, inspect


@click.command("retry")
@click.argument("suite")
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--diverged", is_flag=True, help="Also those that diverged.")
@results_option
@sweep_options
@plugin_options
def retry_command(
    suite: str,
    jobs: tuple[str, ...],
    diverged: bool,
    results: Path,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
    **settings: Unpack[Settings],
) -> None:
    """Run the failed jobs of SUITE (its name or its file) again, and no others.

    With JOBs, named by their ids or the beginnings of them, only those, whether they failed or diverged. Earlier
    records are kept beside the new ones. The suite is taken as it was resolved by the last run.
    """
    store = stored_suite(suite, results)
    plan = store.read_plan()
    state = inspect(plan, store)
    named = [chosen_job(name, [job.id for job in plan.jobs]) for name in jobs]
    wanted = _wanted(state, named, diverged)
    if not wanted:
        err.print(f"{plan.suite}: nothing failed{'' if diverged else ' (--diverged: those that diverged too)'}")
        return
    registry = Registry(load(plugin_files, blocked, strict))
    again = load_suite(store.root / "suite.yaml", registry, maximum_jobs=max(10_000, len(plan.jobs)))
    executor, options = options_of(registry, plugin_files, blocked, again.executors, frozenset(wanted), **settings)
    for job_id in wanted:
        if state.records[job_id].status == "diverged":
            _keep_aside(store, job_id)
    sys.exit(execute(again, store, registry, executor, options))


def _wanted(state: State, named: list[str], diverged: bool) -> list[str]:
    """Ids of the jobs to run again.

    Raises:
        UserError: one that is named has nothing to be tried again for.
    """
    statuses: set[JobStatus] = {"failed", "diverged"} if diverged or named else {"failed"}
    for job_id in named:
        record = state.records.get(job_id)
        if record is None:
            raise UserError(f"job {job_id} has no record; 'recbench run' runs it")
        if record.status not in statuses:
            raise UserError(f"job {job_id} is {record.status}: there is nothing to try again")
    return named or [job_id for job_id, record in state.records.items() if record.status in statuses]


def _keep_aside(store: Store, job_id: str) -> None:
    """Move the record of a diverged job aside, so that the job counts as not run."""
    with lock(store.folder(job_id)) as mine:
        if not mine:
            raise UserError(f"job {job_id} is being run by another process")
        store.keep_aside(job_id, {"diverged"})
