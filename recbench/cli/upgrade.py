"""``recbench upgrade``."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import click

from recbench.cli.options import load, plugin_options
from recbench.cli.text import echo
from recbench.contracts.entries import DatasetEntry
from recbench.errors import UserError
from recbench.plan.model import SCHEMA
from recbench.plugin.registry import Registry
from recbench.store.merge import merge
from recbench.store.sources import sources
from recbench.store.upgrade import UpgradedSource


@click.command("upgrade")
@click.argument("paths", nargs=-1, required=True, metavar="SOURCE...", type=click.Path(path_type=Path))
@click.option(
    "--into",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of all results, with one folder per suite; another than that of the older results.",
)
@plugin_options
def upgrade_command(
    paths: tuple[Path, ...], into: Path, plugin_files: tuple[str, ...], blocked: tuple[str, ...], strict: bool
) -> None:
    """Upgrade older results (schema 1), exports or folders, without training anything; they stay as they are.

    Upgraded records have new job ids, in which neither the place of the images nor metrics count. Records that cannot
    be upgraded are named with the reason, and left out.
    """
    registry = Registry(load(plugin_files, blocked, strict))
    locations = {each.entry.name: cast(DatasetEntry, each.entry).locations for each in registry.all("datasets")}
    with sources(paths) as found:
        for source in found:
            if Path(source.name).resolve() == (into / source.plan.suite).resolve():
                raise UserError(f"{source.name} is to be read and written; give another folder to --into")
        upgraded = [UpgradedSource(source, locations) for source in found]
        merged = merge(upgraded, into)
    unusable = [line for source in upgraded for line in source.unusable]
    for line in [*unusable, *(f"note: {note}" for one in merged for note in one.notes)]:
        echo(line, err=True)
    for one in merged:
        count = sum(source.upgraded for source in upgraded if source.plan.suite == one.suite)
        echo(
            f"{one.suite}: {count} records upgraded to schema {SCHEMA}; {one.done} of {one.jobs} jobs are done in "
            f"{into / one.suite}"
        )
    echo(
        "note: digests of code are those of whole files, as they were: upgraded records are ranked with each other, "
        "not with jobs that run now",
        err=True,
    )
    if unusable:
        raise SystemExit(1)
