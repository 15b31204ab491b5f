"""Directions of metrics: whether higher or lower scores are better, or those nearest to a value."""

from __future__ import annotations

import math
from typing import Literal

from recbench.errors import quoted

Direction = Literal["higher", "lower"] | float
"""``"higher"``, ``"lower"``, or a number: the score that is best, as 1 is for a ratio."""


def cost(score: float, direction: Direction) -> float:
    """Return a number by which scores are ordered: the lower, the better; with a target, the distance from it.

    >>> cost(3.0, "higher"), cost(3.0, "lower"), cost(0.75, 1.0)
    (-3.0, 3.0, 0.25)
    """
    if isinstance(direction, str):
        return -score if direction == "higher" else score
    return abs(score - direction)


def target(direction: Direction) -> float | None:
    """Return the score that is best; None if higher or lower scores are better.

    >>> target("higher"), target(1)
    (None, 1.0)
    """
    return None if isinstance(direction, str) else float(direction)


def direction_words(direction: Direction) -> str:
    """Return the direction as words: ``higher``, ``lower`` or ``towards 1``."""
    return direction if isinstance(direction, str) else f"towards {direction:g}"


def check_direction(name: str, direction: object) -> None:
    """Raise a ValueError that names the entry if this is no direction."""
    is_number = isinstance(direction, int | float) and not isinstance(direction, bool)
    if direction not in ("higher", "lower") and not (is_number and math.isfinite(float(str(direction)))):
        wanted = "the number that is best, 'higher' or 'lower'"
        raise ValueError(f"{name}: expected as direction {wanted}, got {quoted(direction)}")
