"""``recbench leaderboard``."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import click

from recbench.analysis.board import Leaderboard
from recbench.analysis.published import PublishedTable, compare_published
from recbench.analysis.ranking import rank_stored
from recbench.cli.beside import with_board
from recbench.cli.completion import complete_suites
from recbench.cli.curves import all_matched, print_all_matched
from recbench.cli.options import confidence_option, output_option, results_option
from recbench.cli.stored import shown_suite
from recbench.cli.text import echo, say
from recbench.data.cache import default_cache
from recbench.errors import UserError, did_you_mean
from recbench.files import write_output
from recbench.plan.plan import Plan
from recbench.render.columns import Excerpt
from recbench.render.leaderboard import FORMATS
from recbench.render.published import added, to_text


@click.command("leaderboard")
@click.argument("suite", required=False, shell_complete=complete_suites)
@results_option
@click.option(
    "--format", "form", type=click.Choice(["terminal", *FORMATS]), default="terminal", show_default=True, help="Format."
)
@click.option("--wide", is_flag=True, help="Include spreads, mean ranks, and the statistics of every metric.")
@click.option(
    "--columns", "columns", multiple=True, metavar="NAME,NAME", help="Columns of the table, such as method,rank,psnr."
)
@click.option("--cost", is_flag=True, help="Include the cost of training: speed, memory, parameters.")
@click.option(
    "--metric", "metrics", multiple=True, metavar="NAME", help="Rank by this metric instead of the suite's. Repeatable."
)
@confidence_option
@click.option("--no-statistics", is_flag=True, help="Print means, standard deviations and mean ranks only.")
@click.option("--time-to", metavar="NAME=VALUE", help="Include the seconds of training until a score is reached.")
@click.option(
    "--published",
    is_flag=True,
    help="Include the scores published in the suite's papers, and whether their orderings hold.",
)
@click.option("--matched-kl", is_flag=True, help="Include the losses at the same KL divergence (recbench curves).")
@output_option
def leaderboard_command(
    suite: str | None,
    results: Path,
    form: str,
    wide: bool,
    columns: tuple[str, ...],
    cost: bool,
    metrics: tuple[str, ...],
    confidence: float,
    no_statistics: bool,
    time_to: str | None,
    published: bool,
    matched_kl: bool,
    output: Path | None,
) -> None:
    """Print the leaderboard of SUITE, the name or file of a suite; by default the one that was run last."""
    if matched_kl and (form != "terminal" or output is not None):
        raise UserError("--matched-kl is for the terminal only; 'recbench curves --format json' prints the same data")
    selection = _selection(columns, wide, cost or time_to is not None, form)
    with with_board(shown_suite(suite, results), results, default_cache()) as found:
        plan = found.plan
        leaderboard = rank_stored(
            plan,
            found.store,
            found.records,
            found.unusable,
            confidence=None if no_statistics else confidence,
            ranking=known_metrics(plan, metrics) or None,
            time_to=_target(plan, time_to) if time_to else None,
        )
    for board in leaderboard.boards:
        selection.columns(board)  # whether it has them, before anything is printed
    tables = _published(plan, leaderboard, form) if published else ()
    matched = all_matched(plan, found.records) if matched_kl else []
    if form == "terminal" and output is None:
        from recbench.cli.terminal import laid_out, print_leaderboard

        print_leaderboard(leaderboard, selection)
        if tables:
            say("\n" + to_text(tables, partial(laid_out, left=(0, 1))).rstrip("\n"))
        print_all_matched(matched)
        return
    form = "markdown" if form == "terminal" else form
    text = FORMATS[form][1](leaderboard, selection)
    text = added(form, text, leaderboard, tables) if tables else text
    if output is None:
        echo(text, nl=False)
    else:
        write_output(output, text.encode())


def _selection(columns: tuple[str, ...], wide: bool, cost: bool, form: str) -> Excerpt:
    names = tuple(name.strip() for text in columns for name in text.split(",") if name.strip())
    if names and wide:
        raise UserError("--columns and --wide both choose the columns; give only one of them")
    if (names or wide) and form in ("json", "csv"):
        option = "--columns" if names else "--wide"
        raise UserError(f"{option} does not go with --format {form}, which always holds everything")
    return Excerpt(names, wide, cost)


def _published(plan: Plan, leaderboard: Leaderboard, form: str) -> tuple[PublishedTable, ...]:
    if form == "latex":
        raise UserError("--published does not support --format latex; choose json, csv or markdown")
    tables = compare_published(plan, leaderboard)
    if not tables:
        raise UserError(f"the suite {plan.suite} does not have published scores")
    return tables


def known_metrics(plan: Plan, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the labels of metrics without duplicates.

    Raises:
        UserError: the suite does not have one of these metrics.
    """
    known = [column.name for column in plan.columns]
    for name in names:
        if name not in known:
            raise UserError(f"--metric {name}: the suite {plan.suite} has no such metric; {did_you_mean(name, known)}")
    return tuple(dict.fromkeys(names))


_EPOCH_COLUMNS = ("objective", "reconstruction", "validation")


def _target(plan: Plan, text: str) -> tuple[str, float]:
    """Parse ``--time-to``: a metric of the suite or a column of ``history.jsonl``, and a value."""
    name, _, value = text.partition("=")
    known = [*(column.name for column in plan.columns), *_EPOCH_COLUMNS]
    if name not in known:
        raise UserError(f"--time-to {text}: unknown metric or quantity '{name}'; {did_you_mean(name, known)}")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"--time-to {text}: expected a number after '=', as in {name}=0.1")
    return name, number
