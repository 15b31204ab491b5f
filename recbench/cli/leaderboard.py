"""``recbench leaderboard``."""

from __future__ import annotations

from pathlib import Path

import click

from recbench.cli.options import results_option
from recbench.cli.stored import stored_suite
from recbench.errors import UserError
from recbench.formats import FORMATS
from recbench.leaderboard import rank
from recbench.store import write_atomically
from recbench.sweep import inspect


@click.command("leaderboard")
@click.argument("suite", required=False)
@results_option
@click.option(
    "--format", "form", type=click.Choice(["terminal", *FORMATS]), default="terminal", show_default=True, help="Format."
)
@click.option("--cost", is_flag=True, help="Also what training took: speed, memory, parameters.")
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE instead of stdout.")
def leaderboard_command(suite: str | None, results: Path, form: str, cost: bool, output: Path | None) -> None:
    """Print the leaderboard of SUITE: a suite's name or file; by default the suite that was run last."""
    store = stored_suite(suite, results)
    plan = store.read_plan()
    state = inspect(plan, store)
    leaderboard = rank(plan, state.records, state.unusable)
    if form == "terminal" and output is None:
        from recbench.cli.terminal import print_leaderboard

        print_leaderboard(leaderboard, cost=cost)
        return
    text = FORMATS["markdown" if form == "terminal" else form][1](leaderboard, cost=cost)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        if output.exists() and not output.is_file():  # /dev/stdout and the like must not be replaced by a file
            output.write_text(text, encoding="utf-8")
        else:
            write_atomically(output.resolve(), text.encode())
    except (OSError, RuntimeError) as error:  # resolve finds loops of links
        raise UserError(f"{output} cannot be written: {getattr(error, 'strerror', error)}") from None
