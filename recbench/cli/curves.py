"""``recbench curves``."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from recbench.analysis.rate_distortion import Matched, RateDistortion, rate_distortion
from recbench.cli.completion import complete_suites
from recbench.cli.options import FiniteRange, results_option
from recbench.cli.stored import shown_suite
from recbench.cli.text import echo, say
from recbench.errors import UserError
from recbench.plan.model import Column
from recbench.plan.plan import Plan
from recbench.render.text import head, number
from recbench.store.record import Result
from recbench.sweep.state import inspect


@click.command("curves")
@click.argument("suite", required=False, shell_complete=complete_suites)
@results_option
@click.option("--reference", metavar="LABEL", help="Loss that the others are compared with; by default l2.")
@click.option(
    "--matched-kl",
    type=FiniteRange(min=0, min_open=True),
    metavar="NATS",
    help="KL divergence at which the losses are ranked; by default the middle of the range that most of them cover.",
)
@click.option(
    "--format", "form", type=click.Choice(["terminal", "json", "csv"]), default="terminal", show_default=True,
    help="Format; csv lists the points of the curves.",
)  # fmt: skip
def curves_command(
    suite: str | None, results: Path, reference: str | None, matched_kl: float | None, form: str
) -> None:
    """Print metrics of SUITE against the KL divergence, average differences from a reference, and ranks at equal KL.

    A suite with tuning has one curve per loss, of its trials on the validation images. Any other suite has one curve
    per loss with several KL weights, on the test images.
    """
    store = shown_suite(suite, results)
    plan = store.read_plan()
    try:
        found = rate_distortion(plan, inspect(plan, store).records, reference=reference, rate=matched_kl)
    except ValueError as error:
        raise UserError(str(error)) from None
    if not found:
        raise UserError(
            f"the suite {plan.suite} has no curves yet: a curve needs completed jobs with at least two KL weights of a "
            "loss, from the section tuning or from kl_weight: {grid: [0.01, 0.1]}"
        )
    if form == "json":
        echo("[" + ",\n".join(board.model_dump_json() for board in found) + "]")
    elif form == "csv":
        echo(_csv(found), nl=False)
    else:
        _print(found)


def _csv(found: Sequence[RateDistortion]) -> str:
    """Return one line per point."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [column.name for column in found[0].columns]
    writer.writerow(["setting", "split", "loss", "method", "kl_weight", "seeds", "kl", *names])
    for board in found:
        for curve in board.curves:
            for point in curve.points:
                scores = [repr(point.scores[name]) if name in point.scores else "" for name in names]
                facts = [curve.label, point.label, repr(point.kl_weight), point.seeds, repr(point.rate)]
                writer.writerow([board.setting, board.split, *facts, *scores])
    return text.getvalue()


def _print(found: Sequence[RateDistortion]) -> None:
    from recbench.cli.terminal import print_table

    for board in found:
        heads = ("loss", "KL weight", "KL [nats]", *map(head, board.columns))
        rows = [
            (
                curve.label if point is curve.points[0] else "",
                f"{point.kl_weight:g}",
                f"{point.rate:.4g}",
                *(_number(point.scores.get(column.name), column) for column in board.columns),
            )
            for curve in board.curves
            for point in curve.points
        ]
        say(f"{board.setting}: curves on the {board.split} images")
        print_table("", heads, rows)
        for curve in board.curves:
            for note in curve.notes:
                say(f"{curve.label}: {note}")
        if board.reference is not None:
            _print_differences(board)
        if board.matched is not None:
            echo("")
            print_matched(board, board.matched)
        echo("")


def _print_differences(board: RateDistortion) -> None:
    from recbench.cli.terminal import print_table

    rows, reasons = [], []
    for curve in board.curves:
        if not curve.differences:
            continue
        cells = []
        for column in board.columns:
            difference = curve.differences[column.name]
            cells.append("–" if difference.value is None else f"{difference.value:+.{column.digits}f}")
        rows.append((curve.label, *cells))
        reasons += [f"{curve.label}: {d.why_not}" for d in curve.differences.values() if d.why_not]
    if rows:
        echo("")
        what = f"average difference from {board.reference} over the common range of log KL"
        say(what)
        print_table("", ("loss", *map(head, board.columns)), rows)
        for reason in dict.fromkeys(reasons):
            say(f"– {reason}")


def all_matched(plan: Plan, records: Mapping[str, Result]) -> list[RateDistortion]:
    """Return the curves of every setting that has losses at the same rate.

    Raises:
        UserError: fewer than two losses have a curve.
    """
    boards = [board for board in rate_distortion(plan, records) if board.matched is not None]
    if not boards:
        raise UserError(f"the suite {plan.suite} has fewer than two losses with curves over the KL divergence")
    return boards


def print_all_matched(boards: Sequence[RateDistortion]) -> None:
    """Print the losses of every setting at a rate that most of their curves cover."""
    for board in boards:
        if board.matched is not None:
            echo("")
            print_matched(board, board.matched)


def print_matched(board: RateDistortion, matched: Matched) -> None:
    """Print the losses at equal KL."""
    from recbench.cli.terminal import print_table

    rows = [
        (
            str(row.place),
            row.label,
            *(_number(row.scores.get(c.name), c) for c in board.columns),
            f"{row.mean_rank:.2f}",
        )
        for row in matched.rows
    ]
    heads = ("#", "loss", *map(head, board.columns), "mean rank")
    title = f"{board.setting}: at a KL of {matched.rate:.4g} nats per image, interpolated on the {board.split} images"
    say(title)
    print_table("", heads, rows)
    for label, why in matched.absent.items():
        say(f"left out: {label} {why}")


def _number(value: float | None, column: Column) -> str:
    return number(value, column.digits)
