"""The columns that the table of a board can have, by the names that ``--columns`` takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from recbench.analysis.board import LETTERS, Board, MetricCell, Row
from recbench.errors import UserError, did_you_mean
from recbench.plan.model import Column
from recbench.render.text import head, number
from recbench.store.costs import COST_COLUMNS, CostColumn

Mark = Literal["", "best", "trouble"]
IN_FAMILY = "⌂"
"""Marks an in-family metric of the method's loss."""
UNWELL = "⚠"
"""Marks a method with health warnings."""


@dataclass(frozen=True)
class TableEntry:
    """A text in a table.

    Attributes:
        mark: ``"best"`` if it is significantly better than all others, ``"trouble"`` if a job failed or diverged.
        under: a second text, such as an interval: after the first, or below it where there is no room.
        brackets: whether ``under`` is put into brackets after the first text.
    """

    text: str
    mark: Mark = ""
    under: str = ""
    brackets: bool = True

    @property
    def beside(self) -> str:
        """``under`` as it stands after the first text."""
        return f"[{self.under}]" if self.under and self.brackets else self.under

    def __str__(self) -> str:
        return f"{self.text} {self.beside}".rstrip()


@dataclass(frozen=True)
class BoardColumn:
    """A column of the table of a board."""

    name: str
    head: str
    entry: Callable[[Row], TableEntry]
    left: bool = False


def available(board: Board) -> dict[str, BoardColumn]:
    """Return every column that a board has, by name. A metric's name hides another column of the same name."""
    facts = (
        BoardColumn("place", "#", lambda row: TableEntry(str(row.place or "–"))),
        BoardColumn("rank", "rank", partial(_rank, board)),
        BoardColumn("tier", "tier", lambda row: TableEntry(short_letters(row.tier))),
        BoardColumn("method", "method", partial(_method, board), left=True),
        BoardColumn("loss", "loss", lambda row: TableEntry(row.loss), left=True),
        BoardColumn("kl_weight", "KL weight", lambda row: _general(row.kl_weight)),
        BoardColumn("kl", "KL", lambda row: TableEntry(number(row.kl, 1))),
        *(BoardColumn(column.field, column.label, partial(_cost, column)) for column in COST_COLUMNS),
        BoardColumn("training_seconds", "training [s]", lambda row: TableEntry(number(row.training_seconds, 1))),
        *([_time_to(board)] if board.target else ()),
        BoardColumn("mean_rank", "mean rank", lambda row: TableEntry(number(row.mean_rank, 2))),
        BoardColumn(
            "out_of_family_rank", "out-of-family rank", lambda row: TableEntry(number(row.out_of_family_rank, 2))
        ),
        BoardColumn("borda", "Borda", lambda row: TableEntry(number(row.borda, 1))),
        BoardColumn("pareto", "Pareto", lambda row: TableEntry("yes" if row.pareto else "no" if row.place else "–")),
        BoardColumn("seeds", "seeds", _seeds, left=True),
    )
    metrics = [found for column in board.columns for found in _metric(column, sum(map(is_ranked, board.rows)) > 1)]
    return {column.name: column for column in (*facts, *metrics)}


def chosen(board: Board, names: Sequence[str]) -> list[BoardColumn]:
    """Return the columns with these names.

    Raises:
        UserError: the board has no such column.
    """
    known = available(board)
    for name in names:
        if name not in known:
            listed = f"this board has {', '.join(known)}"
            raise UserError(f"--columns {name}: no such column; {did_you_mean(name, list(known))}\n{listed}")
    return [known[name] for name in dict.fromkeys(names)]


@dataclass(frozen=True)
class Excerpt:
    """The part of a board that is shown.

    Attributes:
        names: the columns of the table; none: a few that say who is best, and how sure that is.
        wide: without ``names``: all columns and the tables of statistics.
        cost: without ``names``: also the cost of training.
    """

    names: tuple[str, ...] = ()
    wide: bool = False
    cost: bool = False

    def columns(self, board: Board) -> list[BoardColumn]:
        """Return the columns of a board.

        Raises:
            UserError: the board lacks one that is named.
        """
        default = wide if self.wide else compact
        return chosen(board, self.names or default(board, cost=self.cost))


def compact(board: Board, *, cost: bool = False) -> list[str]:
    """Return the names of the few columns that say who is best, and how sure that is."""
    metrics = board.ranking or tuple(column.name for column in board.columns)
    costs = _costs(board, cost)
    unequal = (
        any(not is_ranked(row) or row.health for row in (*board.rows, *board.baselines))
        or len({row.seeds_done for row in board.rows}) > 1
    )
    seeds = ["seeds"] if unequal else []
    if board.confidence is None:
        return ["place", "method", *(f"{name}.spread" for name in metrics), *costs, "kl", "mean_rank", *seeds]
    return ["rank", "tier", "method", *metrics, *costs, "kl", *seeds]


def wide(board: Board, *, cost: bool = False) -> list[str]:
    """Return the names of the columns of the whole table, with the spreads of all metrics."""
    sure = board.confidence is not None
    spreads = [f"{column.name}.spread" for column in board.columns]
    fair = ["out_of_family_rank"] if any_in_family(board) else []
    tiers = ["rank", "tier"] if sure else []
    return [*tiers, "place", "method", *spreads, *_costs(board, cost), "kl", "mean_rank", *fair, "seeds"]


def _costs(board: Board, cost: bool) -> list[str]:
    if not cost and not board.target:
        return []
    return [*(column.field for column in COST_COLUMNS), "training_seconds", *(["time_to"] if board.target else [])]


def is_ranked(row: Row) -> bool:
    """Return whether a method has a place on its board."""
    return row.status == "ranked"


def any_in_family(board: Board) -> bool:
    """Return whether a metric that ranks is of the family of a method's loss."""
    return any(row.cells[name].in_family for row in board.rows for name in board.ranking if name in row.cells)


def status(row: Row) -> str:
    """Return how many seeds are done, and what became of the others: ``2/2``, or ``1/2 failed``."""
    seeds = f"{row.seeds_done}/{row.seeds}"
    text = seeds if row.status == "ranked" else f"{seeds} {row.status}"
    return f"{text} {UNWELL}" if row.health else text


def leads(ends: tuple[int, int] | None) -> bool:
    """Return whether a rank interval is that of a method that is significantly better than all others."""
    return ends == (1, 1)


def ranks(ends: tuple[int, int] | None) -> str:
    """Return a rank interval as text.

    >>> ranks((1, 4)), ranks((5, 5)), ranks(None)
    ('1–4', '5', '–')
    """
    if ends is None:
        return "–"
    return f"{ends[0]}–{ends[1]}" if ends[0] != ends[1] else f"{ends[0]}"


def short_letters(letters: str | None) -> str:
    """Return the letters of tiers, with four and more that follow each other as a range.

    >>> short_letters("abcdg"), short_letters("abd"), short_letters("xyzAB"), short_letters(None)
    ('a–dg', 'abd', 'x–B', '–')
    """
    if letters is None:
        return "–"
    runs: list[str] = []
    for letter in letters:
        if runs and runs[-1][-1] + letter in LETTERS:
            runs[-1] += letter
        else:
            runs.append(letter)
    return "".join(f"{run[0]}–{run[-1]}" if len(run) > 3 else run for run in runs)


def interval(cell: MetricCell, digits: int) -> str:
    """Return a confidence interval as text: ``19.92–20.98``, or ``-0.5 to 1.2``; empty if there is none."""
    if cell.interval is None:
        return ""
    low, high = (number(end, digits) for end in cell.interval)
    return f"{low} to {high}" if low.startswith(("-", "−")) else f"{low}–{high}"


def spread(cell: MetricCell, digits: int) -> str:
    """Return the standard deviation over test images and, in brackets, over seeds: ``± 1.60 (0.05)``."""
    images = "" if cell.std_images is None else f"± {number(cell.std_images, digits)}"
    seeds = "" if cell.std_seeds is None else f"({number(cell.std_seeds, digits)})"
    return f"{images} {seeds}".strip()


def _metric(column: Column, several: bool) -> tuple[BoardColumn, ...]:
    def entry(row: Row, spreads: bool) -> TableEntry:
        cell = row.cells.get(column.name)
        if cell is None:
            return TableEntry("–")
        text = f"{IN_FAMILY} " if cell.in_family else ""
        text += number(cell.mean, column.digits)
        best: Mark = "best" if several and leads(cell.rank_interval) else ""
        under = spread if spreads else interval
        return TableEntry(text, best, under(cell, column.digits), brackets=not spreads)

    def places(row: Row) -> TableEntry:
        cell = row.cells.get(column.name)
        return TableEntry("–" if cell is None else f"{ranks(cell.rank_interval)} {short_letters(cell.tier)}")

    return (
        BoardColumn(column.name, head(column), partial(entry, spreads=False)),
        BoardColumn(f"{column.name}.spread", head(column), partial(entry, spreads=True)),
        BoardColumn(f"{column.name}.rank", f"{column.name}: rank, tier", places),
    )


def _best(board: Board, row: Row) -> Mark:
    """Mark a method that is significantly better than all others."""
    return "best" if leads(row.rank_interval) and sum(map(is_ranked, board.rows)) > 1 else ""


def _rank(board: Board, row: Row) -> TableEntry:
    return TableEntry(ranks(row.rank_interval), _best(board, row))


def _method(board: Board, row: Row) -> TableEntry:
    return TableEntry(row.label, _best(board, row))


def _seeds(row: Row) -> TableEntry:
    return TableEntry(status(row), "trouble" if row.status in ("failed", "diverged") else "")


def _general(value: float | None) -> TableEntry:
    return TableEntry("–" if value is None else f"{value:.4g}")


def _cost(column: CostColumn, row: Row) -> TableEntry:
    return TableEntry("–" if row.cost is None else column.text(row.cost))


def _time_to(board: Board) -> BoardColumn:
    return BoardColumn("time_to", f"{board.target} [s]", lambda row: TableEntry(number(row.time_to, 1)))
