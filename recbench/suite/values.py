"""Checks of single values of a suite file. Each returns the value in its type, or raises ValueError."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from recbench.errors import quoted
from recbench.plan.model import Training
from recbench.suite.document import KeyPath

AddProblem = Callable[[KeyPath, str], None]
"""A function that records a problem at a place of the suite file."""

_Value = TypeVar("_Value")
_LABEL = re.compile(r"[^\W_]([^/\\]{0,198}[^/\\\s])?")


def is_label(text: str) -> bool:
    """Return True if a text can be a label: it becomes part of file names and of lines in tables."""
    return _LABEL.fullmatch(text) is not None and text.isprintable()


UNWEIGHTED = 1.0
"""The KL weight of a loss for which a suite gives none."""


def kl_weight(value: Any) -> float:
    """Return a weight of the KL term."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{quoted(value)} is not a finite number from 0")
    return float(value)


def scale(value: Any) -> float:
    """Return the scale of a loss, which multiplies the range of KL weights."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{quoted(value)} is not a finite number above 0")
    return float(value)


def training_value(key: str, value: Any) -> Any:
    """Return the value of one key of the section ``training``, checked by the model's own field."""
    fields = {"epochs": 1, key: value}
    try:
        return getattr(Training.model_validate(fields, strict=True), key)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        text = f"{quoted(value)} {message[0].lower()}{message[1:]}".replace("input should", "should")
        raise ValueError(text) from None


def published_value(value: Any) -> tuple[float, float | None]:
    """Return the mean and the standard deviation of a published number or pair ``[mean, std]``."""
    numbers = value if isinstance(value, list) else [value]
    finite = all(isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) for n in numbers)
    if not finite or len(numbers) not in (1, 2):
        raise ValueError(f"expected a number or a pair [mean, std], got {quoted(value)}")
    return float(numbers[0]), float(numbers[1]) if len(numbers) == 2 else None


def repeated(values: Sequence[_Value]) -> Iterator[tuple[_Value, bool]]:
    """Yield each value, and True if an earlier one is equal."""
    seen = set()
    for value in values:
        yield value, value in seen
        seen.add(value)


def check_seeds(path: KeyPath, seeds: Sequence[Any], add_problem: AddProblem) -> None:
    """Add a problem for each seed that is repeated or out of range; None stands for one that has a problem already."""
    for index, (seed, earlier) in enumerate(repeated(seeds)):
        if earlier and seed is not None:
            add_problem((*path, index), f"the seed {quoted(seed)} is given twice")
        if type(seed) is int and not 0 <= seed < 2**32:
            add_problem((*path, index), f"{quoted(seed)} is not between 0 and {2**32 - 1}")
