"""Published next to measured numbers as text, from the tables of :mod:`recbench.analysis.published`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Sequence

from recbench.analysis.board import Leaderboard
from recbench.analysis.published import Claim, Compared, PublishedTable
from recbench.analysis.tables import published_cells
from recbench.plan.model import Column
from recbench.render.markdown import escape
from recbench.render.spreadsheet import csv_text
from recbench.render.text import head, number, percent

VERDICTS = {"holds": "holds", "contradicted": "does not hold", "undecided": "cannot be decided"}


def title(table: PublishedTable) -> str:
    """Return the source of the published numbers and the setting of ours."""
    return f"{table.source}, compared with our {table.setting}"


def summary(table: PublishedTable) -> str:
    """Return how many printed orderings hold in our runs."""
    if not table.claims:
        return "no orderings to check"
    holds, contradicted, undecided = (table.count(verdict) for verdict in VERDICTS)
    return (
        f"of {len(table.claims)} printed orderings, {holds} hold in our runs, {contradicted} do not, and {undecided} "
        f"cannot be decided (at {percent(table.confidence)} confidence, corrected for all pairs of a metric)"
    )


def remarks(table: PublishedTable) -> Iterator[str]:
    """Yield what a reader of the table must know."""
    if table.not_computed:
        yield f"not computed by this suite: {', '.join(table.not_computed)}"
    if table.single_seeds and table.claims:
        yield "one seed each: significant differences are those of these trainings, not of the losses in general"


HEADS = ["method", "metric", "published", "measured (std over seeds)", "difference", "in published stds"]


def cells(table: PublishedTable, compared: Compared) -> list[str]:
    """Return a line of the table of numbers."""
    column = _column(table, compared.metric)
    published = number(compared.published, column.digits)
    if compared.std is not None:
        published += f" ± {number(compared.std, column.digits)}"
    measured = number(compared.measured, column.digits)
    if compared.std_seeds is not None:
        measured += f" ({number(compared.std_seeds, column.digits)})"
    if compared.measured is None and compared.status != "ranked":
        measured = compared.status
    difference = _signed(compared.difference, column.digits)
    return [compared.method, head(column), published, measured, difference, _signed(compared.in_stds, 2)]


def _column(table: PublishedTable, metric: str) -> Column:
    return next(column for column in table.columns if column.name == metric)


def _signed(value: float | None, digits: int) -> str:
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 else text.replace("-", "−")


def orderings(table: PublishedTable) -> Iterator[tuple[Column, str, str]]:
    """Yield the pairs of each metric and verdict, the better first: ``wiener > l2, ce > l2``; undecided with reason."""
    for column, verdict in itertools.product(table.columns, VERDICTS):
        claims = [claim for claim in table.claims if claim.metric == column.name and claim.verdict == verdict]
        by_reason: dict[str, list[Claim]] = {}
        for claim in claims:
            by_reason.setdefault(claim.why, []).append(claim)
        parts = []
        for why, theirs in by_reason.items():
            pairs = ", ".join(f"{claim.better} > {claim.worse}" for claim in theirs)
            parts.append(f"{pairs} ({why})" if why else pairs)
        if parts:
            yield column, VERDICTS[verdict], "; ".join(parts)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows as text in columns, the first two at the left."""
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            text.ljust(width) if i < 2 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in rows
    )


def to_text(tables: Sequence[PublishedTable], lay_out: Callable[[Sequence[Sequence[str]]], str] = aligned) -> str:
    """Return the numbers of each table, then its orderings, for a terminal.

    Args:
        tables: of the numbers.
        lay_out: makes text of the rows of a table.
    """
    blocks = []
    for table in tables:
        blocks.append(title(table))
        if table.compared:
            blocks.append(lay_out([HEADS, *(cells(table, compared) for compared in table.compared)]))
        verdicts = [f"  {head(column)} {verdict}: {pairs}" for column, verdict, pairs in orderings(table)]
        blocks.append("\n".join([summary(table), *verdicts, *(f"note: {text}" for text in remarks(table))]))
    return "\n\n".join(blocks) + "\n"


def to_markdown(tables: Sequence[PublishedTable]) -> str:
    """Return the sections that follow a leaderboard in Markdown."""
    blocks = []
    for table in tables:
        blocks.append(f"## {escape(title(table))}")
        if table.compared:
            rows = [[escape(text) for text in cells(table, one)] for one in table.compared]
            lines = [HEADS, [":---", ":---", *["---:"] * 4], *rows]
            blocks.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        blocks.append(escape(summary(table)) + ".")
        blocks.append(
            "\n".join(f"- {escape(f'{head(c)} {verdict}: {pairs}')}" for c, verdict, pairs in orderings(table))
        )
        blocks.append("\n".join(f"- {escape(text)}" for text in remarks(table)))
    return "\n\n".join(filter(None, blocks)) + "\n"


def to_csv(suite: str, tables: Sequence[PublishedTable]) -> str:
    """Return one line per printed number, per ordering and per metric that the suite does not compute."""
    return csv_text(*published_cells(suite, tables))


def to_json(leaderboard_json: str, tables: Sequence[PublishedTable]) -> str:
    """Return a leaderboard's JSON with one more key, ``published``: the tables."""
    data = json.loads(leaderboard_json)
    data["published"] = [table.model_dump(mode="json") for table in tables]
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def added(form: str, rendered: str, leaderboard: Leaderboard, tables: Sequence[PublishedTable]) -> str:
    """Return a rendered leaderboard with the published numbers added; in CSV, these alone."""
    if form == "json":
        return to_json(rendered, tables)
    if form == "csv":
        return to_csv(leaderboard.suite, tables)
    return f"{rendered}\n{to_markdown(tables)}"
