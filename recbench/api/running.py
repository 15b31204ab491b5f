"""Running a suite from a script or a notebook."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from recbench.analysis.ranking import rank_stored
from recbench.api.entries import PluginFiles, blocked_plugins, plugin_files, registry
from recbench.api.results import SuiteResults, as_path, load, results_folder
from recbench.contracts.executor import Event, Executor, JobProgress
from recbench.data.cache import default_cache
from recbench.errors import UserError
from recbench.plan.plan import Plan
from recbench.plugin.registry import Registry
from recbench.render.contact_sheet import write_pictures
from recbench.render.leaderboard import write_all
from recbench.shipped import find_suite
from recbench.store.record import Record
from recbench.store.remembered import remember
from recbench.store.store import Store
from recbench.suite.suite import Suite, load_suite
from recbench.sweep.apart import kept_apart
from recbench.sweep.attempts import Limits
from recbench.sweep.state import PlanState, inspect
from recbench.sweep.sweep import Options
from recbench.sweep.sweep import run as run_sweep

Tell = Callable[[str], None]


def run(
    suite: str | os.PathLike[str],
    *,
    set: Mapping[str, Any] | None = None,  # noqa: A002 - as the option of the command line
    plugins: PluginFiles = (),
    results: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    device: str = "auto",
    executor: str = "local",
    executor_options: Mapping[str, Any] | None = None,
    retries: int = 0,
    timeout: float | None = None,
    preflight: bool | None = None,
    tell: Tell | None = None,
) -> SuiteResults:
    """Run the jobs of a suite that are not done yet, and return its results, as ``recbench run`` does.

    Jobs run in processes of their own, which load recbench and the plugins, never the calling script or notebook: no
    ``if __name__ == "__main__":`` is needed. After an interruption, the same call continues. A job that fails or
    diverges raises nothing: it is shown as such in the results.

    Args:
        suite: path of the suite's file, or the name of a suite that recbench ships (``recbench suites``).
        set: values that override the suite's, by dotted key: ``{"training.epochs": 2}``. Where they would leave out
            finished jobs of the suite, the run is kept apart from it under another name, as on the command line.
        plugins: single-file plugins.
        results: folder of all results; by default ``RECBENCH_RESULTS``, else ``results``.
        cache: folder of decoded images.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        executor: name of the executor that runs the jobs.
        executor_options: its parameters, such as ``{"jobs": 2}``.
        retries: further attempts at a job that failed.
        timeout: seconds that an attempt at a job may run; None: as long as it takes.
        preflight: let every method take one step before anything is trained; by default yes, unless
            ``RECBENCH_PREFLIGHT=0``.
        tell: called with each line about the progress; by default they go to stderr. ``tell=lambda line: None`` is
            silent.

    Raises:
        UserError: the suite is invalid (the text names every problem with file, line and key), or an argument is.
        KeyboardInterrupt: interrupted; running jobs have written checkpoints.
    """
    if not isinstance(device, str) or not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", device):
        raise UserError(f"device {device!r}: expected 'auto', 'cpu', 'cuda' or 'cuda:N'")
    files = plugin_files(plugins)
    known = registry(files)
    folder, images = results_folder(results), Path(cache) if cache is not None else default_cache()
    say, file, overrides = tell or _to_stderr, _suite_file(as_path(suite)), assignments(set or {})

    def loaded(*more: str) -> Suite:
        return load_suite(file, known, (*overrides, *more))

    valid = loaded()
    engine, params = _executor(known, executor, {**valid.executors.get(executor, {}), **(executor_options or {})})
    valid = kept_apart(valid, folder, overrides, loaded, say)
    crashing = tuple(plugin.name for plugin in known.plugins.broken if plugin.crashes_on_import)
    options = Options(
        cache=images,
        plugin_files=files,
        blocked=(*blocked_plugins(), *crashing),
        device=device,
        timeout=timeout,
        limits=Limits(retries),
        preflight=os.environ.get("RECBENCH_PREFLIGHT", "1") != "0" if preflight is None else preflight,
        engine=(executor, params),
    )
    store = Store(folder / valid.plan.suite)
    remember(store, files)
    if not run_sweep(valid, store, known, engine, options, _Lines(say)):
        raise KeyboardInterrupt("interrupted; the same call continues")
    plan = store.read_plan()  # tuning may have added jobs
    state = inspect(plan, store)
    leaderboard = rank_stored(plan, store, state.records, state.unusable)
    write_all(leaderboard, store.root)
    write_pictures(plan, leaderboard.boards, state.records, store)
    return load(store.root, cache=images, plugins=files)


def _suite_file(suite: str) -> Path:
    """Return the file of a suite: one of that path, else the shipped one of that name."""
    path = Path(suite).expanduser()
    return path if path.suffix in (".yaml", ".yml") or path.exists() else find_suite(suite)


def assignments(values: Mapping[str, Any]) -> list[str]:
    """Return values by dotted key as the assignments of ``--set``.

    Raises:
        UserError: a value is none that YAML has.

    >>> assignments({"training.epochs": 2, "training.learning_rate": 1e-5, "losses": ["l2", {"name": "l1"}]})
    ['training.epochs=2', 'training.learning_rate=1.0e-05', 'losses=[l2, {name: l1}]']
    """
    import yaml

    if not isinstance(values, Mapping):
        raise UserError(f"set must be values by dotted key, such as {{'training.epochs': 2}}, got {values!r}")
    found = []
    for key, value in values.items():
        try:
            text = yaml.safe_dump(_plain(value), default_flow_style=True, width=sys.maxsize, allow_unicode=True)
        except yaml.YAMLError:
            raise UserError(f"set: {key}: {type(value).__name__} is no value of a suite") from None
        found.append(f"{key}={text.removesuffix('...' + chr(10)).strip()}")
    return found


def _plain(value: Any) -> Any:
    """Return a value with NumPy's numbers and arrays, and paths, as plain ones."""
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | range):
        return [_plain(each) for each in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "dtype") and hasattr(value, "tolist") else value


def _executor(known: Registry, name: str, params: Mapping[str, Any]) -> tuple[Executor, dict[str, Any]]:
    registered = known.get("executors", name)
    try:
        complete = registered.entry.complete(params)
    except ValueError as error:
        raise UserError(f"executor_options: {error}") from None
    executor: Executor = registered.create(complete)
    return executor, complete


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


class _Lines:
    """A watcher of a sweep that tells a line for every job that ends."""

    def __init__(self, tell: Tell) -> None:
        self.note = tell
        self.names: dict[str, str] = {}
        self.ended = 0

    @contextmanager
    def preparing(self, name: str) -> Iterator[Callable[[int, int | None], None]]:
        yield lambda done, total: None

    def begin(self, plan: Plan, state: PlanState, how: str) -> None:
        several = len(plan.settings) > 1
        self.names = {
            job.id: f"{plan.methods[job.method].label}, seed {job.seed}"
            + (f" ({plan.settings[job.setting].label})" if several else "")
            for job in plan.jobs
        }
        self.ended, self.open = 0, state.open
        self.note(f"{plan.suite}: {state.open} of {len(plan.jobs)} jobs to run, {how}")

    def event(self, event: Event, record: Record | None) -> None:
        if isinstance(event, JobProgress):
            return
        name = self.names.get(event.job_id, event.job_id)
        if record is None:
            self.note(f"{event.outcome}: {name} {event.detail}".rstrip())
            return
        self.ended += 1
        if record.failure is not None:
            what = record.failure.message.partition("\n")[0] or record.failure.type
            what = f"{what} (recbench logs {event.job_id})"
        else:
            what = "  ".join(f"{label} {score.mean:.4g}" for label, score in record.scores.items())
        self.note(f"{self.ended}/{self.open} {record.status}: {name}  {what}")
