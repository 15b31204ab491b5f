"""The verdict of a board in words."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Sequence

from recbench.analysis.board import Board, Row

_NAMED = 6
"""Most methods that a verdict names one by one."""


def verdict(board: Board) -> str:
    """Return one sentence on which methods differ significantly over the ranking metrics; empty without tests."""
    ranked = [row.label for row in board.rows if row.status == "ranked"]
    if not ranked:
        states = Counter(row.status for row in board.rows)
        return f"no method is ranked: {', '.join(f'{count} {state}' for state, count in states.items())}"
    if len(ranked) == 1:
        return f"only {ranked[0]} is ranked, so there is nothing to compare it with{_unranked(board)}"
    if board.overall is None or board.confidence is None:
        return ""
    beaten: list[set[int]] = [set() for _ in ranked]
    for (first, second), better in zip(
        itertools.combinations(range(len(ranked)), 2), board.overall.better, strict=True
    ):
        if better:
            beaten[second].add(first)
    top = [i for i, by in enumerate(beaten) if not by]
    below = [i for i, by in enumerate(beaten) if by]
    return _sentence(ranked, top, below, beaten) + _scope(board) + _unranked(board)


def _sentence(ranked: Sequence[str], top: Sequence[int], below: Sequence[int], beaten: Sequence[set[int]]) -> str:
    """Return who leads, and whom they are better than.

    Args:
        top: methods that none is significantly better than. No two of them differ.
        below: the others.
        beaten: for each method, those that are significantly better.
    """
    leaders = _named([ranked[i] for i in top])
    if not below:
        return f"{leaders} do not differ significantly"
    by_all = [i for i in below if beaten[i].issuperset(top)]
    by_some = [i for i in below if not beaten[i].issuperset(top)]
    worse = "all others" if not by_some and len(below) > _NAMED else _named([ranked[i] for i in by_all])
    if len(top) == 1:
        text = f"{leaders} is significantly better than {worse}"
        return f"{text}, but not than {_named([ranked[i] for i in by_some])}" if by_some else text
    text = f"{leaders} do not differ significantly"
    if by_all:
        text += f"; {'both' if len(top) == 2 else 'all'} are better than {worse}"
    if by_some:
        ends = "is worse than some of them" if len(by_some) == 1 else "are each worse than some other method"
        text += f"; {_named([ranked[i] for i in by_some])} {ends}"
    return text


def _unranked(board: Board) -> str:
    """Return how many methods are not ranked, and why."""
    states = Counter(row.status for row in board.rows if row.status != "ranked")
    number = states.total()
    if not number:
        return ""
    verb = "method is" if number == 1 else "methods are"
    return f"; {number} {verb} not ranked ({', '.join(f'{count} {state}' for state, count in states.items())})"


def troubles(row: Row) -> list[str]:
    """Return what became of seeds that failed or diverged: one line for all with the same message."""
    seeds: dict[str, list[str]] = {}
    for trouble in row.trouble:
        found = re.fullmatch(r"seed (\d+) (.*)", trouble, re.DOTALL)
        seeds.setdefault(found[2] if found else trouble, []).extend([found[1]] if found else [])
    lines = []
    for text, names in seeds.items():
        which = f"{'seed' if len(names) == 1 else 'seeds'} {_named(names)} " if names else ""
        lines.append(f"{row.label}, {which}{text}")
    return lines


def _scope(board: Board) -> str:
    """Return what the tests do not speak about."""
    bases = {board.verdicts[name].basis for name in board.ranking}
    if bases == {"nothing"}:
        return ": with one seed, metrics of whole sets cannot be compared"
    if "images" in bases:
        return " (one seed each: this holds for these trainings)"
    return ""


def _named(labels: Sequence[str]) -> str:
    """Return labels as an enumeration, at most :data:`_NAMED` of them."""
    if len(labels) > _NAMED:
        return f"{', '.join(labels[: _NAMED - 1])} and {len(labels) - _NAMED + 1} others"
    return " and ".join(filter(None, (", ".join(labels[:-1]), *labels[-1:])))
