"""Facts about the scores of metrics: names where there are several, and what decides the value besides the images."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from recbench.contracts.direction import Direction, check_direction
from recbench.errors import quoted

ScoreRange = tuple[float, float]
"""Lowest and highest possible score."""

ReferenceImages = Literal["test", "train"]
"""The images that a metric of whole sets compares with: those that are evaluated, or those of training."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, kw_only=True)
class MetricScore:
    """One of the scores that a metric gives from one pass over the images. What it leaves out is as its entry says.

    Attributes:
        name: its name in suites and on boards, of the form of names of entries.
        summary: one line for ``recbench show``.
        direction: as that of :class:`~recbench.contracts.entries.MetricEntry`.
        unit: unit in column heads.
        digits: number of decimals on the leaderboard, 0 to 15.
        score_range: lowest and highest possible score.

    Raises:
        ValueError: a field has an invalid value.
    """

    name: str
    summary: str = ""
    direction: Direction | None = None
    unit: str | None = None
    digits: int | None = None
    score_range: ScoreRange | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ValueError(f"name of a score {quoted(self.name)} must be lower case letters, digits and underscores")
        if self.direction is not None:
            check_direction(self.name, self.direction)
        if self.digits is not None:
            check_digits(self.name, self.digits)
        if self.score_range is not None:
            check_score_range(self.name, self.score_range)


@dataclass(frozen=True, kw_only=True)
class Convention:
    """The choices that decide the value of a distance between two sets of images besides the images, and that differ
    between publications: they are recorded with every score.

    Attributes:
        reference: the images that the evaluated ones are compared with: ``"test"``, those that reconstructions are made
            of, or of a tuned suite's candidates the validation images; ``"train"``, the training images; or the name of
            the parameter that says which.
        resize: how images reach the network, in words: ``"bilinearly, not antialiased, to 299x299"``.
        limit: name of the parameter that limits how many images are compared, 0 for all; empty if there is none.
    """

    reference: str
    resize: str
    limit: str = ""

    def __post_init__(self) -> None:
        for field in ("reference", "resize", "limit"):
            if not isinstance(getattr(self, field), str):
                raise TypeError(f"convention: {field} must be text")
        if not self.reference or not self.resize:
            raise ValueError("convention: expected reference and resize, one of them is empty")


def check_digits(name: str, digits: object) -> None:
    """Raise a ValueError that names the entry or score if this is no number of decimals."""
    if type(digits) is not int or not 0 <= digits <= 15:
        raise ValueError(f"{name}: expected digits to be an int from 0 to 15, got {quoted(digits)}")


def check_score_range(name: str, score_range: ScoreRange) -> None:
    """Raise a ValueError that names the entry or score if this is no range."""
    if not (len(score_range) == 2 and score_range[0] < score_range[1]):
        raise ValueError(f"{name}: expected score_range to be (lowest, highest), got {score_range}")
