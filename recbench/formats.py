"""Leaderboards as text: csv, json, markdown and LaTeX, all from one data structure."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Protocol

from recbench.jobs import Column
from recbench.leaderboard import Board, Cell, Leaderboard, Row
from recbench.store import Cost, write_atomically

COSTS: dict[str, Callable[[Cost], str]] = {
    "images/s": lambda cost: number(cost.images_per_second, 1),
    "ms/step": lambda cost: number(cost.step_milliseconds, 1),
    "peak GiB": lambda cost: number(cost.peak_memory_bytes / 2**30, 2),
    "parameters": lambda cost: f"{cost.parameters:,}",
}
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
    unrounded = [column.name for column in board.columns if not column.rounded]
    but = f" (but for {', '.join(unrounded)})" if unrounded else ""
    return f"mean ± std over {images} (std over seeds); rank: mean over {ranking}; images rounded to 8 bits{but}"


def status(row: Row) -> str:
    """``2/2``, or ``1/2 failed``."""
    seeds = f"{row.seeds_done}/{row.seeds}"
    return seeds if row.status == "ranked" else f"{seeds} {row.status}"


def table(board: Board, *, cost: bool = False) -> list[list[tuple[str, bool]]]:
    """Head and rows as texts, each told whether it is the best of its column; with what training cost, if wanted."""
    costs = list(COSTS) if cost else []
    heads = ["#", "method", *(head(column) for column in board.columns), *costs, "mean rank", "seeds"]
    rows = [[(text, False) for text in heads]]
    for row in board.rows:
        line = [(str(row.place or "–"), False), (row.label, False)]
        for column in board.columns:
            cell = row.cells.get(column.name)
            line.append(("–", False) if cell is None else (spread(cell, column.digits), cell.best))
        line += [("–" if row.cost is None else COSTS[name](row.cost), False) for name in costs]
        rows.append([*line, (number(row.mean_rank, 2), False), (status(row), False)])
    return rows


def to_json(leaderboard: Leaderboard, *, cost: bool = False) -> str:
    """The whole structure; without costs, which no two runs have alike, the same jobs give the same text."""
    if not cost:
        boards = [
            board.model_copy(update={"rows": tuple(row.model_copy(update={"cost": None}) for row in board.rows)})
            for board in leaderboard.boards
        ]
        leaderboard = leaderboard.model_copy(update={"boards": tuple(boards)})
    return leaderboard.model_dump_json(indent=1) + "\n"


def to_csv(leaderboard: Leaderboard, *, cost: bool = False) -> str:
    """A line for each method of each board, with every number at full precision."""
    metrics = list(dict.fromkeys(column.name for board in leaderboard.boards for column in board.columns))
    costs = list(Cost.model_fields) if cost else []
    fixed = ["suite", "setting", "protocol", "place", "method", "loss", "params", "kl_weight", "status"]
    fixed += ["seeds_done", "seeds", "mean_rank", "kl", *costs]
    parts = ["mean", "std_images", "std_seeds", "rank"]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([*fixed, *(f"{metric}_{part}" for metric in metrics for part in parts), "trouble"])
    for board in leaderboard.boards:
        for row in board.rows:
            values: list[object] = [leaderboard.suite, board.setting, board.protocol, row.place, row.label, row.loss]
            values += [json.dumps(row.params, ensure_ascii=False), row.kl_weight, row.status]
            values += [row.seeds_done, row.seeds]
            values += [row.mean_rank, row.kl]
            values += [getattr(row.cost, name) if row.cost else None for name in costs]
            for metric in metrics:
                cell = row.cells.get(metric)
                values += [None] * len(parts) if cell is None else [getattr(cell, part) for part in parts]
            writer.writerow(map(csv_value, [*values, " | ".join(row.trouble)]))
    return stream.getvalue()


def csv_value(value: object) -> object:
    """A value for a cell; text that a spreadsheet would take for a formula is kept from that by an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def to_markdown(leaderboard: Leaderboard, *, cost: bool = False) -> str:
    """A table for each board; the best of each column in bold."""

    def line(row: list[tuple[str, bool]]) -> str:
        return "| " + " | ".join(f"**{text}**" if best else escaped(text) for text, best in row) + " |"

    blocks = [f"# {escaped(leaderboard.suite)}"]
    for board in leaderboard.boards:
        header, *rows = table(board, cost=cost)
        alignment = ["---:", ":---", *["---:"] * (len(header) - 3), ":---"]
        blocks.append(f"## {escaped(board.setting)}")
        blocks.append("\n".join([line(header), "| " + " | ".join(alignment) + " |", *map(line, rows)]))
        blocks.append(escaped(legend(board)) + ".")
        blocks.append("\n".join(f"- {escaped(f'{row.label}, {text}')}" for row in board.rows for text in row.trouble))
    blocks.append("\n".join(f"- {escaped(note)}" for note in leaderboard.notes))
    return "\n\n".join(filter(None, blocks)) + "\n"


def escaped(text: str) -> str:
    """Text that Markdown would take for markup, escaped; brackets only where they would make a link."""
    escaped = re.sub(r"[\\`*_<>|~$]|\](?=[(\[])", r"\\\g<0>", text)
    return " ".join(escaped.replace("&", "&amp;").split())


def to_latex(leaderboard: Leaderboard, *, cost: bool = False) -> str:
    """A booktabs table for each board; the best of each column in bold. Needs the package booktabs; Greek letters
    become mathematics, any other letter that is not Latin needs LuaLaTeX or XeLaTeX."""

    def line(row: list[tuple[str, bool]]) -> str:
        texts = (f"\\textbf{{{_latex(text)}}}" if best else _latex(text) for text, best in row)
        return "    " + " & ".join(texts) + " \\\\"

    blocks = []
    for board in leaderboard.boards:
        header, *rows = table(board, cost=cost)
        lines = ["\\begin{table}", "  \\centering", f"  \\begin{{tabular}}{{rl{'r' * (len(header) - 3)}l}}"]
        lines += ["    \\toprule", line(header), "    \\midrule", *map(line, rows), "    \\bottomrule"]
        caption = _latex(f"{leaderboard.suite}: {board.setting}. {legend(board)}.")
        lines += ["  \\end{tabular}", f"  \\caption{{{caption}}}", "\\end{table}"]
        remarks = [f"{row.label}, {text}" for row in board.rows for text in row.trouble]
        blocks.append("\n".join([*lines, *map(_latex_comment, remarks)]))
    blocks.append("\n".join(map(_latex_comment, leaderboard.notes)))
    return "\n\n".join(filter(None, blocks)) + "\n"


_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
        "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
        "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "∞": r"$\infty$", "−": r"$-$", "·": r"$\cdot$",
        "×": r"$\times$", "–": "--", "ς": r"$\varsigma$", "ο": "o",
    }
)  # fmt: skip
_GREEK = re.compile("GREEK (SMALL|CAPITAL) LETTER ([A-Z]+)")
_CAPITALS_OF_LATEX = ("gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega")


def _latex(text: str) -> str:
    return "".join(map(_latex_character, " ".join(text.split())))


@cache
def _latex_character(character: str) -> str:
    greek = _GREEK.fullmatch(unicodedata.name(character, ""))
    if ord(character) in _LATEX or not greek:
        return character.translate(_LATEX)
    name = greek[2].lower().replace("lamda", "lambda")
    if greek[1] == "SMALL":
        return f"$\\{name}$"
    return f"$\\{name.capitalize()}$" if name in _CAPITALS_OF_LATEX else character


def _latex_comment(text: str) -> str:
    return "% " + " ".join(text.split())


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
