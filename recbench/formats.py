"""Leaderboards as text: csv, json, markdown and LaTeX, all from one data structure."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable
from pathlib import Path

from recbench.jobs import Column
from recbench.leaderboard import Board, Cell, Leaderboard, Row
from recbench.store import write_atomically

ARROWS = {"higher": "↑", "lower": "↓"}


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
    ranking = ", ".join(board.ranking)
    return f"mean ± std over {images} (std over seeds); rank: mean over {ranking}; images rounded to 8 bits"


def status(row: Row) -> str:
    """``2/2``, or ``1/2 failed``."""
    seeds = f"{row.seeds_done}/{row.seeds}"
    return seeds if row.status == "ranked" else f"{seeds} {row.status}"


def is_best(board: Board, row: Row, column: Column) -> bool:
    """Whether a ranked row has the best mean of a column."""
    means = [other.cells[column.name].mean for other in board.rows if other.place is not None]
    best = max if column.direction == "higher" else min
    return row.place is not None and row.cells[column.name].mean == best(means)


def to_json(leaderboard: Leaderboard) -> str:
    """The whole structure."""
    return leaderboard.model_dump_json(indent=1) + "\n"


def to_csv(leaderboard: Leaderboard) -> str:
    """A line for each method of each board, with every number at full precision."""
    metrics = list(dict.fromkeys(column.name for board in leaderboard.boards for column in board.columns))
    fixed = ["suite", "setting", "protocol", "place", "method", "loss", "params", "kl_weight", "status"]
    fixed += ["seeds_done", "seeds", "mean_rank", "kl"]
    parts = ["mean", "std_images", "std_seeds", "rank"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*fixed, *(f"{metric}_{part}" for metric in metrics for part in parts), "trouble"])
    for board in leaderboard.boards:
        for row in board.rows:
            values: list[object] = [leaderboard.suite, board.setting, board.protocol, row.place, row.label, row.loss]
            values += [json.dumps(row.params), row.kl_weight, row.status, row.seeds_done, row.seeds]
            values += [row.mean_rank, row.kl]
            for metric in metrics:
                cell = row.cells.get(metric)
                values += [None] * len(parts) if cell is None else [getattr(cell, part) for part in parts]
            writer.writerow([*values, " | ".join(row.trouble)])
    return stream.getvalue()


def to_markdown(leaderboard: Leaderboard) -> str:
    """A table for each board; the best of each column in bold."""

    def cell(value: str, best: bool) -> str:
        return f"**{value}**" if best else value.replace("|", "\\|")

    lines = [f"# {leaderboard.suite}", ""]
    for board in leaderboard.boards:
        lines += [f"## {board.setting}", ""]
        rows = _table(board, cell)
        lines += ["| " + " | ".join(row) + " |" for row in rows]
        lines.insert(len(lines) - len(rows) + 1, "|" + "|".join(["---:", "---"] + ["---:"] * (len(rows[0]) - 2)) + "|")
        lines += ["", legend(board) + ".", ""]
        lines += [f"- {row.label}: {text}" for row in board.rows for text in row.trouble]
    return "\n".join([*lines, *(f"- {note}" for note in leaderboard.notes)]).rstrip() + "\n"


def to_latex(leaderboard: Leaderboard) -> str:
    """A booktabs table for each board; the best of each column in bold. Needs the package booktabs."""

    def cell(value: str, best: bool) -> str:
        text = _latex(value)
        return f"\\textbf{{{text}}}" if best else text

    blocks = []
    for board in leaderboard.boards:
        header, *rows = _table(board, cell)
        lines = ["\\begin{table}", "  \\centering", f"  \\begin{{tabular}}{{rl{'r' * (len(header) - 2)}}}"]
        lines += ["    \\toprule", "    " + " & ".join(_latex(name) for name in header) + " \\\\", "    \\midrule"]
        lines += ["    " + " & ".join(row) + " \\\\" for row in rows]
        caption = _latex(f"{leaderboard.suite}: {board.setting}. {legend(board)}.")
        lines += ["    \\bottomrule", "  \\end{tabular}", f"  \\caption{{{caption}}}", "\\end{table}"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks) + "\n"


def _table(board: Board, cell: Callable[[str, bool], str]) -> list[list[str]]:
    """Head and rows as text; ``cell`` marks up a text, told whether it is the best of its column."""
    table = [["#", "method", *(head(column) for column in board.columns), "mean rank", "seeds"]]
    for row in board.rows:
        line = [cell(str(row.place or "–"), False), cell(row.label, False)]
        for column in board.columns:
            found = row.cells.get(column.name)
            text = "–" if found is None else spread(found, column.digits)
            line.append(cell(text, is_best(board, row, column)))
        line += [cell(number(row.mean_rank, 2), False), cell(status(row), False)]
        table.append(line)
    return table


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
        "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$",
        "∞": r"$\infty$", "−": r"$-$", "–": "--", "·": r"$\cdot$",
    }
)  # fmt: skip


def _latex(text: str) -> str:
    return text.translate(_LATEX)


FORMATS: dict[str, tuple[str, Callable[[Leaderboard], str]]] = {
    "json": ("leaderboard.json", to_json),
    "csv": ("leaderboard.csv", to_csv),
    "markdown": ("leaderboard.md", to_markdown),
    "latex": ("leaderboard.tex", to_latex),
}


def write_all(leaderboard: Leaderboard, folder: Path) -> None:
    """Write the leaderboard in every format into a folder."""
    for name, render in FORMATS.values():
        write_atomically(folder / name, render(leaderboard).encode())
