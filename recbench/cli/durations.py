"""Durations as text, such as ``1d12h`` or ``1:02:03``."""

from __future__ import annotations

import re

from recbench.errors import UserError

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_FORM = re.compile(r"(?:(\d+(?:\.\d+)?)([dhms]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])")


def parse_duration(text: str, option: str) -> float:
    """Return the seconds of a duration such as ``3h``, ``1d12h``, ``90m``, ``1.5h`` or ``45s``.

    Args:
        text: the duration.
        option: the option that it was given for, for the error.

    Raises:
        UserError: the text does not have that form, or the duration is zero.

    Example:
        >>> parse_duration("1d12h", "--timeout")
        129600.0
    """
    stripped = text.replace(" ", "").lower()
    parts = _PART.findall(stripped) if _FORM.fullmatch(stripped) else []
    units = [unit for _, unit in parts]
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not seconds or units != sorted(set(units), key="dhms".index):
        raise UserError(f"{option} {text}: expected a duration with units, such as 3h, 90m, 45s or 1d12h")
    return seconds


def duration(seconds: float) -> str:
    """Return seconds as hours, minutes and seconds.

    Example:
        >>> duration(3723), duration(123)
        ('1:02:03', '2:03')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
