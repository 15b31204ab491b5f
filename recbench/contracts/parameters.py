"""Parameters of entries: their types, bounds and ranges for tuning."""

from __future__ import annotations

import keyword
import math
import re
import types
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from recbench.errors import quoted

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True)
class Tunable:
    """The range in which a number may be tuned.

    Attributes:
        low: lowest value, included.
        high: highest value, included.
        log: spread candidates evenly over the logarithm of the value instead of the value; ``low`` must be above 0.

    Raises:
        ValueError: the range is empty, not finite, or logarithmic from 0 or below.
    """

    low: float
    high: float
    log: bool = False

    def __post_init__(self) -> None:
        finite = all(type(end) in (int, float) and math.isfinite(end) for end in (self.low, self.high))
        if not finite or not self.low < self.high:
            raise ValueError(
                f"expected a range of two finite numbers, the lower first, got {quoted(self.low)}, {quoted(self.high)}"
            )
        if self.log and not self.low > 0:
            raise ValueError(f"expected a logarithmic range to start above 0, got {quoted(self.low)}")


@dataclass(frozen=True)
class Parameter:
    """One parameter of an entry, which a suite may set under ``params``.

    The default given here is the only one: the core always passes every parameter by keyword, so that records hold the
    complete set.

    Attributes:
        name: a valid Python name.
        type: bool, int, float, str, or a list of one of these (``list[int]``).
        default: a value that the parameter accepts.
        doc: one line for ``recbench show``.
        choices: accepted values; empty for all values of the type.
        minimum: lowest value, included.
        above: bound that the value must exceed.
        maximum: highest value, included.
        tunable: the range in which a suite's tuning may choose the value, for an int or a float of a loss; None if it
            may not.

    Raises:
        ValueError: the name, the type or the tunable range is invalid.
    """

    name: str
    type: type | types.GenericAlias
    default: Any
    doc: str
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    above: float | None = None
    maximum: float | None = None
    tunable: Tunable | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name.lower()) or keyword.iskeyword(self.name):
            raise ValueError(f"parameter name {quoted(self.name)} must be letters, digits and underscores")
        if self.type not in (bool, int, float, str, list[bool], list[int], list[float], list[str]):
            raise ValueError(f"parameter {self.name}: its type must be bool, int, float, str or a list of these")
        if self.tunable is not None:
            if not isinstance(self.tunable, Tunable) or self.type not in (int, float) or self.choices:
                raise ValueError(f"parameter {self.name}: only an int or a float without choices has a Tunable range")
            for end in (self.tunable.low, self.tunable.high):
                try:
                    self.coerce(end)
                except ValueError as error:
                    raise ValueError(f"parameter {self.name}: its tunable range: {error}") from None

    @property
    def type_name(self) -> str:
        """The type as Python spells it, such as ``list[int]``."""
        return self.type.__name__ if isinstance(self.type, type) and not get_origin(self.type) else str(self.type)

    def coerce(self, value: Any) -> Any:
        """Return a value in this parameter's type, after checking it.

        Args:
            value: plain data, as YAML or JSON gives it. An int is accepted for a float, ``"Infinity"`` for infinity.

        Returns:
            The value in the parameter's type.

        Raises:
            ValueError: the value has another type, or is outside the choices or bounds; the text says which.

        >>> Parameter("C", float, 1.0, "noise-to-signal ratio", above=0).coerce(2)
        2.0
        """
        value = _coerce(value, self.type, self.type_name)
        for item in value if isinstance(value, list) else [value]:
            if self.choices and item not in self.choices:
                raise ValueError(f"{quoted(item)} is not one of {', '.join(map(str, self.choices))}")
            if self.minimum is not None and not item >= self.minimum:
                raise ValueError(f"{quoted(item)} is below the minimum {self.minimum:g}")
            if self.above is not None and not item > self.above:
                raise ValueError(f"{quoted(item)} is not above {self.above:g}")
            if self.maximum is not None and not item <= self.maximum:
                raise ValueError(f"{quoted(item)} is above the maximum {self.maximum:g}")
        return value


def _coerce(value: Any, wanted: Any, shown: str) -> Any:
    if get_origin(wanted) is list:
        if not isinstance(value, list | tuple) or not value:
            raise ValueError(f"{quoted(value)} is not a non-empty {shown}")
        return [_coerce(item, get_args(wanted)[0], shown) for item in value]
    if wanted is float and isinstance(value, float) and math.isnan(value):
        raise ValueError("NaN is not accepted: expected a number or infinity")
    if wanted is float and value in ("Infinity", "-Infinity", "inf", "-inf"):  # as JSON and Python spell .inf
        return float(value)
    if wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if type(value) is not wanted:
        raise ValueError(f"{quoted(value)} is not of type {shown}")
    return value
