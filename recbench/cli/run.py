"""``recbench run`` and ``recbench validate``."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any, cast

import click

from recbench import formats, scales
from recbench.cli.options import load, parameters, plugin_options, results_option
from recbench.cli.terminal import err, print_leaderboard, print_table
from recbench.contracts.executor import Executor
from recbench.entries import TrackerEntry
from recbench.errors import UserError
from recbench.images import default_cache
from recbench.jobs import Plan
from recbench.leaderboard import Leaderboard, rank
from recbench.picture import write_pictures
from recbench.registry import Registry
from recbench.store import Store
from recbench.suite import Suite, load_suite
from recbench.sweep import Options, State, grown, inspect
from recbench.sweep import run as run_sweep

_suite = click.argument("suite_file", metavar="SUITE", type=click.Path(path_type=Path))
_set = click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value. Repeatable.")
_most = click.option(
    "--max-jobs",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Refuse a suite that spans more jobs.",
)
_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")


@click.command("run")
@_suite
@_set
@_most
@results_option
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="Folder for decoded images.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N", help="Where to train.")
@click.option("--executor", default="local", show_default=True, help="Executor plugin that runs the jobs.")
@click.option("--executor-option", multiple=True, metavar="KEY=VALUE", help="Parameter of the executor. Repeatable.")
@click.option(
    "--checkpoint-seconds",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    help="Seconds of training between checkpoints.",
)
@click.option("--track", "tracked", multiple=True, metavar="TRACKER", help="Show the jobs to a tracker. Repeatable.")
@click.option("--track-option", multiple=True, metavar="NAME.KEY=VALUE", help="Parameter of a tracker. Repeatable.")
@click.option("--dry-run", is_flag=True, help="Print the jobs, what is done and what is missing; run nothing.")
@plugin_options
def run_command(
    suite_file: Path,
    overrides: tuple[str, ...],
    max_jobs: int,
    results: Path,
    cache: Path | None,
    device: str,
    executor: str,
    executor_option: tuple[str, ...],
    checkpoint_seconds: float,
    tracked: tuple[str, ...],
    track_option: tuple[str, ...],
    dry_run: bool,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Run the jobs of SUITE that are not done yet, and print its leaderboard.

    The same command continues after an interruption. Results go to DIR/<suite>/.
    """
    if not _DEVICE.fullmatch(device):
        raise UserError(f"--device {device}: choose auto, cpu, cuda or cuda:N")
    registry = Registry(load(plugin_files, blocked, strict))
    suite = load_suite(suite_file, registry, overrides, maximum_jobs=max_jobs)
    store = Store(results / suite.plan.suite)
    runs = _executor(registry, executor, executor_option)
    trackers = _trackers(registry, tracked, track_option)
    if dry_run:
        _print_jobs(*grown(scales.filled_in(suite.plan, store.root, registry), store))
        return
    options = Options(
        cache=cache or default_cache(),
        plugin_files=tuple(str(Path(file).resolve()) for file in plugin_files),
        blocked=blocked,
        device=device,
        checkpoint_seconds=checkpoint_seconds,
        trackers=trackers,
    )
    finished = _run(suite, store, registry, runs, options)
    plan = store.read_plan()  # as it has grown
    state = inspect(plan, store)
    leaderboard = rank(plan, state.records, state.unusable)
    formats.write_all(leaderboard, store.root)
    write_pictures(plan, leaderboard.boards, state.records, store)
    print_leaderboard(leaderboard)
    err.print(f"leaderboard, pictures and records are in {store.root}", soft_wrap=True)
    sys.exit(_exit_code(finished, leaderboard))


def _run(suite: Suite, store: Store, registry: Registry, executor: Executor, options: Options) -> bool:
    from recbench.cli.live import LiveView

    with LiveView() as view:
        finished = run_sweep(suite, store, registry, executor, options, view)
    if finished and not view.total:
        err.print(f"{suite.plan.suite}: all {len(store.read_plan().jobs)} jobs are done; nothing to run")
    return finished


def _exit_code(finished: bool, leaderboard: Leaderboard) -> int:
    if not finished:
        err.print("interrupted; the same command continues")
        return 130
    if leaderboard.done < leaderboard.jobs:
        bad = leaderboard.jobs - leaderboard.done
        err.print(f"{bad} of {leaderboard.jobs} jobs have no scores; failed ones run again with the same command")
        return 1
    return 0


def _executor(registry: Registry, name: str, assignments: tuple[str, ...]) -> Executor:
    registered = registry.get("executors", name)
    params = parameters(registered.entry, "--executor-option", assignments)
    executor: Executor = registered.create(params)
    return executor


def _trackers(
    registry: Registry, names: tuple[str, ...], assignments: tuple[str, ...]
) -> tuple[tuple[str, dict[str, Any]], ...]:
    """The trackers of these names with their complete parameters, after a look whether they can work here."""
    names = tuple(dict.fromkeys(names))
    for assignment in assignments:
        if assignment.partition(".")[0] not in names:
            raise UserError(f"--track-option {assignment}: is not NAME.KEY=VALUE with the name of a --track")
    chosen = []
    for name in names:
        entry = cast(TrackerEntry, registry.get("trackers", name).entry)
        missing = [package for package in entry.packages if not _is_installed(package)]
        if missing:
            how = f": {entry.install}" if entry.install else ""
            raise UserError(f"--track {name} needs {', '.join(missing)}, which is not installed{how}")
        own = tuple(text.partition(".")[2] for text in assignments if text.partition(".")[0] == name)
        chosen.append((name, entry.complete(parameters(entry, "--track-option", own))))
    return tuple(chosen)


def _is_installed(package: str) -> bool:
    """Whether a package can be imported; a mere folder of its name, such as wandb leaves behind, is none."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def _print_jobs(plan: Plan, state: State) -> None:
    rows = []
    for planned in plan.jobs:
        record = state.records.get(planned.id)
        status = record.status if record else "unusable" if planned.id in state.unusable else "missing"
        method, setting = plan.methods[planned.method].label, plan.settings[planned.setting].label
        rows.append((planned.id, status, method, str(planned.seed), setting))
    print_table(f"{plan.suite}: {len(plan.jobs)} jobs", ("job", "status", "method", "seed", "setting"), rows)
    done = len(plan.jobs) - len(state.to_run)
    err.print(f"{done} done, {len(state.to_run)} to run; nothing was run")
    later = sum(plan.counts) - len(plan.jobs)
    if later:
        when = "once the scales of the losses are calibrated, and" if scales.lacking(plan) else "as"
        err.print(f"{later} more follow {when} tuning goes on")
    for job_id, reason in state.unusable.items():
        err.print(f"job {job_id}: its record cannot be used: {reason}", soft_wrap=True)


@click.command("validate")
@_suite
@_set
@_most
@plugin_options
def validate_command(
    suite_file: Path,
    overrides: tuple[str, ...],
    max_jobs: int,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Check SUITE and say what it spans; all problems are reported together, with file, line and key."""
    registry = Registry(load(plugin_files, blocked, strict))
    suite = load_suite(suite_file, registry, overrides, maximum_jobs=max_jobs)
    plan = suite.plan
    if plan.tuning is not None:
        candidates, final = plan.counts
        tried = f"{len(plan.searches)} searches x {plan.tuning.budget} candidates x {len(plan.tuning.candidate_seeds)}"
        chosen = f"{len(plan.searches)} chosen x {len(plan.tuning.seeds)}"
        what = f"{candidates} on the validation images ({tried} seeds), {final} on the test images ({chosen} seeds)"
        click.echo(f"{suite_file} is valid: {candidates + final} jobs: {what}")
        _tell_lacking(suite)
        return
    seeds = len({job.seed for job in plan.jobs})
    whole = len(plan.methods) * len(plan.settings) * seeds == len(plan.jobs)
    spans = f"{len(plan.methods)} methods x {len(plan.settings)} settings x {seeds} seeds"
    click.echo(f"{suite_file} is valid: {len(plan.jobs)} jobs ({spans}{'' if whole else ', where they go together'})")
    _tell_lacking(suite)


def _tell_lacking(suite: Suite) -> None:
    for problem in suite.lacking:
        click.echo(f"before it can run: {problem}", err=True)
