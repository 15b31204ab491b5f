"""``recbench across``."""

from __future__ import annotations

from pathlib import Path

import click

from recbench.cli.completion import complete_suites
from recbench.cli.options import FiniteRange, results_option
from recbench.cli.stored import shown_suite
from recbench.cli.text import echo
from recbench.errors import UserError, did_you_mean
from recbench.files import write_output

PICTURES = (".pdf", ".png", ".svg")


@click.command("across")
@click.argument("suites", nargs=-1, metavar="SUITE…", shell_complete=complete_suites)
@results_option
@click.option("--metric", metavar="NAME", help="Rank by this metric instead of each board's mean rank.")
@click.option(
    "--confidence",
    type=FiniteRange(min=0.5, max=1, max_open=True),
    default=0.95,
    show_default=True,
    help="Confidence of the critical difference and of the tests.",
)
@click.option(
    "--format", "form", type=click.Choice(["terminal", "json"]), default="terminal", show_default=True, help="Format."
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write to FILE; .pdf, .png and .svg draw a diagram.",
)
def across_command(
    suites: tuple[str, ...], results: Path, metric: str | None, confidence: float, form: str, output: Path | None
) -> None:
    """Compare methods across the leaderboards of several suites: average ranks, and tests of their differences.

    SUITE… are suites that were run, by name or file. Methods are matched by label; those that are not ranked on every
    board are left out.
    """
    from recbench.analysis.across import across
    from recbench.analysis.ranking import rank
    from recbench.sweep.state import inspect

    boards = []
    for suite in dict.fromkeys(suites) or (None,):
        store = shown_suite(suite, results)
        plan = store.read_plan()
        known = [column.name for column in plan.columns]
        if metric is not None and metric not in known:
            raise UserError(f"--metric {metric}: {plan.suite} has no such metric; {did_you_mean(metric, known)}")
        state = inspect(plan, store)
        boards.append(rank(plan, state.records, state.unusable, confidence=None))
    try:
        found = across(boards, metric, confidence)
    except ValueError as error:
        raise UserError(str(error)) from None
    if output is not None and output.suffix in PICTURES:
        from recbench.report.across_figure import draw
        from recbench.report.figures import render

        content = render(draw(found), output.suffix.removeprefix("."))
    elif form == "json" or output is not None:
        content = (found.model_dump_json(indent=1) + "\n").encode()
    else:
        from recbench.cli.terminal import print_across

        print_across(found)
        return
    if output is None:
        echo(content.decode(), nl=False)
        return
    write_output(output, content)
