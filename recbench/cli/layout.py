"""Tables laid out for the width of a terminal. Widths are in cells, of which a Chinese character takes two.

Rich's own tables break words, truncate texts, and take seconds for a thousand rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len
from rich.text import Text

from recbench.cli.text import folded, plain
from recbench.render.columns import TableEntry

_GAP = 2
_BROKEN = 8
"""Cells of a column in which words are broken where nothing else is left."""
_STYLES = {"best": "bold green", "trouble": "red"}


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        rows: the head, then the others.
        front: number of columns that are repeated where the table continues below.
        left: indices of the columns whose texts are at the left; numbers are at the right.
    """

    rows: Sequence[Sequence[TableEntry]]
    front: int = 1
    left: Collection[int] = (0,)


def lay_out(wide: Grid, width: int | None, narrow: Grid | None = None) -> Iterator[Text]:
    """Yield a table as text, in parts that fit the width.

    If one line per row is too wide, second texts go below the first ones, then words below each other; if it is still
    too wide, the table continues in a further part.

    Args:
        wide: the table.
        width: of the terminal in cells; None for lines of any length.
        narrow: what is shown instead of ``wide`` where one line per row is too wide.
    """
    wide, narrow = _plain(wide), _plain(narrow) if narrow else None
    widths = [max(_one_line(column)) for column in zip(*map(_tuples, wide.rows), strict=True)]
    if width is None or sum(widths) + _GAP * (len(widths) - 1) <= width:
        yield _flat(wide)
        return
    grid = narrow or wide
    columns = list(zip(*grid.rows, strict=True))
    most = max(12, width // 2)
    least = [
        max(_least(entry, most, whole=i not in grid.left and place > 0) for place, entry in enumerate(column))
        for i, column in enumerate(columns)
    ]
    natural = [max(max(cell_len(e.text), cell_len(e.under)) for e in column) for column in columns]
    parts = _parts(least, grid.front, width)
    # Words are not put below each other where the table continues below anyway, and would take no more parts without.
    roomy = [min(most, natural[i]) if i in grid.left else cells for i, cells in enumerate(least)]
    if len(parts) > 1 and len(fewer := _parts(roomy, grid.front, width)) == len(parts):
        parts = fewer
    for part in parts:
        room = width - _GAP * (len(part) - 1)
        fitted = _fitted([natural[i] for i in part], [least[i] for i in part], room)
        broken = [min(least[i], _BROKEN) if i in grid.left else least[i] for i in part]
        fitted = _fitted(fitted, broken, room)  # as a last resort, long words are broken
        yield _stacked([[row[i] for i in part] for row in grid.rows], fitted, [i in grid.left for i in part])


def _parts(cells: Sequence[int], front: int, width: int) -> list[list[int]]:
    """Return the columns of each part of a table, of which each column takes at least so many cells."""
    others = list(range(front, len(cells)))
    parts = []
    while others:
        part = [*range(front), others.pop(0)]
        while others and sum(cells[i] + _GAP for i in part) + cells[others[0]] <= width:
            part.append(others.pop(0))
        parts.append(part)
    return parts


def _plain(grid: Grid) -> Grid:
    """Return a table without control characters, which would take no cell, and are shown as question marks."""
    rows = [[replace(e, text=plain(e.text), under=plain(e.under)) for e in row] for row in grid.rows]
    return replace(grid, rows=rows)


def _tuples(row: Sequence[TableEntry]) -> list[tuple[int, int]]:
    return [(cell_len(entry.text), cell_len(entry.beside)) for entry in row]


def _one_line(column: Sequence[tuple[int, int]]) -> Iterator[int]:
    """Yield the lengths of the texts of a column in one line each; texts and second texts are aligned separately."""
    under = max(second for _, second in column)
    yield max(first for first, _ in column[1:] or column) + (under + 1 if under else 0)
    yield column[0][0]


def _flat(grid: Grid) -> Text:
    columns: list[list[str]] = []
    for index, entries in enumerate(zip(*grid.rows, strict=True)):
        head, *others = entries
        first = max((cell_len(entry.text) for entry in others), default=0)
        second = max((cell_len(entry.beside) for entry in others), default=0)
        texts = [head.text]
        for entry in others:
            text = _padded(entry.text, first, left=index in grid.left)
            texts.append(f"{text} {_padded(entry.beside, second, left=True)}" if second else text)
        widest = max(map(cell_len, texts))
        columns.append([_padded(text, widest, left=index in grid.left) for text in texts])
    page = Text()
    for place, row in enumerate(grid.rows):
        line = Text()
        for entry, text in zip(row, (column[place] for column in columns), strict=True):
            line.append(text, style="dim" if place == 0 else _STYLES.get(entry.mark, ""))
            line.append(" " * _GAP)
        line.rstrip()
        page.append_text(line).append("\n")
    return page.append("\n")


def _stacked(rows: Sequence[Sequence[TableEntry]], widths: Sequence[int], left: Sequence[bool]) -> Text:
    page = Text()
    for place, row in enumerate(rows):
        cells = []
        for entry, width in zip(row, widths, strict=True):
            style = "dim" if place == 0 else _STYLES.get(entry.mark, "")
            lines = [(text, style) for text in folded(entry.text, width)]
            below = "red" if entry.mark == "trouble" else "dim"
            cells.append([*lines, *((text, below) for text in (folded(entry.under, width) if entry.under else ()))])
        for number in range(max(map(len, cells))):
            line = Text()
            for cell, width, at_left in zip(cells, widths, left, strict=True):
                text, style = cell[number] if number < len(cell) else ("", "")
                line.append(_padded(text, width, left=at_left), style=style).append(" " * _GAP)
            line.rstrip()
            page.append_text(line).append("\n")
    return page.append("\n")


def _padded(text: str, width: int, *, left: bool) -> str:
    padding = " " * (width - cell_len(text))
    return text + padding if left else padding + text


def _least(entry: TableEntry, most: int, *, whole: bool) -> int:
    """Return the cells that an entry takes at least: its longest word or, of numbers, all of it."""
    texts = (entry.text, entry.under)
    words = texts if whole else tuple(word for text in texts for word in text.split())
    return min(most, max(map(cell_len, words), default=0))


def _fitted(natural: Sequence[int], least: Sequence[int], width: int) -> list[int]:
    """Return widths that fit, the widest columns made narrower, but none narrower than its least width."""
    found = list(natural)
    while sum(found) > width:
        spare = [i for i in range(len(found)) if found[i] > least[i]]
        if not spare:
            break
        found[max(spare, key=lambda i: found[i])] -= 1
    return found
