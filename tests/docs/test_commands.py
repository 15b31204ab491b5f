"""Every command line in the docs is one that recbench understands: its commands and options exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from recbench.cli import cli
from tests.conftest import ROOT
from tests.docs.test_documentation import PAGES
from tests.readme import blocks


def lines(page: Path) -> Iterator[list[str]]:
    """The words of each call of recbench in the fenced blocks of a page, without comments."""
    for block in blocks(page):
        if block.language not in ("", "sh", "console"):
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            called = re.match(r"(?:\$ |srun |[A-Z_]+=\S+ )*(?:\.venv/bin/)?recbench( .*)", line.strip())
            if called:
                yield shlex.split(called.group(1).replace("…", ""), comments=True)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_exist(page: Path) -> None:
    for words in lines(page):
        command: click.Command = cli
        rest = iter(words)
        while isinstance(command, click.Group) and (name := next(rest, "-"))[0] not in "-|":
            found = command.get_command(click.Context(command), name)
            assert found is not None, f"recbench has no command {name}"
            command = found
        known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
        for word in rest:
            if re.match(r"--?[a-z]", word):
                assert word.partition("=")[0] in known, f"{command.name} has no option {word}"


def test_there_are_many_of_them() -> None:
    found = {str(page.relative_to(ROOT)): sum(1 for _ in lines(page)) for page in PAGES}
    assert found["README.md"] >= 3
    assert found["docs/tutorial.md"] >= 8
    assert found["docs/cli.md"] >= 20
