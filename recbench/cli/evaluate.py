"""``recbench evaluate``: score stored models, and train nothing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Unpack

import click

from recbench.cli.completion import complete_suites
from recbench.cli.options import load, plugin_options, results_option
from recbench.cli.stored import load_stored_suite, stored_suite, with_remembered
from recbench.cli.sweeping import Settings, execute, options_of, sweep_options
from recbench.cli.terminal import err
from recbench.plugin.registry import Registry
from recbench.store.store import Store
from recbench.suite.suite import Suite
from recbench.sweep.apart import kept_apart


@click.command("evaluate")
@click.argument("suite", shell_complete=complete_suites)
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value. Repeatable.")
@results_option
@sweep_options
@plugin_options
def evaluate_command(
    suite: str,
    overrides: tuple[str, ...],
    results: Path,
    plugin_files: tuple[str, ...],
    blocked: tuple[str, ...],
    strict: bool,
    **settings: Unpack[Settings],
) -> None:
    """Score the stored models of SUITE (its file, or its name as it was last run); nothing is trained.

    Metrics are computed that are new, or whose code or parameters have changed; all other scores stay as they are. Jobs
    whose model is not there are named.
    """
    file = Path(suite)
    if file.suffix not in (".yaml", ".yml") and not file.is_file():
        file = stored_suite(suite, results).root / "suite.yaml"
        plugin_files = with_remembered(Store(file.parent), plugin_files)
    registry = Registry(load(plugin_files, blocked, strict))

    def loaded(*more: str) -> Suite:
        return load_stored_suite(file, results, registry, (*overrides, *more))

    meant = kept_apart(loaded(), results, overrides, loaded, err.say)
    executor, options = options_of(registry, plugin_files, blocked, meant.executors, train=False, **settings)
    sys.exit(execute(meant, Store(results / meant.plan.suite), registry, executor, options, settings))
