"""The tables of a board as rows of text, with the legends that explain them; every text format shows these."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from recbench.analysis.board import Board, MetricCell, Row
from recbench.analysis.tuning import chosen, trials
from recbench.plan.model import Column
from recbench.render.text import head, number
from recbench.store.costs import COST_COLUMNS

Mark = Literal["", "best", "second"]
IN_FAMILY = "⌂"
"""Marks an in-family metric of the method's loss."""
UNWELL = "⚠"
"""Marks a method with health warnings."""


def spread(cell: MetricCell, digits: int) -> str:
    """Return mean, standard deviation over test images and, in brackets, over seeds: ``23.21 ± 1.60 (0.05)``."""
    text = number(cell.mean, digits)
    if cell.std_images is not None:
        text += f" ± {number(cell.std_images, digits)}"
    if cell.std_seeds is not None:
        text += f" ({number(cell.std_seeds, digits)})"
    return text


def legend(board: Board) -> str:
    """Return the explanation of :func:`table`, in one line."""
    images = f"{board.test_images} test images" if board.test_images else "the test images"
    parts = [f"mean ± std over {images} (std over seeds)"]
    parts.append(f"rank: mean over {', '.join(board.ranking)}" if board.ranking else "no metric ranks all methods")
    if _any_in_family(board):
        parts.append(f"{IN_FAMILY} in-family metric of the loss; out-of-family rank: mean rank without these")
    if board.confidence is not None and board.ranking:
        parts.append(
            f"tier: methods of different tiers differ significantly by these metrics ({_percent(board)} confidence)"
        )
    unrounded = [column.name for column in board.columns if not column.rounded]
    but = f" (except for {', '.join(unrounded)})" if unrounded else ""
    if board.baselines:
        parts.append("baselines below the methods are fitted without steps, and not ranked")
    return "; ".join([*parts, f"images rounded to 8 bits{but}"])


def details_legend(board: Board) -> str:
    """Return the explanation of :func:`details`, in one line."""
    about = {
        "seeds and images": "over all trainings and images",
        "images": "over all images, for these trainings only (one seed each)",
        "seeds": "over all trainings, for these images only",
    }
    names: dict[str, list[str]] = {}
    for name, verdict in board.verdicts.items():
        names.setdefault(verdict.basis, []).append(name)
    scopes = [
        text + (f" ({', '.join(names[basis])})" if len(names) > 1 else "")
        for basis, text in about.items()
        if basis in names
    ]
    parts = [f"[{_percent(board)} confidence interval of the mean] {'; '.join(scopes)}"] if scopes else []
    parts.append("rank interval and tier by each metric alone")
    unpaired = [n for n, verdict in board.verdicts.items() if not verdict.by_image and "images" in verdict.basis]
    if unpaired:
        parts.append(f"not compared image by image: {', '.join(unpaired)}")
    return "; ".join(
        [*parts, "Borda: points by rank; Pareto: no other method is as good by all metrics and better by one"]
    )


def _any_in_family(board: Board) -> bool:
    return any(row.cells[name].in_family for row in board.rows for name in board.ranking if name in row.cells)


def _percent(board: Board) -> str:
    return f"{100 * (board.confidence or 0):.4g} %"


def status(row: Row) -> str:
    """Return how many seeds are done, and what became of the others: ``2/2``, or ``1/2 failed``."""
    seeds = f"{row.seeds_done}/{row.seeds}"
    text = seeds if row.status == "ranked" else f"{seeds} {row.status}"
    return f"{text} {UNWELL}" if row.health else text


def warnings(board: Board) -> list[str]:
    """Return a line for each health warning of the board."""
    found = []
    for row in board.rows:
        for warned in row.health:
            which = (
                f" (seed{'s' * (len(warned.seeds) > 1)} {', '.join(map(str, warned.seeds))})" if warned.seeds else ""
            )
            found.append(f"{UNWELL} {row.label}{which}: {warned.sentence}")
    return found


@dataclass(frozen=True)
class TableEntry:
    """A text in a table.

    Attributes:
        mark: ``"best"`` or ``"second"`` of its column, to the printed digits: equal texts have equal marks.
    """

    text: str
    mark: Mark = ""


def front(board: Board) -> int:
    """Return how many columns of :func:`table` precede the numbers: rank, tier (with statistics) and method."""
    return 2 if board.confidence is None else 3


def table(board: Board, *, cost: bool = False) -> list[list[TableEntry]]:
    """Return the head and the rows of the main table.

    Args:
        cost: include the columns of training cost; they are always included if the board has a target.
    """
    tiers, in_family = board.confidence is not None, _any_in_family(board)
    cost = cost or bool(board.target)
    heads = ["#", *(["tier"] if tiers else []), "method", *(head(column) for column in board.columns)]
    if cost:
        heads += [
            *(column.label for column in COST_COLUMNS),
            "training [s]",
            *([f"{board.target} [s]"] if board.target else []),
        ]
    heads += ["mean rank", *(["out-of-family rank"] if in_family else [])]
    heads += [*([f"rank interval ({_percent(board)})"] if tiers else []), "seeds"]
    marks = {column.name: _marks(board, column) for column in board.columns}
    rows = [[TableEntry(text) for text in heads]]
    for row in (*board.rows, *board.baselines):
        line = [TableEntry(str(row.place or "–"))]
        if tiers:
            line.append(TableEntry(str(row.tier or "–")))
        line.append(TableEntry(row.label))
        for column in board.columns:
            line.append(_entry(row.cells.get(column.name), column, marks[column.name]))
        if cost:
            line += [TableEntry("–" if row.cost is None else column.text(row.cost)) for column in COST_COLUMNS]
            line.append(TableEntry(number(row.training_seconds, 1)))
            if board.target:
                line.append(TableEntry(number(row.time_to, 1)))
        line.append(TableEntry(number(row.mean_rank, 2)))
        if in_family:
            line.append(TableEntry(number(row.out_of_family_rank, 2)))
        if tiers:
            line.append(TableEntry(_ranks(row.rank_interval)))
        rows.append([*line, TableEntry(status(row))])
    return rows


def _marks(board: Board, column: Column) -> dict[str, Mark]:
    """Return the mark of each printed mean of a column."""
    cells = [row.cells[column.name] for row in board.rows if column.name in row.cells]
    means = sorted({cell.mean for cell in cells if cell.rank is not None}, key=column.cost)
    printed = list(dict.fromkeys(number(mean, column.digits) for mean in means))
    found: dict[str, Mark] = dict.fromkeys(printed, "")
    return {**found, **dict(zip(printed, ("best", "second"), strict=False))}


def _entry(cell: MetricCell | None, column: Column, marks: dict[str, Mark]) -> TableEntry:
    if cell is None:
        return TableEntry("–")
    text = f"{IN_FAMILY} " if cell.in_family else ""
    if cell.rank is None:
        return TableEntry(text + spread(cell, column.digits))
    return TableEntry(text + spread(cell, column.digits), marks[number(cell.mean, column.digits)])


def _ranks(ends: tuple[int, int] | None) -> str:
    if ends is None:
        return "–"
    return f"{ends[0]}–{ends[1]}" if ends[0] != ends[1] else f"{ends[0]}"


def details(board: Board) -> list[list[TableEntry]]:
    """Return the head and the rows of the statistics of each ranked method by each metric; empty without statistics."""
    ranked = [row for row in board.rows if row.status == "ranked"]
    if board.confidence is None or not ranked:
        return []
    columns = [column for column in board.columns if column.name in board.verdicts]
    heads = ["method", *(f"{column.name}: interval, rank interval, tier" for column in columns), "Borda", "Pareto"]
    rows = [[TableEntry(text) for text in heads]]
    for row in ranked:
        line = [TableEntry(row.label)]
        for column in columns:
            cell = row.cells[column.name]
            ends = "–" if cell.interval is None else ", ".join(number(end, column.digits) for end in cell.interval)
            line.append(TableEntry(f"[{ends}] · {_ranks(cell.rank_interval)} · {cell.tier}"))
        rows.append([*line, TableEntry(number(row.borda, 1)), TableEntry("yes" if row.pareto else "no")])
    return rows


def tuning(board: Board) -> list[list[TableEntry]]:
    """Return the head and the rows of tuning: the chosen values of each method, and its best-of-k curve at 1, 2, 4, …
    and all candidates; empty in a suite without tuning."""
    tuned = [(row.label, row.tuned) for row in board.rows if row.tuned is not None]
    if not tuned:
        return []
    first = tuned[0][1]
    column = next(column for column in board.columns if column.name == first.metric)
    sizes = [2**power for power in range(first.budget.bit_length()) if 2**power < first.budget] + [first.budget]
    of = "best" if column.target is None else f"distance to {column.target:g}, best"
    heads = ["method", "chosen", "scale", "trials", f"{head(column)} (validation)", *(f"{of} of {k}" for k in sizes)]
    rows = [[TableEntry(text) for text in heads]]
    for label, found in tuned:
        curve = [found.best_of[k - 1] if k <= len(found.best_of) else None for k in sizes]
        scale = "–" if found.scale is None else f"{found.scale:g}"
        line = [label, chosen(found), scale, trials(found)]
        rows.append([TableEntry(text) for text in (*line, *(number(v, column.digits) for v in (found.score, *curve)))])
    return rows


def tuning_legend(board: Board) -> str:
    """Return the explanation of :func:`tuning`, in one line."""
    tuned = next(row.tuned for row in board.rows if row.tuned is not None)
    how = "of the first k" if tuned.strategy == "optuna" else "expected over all draws of k candidates"
    return (
        f"tuning ({tuned.strategy}): values chosen by {tuned.metric} on the validation images, (edge) at the end of "
        f"their range; scale: factor of the ladder of KL weights; best of k: {how}"
    )
