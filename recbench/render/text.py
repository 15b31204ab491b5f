"""Numbers and column heads as text."""

from __future__ import annotations

import math

from recbench.plan.model import Column


def head(column: Column) -> str:
    """Return the head of a metric's column: ``psnr [dB] ↑``, or ``sharpness_recon → 1``."""
    unit = f" [{column.unit}]" if column.unit else ""
    arrow = f"→ {column.target:g}" if column.target is not None else "↑" if column.direction == "higher" else "↓"
    return f"{column.name}{unit} {arrow}"


def number(value: float | None, digits: int) -> str:
    """Return a number with so many decimals; a dash for None.

    >>> number(3.14159, 2), number(float("inf"), 2), number(None, 2)
    ('3.14', '∞', '–')
    """
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if math.isfinite(value) else ("∞" if value > 0 else "−∞")


def percent(confidence: float) -> str:
    """Return a confidence as text.

    >>> percent(0.95), percent(0.999)
    ('95 %', '99.9 %')
    """
    return f"{100 * confidence:g} %"
