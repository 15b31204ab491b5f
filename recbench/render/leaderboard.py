"""Leaderboards as text: csv, json, markdown and LaTeX, all from one data structure."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from recbench.analysis.ranking import Board, Cell, Leaderboard, Row
from recbench.analysis.tuning import chosen, trials
from recbench.files import write_atomically
from recbench.plan.model import Column
from recbench.render import latex
from recbench.store.costs import COST_COLUMNS

Mark = Literal["", "best", "second"]
ARROWS = {"higher": "↑", "lower": "↓"}
HOME = "⌂"
"""Marks a metric of the family of the loss."""


def head(column: Column) -> str:
    """``psnr [dB] ↑``."""
    unit = f" [{column.unit}]" if column.unit else ""
    return f"{column.name}{unit} {ARROWS[column.direction]}"


def number(value: float | None, digits: int) -> str:
    """Render a number to so many decimals; a dash for None."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if math.isfinite(value) else ("∞" if value > 0 else "−∞")


def spread(cell: Cell, digits: int) -> str:
    """``23.21 ± 1.60 (0.05)``: mean, spread over test images, and in brackets the spread over seeds."""
    text = number(cell.mean, digits)
    if cell.std_images is not None:
        text += f" ± {number(cell.std_images, digits)}"
    if cell.std_seeds is not None:
        text += f" ({number(cell.std_seeds, digits)})"
    return text


def legend(board: Board) -> str:
    """What the numbers of a board mean, in one line."""
    images = f"{board.test_images} test images" if board.test_images else "the test images"
    parts = [f"mean ± std over {images} (std over seeds)"]
    parts.append(f"rank: mean over {', '.join(board.ranking)}" if board.ranking else "no metric ranks all methods")
    if _any_home(board):
        parts.append(f"{HOME} metric of the loss's own family; neutral: mean rank without those")
    if board.confidence is not None and board.ranking:
        parts.append(
            "tier: methods of different tiers are told apart by these metrics; places: those that cannot be ruled out "
            f"({board.confidence:.4g} confidence)"
        )
    unrounded = [column.name for column in board.columns if not column.rounded]
    but = f" (but for {', '.join(unrounded)})" if unrounded else ""
    return "; ".join([*parts, f"images rounded to 8 bits{but}"])


def details_legend(board: Board) -> str:
    """What the numbers of :func:`details` mean, in one line."""
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
    parts = [f"[{board.confidence:.4g} interval of the mean] {'; '.join(scopes)}"] if scopes else []
    parts.append("places that cannot be ruled out and tier, by each metric alone")
    apart = [n for n, verdict in board.verdicts.items() if not verdict.by_image and "images" in verdict.basis]
    if apart:
        parts.append(f"without scores of single images: {', '.join(apart)}")
    return "; ".join([*parts, "Borda: points by rank; Pareto: no method is as good by all and better by one"])


def _any_home(board: Board) -> bool:
    return any(row.cells[name].home for row in board.rows for name in board.ranking if name in row.cells)


def status(row: Row) -> str:
    """``2/2``, or ``1/2 failed``."""
    seeds = f"{row.seeds_done}/{row.seeds}"
    return seeds if row.status == "ranked" else f"{seeds} {row.status}"


@dataclass(frozen=True)
class Entry:
    """A text in a table.

    Attributes:
        mark: whether it is the best or the second best of its column, to the digits that are printed; what is printed
            alike is marked alike.
    """

    text: str
    mark: Mark = ""


def front(board: Board) -> int:
    """How many columns of :func:`table` stand before the numbers: place, tier, method."""
    return 2 if board.confidence is None else 3


def table(board: Board, *, cost: bool = False) -> list[list[Entry]]:
    """Head and rows; with what training cost, if wanted."""
    tiers, neutral = board.confidence is not None, _any_home(board)
    cost = cost or bool(board.target)
    heads = ["#", *(["tier"] if tiers else []), "method", *(head(column) for column in board.columns)]
    if cost:
        heads += [
            *(column.label for column in COST_COLUMNS),
            "training [s]",
            *([f"{board.target} [s]"] if board.target else []),
        ]
    heads += ["mean rank", *(["neutral"] if neutral else []), *(["places"] if tiers else []), "seeds"]
    marks = {column.name: _marks(board, column) for column in board.columns}
    rows = [[Entry(text) for text in heads]]
    for row in board.rows:
        line = [Entry(str(row.place or "–"))]
        if tiers:
            line.append(Entry(str(row.tier or "–")))
        line.append(Entry(row.label))
        for column in board.columns:
            line.append(_entry(row.cells.get(column.name), column, marks[column.name]))
        if cost:
            line += [Entry("–" if row.cost is None else column.text(row.cost)) for column in COST_COLUMNS]
            line.append(Entry(number(row.training_seconds, 1)))
            if board.target:
                line.append(Entry(number(row.time_to, 1)))
        line.append(Entry(number(row.mean_rank, 2)))
        if neutral:
            line.append(Entry(number(row.neutral_rank, 2)))
        if tiers:
            line.append(Entry(_places(row.rank_interval)))
        rows.append([*line, Entry(status(row))])
    return rows


def _marks(board: Board, column: Column) -> dict[str, Mark]:
    """The best and the second best of a column as they are printed."""
    cells = [row.cells[column.name] for row in board.rows if column.name in row.cells]
    means = sorted({cell.mean for cell in cells if cell.rank is not None}, reverse=column.direction == "higher")
    printed = list(dict.fromkeys(number(mean, column.digits) for mean in means))
    found: dict[str, Mark] = dict.fromkeys(printed, "")
    return {**found, **dict(zip(printed, ("best", "second"), strict=False))}


def _entry(cell: Cell | None, column: Column, marks: dict[str, Mark]) -> Entry:
    if cell is None:
        return Entry("–")
    text = f"{HOME} " if cell.home else ""
    if cell.rank is None:
        return Entry(text + spread(cell, column.digits))
    return Entry(text + spread(cell, column.digits), marks[number(cell.mean, column.digits)])


def _places(ends: tuple[int, int] | None) -> str:
    if ends is None:
        return "–"
    return f"{ends[0]}–{ends[1]}" if ends[0] != ends[1] else f"{ends[0]}"


def details(board: Board) -> list[list[Entry]]:
    """Head and rows of what statistics say of each ranked method by each metric; empty without statistics."""
    ranked = [row for row in board.rows if row.status == "ranked"]
    if board.confidence is None or not ranked:
        return []
    columns = [column for column in board.columns if column.name in board.verdicts]
    heads = ["method", *(f"{column.name}: interval, places, tier" for column in columns), "Borda", "Pareto"]
    rows = [[Entry(text) for text in heads]]
    for row in ranked:
        line = [Entry(row.label)]
        for column in columns:
            cell = row.cells[column.name]
            ends = "–" if cell.interval is None else ", ".join(number(end, column.digits) for end in cell.interval)
            line.append(Entry(f"[{ends}] · {_places(cell.rank_interval)} · {cell.tier}"))
        rows.append([*line, Entry(number(row.borda, 1)), Entry("yes" if row.pareto else "no")])
    return rows


def tuning(board: Board) -> list[list[Entry]]:
    """Head and rows of what tuning chose for each method, and its best-of-k curve at 1, 2, 4, … and all candidates;
    empty in a suite without tuning."""
    tuned = [(row.label, row.tuned) for row in board.rows if row.tuned is not None]
    if not tuned:
        return []
    first = tuned[0][1]
    column = next(column for column in board.columns if column.name == first.metric)
    sizes = [2**power for power in range(first.budget.bit_length()) if 2**power < first.budget] + [first.budget]
    heads = ["method", "chosen", "scale", "trials", f"{head(column)} (validation)", *(f"best of {k}" for k in sizes)]
    rows = [[Entry(text) for text in heads]]
    for label, found in tuned:
        curve = [found.best_of[k - 1] if k <= len(found.best_of) else None for k in sizes]
        scale = "–" if found.scale is None else f"{found.scale:g}"
        line = [label, chosen(found), scale, trials(found)]
        rows.append([Entry(text) for text in (*line, *(number(v, column.digits) for v in (found.score, *curve)))])
    return rows


def tuning_legend(board: Board) -> str:
    """What the numbers of :func:`tuning` mean, in one line."""
    tuned = next(row.tuned for row in board.rows if row.tuned is not None)
    how = "of the first k" if tuned.strategy == "optuna" else "expected over all draws of k candidates"
    return (
        f"tuning ({tuned.strategy}): values chosen by {tuned.metric} on the validation images, (edge) at the end of "
        f"what was tried; scale: what the ladder of KL weights was multiplied by; best of k: {how}"
    )


def to_json(leaderboard: Leaderboard, *, cost: bool = False) -> str:
    """The whole structure; without costs, which no two runs have alike, the same jobs give the same text."""
    if not cost:
        nothing = {"cost": None, "training_seconds": None, "time_to": None}
        boards = [
            board.model_copy(update={"rows": tuple(row.model_copy(update=nothing) for row in board.rows)})
            for board in leaderboard.boards
        ]
        leaderboard = leaderboard.model_copy(update={"boards": tuple(boards)})
    return leaderboard.model_dump_json(indent=1) + "\n"


def to_csv(leaderboard: Leaderboard, *, cost: bool = False) -> str:
    """A line for each method of each board, with every number at full precision."""
    metrics = list(dict.fromkeys(column.name for board in leaderboard.boards for column in board.columns))
    costs = [*(column.field for column in COST_COLUMNS), "training_seconds", "time_to"] if cost else []
    overall = ["tier", "places", "neutral_place", "neutral_rank", "borda", "pareto"]
    fixed = ["suite", "setting", "protocol", "place", "method", "loss", "params", "kl_weight", "status"]
    fixed += ["seeds_done", "seeds", "mean_rank", "kl", *overall, *costs]
    if any(row.tuned is not None for board in leaderboard.boards for row in board.rows):
        fixed += [f"tuned_{name}" for name in _TUNED]
    parts = ["mean", "std_images", "std_seeds", "rank", "low", "high", "places", "tier", "home"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*fixed, *(f"{metric}_{part}" for metric in metrics for part in parts), "trouble"])
    for board in leaderboard.boards:
        for row in board.rows:
            values: list[object] = [leaderboard.suite, board.setting, board.protocol, row.place, row.label, row.loss]
            values += [json.dumps(row.params, ensure_ascii=False), row.kl_weight, row.status]
            values += [row.seeds_done, row.seeds, row.mean_rank, row.kl]
            values += [row.tier, _csv_places(row.rank_interval), row.neutral_place, row.neutral_rank, row.borda]
            values += [row.pareto if row.status == "ranked" else None]
            if cost:
                values += [column.value(row.cost) if row.cost else None for column in COST_COLUMNS]
                values += [row.training_seconds, row.time_to]
            if fixed[-1] == f"tuned_{_TUNED[-1]}":
                facts = row.tuned.model_dump(mode="json") if row.tuned is not None else {}
                found = [facts.get(name) for name in _TUNED]
                values += [json.dumps(v, ensure_ascii=False) if isinstance(v, dict | list) else v for v in found]
            for metric in metrics:
                cell = row.cells.get(metric)
                values += [None] * len(parts) if cell is None else _csv_cell(cell)
            writer.writerow(map(csv_value, [*values, " | ".join(row.trouble)]))
    return stream.getvalue()


_TUNED = ("values", "scale", "trials", "failed", "metric", "score", "edge", "best_of")


def _csv_cell(cell: Cell) -> list[object]:
    low, high = cell.interval or (None, None)
    numbers: list[object] = [cell.mean, cell.std_images, cell.std_seeds, cell.rank, low, high]
    return [*numbers, _csv_places(cell.rank_interval), cell.tier, cell.home]


def _csv_places(ends: tuple[int, int] | None) -> str | None:
    """``1 to 3``, which no spreadsheet takes for a date."""
    return None if ends is None else f"{ends[0]} to {ends[1]}"


def csv_value(value: object) -> object:
    """A value for a cell; text that a spreadsheet would take for a formula is kept from that by an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def to_markdown(leaderboard: Leaderboard, *, cost: bool = False) -> str:
    """Tables for each board; the best of each column in bold."""

    def line(row: list[Entry]) -> str:
        texts = (f"**{escaped(entry.text)}**" if entry.mark == "best" else escaped(entry.text) for entry in row)
        return "| " + " | ".join(texts) + " |"

    def lines(rows: list[list[Entry]], before: int, last: str) -> str:
        alignment = [*["---:"] * (before - 1), ":---", *["---:"] * (len(rows[0]) - before - 1), last]
        return "\n".join([line(rows[0]), "| " + " | ".join(alignment) + " |", *map(line, rows[1:])])

    blocks = [f"# {escaped(leaderboard.suite)}"]
    for board in leaderboard.boards:
        blocks.append(f"## {escaped(board.setting)}")
        blocks += [lines(table(board, cost=cost), front(board), ":---"), escaped(legend(board)) + "."]
        if more := details(board):
            blocks += [lines(more, 1, ":---"), escaped(details_legend(board)) + "."]
        if values := tuning(board):
            blocks += [lines(values, 1, "---:"), escaped(tuning_legend(board)) + "."]
        blocks.append("\n".join(f"- {escaped(f'{row.label}, {text}')}" for row in board.rows for text in row.trouble))
    blocks.append("\n".join(f"- {escaped(note)}" for note in leaderboard.notes))
    return "\n\n".join(filter(None, blocks)) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown would take for markup, escaped; brackets only where they would make a link."""
    escaped = re.sub(r"[\\`*_<>|~$]|\](?=[(\[])", r"\\\g<0>", text)
    return " ".join(escaped.replace("&", "&amp;").split())


def to_latex(leaderboard: Leaderboard, *, cost: bool = False) -> str:
    """Booktabs tables for each board: the best of each column in bold, the second underlined, each with all that are
    printed alike. Needs the package booktabs; see :mod:`recbench.render.latex` for letters that are not Latin."""

    def line(row: list[Entry]) -> str:
        commands = {"": "{}", "best": "\\textbf{{{}}}", "second": "\\underline{{{}}}"}
        return "    " + " & ".join(commands[entry.mark].format(latex.escape(entry.text)) for entry in row) + " \\\\"

    def lines(rows: list[list[Entry]], columns: str, caption: str) -> list[str]:
        found = ["\\begin{table}", "  \\centering", f"  \\begin{{tabular}}{{{columns}}}", "    \\toprule"]
        found += [line(rows[0]), "    \\midrule", *map(line, rows[1:]), "    \\bottomrule"]
        caption = latex.escape(f"{leaderboard.suite}: {caption}")
        return [*found, "  \\end{tabular}", f"  \\caption{{{caption}}}", "\\end{table}"]

    blocks = []
    for board in leaderboard.boards:
        rows, before = table(board, cost=cost), front(board)
        columns = "r" * (before - 1) + "l" + "r" * (len(rows[0]) - before - 1) + "l"
        text = lines(rows, columns, f"{board.setting}. {legend(board)}.")
        if more := details(board):
            columns = "l" + "r" * (len(more[0]) - 2) + "l"
            text += ["", *lines(more, columns, f"{board.setting}. {details_legend(board)}.")]
        if values := tuning(board):
            columns = "l" + "r" * (len(values[0]) - 1)
            text += ["", *lines(values, columns, f"{board.setting}. {tuning_legend(board)}.")]
        remarks = [f"{row.label}, {trouble}" for row in board.rows for trouble in row.trouble]
        blocks.append("\n".join([*text, *map(latex.comment, remarks)]))
    blocks.append("\n".join(map(latex.comment, leaderboard.notes)))
    return "\n\n".join(filter(None, blocks)) + "\n"


class Render(Protocol):
    """A leaderboard as text."""

    def __call__(self, leaderboard: Leaderboard, *, cost: bool = ...) -> str: ...


FORMATS: dict[str, tuple[str, Render]] = {
    "json": ("leaderboard.json", to_json),
    "csv": ("leaderboard.csv", to_csv),
    "markdown": ("leaderboard.md", to_markdown),
    "latex": ("leaderboard.tex", to_latex),
}


def write_all(leaderboard: Leaderboard, folder: Path) -> None:
    """Write the leaderboard in every format into a folder."""
    for name, render in FORMATS.values():
        write_atomically(folder / name, render(leaderboard).encode())
