"""``recbench try``: one command from the file of a loss to its place on a reference board."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

import click

from recbench.analysis import contender
from recbench.analysis.ranking import rank_stored
from recbench.cli.beside import TRY, FinishedBoard, finished_board, side_by_side
from recbench.cli.completion import complete_suites
from recbench.cli.forecast import Forecast, forecast
from recbench.cli.hangup import ignore_hangup
from recbench.cli.options import check_device, load, plugin_options, results_option
from recbench.cli.sweeping import Settings, execute, options_of, sweep_options
from recbench.cli.terminal import count_bar, err, print_leaderboard
from recbench.cli.tried import print_standings, quick_words
from recbench.contracts.executor import Executor
from recbench.data.cache import Prepared, default_cache
from recbench.errors import PluginError, SuiteError, UserError, did_you_mean
from recbench.plan.plan import Plan
from recbench.plan.strategies import KL_WEIGHT, rounded
from recbench.plan.tuning import REFERENCE
from recbench.plugin.manager import FILE
from recbench.plugin.registry import Registry
from recbench.render.leaderboard import write_all
from recbench.shipped import suites
from recbench.store.remembered import remember
from recbench.store.store import Store
from recbench.suite.contender import contending, relocated, shortened
from recbench.suite.suite import Suite, load_suite
from recbench.sweep.preflight import check
from recbench.sweep.preparation import calibrated, decoded
from recbench.sweep.state import grown
from recbench.sweep.sweep import Options, task_of
from recbench.sweep.sweep import run as run_sweep

BOARD = "cifar10-small"
QUICK = 4
"""A quick try trains over this part of the epochs: one in so many."""
_ASKS = 120.0
"""Seconds that are spent without asking."""


@click.command("try")
@click.argument("file", metavar="FILE.py", type=click.Path(path_type=Path))
@click.option(
    "--suite",
    "name",
    default=BOARD,
    show_default=True,
    metavar="NAME|DIR",
    shell_complete=complete_suites,
    help="The reference board to rank it on, or a folder with the results of a suite.",
)
@click.option("--loss", "wanted", multiple=True, metavar="NAME", help="Only this loss of the file. Repeatable.")
@click.option(
    "--quick",
    is_flag=True,
    help=f"One seed over a {QUICK}th of the epochs, untuned, beside l2: does it work, and what does it cost?",
)
@click.option(
    "--anyway", is_flag=True, help="Rank it even if images, code or training are not those of the board, and say so."
)
@click.option("--yes", is_flag=True, help="Do not ask for confirmation of long runs.")
@click.option("--dry-run", is_flag=True, help="Say what it will cost; train nothing.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the suite, as "
              "datasets.cifar10.params.root=DIR. Repeatable.")  # fmt: skip
@results_option
@sweep_options
@plugin_options
def try_command(
    file: Path,
    name: str,
    wanted: tuple[str, ...],
    quick: bool,
    anyway: bool,
    yes: bool,
    dry_run: bool,
    overrides: tuple[str, ...],
    results: Path,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
    **settings: Unpack[Settings],
) -> None:
    """Rank the loss in FILE.py among the methods of a reference board; only it is trained.

    It gets what the board's losses got: a calibrated scale, the same number of trials of tuning on the validation
    images, and the same seeds on the test images. Results are written to DIR/<suite>-try/; neither the board nor
    results of the suite are changed, and running it again trains nothing.
    """
    check_device(settings["device"])
    files = tuple(dict.fromkeys((*plugin_files, str(file))))
    registry = Registry(load(files, blocked, strict))
    losses = _losses(registry, file, wanted)
    cache = settings["cache"] or default_cache()
    board = finished_board(name, results, cache)
    data = relocated(board.store.root / "suite.yaml", suites().get(board.plan.suite), registry)
    suite = _suite(contending(data, losses, f"{board.plan.suite}{TRY}"), registry, overrides)
    taken = {search.label for search in board.plan.searches} & set(losses)
    if taken:
        raise UserError(f"the board of {board.plan.suite} has a loss {', '.join(sorted(taken))} already; rename yours")
    _complete(suite)
    quiet = settings["quiet"]
    images = decoded(suite.plan, registry, cache, lambda what: count_bar(f"decoding {what}", quiet=quiet), err.print)
    compared = _check(board, suite.plan, images, anyway=anyway)
    executor, options = options_of(registry, files, blocked, suite.executors, **settings)
    store = Store(results / suite.plan.suite)
    if quick:
        suite = _quick(board, suite, data, store, registry, (executor, options), overrides)
        store = Store(results / suite.plan.suite)
    try:
        expected = forecast(suite.plan, store, board, registry, images, settings, quick=quick)
    except PluginError:  # a broken loss: preflight says better what is wrong with it
        check(suite.plan, registry, plugin_files=options.plugin_files, blocked=blocked, device=options.device)
        raise
    _announce(expected, suite.plan, board.plan, quick=quick)
    if dry_run:
        return
    ask = expected.seconds > _ASKS and not yes and sys.stdin.isatty() and err.is_terminal
    if ask and not click.confirm("go on?", default=True, err=True):
        raise click.Abort
    remember(store, files, str(board.store.root.resolve()) if Path(name).is_dir() else name)
    if quick:
        code = execute(suite, store, registry, executor, options, settings)
        quick_words(suite.plan, board.plan, losses, expected)
        sys.exit(code)
    sys.exit(_rank(board, suite, store, registry, losses, compared, expected, (executor, options), settings))


def _losses(registry: Registry, file: Path, wanted: Sequence[str]) -> list[str]:
    """Return the names of the losses in a file, or of those among them that are wanted."""
    path = file.resolve()
    mine = [p for p in registry.plugins.found if p.distribution == FILE and Path(p.origin).resolve() == path]
    found = [entry.name for plugin in mine for entry in plugin.entries.get("losses", ())]
    if not found:
        raise UserError(f"{file} offers no loss: a function recbench_losses, marked with @hookimpl, yields LossEntry")
    for loss in wanted:
        if loss not in found:
            raise UserError(f"--loss {loss}: {file} has no such loss; {did_you_mean(loss, found)}")
    return list(dict.fromkeys(wanted)) or found


def _suite(text: str, registry: Registry, overrides: Sequence[str]) -> Suite:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "try.yaml"
        file.write_text(text, encoding="utf-8")
        return load_suite(file, registry, overrides)


def _complete(suite: Suite) -> None:
    if suite.lacking:
        raise SuiteError(suite.lacking)


def _check(board: FinishedBoard, plan: Plan, images: Mapping[int, Prepared], *, anyway: bool) -> bool:
    """Return whether records of a plan can be compared with those of a board.

    Raises:
        UserError: they cannot, and that is not wanted anyway.
    """
    theirs = board.fingerprints()
    prints = {index: (theirs[index], found.fingerprint) for index, found in images.items() if index in theirs}
    found = list(contender.hindrances(board.plan, plan, board.numerics, prints))
    found = found or list(contender.other_protocols(board.plan, plan, board.records))
    if not found:
        return True
    if len(plan.settings) != len(board.plan.settings) or not anyway:
        lines = "\n  ".join(found)
        raise UserError(
            f"a loss that is trained here cannot be compared with the board of {board.plan.suite}; nothing was "
            f"trained (--anyway ranks it nevertheless):\n  {lines}"
        )
    for line in found:
        err.print(f"warning: {line}; compared anyway", style="yellow", soft_wrap=True)
    return False


def _quick(
    board: FinishedBoard,
    suite: Suite,
    data: Mapping[str, Any],
    store: Store,
    registry: Registry,
    how: tuple[Executor, Options],
    overrides: Sequence[str],
) -> Suite:
    """Return the suite of a quick try: the losses and l2 at the KL weight that the board's losses chose on average,
    relative to their scales."""
    store.root.mkdir(parents=True, exist_ok=True)
    executor, options = how
    plan = calibrated(
        suite.plan, store.root, registry, executor, task_of("", store, options),
        note=lambda text: err.print(text, soft_wrap=True), interrupted=lambda: False,
    )  # fmt: skip
    if plan is None:
        raise UserError("the losses were not calibrated: it was interrupted; the same command continues")
    chosen = [
        search.trials[search.chosen].values[KL_WEIGHT] / search.scale
        for search in board.plan.searches
        if search.chosen is not None and search.scale
    ]
    relative = statistics.median(chosen) if chosen else board.plan.searches[0].axes[0].low
    weights = {REFERENCE: rounded(relative)}
    weights |= {search.label: rounded(relative * (search.scale or 1)) for search in reversed(plan.searches)}
    epochs = max(1, min(setting.training.epochs for setting in suite.plan.settings) // QUICK)
    text = shortened(data, weights, f"{board.plan.suite}{TRY}-quick", epochs)
    return _suite(text, registry, [each for each in overrides if not each.startswith(("tuning", "training.epochs"))])


def _announce(expected: Forecast, plan: Plan, board: Plan, *, quick: bool) -> None:
    names = ", ".join(dict.fromkeys(search.label for search in plan.searches) or [m.label for m in plan.methods])
    if quick:
        epochs, of = plan.settings[0].training.epochs, board.settings[0].training.epochs
        what = f"one seed over {epochs} of {of} epochs, without tuning, for {names}"
    else:
        assert plan.tuning is not None, "the suite of a try is tuned"
        what = (
            f"{names} {'get' if len(expected.steps) > 1 else 'gets'} what each loss of the board had: "
            f"{plan.tuning.budget} trials on the validation images, and {len(plan.tuning.seeds)} seeds on the "
            "test images"
        )
    err.print(f"{plan.suite}: {what}", soft_wrap=True)
    for line in expected.lines():
        err.print(line, soft_wrap=True)


def _rank(
    board: FinishedBoard,
    suite: Suite,
    store: Store,
    registry: Registry,
    losses: Sequence[str],
    compared: bool,
    expected: Forecast,
    how: tuple[Executor, Options],
    settings: Settings,
) -> int:
    """Train what is missing, print the board with the losses on it, and return the exit code."""
    from recbench.cli.live import LiveView

    ignore_hangup()
    executor, options = how
    with LiveView(quiet=settings["quiet"], verbose=settings["verbose"]) as view:
        finished = run_sweep(suite, store, registry, executor, options, view)
    if finished and not view.total:
        err.print(f"{suite.plan.suite}: everything was trained before; nothing to run")
    plan, state = grown(store.read_plan(), store)
    records = state.records if compared else contender.under_protocol(plan, state.records, board.plan, board.records)
    together = contender.joined(board.plan, plan)
    every = {**records, **board.records}
    with side_by_side(board, plan, store) as both:
        leaderboard = rank_stored(together, both, every)
    write_all(leaderboard, store.root)
    print_leaderboard(leaderboard)
    print_standings(leaderboard, together, every, losses, expected, board=board.plan.suite)
    if not compared:
        err.print(
            "images, code or training differ from the board's (see above): places and significance are not to be "
            "published",
            style="yellow",
            soft_wrap=True,
        )
    err.print(
        f"the board, and records and images of {', '.join(losses)}, are in {store.root} "
        f"('recbench report {plan.suite}' shows them)",
        soft_wrap=True,
    )
    if not finished:
        err.print("interrupted; the same command continues")
        return 130
    done = sum(job.split == "test" and job.id in state.records for job in plan.jobs)
    good = all(record.status == "done" for record in state.records.values())
    return 0 if good and done == plan.counts[1] else 1
