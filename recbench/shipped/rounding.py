"""Scores per image with fewer digits, so that a board of many jobs is small, and the mean of its record stays exact.

A column is rounded to multiples of a power of two, at most 1/steps of its standard deviation over images. The error of
a score is then at most one such step, and its variance below a thousandth of that over images for 16 steps or more.
Then the values nearest to a middle between two multiples are moved to the other side until their sum is right to one
step, and the last image takes what remains: readers check that scores have the mean that their record states.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ENOUGH = 1e-10
"""The largest relative change of a mean; readers allow 1e-9."""


def rounded(values: NDArray[np.float64], steps: int) -> NDArray[np.float64]:
    """Return scores, (N,), rounded to at most 1/steps of their standard deviation, with the same mean.

    Columns with infinite scores, and those that cannot keep their mean, are returned as they are.
    """
    import numpy as np

    spread = float(values.std()) if np.isfinite(values).all() and len(values) > 1 else 0.0
    if not 1e-30 < spread < 1e30:
        return values
    step = 2.0 ** np.floor(np.log2(spread / steps))
    exact = values / step
    found = np.round(exact)
    excess = round(float((found - exact).sum()))
    if excess:
        ahead = (found - exact) * np.sign(excess)
        moved = np.argsort(-ahead, kind="stable")[: abs(excess)]
        found[moved] -= np.sign(excess)
    found *= step
    found[-1] += values.sum() - found.sum()
    close = abs(found.mean() - values.mean()) <= _ENOUGH * abs(values.mean())
    return found if close else values


def rounded_content(columns: Mapping[str, NDArray[np.float64]], steps: int) -> bytes:
    """Return the content of a ``scores.parquet`` with rounded columns, compressed as far as it goes."""
    import numpy as np
    import pyarrow
    from pyarrow import parquet

    data = {}
    for name, values in columns.items():
        found = rounded(values, steps)
        with np.errstate(over="ignore"):
            narrow = found.astype(np.float32)
        whole = np.array_equal(narrow.astype(np.float64)[:-1], found[:-1]) and np.isclose(
            narrow.astype(np.float64).mean(), values.mean(), rtol=_ENOUGH, atol=0
        )
        data[name] = narrow if whole else found
    stream = io.BytesIO()
    parquet.write_table(
        pyarrow.table(data),
        stream,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
        column_encoding=dict.fromkeys(columns, "BYTE_STREAM_SPLIT"),
    )
    return stream.getvalue()
