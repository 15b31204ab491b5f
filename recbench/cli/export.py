"""``recbench export``."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import click

from recbench.cli.completion import complete_suites
from recbench.cli.options import results_option
from recbench.cli.stored import stored_suite
from recbench.cli.text import echo, say
from recbench.store.archive import EXTRAS
from recbench.store.archive import export as write_export
from recbench.store.cleanup import stale_exports


@click.command("export")
@click.argument("suite", shell_complete=complete_suites)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="File to write; SUITE.zip by default."
)
@click.option(
    "--with",
    "extras",
    multiple=True,
    type=click.Choice(list(EXTRAS)),
    help="Include images, stored models or traces. Repeatable.",
)
@results_option
def export_command(suite: str, output: Path | None, extras: tuple[str, ...], results: Path) -> None:
    """Pack the records of SUITE (a suite's name or file) into one file, which 'recbench merge' reads."""
    store = stored_suite(suite, results)
    file = output or Path(f"{store.root.name}.zip")
    for leftover in stale_exports(file):
        with suppress(OSError):
            leftover.unlink()
    done = write_export(store, file, tuple(dict.fromkeys(extras)))
    for text in done.left_out:
        echo(f"left out: {text}", err=True)
    for name, number in done.lacking.items():
        echo(f"note: {number} of the jobs have no {name}", err=True)
    size = file.stat().st_size
    say(f"{done.jobs[0]} of {done.jobs[1]} jobs of {store.root.name} are in {file} ({size:,} bytes)")
    if done.left_out:
        raise SystemExit(1)
