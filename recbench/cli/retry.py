"""``recbench retry``: run failed jobs again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Unpack

import click

from recbench.cli.completion import complete_jobs, complete_suites
from recbench.cli.options import load, plugin_options, results_option
from recbench.cli.stored import chosen_job, load_stored_suite, stored_suite, with_remembered
from recbench.cli.sweeping import Settings, execute, options_of, sweep_options
from recbench.cli.terminal import err
from recbench.errors import UserError
from recbench.files import lock
from recbench.plugin.registry import Registry
from recbench.store.record import JobStatus
from recbench.store.store import Store
from recbench.sweep.state import PlanState, inspect


@click.command("retry")
@click.argument("suite", shell_complete=complete_suites)
@click.argument("jobs", nargs=-1, metavar="[JOB]...", shell_complete=complete_jobs)
@click.option("--diverged", is_flag=True, help="Include jobs that diverged.")
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
    """Run only the failed jobs of SUITE (its name or its file) again.

    With JOBs, given by their ids or the beginnings of their ids, run only those, whether they failed or diverged.
    Earlier records are kept next to the new ones. The suite is the one resolved by the last run, with its plugin files.
    """
    store = stored_suite(suite, results)
    plan = store.read_plan()
    state = inspect(plan, store)
    named = [chosen_job(name, [job.id for job in plan.jobs]) for name in jobs]
    wanted = _wanted(state, named, diverged)
    if not wanted:
        err.print(f"{plan.suite}: no job failed{'' if diverged else ' (--diverged includes jobs that diverged)'}")
        return
    plugin_files = with_remembered(store, plugin_files)
    registry = Registry(load(plugin_files, blocked, strict))
    again = load_stored_suite(store.root / "suite.yaml", results, registry, maximum_jobs=max(10_000, len(plan.jobs)))
    executor, options = options_of(registry, plugin_files, blocked, again.executors, frozenset(wanted), **settings)
    for job_id in wanted:
        if state.records[job_id].status == "diverged":
            _keep_aside(store, job_id)
    sys.exit(execute(again, store, registry, executor, options, settings))


def _wanted(state: PlanState, named: list[str], diverged: bool) -> list[str]:
    """Return the ids of the jobs to run again.

    Raises:
        UserError: a named job has not failed or diverged.
    """
    statuses: set[JobStatus] = {"failed", "diverged"} if diverged or named else {"failed"}
    for job_id in named:
        record = state.records.get(job_id)
        if record is None:
            raise UserError(f"job {job_id} has no record; 'recbench run' runs it")
        if record.status not in statuses:
            raise UserError(f"job {job_id} is {record.status}; only failed and diverged jobs can run again")
    return named or [job_id for job_id, record in state.records.items() if record.status in statuses]


def _keep_aside(store: Store, job_id: str) -> None:
    """Move the record of a diverged job aside, so that the job runs again."""
    with lock(store.folder(job_id)) as mine:
        if not mine:
            raise UserError(f"job {job_id} is being run by another process")
        store.keep_aside(job_id, {"diverged"})
