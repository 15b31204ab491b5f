"""Any text as LaTeX that compiles with pdfLaTeX, XeLaTeX and LuaLaTeX."""

from __future__ import annotations

import re
import unicodedata
from functools import cache

_SPECIAL = str.maketrans(
    {
        "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
        "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": "$<$", ">": "$>$", "|": "$|$", '"': "''",
        "±": r"$\pm$", "↑": r"$\uparrow$", "↓": r"$\downarrow$", "→": r"$\rightarrow$", "←": r"$\leftarrow$",
        "∞": r"$\infty$", "−": r"$-$", "·": r"$\cdot$", "×": r"$\times$", "–": "--", "—": "---", "…": r"\ldots{}",
        "‘": "`", "’": "'", "“": "``", "”": "''", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$", "≠": r"$\neq$",
        "½": r"$\frac{1}{2}$", "¼": r"$\frac{1}{4}$", "¾": r"$\frac{3}{4}$", "²": "$^2$", "³": "$^3$", "¹": "$^1$",
        "°": r"$^\circ$", "√": r"$\surd$", "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}",
        "ł": r"\l{}", "Ł": r"\L{}", "⌂": r"$^{\mathrm{h}}$", "◆": r"$\bullet$", "ς": r"$\varsigma$", "ο": "o",
        "⚠": r"$\triangle$", "\N{MICRO SIGN}": r"$\mu$", "\N{NO-BREAK SPACE}": "~",
    }
)  # fmt: skip
_GREEK = re.compile("GREEK (SMALL|CAPITAL) LETTER ([A-Z]+)")
_CAPITALS = ("gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega")
_LIKE_LATIN = {
    "alpha": "A", "beta": "B", "epsilon": "E", "zeta": "Z", "eta": "H", "iota": "I", "kappa": "K", "mu": "M", "nu": "N",
    "omicron": "O", "rho": "P", "tau": "T", "chi": "X",
}  # fmt: skip
_ACCENTS = {
    "\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0304": "=", "\u0306": "u", "\u0307": ".",
    "\u0308": '"', "\u030a": "r", "\u030b": "H", "\u030c": "v", "\u0327": "c",
}  # fmt: skip


def escape(text: str) -> str:
    r"""Return text for the body of a document, on one line.

    Greek letters become mathematics, accented ones commands. A letter that pdfLaTeX lacks is left unchanged for the
    other engines, whose font must have it, and replaced by its number (``U+6F22``) for pdfLaTeX.

    >>> print(escape("kl_weight β é"))
    kl\_weight $\beta$ \'{e}
    """
    return "".join(map(_character, unicodedata.normalize("NFC", " ".join(text.split()))))


def comment(text: str) -> str:
    """Return text as a comment of one line."""
    return "% " + " ".join(text.split())


@cache
def _character(character: str) -> str:
    if character.isascii() or ord(character) in _SPECIAL:
        return character.translate(_SPECIAL) if character.isprintable() else ""
    greek = _GREEK.fullmatch(unicodedata.name(character, ""))
    if greek:
        name = greek[2].lower().replace("lamda", "lambda")
        if greek[1] == "SMALL":
            return f"$\\{name}$"
        return f"$\\{name.capitalize()}$" if name in _CAPITALS else f"$\\mathrm{{{_LIKE_LATIN[name]}}}$"
    parts = unicodedata.normalize("NFD", character)
    if len(parts) == 2 and parts[0].isascii() and parts[0].isalpha() and parts[1] in _ACCENTS:
        return f"\\{_ACCENTS[parts[1]]}{{{parts[0]}}}"
    return f"\\ifdefined\\Uchar {character}\\else U+{ord(character):04X}\\fi{{}}"
