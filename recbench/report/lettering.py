"""Text of others, such as labels, as pages and figures can show it: literally, whatever characters it has."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

OTHER_SCRIPTS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei",
    "WenQuanYi Micro Hei", "Microsoft YaHei", "PingFang SC", "Hiragino Sans GB", "Arial Unicode MS",
    "Noto Sans", "Noto Emoji",
)  # fmt: skip
"""Fonts that a figure takes characters from which matplotlib's own font lacks, as far as they are installed."""
_CONTROLS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
_CONTROLS |= dict.fromkeys(range(0x80, 0xA0), 0xFFFD)
# Characters that turn the direction of all text after them.
_CONTROLS |= dict.fromkeys((*range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD)


def visible(text: str) -> str:
    r"""Return text with control characters, such as those of terminals, as signs that show and do nothing.

    Example:
        >>> visible("\x1b[31mred")
        '␛[31mred'
    """
    return text.translate(_CONTROLS)


@cache
def families() -> tuple[str, ...]:
    """Return the fonts of figures: matplotlib's own, then those of :data:`OTHER_SCRIPTS` that are installed."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return ("DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed))


@cache
def _drawn() -> frozenset[int]:
    """Return the characters that one of the fonts of figures has."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    found: set[int] = set()
    for name in families():
        font: Any = get_font(findfont(FontProperties(family=[name])))
        found.update(font.get_charmap())
    return frozenset(found)


def literal(text: str) -> str:
    """Return text as matplotlib draws it literally, on one line: between two dollar signs it would read a formula, and
    what no font has becomes its number (``U+6F22``), as in LaTeX tables.
    """
    known = _drawn()
    line = visible(re.sub(r"\s", " ", text))
    shown = "".join(each if ord(each) in known else f"U+{ord(each):04X} " for each in line).strip()
    # A legend leaves out what begins with an underscore.
    return shown.replace("$", r"\$") if not shown.startswith("_") else " " + shown.replace("$", r"\$")
