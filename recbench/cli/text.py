"""The one place where text of others (labels, paths, messages) becomes text of a terminal."""

from __future__ import annotations

import click


def plain(text: str) -> str:
    r"""Return text without anything that a terminal would obey: control characters and the like become ``?``.

    >>> plain("red: \x1b[31m, two lines\nand a tab\t")
    'red: ?[31m, two lines\nand a tab\t'
    """
    if text.replace("\n", "").replace("\t", "").isprintable():  # as nearly always, and a board may have a million
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in text)


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print text to stdout, or to stderr."""
    click.echo(plain(str(text)), err=err, nl=nl)
