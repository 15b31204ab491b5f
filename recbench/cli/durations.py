"""Times as people write them."""

from __future__ import annotations

import re

from recbench.errors import UserError

_SECONDS = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_FORM = re.compile(r"(?:(\d+(?:\.\d+)?)([dhms]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])")


def parse_duration(text: str, option: str) -> float:
    """Seconds of ``3h``, ``1d12h``, ``90m``, ``1.5h`` or ``45s``.

    Raises:
        UserError: it is nothing of that form, or no time at all.
    """
    stripped = text.replace(" ", "").lower()
    parts = _PART.findall(stripped) if _FORM.fullmatch(stripped) else []
    units = [unit for _, unit in parts]
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if not seconds or units != sorted(set(units), key="dhms".index):
        raise UserError(f"{option} {text}: give a time with its unit, such as 3h, 90m, 45s or 1d12h")
    return seconds


def duration(seconds: float) -> str:
    """``1:02:03`` or ``2:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
