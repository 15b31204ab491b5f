"""CSV that spreadsheets open safely."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable


def csv_text(columns: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return rows as CSV, with every number at full precision and None empty.

    An apostrophe precedes text that a spreadsheet would interpret as a formula.

    >>> print(csv_text(["method", "psnr"], [["l2", 20.5], ["=1+2", None]]), end="")
    method,psnr
    l2,20.5
    '=1+2,
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(map(no_formula, columns))
    writer.writerows(map(no_formula, row) for row in rows)
    return stream.getvalue()


def no_formula(value: object) -> object:
    """Return a value for a CSV cell; an apostrophe precedes text that a spreadsheet would interpret as a formula.

    >>> no_formula("=SUM(A1)"), no_formula(-1.5)
    ("'=SUM(A1)", -1.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
