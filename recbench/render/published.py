"""Published beside measured numbers as text, from the tables of :mod:`recbench.analysis.published`."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterator, Sequence

from recbench.analysis.published import Claim, Compared, PublishedTable
from recbench.analysis.ranking import Leaderboard
from recbench.plan.model import Column
from recbench.render.leaderboard import csv_value, escaped, head, number

VERDICTS = {"holds": "holds", "contradicted": "does not hold", "undecided": "cannot be decided"}


def title(table: PublishedTable) -> str:
    """Whose numbers they are, and beside what they stand."""
    return f"{table.source}, beside our {table.setting}"


def summary(table: PublishedTable) -> str:
    """``of 21 orderings, 12 hold, 2 do not hold, 7 cannot be decided``."""
    if not table.claims:
        return "no orderings to be checked"
    holds, contradicted, undecided = (table.count(verdict) for verdict in VERDICTS)
    return (
        f"of {len(table.claims)} printed orderings, {holds} hold in our runs, {contradicted} do not, and "
        f"{undecided} cannot be decided (at {table.confidence:.0%} confidence, corrected for all pairs of a metric)"
    )


def remarks(table: PublishedTable) -> Iterator[str]:
    """What a reader of the table must know."""
    if table.not_computed:
        yield f"not computed by this suite: {', '.join(table.not_computed)}"
    if table.single_seeds and table.claims:
        yield "one seed each: what is told apart is told for these trainings, not for the losses"


HEADS = ["method", "metric", "published", "measured (std over seeds)", "difference", "in published stds"]


def cells(table: PublishedTable, compared: Compared) -> list[str]:
    """A line of the table of numbers."""
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
    """For each metric and verdict the pairs, better one first: ``wiener > l2, ce > l2``; undecided ones with why."""
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


def to_text(tables: Sequence[PublishedTable]) -> str:
    """For a terminal: the numbers of each table, then its orderings."""
    blocks = []
    for table in tables:
        lines = [HEADS, *(cells(table, compared) for compared in table.compared)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
        blocks.append(title(table))
        if table.compared:
            blocks.append(
                "\n".join(
                    "  ".join(
                        text.ljust(width) if i < 2 else text.rjust(width)
                        for i, (text, width) in enumerate(zip(line, widths, strict=True))
                    ).rstrip()
                    for line in lines
                )
            )
        verdicts = [f"  {head(column)} {verdict}: {pairs}" for column, verdict, pairs in orderings(table)]
        blocks.append("\n".join([summary(table), *verdicts, *(f"note: {text}" for text in remarks(table))]))
    return "\n\n".join(blocks) + "\n"


def to_markdown(tables: Sequence[PublishedTable]) -> str:
    """Sections that follow a leaderboard in Markdown."""
    blocks = []
    for table in tables:
        blocks.append(f"## {escaped(title(table))}")
        if table.compared:
            rows = [[escaped(text) for text in cells(table, one)] for one in table.compared]
            lines = [HEADS, [":---", ":---", *["---:"] * 4], *rows]
            blocks.append("\n".join(f"| {' | '.join(line)} |" for line in lines))
        blocks.append(escaped(summary(table)) + ".")
        blocks.append(
            "\n".join(f"- {escaped(f'{head(c)} {verdict}: {pairs}')}" for c, verdict, pairs in orderings(table))
        )
        blocks.append("\n".join(f"- {escaped(text)}" for text in remarks(table)))
    return "\n\n".join(filter(None, blocks)) + "\n"


_COLUMNS = (
    "suite", "setting", "protocol", "source", "kind", "metric", "method", "published", "published_std", "measured",
    "std_seeds", "difference", "in_stds", "worse", "worse_published", "worse_measured", "p", "verdict", "why",
)  # fmt: skip


def to_csv(suite: str, tables: Sequence[PublishedTable]) -> str:
    """A line for each number (``kind`` is ``number``), then one for each ordering (``ordering``: ``method`` was printed
    as better than ``worse``) and each metric that the suite does not compute (``not computed``)."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, _COLUMNS, restval=None, lineterminator="\n")
    writer.writeheader()
    for table in tables:
        place = {"suite": suite, "setting": table.setting, "protocol": table.protocol, "source": table.source}
        for line in _lines(table):
            writer.writerow({key: csv_value(value) for key, value in {**place, **line}.items()})
    return stream.getvalue()


def _lines(table: PublishedTable) -> Iterator[dict[str, object]]:
    for one in table.compared:
        yield {
            "kind": "number",
            "metric": one.metric,
            "method": one.method,
            "published": one.published,
            "published_std": one.std,
            "measured": one.measured,
            "std_seeds": one.std_seeds,
            "difference": one.difference,
            "in_stds": one.in_stds,
        }
    for claim in table.claims:
        yield {
            "kind": "ordering",
            "metric": claim.metric,
            "method": claim.better,
            "published": claim.published[0],
            "measured": claim.measured[0],
            "worse": claim.worse,
            "worse_published": claim.published[1],
            "worse_measured": claim.measured[1],
            "p": claim.p,
            "verdict": claim.verdict,
            "why": claim.why,
        }
    for metric in table.not_computed:
        yield {"kind": "not computed", "metric": metric}


def to_json(leaderboard_json: str, tables: Sequence[PublishedTable]) -> str:
    """A leaderboard's JSON with one more key, ``published``: the tables."""
    data = json.loads(leaderboard_json)
    data["published"] = [table.model_dump(mode="json") for table in tables]
    return json.dumps(data, indent=1, ensure_ascii=False) + "\n"


def added(form: str, rendered: str, leaderboard: Leaderboard, tables: Sequence[PublishedTable]) -> str:
    """A leaderboard that was rendered in a format, with the published numbers added to it; in csv, they stand alone."""
    if form == "json":
        return to_json(rendered, tables)
    if form == "csv":
        return to_csv(leaderboard.suite, tables)
    return f"{rendered}\n{to_markdown(tables)}"
