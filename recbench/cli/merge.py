"""``recbench merge``."""

from __future__ import annotations

from pathlib import Path

import click

from recbench.cli.text import echo
from recbench.store.merge import merge
from recbench.store.sources import sources


@click.command("merge")
@click.argument("paths", nargs=-1, required=True, metavar="SOURCE...", type=click.Path(path_type=Path))
@click.option(
    "--into",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of all results, with one folder per suite.",
)
@click.option(
    "--prefer",
    metavar="SOURCE",
    type=click.Path(path_type=Path),
    help="Source to take the record from if several machines ran the same job.",
)
def merge_command(paths: tuple[Path, ...], into: Path, prefer: Path | None) -> None:
    """Merge results from several machines: exports, or folders of results. Existing records are never replaced."""
    with sources(paths) as found:
        merged = merge(found, into, prefer)
    for one in merged:
        for note in one.notes:
            echo(f"note: {note}", err=True)
        completed = f", {len(one.completed)} of them completed with missing files" if one.completed else ""
        echo(
            f"{one.suite}: {len(one.added)} jobs merged, {one.present} already present{completed}; "
            f"{one.done} of {one.jobs} are done"
        )
