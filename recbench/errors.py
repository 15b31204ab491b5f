"""What can go wrong, in words that a person can act on. Imports nothing of recbench."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


class RecbenchError(Exception):
    """Root of all errors that recbench raises on purpose."""


class UserError(RecbenchError):
    """Something that the person at the keyboard can mend; the command line exits with 2."""


class PluginError(UserError):
    """A plugin that was asked for by name or by file cannot be used."""


class OutOfSpaceError(UserError):
    """The file system that holds the results or the cache is full."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with a suite: where it is (file, 1-based line, dotted key) and what it is."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.key}: {self.message}" if self.key else f"{place}: {self.message}"


class SuiteError(UserError):
    """A suite that cannot run; carries every problem that was found, not only the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def did_you_mean(name: str, choices: Sequence[str]) -> str:
    """The tail of an error about an unknown name: the nearest choice, or all of them."""
    close = get_close_matches(name[:100], choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"choose from: {', '.join(sorted(choices))}" if choices else "there is none to choose from"


def quoted(value: Any) -> str:
    """A value as YAML spells it, on one line and short enough for a message."""
    if isinstance(value, str):
        text = "'" + value.replace("\n", "\\n") + "'"
    else:
        try:
            text = json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError):  # nothing that YAML spells, or an integer with too many digits to print
            text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "…"
