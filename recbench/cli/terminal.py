"""Everything that rich draws, but the live view. Results go to stdout, talk goes to stderr."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recbench import formats
from recbench.leaderboard import Leaderboard

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def print_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table on stdout; rich's markup in the texts is not interpreted."""
    table = Table(title=Text(title, style="bold"), title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(Text(head, style="dim"), overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    wide = Console(highlight=False, width=160) if not out.is_terminal else out
    wide.print(table)


def print_leaderboard(leaderboard: Leaderboard) -> None:
    """All boards on stdout."""
    wide = Console(highlight=False, width=160) if not out.is_terminal else out
    for board in leaderboard.boards:
        title = f"{leaderboard.suite}: {board.setting} ({leaderboard.done}/{leaderboard.jobs} jobs done)"
        table = Table(title=Text(title, style="bold"), title_justify="left", caption=formats.legend(board))
        table.caption_justify = "left"
        table.add_column("#", justify="right")
        table.add_column("method", overflow="fold")
        for column in board.columns:
            table.add_column(Text(formats.head(column)), justify="right")
        table.add_column("mean rank", justify="right")
        table.add_column("seeds")
        for row in board.rows:
            cells = []
            for column in board.columns:
                cell = row.cells.get(column.name)
                style = "bold green" if formats.is_best(board, row, column) else ""
                cells.append(Text("–" if cell is None else formats.spread(cell, column.digits), style=style))
            state = Text(formats.status(row), style="" if row.status == "ranked" else "red")
            table.add_row(str(row.place or "–"), Text(row.label), *cells, formats.number(row.mean_rank, 2), state)
        wide.print(table)
        for row in board.rows:
            for trouble in row.trouble:
                wide.print(Text(f"  {row.label}, {trouble}", style="red"))
    for note in leaderboard.notes:
        err.print(Text(f"note: {note}", style="yellow"))
