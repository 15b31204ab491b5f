"""Any text as Markdown."""

from __future__ import annotations

import re


def escape(text: str) -> str:
    r"""Return text on one line with everything escaped that Markdown would take for markup.

    Brackets are escaped only where they would make a link.

    >>> print(escape("kl_weight = 2 * [a](b)"))
    kl\_weight = 2 \* [a\](b)
    """
    escaped = re.sub(r"[\\`*_<>|~$]|\](?=[(\[])", r"\\\g<0>", text)
    return " ".join(escaped.replace("&", "&amp;").split())
