"""A leaderboard as a file: JSON, CSV, Markdown and LaTeX, all from one data structure."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from recbench.analysis.board import Leaderboard
from recbench.analysis.tables import board_cells
from recbench.files import write_atomically
from recbench.render import latex, markdown
from recbench.render.board import details, details_legend, front, legend, table, tuning, tuning_legend, warnings
from recbench.render.columns import Excerpt, TableEntry
from recbench.render.spreadsheet import csv_text
from recbench.render.verdict import verdict

COMPACT = Excerpt()


def to_json(leaderboard: Leaderboard, selection: Excerpt = COMPACT) -> str:
    """Return the whole structure; without costs, which differ from run to run, the same jobs give the same text."""
    if not selection.cost:
        nothing = {"cost": None, "training_seconds": None, "time_to": None}
        boards = [
            board.model_copy(
                update={
                    name: tuple(row.model_copy(update=nothing) for row in getattr(board, name))
                    for name in ("rows", "baselines")
                }
            )
            for board in leaderboard.boards
        ]
        leaderboard = leaderboard.model_copy(update={"boards": tuple(boards)})
    return leaderboard.model_dump_json(indent=1) + "\n"


def to_csv(leaderboard: Leaderboard, selection: Excerpt = COMPACT) -> str:
    """Return one line per method of each board, with every number at full precision."""
    return csv_text(*board_cells(leaderboard, cost=selection.cost))


def to_markdown(leaderboard: Leaderboard, selection: Excerpt = COMPACT) -> str:
    """Return the verdict and the tables of each board; what is significantly better than all others in bold."""

    def line(row: list[TableEntry]) -> str:
        texts = (
            f"**{markdown.escape(str(entry))}**" if entry.mark == "best" else markdown.escape(str(entry))
            for entry in row
        )
        return "| " + " | ".join(texts) + " |"

    def lines(rows: list[list[TableEntry]], before: int, last: str) -> str:
        alignment = [*["---:"] * (before - 1), *[":---"] * bool(before), *["---:"] * (len(rows[0]) - before - 1), last]
        return "\n".join([line(rows[0]), "| " + " | ".join(alignment) + " |", *map(line, rows[1:])])

    blocks = [f"# {markdown.escape(leaderboard.suite)}"]
    for board in leaderboard.boards:
        blocks.append(f"## {markdown.escape(board.setting)}")
        columns = selection.columns(board)
        last = ":---" if columns[-1].left else "---:"
        if words := verdict(board):
            blocks.append(markdown.escape(words) + ".")
        blocks += [lines(table(board, columns), front(columns), last), markdown.escape(legend(board, columns)) + "."]
        if selection.wide and (more := details(board)):
            blocks += [lines(more, 1, ":---"), markdown.escape(details_legend(board)) + "."]
        if values := tuning(board):
            blocks += [lines(values, 1, "---:"), markdown.escape(tuning_legend(board)) + "."]
        blocks.append(
            "\n".join(f"- {markdown.escape(f'{row.label}, {text}')}" for row in board.rows for text in row.trouble)
        )
        blocks.append("\n".join(f"- {markdown.escape(line)}" for line in warnings(board)))
    blocks.append("\n".join(f"- {markdown.escape(note)}" for note in leaderboard.notes))
    return "\n\n".join(filter(None, blocks)) + "\n"


def to_latex(leaderboard: Leaderboard, selection: Excerpt = COMPACT) -> str:
    """Return booktabs tables of each board: what is significantly better than all others in bold. Needs the package
    booktabs; see :mod:`recbench.render.latex` for non-Latin letters."""

    def line(row: list[TableEntry]) -> str:
        commands = {"best": "\\textbf{{{}}}"}
        cells = (commands.get(entry.mark, "{}").format(latex.escape(str(entry))) for entry in row)
        return f"    {' & '.join(cells)} \\\\"

    def lines(rows: list[list[TableEntry]], columns: str, caption: str) -> list[str]:
        found = ["\\begin{table}", "  \\centering", f"  \\begin{{tabular}}{{{columns}}}", "    \\toprule"]
        found += [line(rows[0]), "    \\midrule", *map(line, rows[1:]), "    \\bottomrule"]
        caption = latex.escape(f"{leaderboard.suite}: {caption}")
        return [*found, "  \\end{tabular}", f"  \\caption{{{caption}}}", "\\end{table}"]

    blocks = []
    for board in leaderboard.boards:
        columns = selection.columns(board)
        letters = "".join("l" if column.left else "r" for column in columns)
        sentences = " ".join(f"{text}." for text in (board.setting, verdict(board), legend(board, columns)) if text)
        text = lines(table(board, columns), letters, sentences)
        if selection.wide and (more := details(board)):
            letters = "l" + "r" * (len(more[0]) - 2) + "l"
            text += ["", *lines(more, letters, f"{board.setting}. {details_legend(board)}.")]
        if values := tuning(board):
            letters = "l" + "r" * (len(values[0]) - 1)
            text += ["", *lines(values, letters, f"{board.setting}. {tuning_legend(board)}.")]
        remarks = [f"{row.label}, {trouble}" for row in board.rows for trouble in row.trouble]
        blocks.append("\n".join([*text, *map(latex.comment, [*remarks, *warnings(board)])]))
    blocks.append("\n".join(map(latex.comment, leaderboard.notes)))
    return "\n\n".join(filter(None, blocks)) + "\n"


class Render(Protocol):
    """A function that renders a leaderboard as text."""

    def __call__(self, leaderboard: Leaderboard, selection: Excerpt = ...) -> str: ...


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
