"""Terminal output with rich, except the live view. Results go to stdout, messages to stderr."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

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
from rich.text import Text

from recbench.analysis.board import Board, Leaderboard
from recbench.cli.layout import Grid, lay_out
from recbench.cli.text import plain, wrapped
from recbench.render.board import (
    details,
    details_legend,
    front,
    legend,
    narrowed,
    table,
    tuning,
    tuning_legend,
    warnings,
)
from recbench.render.columns import BoardColumn, Excerpt, TableEntry
from recbench.render.text import number
from recbench.render.verdict import troubles, verdict

if TYPE_CHECKING:
    from recbench.analysis.across import Across


class PlainConsole(Console):
    """A console that takes text as it is: markup, emoji codes and control characters in it have no effect."""

    def __init__(self, *, stderr: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, width=width, highlight=False, markup=False, emoji=False)

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        """Print as rich does, but sentences (``soft_wrap``) as :meth:`say` does."""
        if soft_wrap and len(objects) == 1 and isinstance(objects[0], str | Text):
            self.say(objects[0])
            return
        super().print(*(shown(each) if isinstance(each, str | Text) else each for each in objects), **options)

    def on_broken_pipe(self) -> None:
        """Leave a pipe that nobody reads any more to the command line, which ends quietly; rich would exit with 1."""
        raise  # noqa: PLE0704 - rich calls this while it handles the BrokenPipeError

    def say(self, text: str | Text) -> None:
        """Print sentences; on a terminal, long lines are broken between words. Words are never broken."""
        said = shown(text)
        if self.is_terminal and "\n" in (broken := wrapped(said.plain, self.width)):
            said.plain = broken  # of one style
        self.page(said.append("\n"))

    def page(self, text: str | Text) -> None:
        """Print text that is laid out already, as it is."""
        super().print(shown(text), soft_wrap=True, end="")


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
    if title:
        out.say(Text(title, style="bold"))
    entries = [[TableEntry(text) for text in row] for row in (heads, *rows)]
    for part in lay_out(Grid(entries, left=range(len(heads))), out.width if out.is_terminal else None):
        part.rstrip()
        out.page(part.append("\n"))


def laid_out(rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Return a table as text that fits the terminal, if stdout is one.

    Args:
        rows: the head, then the others.
        left: indices of the columns whose texts are at the left.
    """
    grid = Grid([[TableEntry(text) for text in row] for row in rows], left=left)
    return "\n".join(part.plain.rstrip("\n") for part in lay_out(grid, out.width if out.is_terminal else None))


def print_lines(rows: Iterable[tuple[str, str]]) -> None:
    """Print names with texts to stdout; on a terminal, long texts continue below themselves."""
    entries = [[TableEntry(text) for text in row] for row in rows]
    for part in lay_out(Grid(entries, left=(0, 1)), out.width if out.is_terminal else None):
        part.rstrip()
        out.page(Text(part.plain + "\n"))


@contextmanager
def download_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on stderr, called with the bytes done and in total; invisible if stderr is not a terminal."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(plain(label), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def count_bar(label: str, *, quiet: bool = False) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr, called with the items done and, if known, in total; invisible if stderr is not a
    terminal, or if ``quiet``."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    hidden = quiet or not err.is_terminal
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True, disable=hidden) as bar:
        task = bar.add_task(plain(label), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_leaderboard(leaderboard: Leaderboard, selection: Excerpt | None = None) -> None:
    """Print all boards to stdout, each with its verdict above; if stdout is not a terminal, lines have any length."""
    for board in leaderboard.boards:
        jobs = f" ({leaderboard.done}/{leaderboard.jobs} jobs done)" if leaderboard.jobs else ""
        title = f"{leaderboard.suite}: {board.setting}{jobs}"
        out.say(Text(title, style="bold"))
        if words := verdict(board):
            out.say(f"{words}.")
        out.page("\n")
        _print_board(board, selection or Excerpt())
        for row in board.rows:
            for trouble in troubles(row):
                out.say(Text(f"  {trouble}", style="red"))
        for line in warnings(board):
            out.say(Text(f"  {line}", style="yellow"))
    for note in leaderboard.notes:
        err.say(Text(f"note: {note}", style="yellow"))


def _print_board(board: Board, selection: Excerpt) -> None:
    columns = selection.columns(board)
    rows = table(board, columns)
    narrow, fewer = narrowed(rows, columns)
    _print_grid(_grid(rows, columns), _grid(narrow, fewer))
    hint = "" if selection.wide or selection.names else "; --wide shows more"
    out.say(Text(legend(board, columns) + hint, style="dim"))
    more = details(board) if selection.wide else []
    for values, explain in ((more, details_legend), (tuning(board), tuning_legend)):
        if values:
            out.page("\n")
            _print_grid(Grid(values, left=(0, len(values[0]) - 1) if values is more else (0,)))
            out.say(Text(explain(board), style="dim"))


def _grid(rows: list[list[TableEntry]], columns: list[BoardColumn]) -> Grid:
    return Grid(rows, front(columns), [i for i, column in enumerate(columns) if column.left])


def _print_grid(wide: Grid, narrow: Grid | None = None) -> None:
    for part in lay_out(wide, out.width if out.is_terminal else None, narrow):
        out.page(part)


def print_across(found: Across) -> None:
    """Print average ranks over several boards to stdout, with tests of their differences."""
    out.say(Text(f"ranks by {found.by} over {len(found.boards)} boards\n", style="bold"))
    heads = ["#", "method", "average rank", *found.boards]
    rows = [[TableEntry(text) for text in heads]]
    for place, method in enumerate(found.methods):
        ranks = [TableEntry(f"{line[place]:g}") for line in found.ranks]
        average = TableEntry(number(found.average_ranks[place], 2))
        rows.append([TableEntry(str(place + 1)), TableEntry(method), average, *ranks])
    _print_grid(Grid(rows, 2, (1,)))
    for line in across_lines(found):
        out.say(line)


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
