"""Errors that recbench raises on purpose, and helpers for their messages. Imports nothing of recbench."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


class RecbenchError(Exception):
    """Base class of all errors that recbench raises on purpose.

    Attributes:
        metric: label of the metric in whose code it was raised, if any.
    """

    metric: str = ""


class UserError(RecbenchError):
    """An error that the user can fix. The command line prints its text without a traceback and exits with 2."""


class PluginError(UserError):
    """A plugin that was requested by name or by file cannot be used."""


class OutOfSpaceError(UserError):
    """The file system of the results or of the cache is full."""


@dataclass(frozen=True, order=True)
class Problem:
    """One problem of a suite.

    Attributes:
        file: the suite's file, or the option of the command line that set the value.
        line: line in the file, from 1; 0 if it is not known.
        key: dotted key, such as ``"losses[2].params.C"``; empty for the whole file.
        message: the problem in words.

    >>> print(Problem("suite.yaml", 9, "seeds[0]", "-1 is not between 0 and 4294967295"))
    suite.yaml:9: seeds[0]: -1 is not between 0 and 4294967295
    """

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        location = f"{self.file}:{self.line}" if self.line else self.file
        return f"{location}: {self.key}: {self.message}" if self.key else f"{location}: {self.message}"


class SuiteError(UserError):
    """An invalid suite. Its text has one line for each problem.

    Attributes:
        problems: every problem that was found, sorted by file and line.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def did_you_mean(name: str, choices: Sequence[str]) -> str:
    """Return the end of an error message about an unknown name: the nearest choice, or all choices.

    >>> did_you_mean("wienr", ["l2", "wiener"])
    "did you mean 'wiener'?"
    >>> did_you_mean("x", ["l2", "wiener"])
    'choose from: l2, wiener'
    """
    close = get_close_matches(name[:100], choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    return f"choose from: {', '.join(sorted(choices))}" if choices else "there is none to choose from"


def quoted(value: Any) -> str:
    """Return a value as YAML spells it, on one line and at most 60 characters long, for an error message.

    >>> quoted("l2"), quoted(True), quoted([1, 2.5])
    ("'l2'", 'true', '[1, 2.5]')
    """
    if isinstance(value, str):
        text = "'" + value.replace("\n", "\\n") + "'"
    else:
        try:
            text = json.dumps(value, ensure_ascii=False)
        except (TypeError, ValueError):  # not a YAML value, or an integer with too many digits to print
            text = f"a value of type {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "…"
