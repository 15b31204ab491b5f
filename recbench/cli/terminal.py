"""Everything that rich draws, but the live view. Results go to stdout, talk goes to stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

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

from recbench.analysis.ranking import Leaderboard
from recbench.render import leaderboard as formats

if TYPE_CHECKING:
    from recbench.analysis.across import Across

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


@contextmanager
def download_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, to be called with bytes done and bytes in all; nothing where stderr is no terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def count_bar(label: str) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr, to be called with things done and, where known, things in all; nothing where stderr is
    no terminal."""
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_leaderboard(leaderboard: Leaderboard, *, cost: bool = False) -> None:
    """All boards on stdout. A board that is wider than the terminal is continued below, with the methods repeated;
    where stdout is no terminal, lines are as long as they have to be."""
    width = out.width if out.is_terminal else None
    for board in leaderboard.boards:
        title = f"{leaderboard.suite}: {board.setting} ({leaderboard.done}/{leaderboard.jobs} jobs done)"
        page = Text(f"{title}\n\n", style="bold")
        for part in _parts(formats.table(board, cost=cost), formats.front(board), width):
            page.append_text(part)
        page.append(f"{formats.legend(board)}\n", style="dim")
        if more := formats.details(board):
            page.append("\n")
            for part in _parts(more, 1, width):
                page.append_text(part)
            page.append(f"{formats.details_legend(board)}\n", style="dim")
        if values := formats.tuning(board):
            page.append("\n")
            for part in _parts(values, 1, width):
                page.append_text(part)
            page.append(f"{formats.tuning_legend(board)}\n", style="dim")
        for row in board.rows:
            for trouble in row.trouble:
                page.append(f"  {row.label}, {trouble}\n", style="red")
        out.print(page, soft_wrap=True)
    for note in leaderboard.notes:
        err.print(Text(f"note: {note}", style="yellow"), soft_wrap=True)


def print_across(found: Across) -> None:
    """Average ranks over several boards on stdout, with the tests that go with them."""
    page = Text(f"ranks by {found.by} over {len(found.boards)} boards\n\n", style="bold")
    heads = ["#", "method", "average rank", *found.boards]
    rows = [[formats.Entry(text) for text in heads]]
    for place, method in enumerate(found.methods):
        ranks = [formats.Entry(f"{line[place]:g}") for line in found.ranks]
        average = formats.Entry(formats.number(found.average_ranks[place], 2))
        rows.append([formats.Entry(str(place + 1)), formats.Entry(method), average, *ranks])
    for part in _parts(rows, 2, out.width if out.is_terminal else None):
        page.append_text(part)
    for line in across_lines(found):
        page.append(f"{line}\n")
    out.print(page, soft_wrap=True)


def across_lines(found: Across) -> Iterator[str]:
    """What the tests say, a line for each."""
    if found.friedman is not None:
        yield f"Friedman: χ² = {found.friedman[0]:.3g}, p = {found.friedman[1]:.3g}"
    if found.iman_davenport is not None:
        statistic = formats.number(found.iman_davenport[0], 2)
        yield f"Iman & Davenport: F = {statistic}, p = {found.iman_davenport[1]:.3g}"
    yield f"Nemenyi: critical difference {found.critical_difference:.3g} ({found.confidence:.4g} confidence)"
    for name, groups in (("Nemenyi", found.nemenyi_groups), ("Wilcoxon, Holm-corrected", found.wilcoxon_groups)):
        for group in groups:
            yield f"not told apart ({name}): {', '.join(found.methods[place] for place in group)}"
    if found.left_out:
        yield f"left out, as not ranked on every board: {', '.join(found.left_out)}"


def _parts(table: list[list[formats.Entry]], front: int, width: int | None) -> Iterator[Text]:
    """A table as text, in parts of as many columns as the width allows, each with the first ones, the last of which
    names the method. Drawn here, since rich's own tables cut texts off to fit, and take seconds for a thousand rows."""
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
        for number, row in enumerate(table):
            for index in chosen:
                entry = row[index]
                padding = " " * (widths[index] - cell_len(entry.text))
                to_the_left = index in (front - 1, len(row) - 1)
                style = "dim" if number == 0 else "bold green" if entry.mark == "best" else ""
                last = index == chosen[-1]
                shown = padding + entry.text if not to_the_left else entry.text if last else entry.text + padding
                part.append(shown, style=style).append("\n" if last else _GAP)
        yield part.append("\n")


_GAP = "  "
