"""``recbench leaderboard``."""

from __future__ import annotations

from pathlib import Path

import click

from recbench import yaml_lines
from recbench.cli.options import results_option
from recbench.errors import UserError, did_you_mean
from recbench.formats import FORMATS
from recbench.leaderboard import rank
from recbench.store import Store, write_atomically
from recbench.suite import NAME
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
    store = Store(results / (_name(suite) if suite else _latest(results)))
    if suite and not store.plan_file.is_file():
        ran = [path.parent.name for path in results.glob("*/plan.json")]
        raise UserError(f"there are no results of the suite '{_name(suite)}' in {results}; {did_you_mean(suite, ran)}")
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


def _name(suite: str) -> str:
    """The name of a suite that is given by name or by file."""
    if suite.endswith((".yaml", ".yml")):
        data = yaml_lines.load(Path(suite)).data
        named = data.get("name") if isinstance(data, dict) else None
        suite = named if isinstance(named, str) else Path(suite).stem
    if not NAME.fullmatch(suite):
        raise UserError(f"{suite!r} is not the name of a suite: letters, digits, '.', '_' and '-' only")
    return suite


def _latest(results: Path) -> str:
    plans = sorted(results.glob("*/plan.json"), key=lambda path: path.stat().st_mtime_ns)
    if not plans:
        raise UserError(f"there are no results in {results}; 'recbench run SUITE' makes some")
    names = [path.parent.name for path in plans]
    if len(names) > 1:
        click.echo(f"showing {names[-1]}, which was run last; there are also {', '.join(sorted(names[:-1]))}", err=True)
    return names[-1]
