"""Pandas tables as CSV that spreadsheets open safely."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pandas import DataFrame


def csv_text(table: DataFrame) -> str:
    """Return a table as CSV, with every number at full precision and missing values empty.

    An apostrophe precedes text that a spreadsheet would interpret as a formula.
    """
    import pandas as pd

    rows = [[no_formula(value) for value in row] for row in table.itertuples(index=False, name=None)]
    # With the dtype object; DataFrame.map would infer one, and print integers next to missing values as 1.0.
    safe = pd.DataFrame(rows, columns=[no_formula(name) for name in table.columns], dtype=object)
    text: str = safe.to_csv(index=False, lineterminator="\n")
    return text


def no_formula(value: object) -> object:
    """Return a value for a CSV cell; an apostrophe precedes text that a spreadsheet would interpret as a formula.

    >>> no_formula("=SUM(A1)"), no_formula(-1.5)
    ("'=SUM(A1)", -1.5)
    """
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
