"""The leaderboard as the page shows it: sortable column heads, and cells."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from recbench.analysis.board import Board, MetricCell, Row
from recbench.plan.model import Column
from recbench.render.columns import UNWELL, leads, ranks, short_letters
from recbench.render.text import head, number
from recbench.render.verdict import verdict
from recbench.report.content import BoardView, MethodView
from recbench.report.series import percent
from recbench.store.costs import COST_COLUMNS, CostColumn
from recbench.store.record import Cost


@dataclass(frozen=True)
class Head:
    """The head of a column.

    Attributes:
        first: sort direction of the first click, ``"ascending"`` or ``"descending"``; empty if it does not sort.
        kind: ``"cost"`` or ``"more"`` for columns that are hidden until the reader shows them.
    """

    text: str
    first: str = "ascending"
    classes: str = "number"
    kind: str = ""
    title: str = ""
    sorted: bool = False


@dataclass(frozen=True)
class TableCell:
    """A cell of the leaderboard.

    Attributes:
        value: sort key; empty values are last in both directions.
        bar: from 0 (worst ranked method) to 1 (best), drawn as a thin line.
        more: a second line in small text.
        second: the confidence interval, which can be shown instead of ``more``.
        interval: low, middle and high in percent of the width, drawn below the text.
    """

    text: str
    value: str = ""
    classes: str = "number"
    kind: str = ""
    title: str = ""
    page: str = ""
    bar: str | None = None
    more: str = ""
    more_class: str = "spread"
    second: str = ""
    interval: tuple[str, str, str] | None = None
    row_head: bool = False


@dataclass(frozen=True)
class _BaselineView:
    """A baseline, which has no page of its own."""

    row: Row
    page: str = ""
    slug: str = ""

    @property
    def label(self) -> str:
        return self.row.label


@dataclass(frozen=True)
class StandingLine:
    """A row of the leaderboard."""

    method: MethodView | _BaselineView
    cells: tuple[TableCell, ...]
    classes: str

    @property
    def words(self) -> str:
        """The text that the filter searches."""
        row = self.method.row
        return " ".join((row.label, row.loss, row.family, row.status)).lower()


_FIRST = {"higher": "descending", "lower": "ascending"}
"""The first click on a head sorts the best value to the top."""


def heads(board: Board) -> list[Head]:
    """Return the heads of all columns, in the order of the cells of :func:`lines`."""
    place = "Sorted by mean rank over the ranking metrics"
    if _has_tiers(board):
        place = f"Interval of ranks that significant differences leave open ({percent(board)}); sorted by mean rank"
    found = [Head("#", classes="number place", sorted=True, title=place)]
    found += [Head("method", classes="name", title="The loss and its parameters")]
    if _has_tiers(board):
        title = f"Methods that share a letter do not differ significantly ({percent(board)} confidence)"
        found.append(Head("tier", title=title))
    for column in board.columns:
        better = column.direction if column.target is None else f"nearer to {column.target:g}"
        title = f"{column.name}: {better} is better" + ("" if column.name in board.ranking else "; does not rank")
        found.append(Head(head(column), _FIRST["higher" if column.direction == "higher" else "lower"], title=title))
    found.append(Head("KL", title="Mean KL divergence in nats per test image"))
    found += [
        Head(column.label, _FIRST[column.better], kind="cost", title=f"{column.label}, mean over seeds")
        for column in COST_COLUMNS
    ]
    title = f"Mean rank by {', '.join(board.ranking)}"
    if _has_tiers(board):
        title += f"; the line is the rank interval ({percent(board)})"
    found.append(Head("mean rank", title=title))
    found += [
        Head("out-of-family place", kind="more", title="Place by out-of-family rank"),
        Head(
            "Borda",
            "descending",
            kind="more",
            title="One point per worse method and metric, half for ties",
        ),
        Head(
            "Pareto",
            kind="more",
            classes="name",
            title="No method is as good by all ranking metrics and better by one",
        ),
    ]
    return [*found, Head("seeds", "", classes="name", title="Completed seeds")]


def captions(board: Board) -> dict[str, str]:
    """Return what the cells of metrics show, by the choice of values: a spread, an interval, or means only."""
    images = f"{board.test_images} test images" if board.test_images else "the test images"
    found = {"spread": f"Mean over seeds and images ± std over {images} (std over seeds)."}
    if board.confidence:
        basis = {"seeds and images": "all trainings and images", "seeds": "all trainings, for these images only"}
        basis["images"] = "all images, for these trainings only"
        bases = dict.fromkeys(verdict.basis for verdict in board.verdicts.values())
        over = "; ".join(
            basis.get(each, each)
            + ("" if len(bases) == 1 else f" ({', '.join(n for n, v in board.verdicts.items() if v.basis == each)})")
            for each in bases
        )
        about = f", over {over}" if over else ""
        found["confidence"] = f"Mean, and below it its {percent(board)} confidence interval{about}."
    found[""] = f"Mean over seeds and {images}."
    return found


def _has_tiers(board: Board) -> bool:
    return any(row.tier is not None for row in board.rows)


def lines(view: BoardView) -> list[StandingLine]:
    """Return all rows in the order of the board."""
    board = view.board
    ranked = sum(row.place is not None for row in board.rows)
    tiers = _has_tiers(board)
    before: str | None = None
    ends = {column.name: _ends(column, board.rows) for column in board.columns}
    found = []
    shown: list[MethodView | _BaselineView] = [*view.methods, *map(_BaselineView, board.baselines)]
    for method in shown:
        row = method.row
        cells = [
            TableCell(
                ranks(row.rank_interval) if row.rank_interval else str(row.place or "–"),
                str(row.place or ""),
                classes="number place",
            ),
            TableCell(
                row.label,
                row.label.lower(),
                classes="name",
                page=method.page,
                title=row.label,
                more=" · ".join(filter(None, [row.family, "" if row.kl_weight is None else f"β {row.kl_weight:.4g}"])),
                more_class="under",
                row_head=True,
            ),
        ]
        if tiers:
            cells.append(TableCell(short_letters(row.tier), row.tier or "", classes="number tier"))
        cells += [
            _metric(row.cells.get(column.name), column, ends[column.name], several=ranked > 1)
            for column in board.columns
        ]
        cells.append(TableCell(number(row.kl, 1), _value(row.kl)))
        cells += [_cost(row.cost, column) for column in COST_COLUMNS]
        cells.append(_rank(row, ranked))
        cells.append(TableCell(str(row.out_of_family_place or "–"), _value(row.out_of_family_place), kind="more"))
        cells.append(TableCell("–" if row.borda is None else f"{row.borda:g}", _value(row.borda), kind="more"))
        cells.append(TableCell("◆" if row.pareto else "", "0" if row.pareto else "1", classes="name", kind="more"))
        cells.append(_seeds(row))
        starts = before is not None and not set(before) & set(row.tier or "")
        before = row.tier
        found.append(StandingLine(method, tuple(cells), classes=f"{row.status} tier-start" if starts else row.status))
    return found


def _rank(row: Row, ranked: int) -> TableCell:
    """Return the cell with the mean rank above its rank interval."""
    interval, title = None, ""
    if row.rank_interval is not None and row.place is not None and ranked > 1:
        low, high = row.rank_interval
        places = (100 * (place - 1) / (ranked - 1) for place in (low, row.place, high))
        first, middle, last = (f"{2 + 0.96 * place:.1f}" for place in places)
        interval = first, middle, last
        title = f"rank {low} to {high} of {ranked}" if low != high else f"rank {low} of {ranked}"
    return TableCell(number(row.mean_rank, 2), _value(row.mean_rank), title=title, interval=interval)


def _value(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def _ends(column: Column, rows: Sequence[Row]) -> tuple[float, float]:
    """Return the costs of the worst and the best finite mean of ranked methods."""
    values = [row.cells[column.name].mean for row in rows if row.status == "ranked" and column.name in row.cells]
    costs = [column.cost(value) for value in values if math.isfinite(value)] or [0.0]
    return max(costs), min(costs)


def _metric(cell: MetricCell | None, column: Column, ends: tuple[float, float], *, several: bool) -> TableCell:
    if cell is None:
        return TableCell("–", "", title=f"no value for {column.name}")
    worst, best = ends
    level = None
    if cell.rank is not None and math.isfinite(cell.mean) and best != worst:
        level = f"{min(1.0, max(0.0, (column.cost(cell.mean) - worst) / (best - worst))):.3f}"
    spread = "" if cell.std_images is None else f"± {number(cell.std_images, column.digits)}"
    if cell.std_seeds is not None:
        spread += f" ({number(cell.std_seeds, column.digits)})"
    title = f"{cell.mean:.6g}"
    title += "" if cell.std_images is None else f"; std over test images {cell.std_images:.3g}"
    title += "" if cell.std_seeds is None else f"; std over seeds {cell.std_seeds:.3g}"
    title += "" if cell.rank is None else f"; rank {cell.rank:g}"
    title += "" if cell.tier is None else f", tier {cell.tier}"
    title += "; in-family metric" if cell.in_family else ""
    interval = "" if cell.interval is None else " – ".join(number(end, column.digits) for end in cell.interval)
    bold = ["best"] if several and leads(cell.rank_interval) else []
    return TableCell(
        number(cell.mean, column.digits),
        _value(cell.mean if column.target is None else column.cost(cell.mean)),
        classes=" ".join(("number", *bold, *(["in-family"] if cell.in_family else []))),
        title=title,
        bar=level,
        more=spread.strip(),
        second=interval,
    )


def _cost(cost: Cost | None, column: CostColumn) -> TableCell:
    if cost is None:
        return TableCell("–", "", kind="cost")
    return TableCell(column.text(cost), _value(column.value(cost)), kind="cost")


def _seeds(row: Row) -> TableCell:
    text = f"{row.seeds_done}/{row.seeds}{f' {UNWELL}' if row.health else ''}"
    if row.status == "ranked":
        return TableCell(text, "", classes="name seeds", title="; ".join(warned.sentence for warned in row.health))
    if row.status == "baseline":
        return TableCell("baseline", "", classes="name seeds", title="fitted without training, and not ranked")
    title = "; ".join(row.trouble) or "not all seeds are completed"
    return TableCell(text, "", classes="name seeds", more=row.status, more_class=f"status {row.status}", title=title)


def summary(view: BoardView) -> str:
    """Summarize the board in a few sentences: the verdict, or without tests who leads; and whose means are best."""
    rows = view.board.rows
    ranked = [row for row in rows if row.status == "ranked"]
    others = len(rows) - len(ranked)
    if not ranked:
        return "No method is ranked yet: none has completed all its seeds."
    words = verdict(view.board)
    first = [row.label for row in ranked if row.place == 1]
    verb = "leads" if len(first) == 1 else "lead"
    text = f"{words or f'{_listed(first)} {verb} by mean rank over ' + ', '.join(view.board.ranking)}."
    best_by: dict[str, list[str]] = {}
    for column in view.board.columns:
        best = [row.label for row in ranked if column.name in row.cells and row.cells[column.name].best]
        if 0 < len(best) < 4:  # a long list of ties is not informative
            best_by.setdefault(_listed(best), []).append(column.name)
    if best_by and len(ranked) > 1:
        text += f" Best means: {'; '.join(f'{labels} by {_listed(metrics)}' for labels, metrics in best_by.items())}."
    if others and not words:
        text += f" {others} of {len(rows)} methods {'is' if others == 1 else 'are'} not ranked."
    return text


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
