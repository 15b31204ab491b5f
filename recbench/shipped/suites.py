"""The suite files that come with recbench."""

from __future__ import annotations

from pathlib import Path

from recbench.errors import UserError, did_you_mean, quoted
from recbench.shipped import place


def suites() -> dict[str, Path]:
    """Return the files of all shipped suites by name, sorted."""
    return {file.stem: file for file in sorted(place.suites_folder().glob("*.yaml"))}


def find_suite(name: str) -> Path:
    """Return the file of a shipped suite.

    Raises:
        UserError: there is none of this name.
    """
    known = suites()
    if name not in known:
        raise UserError(f"recbench ships no suite {quoted(name)}; {did_you_mean(name, list(known))}")
    return known[name]
