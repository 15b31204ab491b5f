"""``recbench report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from recbench.cli.beside import ShownSuite, with_board
from recbench.cli.completion import complete_suites
from recbench.cli.options import load, plugin_options, results_option
from recbench.cli.stored import is_shipped, shown_suite, tell_unloaded_files, with_remembered
from recbench.cli.text import echo
from recbench.data.cache import default_cache
from recbench.plugin.registry import Registry
from recbench.store.store import Store

if TYPE_CHECKING:
    from recbench.report.content import Content


@click.command("report")
@click.argument("suite", required=False, shell_complete=complete_suites)
@results_option
@click.option("--cache", type=click.Path(path_type=Path), metavar="DIR", help="Folder of decoded images.")
@click.option(
    "--no-models",
    is_flag=True,
    help="Do not load stored models: no interpolations, and only images that the jobs stored.",
)
@plugin_options
def report_command(
    suite: str | None,
    results: Path,
    cache: Path | None,
    no_models: bool,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
) -> None:
    """Write the report of SUITE, the name or file of a suite; by default the one that was run last.

    The report is a folder of HTML pages, DIR/<suite>/report/, that can be opened without a network. That of a
    reference board is written there too. What 'recbench try' trained is shown among the methods of its board.
    """
    from recbench.cli.terminal import err, shown
    from recbench.report.sections import Sources
    from recbench.report.write import write

    store, cache = shown_suite(suite, results, cache), cache or default_cache()
    registry = Registry(load(with_remembered(store, plugin_files), blocked, strict))
    if not no_models:
        tell_unloaded_files(store, registry.plugins)
    with err.status("reading the jobs") as status, with_board(store, results, cache) as found:
        content = ranked(found)
        models = not no_models
        sources = Sources(found.store, registry, cache, models, lambda text: status.update(shown(text)), store.root)
        page = write(content, sources, results / store.root.name if is_shipped(store, results) else None)
    tell_left_out(content)
    echo(page)


def tell_left_out(content: Content) -> None:
    """Print which records and files of jobs could not be used."""
    from recbench.cli.terminal import err

    for job in content.jobs:
        if job.status == "unusable":
            err.print(f"job {job.planned.id}: its record cannot be used: {job.why}", soft_wrap=True)
    for line in content.left_out:
        err.print(line, soft_wrap=True)


def gathered(store: Store) -> Content:
    """Return the content of a report on a store, ranked anew."""
    from recbench.sweep.state import inspect

    plan = store.read_plan()
    state = inspect(plan, store)
    return ranked(ShownSuite(plan, store, state.records, state.unusable))


def ranked(found: ShownSuite) -> Content:
    """Return the content of a report on results, ranked anew."""
    from recbench.analysis.ranking import rank_stored
    from recbench.report.content import gather

    leaderboard = rank_stored(found.plan, found.store, found.records, found.unusable)
    return gather(found.plan, leaderboard, found.records, found.unusable, found.store)
