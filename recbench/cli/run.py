"""``recbench run`` and ``recbench validate``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Unpack

import click

from recbench.cli.again import plan_again
from recbench.cli.completion import complete_suite_files
from recbench.cli.estimating import tell_estimate
from recbench.cli.options import check_device, load, plugin_options, results_option
from recbench.cli.stored import load_stored_suite
from recbench.cli.sweeping import Settings, execute, loading, options_of, sweep_options
from recbench.cli.terminal import err, print_table
from recbench.cli.text import echo, say
from recbench.data.cache import check_images, has_images
from recbench.plan.plan import Plan
from recbench.plugin.registry import Registry
from recbench.store import scales
from recbench.store.remembered import remember
from recbench.store.store import Store
from recbench.suite.suite import Suite
from recbench.sweep.apart import kept_apart, tell_weights
from recbench.sweep.preflight import check
from recbench.sweep.state import PlanState, grown

_suite = click.argument(
    "suite_file", metavar="SUITE", type=click.Path(path_type=Path), shell_complete=complete_suite_files
)
_set = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value. Repeatable.")
_most = click.option(
    "--max-jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Refuse suites with more jobs; by default, ask for confirmation above 10,000.",
)
_estimate = click.option(
    "--estimate/--no-estimate",
    default=None,
    help="Time a few steps of each method, if no job has finished yet from whose record it is known what jobs take; "
    "by default on a terminal only.",
)
_DEFAULT_MOST = 10_000
_NEVER = 1_000_000
"""Suites with more jobs are always refused; their plans would take gigabytes."""


@click.command("run")
@_suite
@_set
@_most
@results_option
@sweep_options
@click.option("--dry-run", is_flag=True, help="Print the jobs, their status and what they will take; run nothing.")
@_estimate
@plugin_options
def run_command(
    suite_file: Path,
    overrides: tuple[str, ...],
    max_jobs: int | None,
    results: Path,
    dry_run: bool,
    estimate: bool | None,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
    **settings: Unpack[Settings],
) -> None:
    """Run the jobs of SUITE that are not completed yet, and print its leaderboard.

    After an interruption, the same command continues, even with other options. Results are written to DIR/<suite>/.
    """
    registry = Registry(load(plugin_files, blocked, strict))
    most = {"maximum_jobs": max_jobs or _DEFAULT_MOST, "ask": _ask(max_jobs)}

    def loaded(*more: str) -> Suite:
        return load_stored_suite(suite_file, results, registry, (*overrides, *more), **most)

    suite = kept_apart(loaded(), results, overrides, loaded, err.say)
    tell_weights(suite.plan, overrides, err.say)
    if dry_run and settings["jobs_per_device"] == "auto":
        settings["jobs_per_device"] = None  # nothing is measured either
    executor, options = options_of(registry, plugin_files, blocked, suite.executors, plan=suite.plan, **settings)
    store = Store(results / suite.plan.suite)
    if dry_run:
        plan, state = grown(scales.filled_in(suite.plan, store.root, registry), store)
        _print_jobs(plan, state)
        how = (registry, plugin_files, blocked, settings["device"], estimate)
        tell_estimate(plan, state.to_run, store, *how)
        return
    remember(store, plugin_files)
    code = execute(suite, store, registry, executor, options, settings)
    if code == 1:
        plan_again(store)
    sys.exit(code)


def _ask(max_jobs: int | None) -> Callable[[int], bool] | None:
    """Return a function that asks for confirmation, or None if the user gave a number or cannot answer."""
    if max_jobs is not None or not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return None
    return lambda size: size <= _NEVER and click.confirm(f"the suite has {size:,} jobs; continue?", err=True)


def _print_jobs(plan: Plan, state: PlanState) -> None:
    rows = []
    to_score = {planned.id for planned in state.to_score}
    for planned in plan.jobs:
        record = state.records.get(planned.id)
        status = str(record.status) if record else "unusable" if planned.id in state.unusable else "missing"
        status = "lacks model" if planned.id in state.lost else "to score" if planned.id in to_score else status
        method, setting = plan.methods[planned.method].label, plan.settings[planned.setting].label
        rows.append((planned.id, status, method, str(planned.seed), setting))
    print_table(f"{plan.suite}: {len(plan.jobs)} jobs", ("job", "status", "method", "seed", "setting"), rows)
    done = len(plan.jobs) - len(state.to_run)
    scored = f", {len(to_score)} to score" if to_score else ""
    err.print(f"{done} done, {len(state.to_run)} to run{scored}; nothing was run")
    later = sum(plan.counts) - len(plan.jobs)
    if later:
        when = "once the scales of the losses are calibrated, and" if scales.lacking(plan) else "as"
        err.print(f"{later} more follow {when} tuning continues")
    for job_id, reason in state.unusable.items():
        err.print(f"job {job_id}: its record cannot be used: {reason}", soft_wrap=True)
    for job_id, reason in state.lost.items():
        err.print(f"job {job_id}: {reason}; it is trained again", soft_wrap=True)


@click.command("validate")
@_suite
@_set
@_most
@click.option("--preflight", is_flag=True, help="Let every method take one step, and check its plugins.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N", help="Where they do.")
@_estimate
@plugin_options
def validate_command(
    suite_file: Path,
    overrides: tuple[str, ...],
    max_jobs: int | None,
    preflight: bool,
    device: str,
    estimate: bool | None,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Check SUITE and print the number of its jobs; report all problems together, with file, line and key."""
    registry = Registry(load(plugin_files, blocked, strict))
    suite = load_stored_suite(
        suite_file,
        Path(os.environ.get("RECBENCH_RESULTS") or "results"),
        registry,
        overrides,
        maximum_jobs=max_jobs or _DEFAULT_MOST,
        ask=_ask(max_jobs),
    )
    plan = suite.plan
    for spec in {setting.dataset.model_dump_json(): setting.dataset for setting in plan.settings}.values():
        check_images(spec.name, partial(has_images, registry.get("datasets", spec.name).create(spec.arguments)))
    if preflight:
        check_device(device)
        flown = check(plan, registry, **loading(registry, plugin_files, blocked), device=device, note=err.print)
        say(f"preflight: {flown} methods took a step and kept to their contracts")
    if plan.tuning is not None:
        candidates, final = plan.counts
        tried = f"{len(plan.searches)} searches x {plan.tuning.budget} trials x {len(plan.tuning.candidate_seeds)}"
        chosen = f"{len(plan.searches)} chosen x {len(plan.tuning.seeds)}"
        chosen += f" seeds and {len(plan.fitted)} of baselines" if plan.fitted else " seeds"
        what = f"{candidates} on the validation images ({tried} seeds), {final} on the test images ({chosen})"
        say(f"{suite_file} is valid: {candidates + final} jobs: {what}")
        _tell_lacking(suite)
        _tell_estimate(suite, registry, plugin_files, blocked, device, estimate)
        return
    trained = [job for job in plan.jobs if job.setting not in plan.fitted]
    seeds, methods = len({job.seed for job in trained}), len({job.method for job in trained})
    settings = len(plan.settings) - len(plan.fitted)
    whole = methods * settings * seeds == len(trained)
    spans = f"{methods} methods x {settings} settings x {seeds} seeds"
    spans += f" and {len(plan.fitted)} of baselines" if plan.fitted else ""
    say(f"{suite_file} is valid: {len(plan.jobs)} jobs ({spans}{'' if whole else ', excluding incompatible ones'})")
    _tell_lacking(suite)
    _tell_estimate(suite, registry, plugin_files, blocked, device, estimate)


def _tell_estimate(
    suite: Suite,
    registry: Registry,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    device: str,
    timed: bool | None,
) -> None:
    """Print what all jobs of a suite will take, those that are done included."""
    if suite.lacking:
        return
    store = Store(Path(os.environ.get("RECBENCH_RESULTS") or "results") / suite.plan.suite)
    plan = grown(suite.plan, store)[0]
    tell_estimate(plan, plan.jobs, store, registry, plugin_files, blocked, device, timed)


def _tell_lacking(suite: Suite) -> None:
    for problem in suite.lacking:
        echo(f"required before it can run: {problem}", err=True)
