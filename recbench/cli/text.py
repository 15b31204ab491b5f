"""The one place where text of others (labels, paths, messages) becomes text of a terminal."""

from __future__ import annotations

import re
import shutil
import sys
from typing import TextIO

import click


def plain(text: str) -> str:
    r"""Return text without anything that a terminal would obey: control characters and the like become ``?``.

    >>> plain("red: \x1b[31m, two lines\nand a tab\t")
    'red: ?[31m, two lines\nand a tab\t'
    """
    if text.replace("\n", "").replace("\t", "").isprintable():  # as nearly always, and a board may have a million
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def folded(text: str, width: int) -> list[str]:
    """Return text in lines of so many cells, broken between words; a word that is longer is broken anywhere.

    >>> folded("all are better than ssim", 10)
    ['all are', 'better', 'than ssim']
    """
    from rich.cells import cell_len, chop_cells

    lines: list[str] = []
    for paragraph in text.split("\n"):
        indent = paragraph[: len(paragraph) - len(paragraph.lstrip())]
        line = ""
        for word in paragraph.split():
            longer = f"{line} {word}" if line else indent + word
            if cell_len(longer) <= width:
                line = longer
                continue
            lines += [line] if line else []
            *full, line = (
                chop_cells(indent + word, max(width, 2)) if cell_len(indent + word) > width else [indent + word]
            )
            lines += full
        lines.append(line)
    return lines


def wrapped(text: str, width: int) -> str:
    """Return text with lines broken between words, as far as they are longer than the width. A longer word stays whole,
    so that a path can be copied."""
    from rich.cells import cell_len

    lines: list[str] = []
    for line in text.split("\n"):
        indent = line[: len(line) - len(line.lstrip())]
        current = ""
        for word in re.findall(r"\s*\S+", line):
            if current.strip() and cell_len(current + word) > width:
                lines.append(current)
                current = indent + word.lstrip()
            else:
                current += word
        lines.append(current)
    return "\n".join(lines)


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text to stdout, or to stderr, where a terminal gets long lines broken between words."""
    shown = plain(str(text))
    click.echo(for_terminal(shown, sys.stderr) if err else shown, err=err, nl=nl)


def say(text: object = "", *, err: bool = False) -> None:
    """Print sentences to stdout, or to stderr; a terminal gets long lines broken between words."""
    echo(for_terminal(plain(str(text)), sys.stderr if err else sys.stdout), err=err)


def for_terminal(text: str, stream: TextIO) -> str:
    """Return text as it is if the stream is no terminal, otherwise with long lines broken between words."""
    return wrapped(text, shutil.get_terminal_size().columns) if stream.isatty() else text
