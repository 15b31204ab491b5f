"""Code shared by ``recbench run``, ``evaluate`` and ``retry``: options, running the sweep, and printing the outcome."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, cast

import click

from recbench.analysis.board import Leaderboard
from recbench.analysis.ranking import rank_stored
from recbench.cli.completion import complete_names
from recbench.cli.durations import parse_duration
from recbench.cli.hangup import ignore_hangup
from recbench.cli.options import CommandFunction, FiniteRange, check_device, parameters, read_profile
from recbench.cli.terminal import err, print_leaderboard
from recbench.contracts.entries import TrackerEntry
from recbench.contracts.executor import ChosenDevice, Executor
from recbench.data.cache import default_cache
from recbench.errors import UserError
from recbench.plan.plan import Plan
from recbench.plugin.registry import Registry
from recbench.render.contact_sheet import write_pictures
from recbench.render.leaderboard import write_all
from recbench.store.store import Store
from recbench.suite.suite import Suite
from recbench.sweep.attempts import Limits
from recbench.sweep.state import PlanState, inspect
from recbench.sweep.sweep import Options
from recbench.sweep.sweep import run as run_sweep


class Settings(TypedDict):
    """The options of :func:`sweep_options`, as click gives them."""

    cache: Path | None
    device: str
    devices: str | None
    jobs_per_device: int | Literal["auto"] | None
    executor: str
    executor_option: tuple[str, ...]
    retries: int
    timeout: str | None
    max_failures: int | None
    checkpoint_seconds: float
    preflight: bool
    tracked: tuple[str, ...]
    track_option: tuple[str, ...]
    quiet: bool
    verbose: bool


class JobsPerDevice(click.IntRange):
    """A number of jobs from 1, or ``auto``."""

    name = "K|auto"

    def __init__(self) -> None:
        super().__init__(min=1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or ``"auto"``."""
        return value if value == "auto" else super().convert(value, param, ctx)


_OPTIONS = (
    click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="Folder for decoded images."),
    click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|cuda:N", help="Where to train."),
    click.option("--devices", metavar="N,N", help="GPUs to use, such as 0,2; by default all."),
    click.option(
        "--jobs-per-device",
        type=JobsPerDevice(),
        help="Number of jobs per GPU; without a GPU, in parallel on the CPU. auto: as many as train most images per "
        "second, measured beforehand.",
    ),
    click.option(
        "--executor",
        default="local",
        show_default=True,
        shell_complete=complete_names("executors"),
        help="Executor plugin that runs the jobs.",
    ),
    click.option(
        "--executor-option", multiple=True, metavar="KEY=VALUE", help="Parameter of the executor. Repeatable."
    ),
    click.option(
        "--retries",
        type=click.IntRange(min=0),
        default=0,
        show_default=True,
        help="Number of further attempts at a failed job.",
    ),
    click.option("--timeout", metavar="TIME", help="Time limit of an attempt at a job, such as 3h, 90m or 1d12h."),
    click.option(
        "--max-failures", type=click.IntRange(min=1), metavar="N", help="Stop starting jobs after N failed attempts."
    ),
    click.option(
        "--checkpoint-seconds",
        type=FiniteRange(min=0),
        default=30.0,
        show_default=True,
        help="Seconds of training between checkpoints.",
    ),
    click.option(
        "--preflight/--no-preflight",
        default=True,
        envvar="RECBENCH_PREFLIGHT",
        help="Before anything is trained, let every method take one step, and check its plugins (the default).",
    ),
    click.option(
        "--track",
        "tracked",
        multiple=True,
        metavar="TRACKER",
        shell_complete=complete_names("trackers"),
        help="Report the jobs to a tracker. Repeatable.",
    ),
    click.option("--quiet", "-q", is_flag=True, help="Show no progress and no jobs that are done."),
    click.option("--verbose", "-v", is_flag=True, help="Print a line for each epoch of each job too."),
    click.option("--track-option", multiple=True, metavar="NAME.KEY=VALUE", help="Parameter of a tracker. Repeatable."),
)


def sweep_options(command: CommandFunction) -> CommandFunction:
    """Add the options on how to run jobs, which are passed as :class:`Settings`."""
    return reduce(lambda inner, option: option(inner), reversed(_OPTIONS), command)


def options_of(
    registry: Registry,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    wanted: Mapping[str, Mapping[str, Any]],
    only: frozenset[str] | None = None,
    train: bool = True,
    plan: Plan | None = None,
    **settings: Unpack[Settings],
) -> tuple[Executor, Options]:
    """Return the executor and the options of the sweep.

    Args:
        registry: the executors and trackers.
        plugin_files: plugin files to load.
        blocked: plugins and distributions not to load.
        wanted: parameters of executors from the suite, by name.
        only: ids of the only jobs to run; None for all.
        train: whether jobs may be trained, or stored models scored only.
        plan: what is run, to measure how many of its jobs should share a device if ``auto`` asks for that.
        **settings: the values of the command-line options.

    Raises:
        UserError: the value of an option is invalid.
    """
    check_device(settings["device"])
    if settings["jobs_per_device"] == "auto":
        if plan is None or settings["executor"] != "local":
            raise UserError(
                "--jobs-per-device auto is measured on this machine, by 'recbench run' with the executor local; give a "
                "number here"
            )
        settings["jobs_per_device"] = None
        executor, _ = _executor(registry, wanted.get("local", {}), settings)
        chosen = executor.chosen_device(settings["device"])
        settings["jobs_per_device"] = _measured(plan, chosen, loading(registry, plugin_files, blocked))
    timeout = settings["timeout"]
    executor, params = _executor(registry, wanted.get(settings["executor"], {}), settings)
    return executor, Options(
        cache=settings["cache"] or default_cache(),
        **loading(registry, plugin_files, blocked),
        device=settings["device"],
        checkpoint_seconds=settings["checkpoint_seconds"],
        preflight=settings["preflight"],
        trackers=_trackers(registry, settings["tracked"], settings["track_option"]),
        timeout=parse_duration(timeout, "--timeout") if timeout is not None else None,
        limits=Limits(settings["retries"], settings["max_failures"]),
        only=only,
        train=train,
        engine=(settings["executor"], params),
    )


def _measured(plan: Plan, chosen: ChosenDevice, plugins: Loading) -> int:
    """Return how many jobs should share a device, and say what was measured."""
    from recbench.sweep.sharing import measured

    jobs, found = measured(plan, **plugins, chosen=chosen, cores=len(os.sched_getaffinity(0)))
    shown = ", ".join(f"{each.jobs} train {each.rate:,.0f} images/s" for each in found)
    err.print(f"jobs per device: {shown}; so {jobs}", soft_wrap=True)
    return jobs


class Loading(TypedDict):
    """The plugins that other processes are to load, from wherever they start: arguments of :class:`Options`."""

    plugin_files: tuple[str, ...]
    blocked: tuple[str, ...]


def loading(registry: Registry, plugin_files: tuple[str, ...], blocked: tuple[str, ...]) -> Loading:
    """Return what other processes are to load, so that they have the plugins of this one."""
    crashing = (plugin.name for plugin in registry.plugins.broken if plugin.crashes_on_import)
    files = tuple(str(Path(file).resolve()) for file in plugin_files)
    return {"plugin_files": files, "blocked": (*blocked, *crashing)}


def execute(
    suite: Suite, store: Store, registry: Registry, executor: Executor, options: Options, settings: Settings
) -> int:
    """Run a suite, print its leaderboard and return the exit code. Continues when the terminal is closed."""
    from recbench.cli.live import LiveView

    ignore_hangup()
    with LiveView(quiet=settings["quiet"], verbose=settings["verbose"]) as view:
        finished = run_sweep(suite, store, registry, executor, options, view)
    if finished and not view.total:
        if options.train:
            err.print(f"{suite.plan.suite}: all {len(store.read_plan().jobs)} jobs are done; nothing to run")
        else:
            err.print(f"{suite.plan.suite}: no stored model is to be scored")
    plan = store.read_plan()  # tuning may have added jobs
    state = inspect(plan, store)
    leaderboard = rank_stored(plan, store, state.records, state.unusable)
    write_all(leaderboard, store.root)
    write_pictures(plan, leaderboard.boards, state.records, store)
    print_leaderboard(leaderboard)
    err.print(f"leaderboard, images and records are in {store.root}", soft_wrap=True)
    _tell_unscored(plan, state)
    return _exit_code(finished, leaderboard, state)


def _tell_unscored(plan: Plan, state: PlanState) -> None:
    """Name the finished jobs that have no score of some metric."""
    names = {job.id: f"job {job.id} ({plan.methods[job.method].label}, seed {job.seed})" for job in plan.jobs}
    for job_id, labels in state.stale.items():
        why = state.lost.get(job_id, f"it has no scores of {', '.join(labels)} as the suite has them")
        then = "'recbench run' trains it again" if job_id in state.lost else "'recbench evaluate' tries again"
        err.print(f"{names[job_id]}: {why}; {then}", soft_wrap=True)


def _exit_code(finished: bool, leaderboard: Leaderboard, state: PlanState) -> int:
    if not finished:
        err.print("interrupted; the same command continues")
        return 130
    if leaderboard.done < leaderboard.jobs:
        bad = leaderboard.jobs - leaderboard.done
        err.print(f"{bad} of {leaderboard.jobs} jobs have no scores; failed ones run again with the same command")
        return 1
    return 1 if state.stale else 0


def _executor(registry: Registry, wanted: Mapping[str, Any], settings: Settings) -> tuple[Executor, dict[str, Any]]:
    """Return an executor with its parameters; the command line overrides a profile, which overrides the suite."""
    registered = registry.get("executors", settings["executor"])
    entry = registered.entry
    params = parameters(entry, "--executor-option", settings["executor_option"])
    common = {"devices": settings["devices"], "jobs_per_device": settings["jobs_per_device"]}
    for name, value in common.items():
        option = "--" + name.replace("_", "-")
        if value is None:
            continue
        if entry.parameter(name) is None:
            raise UserError(f"{option} {value}: the executor {entry.name} does not support this option")
        if name in params:
            raise UserError(f"{option} and --executor-option {name}=… set the same parameter; give only one of them")
        params[name] = value
    profile = params.get("profile") or wanted.get("profile")
    params = entry.complete({**wanted, **(read_profile(entry, Path(profile)) if profile else {}), **params})
    executor: Executor = registered.create(params)
    return executor, params


def _trackers(
    registry: Registry, names: tuple[str, ...], assignments: tuple[str, ...]
) -> tuple[tuple[str, dict[str, Any]], ...]:
    """Return trackers with their complete parameters, after checking that their packages are installed."""
    names = tuple(dict.fromkeys(names))
    for assignment in assignments:
        if assignment.partition(".")[0] not in names:
            raise UserError(f"--track-option {assignment}: expected NAME.KEY=VALUE with the name of a --track")
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
    """Return whether a package can be imported; a mere folder, such as wandb creates, does not count."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None
