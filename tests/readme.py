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
