"""Reads code out of the documentation, for tests that keep its promises."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Block:
    """A fenced block of code: its language, its text, and the file that its first line (``# name``) says it is."""

    language: str
    text: str

    @property
    def file(self) -> str | None:
        named = re.match(r"# ([\w./-]+\.\w+)\n", self.text)
        return named.group(1) if named else None


def blocks(document: Path) -> list[Block]:
    """All fenced blocks of a Markdown file, in order."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [Block(language, text) for language, text in found]


def section(document: Path, heading: str) -> str:
    """What stands under a heading, up to the next one of any level. The heading is given with its hashes."""
    text = "\n" + document.read_text(encoding="utf-8")
    start = text.index(f"\n{heading}\n") + len(heading) + 1
    following = re.search(r"^#+ ", _without_code(text[start:]), re.MULTILINE)
    return text[start : start + following.start()] if following else text[start:]


def _without_code(text: str) -> str:
    """The text with code blanked out, in which a hash is no heading; every character keeps its place."""
    return re.sub(r"^```.*?^```$", lambda found: " " * len(found.group()), text, flags=re.MULTILINE | re.DOTALL)


def table(text: str) -> dict[str, list[str]]:
    """The rows of all tables in a text, by what stands as code in their first cell."""
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells and cells[0].startswith("`"):
            rows[cells[0].strip("`")] = cells[1:]
    return rows
