"""Terminal output with rich, except the live view. Results go to stdout, messages to stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from recbench.analysis.board import Leaderboard
from recbench.cli.text import plain
from recbench.render.board import (
    TableEntry,
    details,
    details_legend,
    front,
    legend,
    table,
    tuning,
    tuning_legend,
    warnings,
)
from recbench.render.text import number

if TYPE_CHECKING:
    from recbench.analysis.across import Across


class PlainConsole(Console):
    """A console that takes text as it is: markup, emoji codes and control characters in it have no effect."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(shown(each) if isinstance(each, str | Text) else each for each in objects), **options)


def shown(text: str | Text) -> Text:
    """Return text for a console, with the style that it has."""
    result = Text(plain(text)) if isinstance(text, str) else text.copy()
    if isinstance(text, Text):
        result.plain = plain(text.plain)
    return result


out = PlainConsole()
err = PlainConsole(stderr=True)


def print_table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a plain table to stdout; rich markup in the texts is not interpreted."""
    heading = Text(plain(title), style="bold")
    table = Table(title=heading, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for head in heads:
        table.add_column(Text(head, style="dim"), overflow="fold")
    for row in rows:
        table.add_row(*map(shown, row))
    wide = PlainConsole(width=160) if not out.is_terminal else out
    wide.print(table)


@contextmanager
def download_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, called with the bytes done and in total; invisible if stderr is not a terminal."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(plain(label), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def count_bar(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr, called with the items done and, if known, in total; invisible if stderr is not a
    terminal."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(plain(label), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_leaderboard(leaderboard: Leaderboard, *, cost: bool = False) -> None:
    """Print all boards to stdout.

    A board wider than the terminal continues below, with the methods repeated; if stdout is not a terminal, lines have
    any length.
    """
    width = out.width if out.is_terminal else None
    for board in leaderboard.boards:
        title = f"{leaderboard.suite}: {board.setting} ({leaderboard.done}/{leaderboard.jobs} jobs done)"
        page = Text(f"{title}\n\n", style="bold")
        for part in _parts(table(board, cost=cost), front(board), width):
            page.append_text(part)
        page.append(f"{legend(board)}\n", style="dim")
        if more := details(board):
            page.append("\n")
            for part in _parts(more, 1, width):
                page.append_text(part)
            page.append(f"{details_legend(board)}\n", style="dim")
        if values := tuning(board):
            page.append("\n")
            for part in _parts(values, 1, width):
                page.append_text(part)
            page.append(f"{tuning_legend(board)}\n", style="dim")
        for row in board.rows:
            for trouble in row.trouble:
                page.append(f"  {row.label}, {trouble}\n", style="red")
        for line in warnings(board):
            page.append(f"  {line}\n", style="yellow")
        out.print(page, soft_wrap=True)
    for note in leaderboard.notes:
        err.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


def print_across(found: Across) -> None:
    """Print average ranks over several boards to stdout, with tests of their differences."""
    page = Text(f"ranks by {found.by} over {len(found.boards)} boards\n\n", style="bold")
    heads = ["#", "method", "average rank", *found.boards]
    rows = [[TableEntry(text) for text in heads]]
    for place, method in enumerate(found.methods):
        ranks = [TableEntry(f"{line[place]:g}") for line in found.ranks]
        average = TableEntry(number(found.average_ranks[place], 2))
        rows.append([TableEntry(str(place + 1)), TableEntry(method), average, *ranks])
    for part in _parts(rows, 2, out.width if out.is_terminal else None):
        page.append_text(part)
    for line in across_lines(found):
        page.append(f"{line}\n")
    out.print(page, soft_wrap=True)


def across_lines(found: Across) -> Iterator[str]:
    """Yield one line per test."""
    if found.friedman is not None:
        yield f"Friedman: χ² = {found.friedman[0]:.3g}, p = {found.friedman[1]:.3g}"
    if found.iman_davenport is not None:
        statistic = number(found.iman_davenport[0], 2)
        yield f"Iman & Davenport: F = {statistic}, p = {found.iman_davenport[1]:.3g}"
    yield f"Nemenyi: critical difference {found.critical_difference:.3g} ({found.confidence:.4g} confidence)"
    for name, groups in (("Nemenyi", found.nemenyi_groups), ("Wilcoxon, Holm-corrected", found.wilcoxon_groups)):
        for group in groups:
            yield f"no significant differences ({name}): {', '.join(found.methods[place] for place in group)}"
    if found.left_out:
        yield f"left out, since not ranked on every board: {', '.join(found.left_out)}"


def _parts(table: list[list[TableEntry]], front: int, width: int | None) -> Iterator[Text]:
    """Yield a table as text, in parts that fit the width, each starting with the first ``front`` columns.

    Rich's own tables truncate texts to fit, and take seconds for a thousand rows.
    """
    widths = [max(cell_len(entry.text) for entry in column) for column in zip(*table, strict=True)]
    first, others = list(range(front)), list(range(front, len(widths)))
    while others:
        chosen = list(first)
        while others and (
            width is None
            or len(chosen) == front
            or sum(widths[i] + len(_GAP) for i in chosen) + widths[others[0]] <= width
        ):
            chosen.append(others.pop(0))
        part = Text()
        for place, row in enumerate(table):
            for index in chosen:
                entry = row[index]
                padding = " " * (widths[index] - cell_len(entry.text))
                to_the_left = index in (front - 1, len(row) - 1)
                style = "dim" if place == 0 else "bold green" if entry.mark == "best" else ""
                last = index == chosen[-1]
                shown = padding + entry.text if not to_the_left else entry.text if last else entry.text + padding
                part.append(shown, style=style).append("\n" if last else _GAP)
        yield part.append("\n")


_GAP = "  "
