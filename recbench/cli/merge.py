"""``recbench merge``."""

from __future__ import annotations

from pathlib import Path

import click

from recbench.store.merge import merge, sources


@click.command("merge")
@click.argument("paths", nargs=-1, required=True, metavar="SOURCE...", type=click.Path(path_type=Path))
@click.option(
    "--into",
    required=True,
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of all results; each suite has a folder in it.",
)
@click.option(
    "--prefer",
    metavar="SOURCE",
    type=click.Path(path_type=Path),
    help="Whose record to take where several machines have run one job.",
)
def merge_command(paths: tuple[Path, ...], into: Path, prefer: Path | None) -> None:
    """Join results of several machines: exports, or folders of results. Nothing that is there is replaced."""
    with sources(paths) as found:
        merged = merge(found, into, prefer)
    for one in merged:
        for note in one.notes:
            click.echo(f"note: {note}", err=True)
        completed = f", {len(one.completed)} of them got files that were missing" if one.completed else ""
        click.echo(
            f"{one.suite}: {len(one.added)} jobs merged, {one.present} were there already{completed}; "
            f"{one.done} of {one.jobs} are done"
        )
