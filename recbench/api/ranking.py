"""Ranks, intervals and tiers of scores from anywhere: a table of method, seed, image and score."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from recbench.analysis.per_image import counted_scores
from recbench.analysis.significance import Findings, findings
from recbench.analysis.statistics import moments
from recbench.api.entries import PluginFiles, plugin_files, registry
from recbench.contracts.direction import Direction, check_direction
from recbench.contracts.entries import MetricScore
from recbench.errors import UserError, did_you_mean
from recbench.plan.model import Column

if TYPE_CHECKING:
    from pandas import DataFrame

COLUMNS = ("method", "seed", "image", "score")
_TABLE = "the table"
_NEEDED = "expected a table with the columns method, seed, image and score"


def rank(
    table: DataFrame | str | os.PathLike[str],
    *,
    metric: str = "",
    direction: Direction | None = None,
    score_range: tuple[float, float] | None = None,
    confidence: float = 0.95,
    plugins: PluginFiles = (),
) -> DataFrame:
    """Rank methods by scores of the same images, with intervals, rank intervals and tiers as on a board.

    Args:
        table: a row per method, seed and test image, with the columns ``method``, ``seed``, ``image`` and ``score``; or
            the path of a CSV file with these columns. All methods and seeds must be scored on the same images.
        metric: name of a metric of recbench, or of one of its scores, which gives direction and range; a column of that
            name counts as ``score`` if there is none, so that ``recbench.rank(board.per_image(), metric="psnr")`` ranks
            a suite.
        direction: ``"higher"`` or ``"lower"`` is better, or the score that is best; by default that of the metric, and
            ``"higher"`` without one.
        score_range: lowest and highest possible score, which intervals do not leave; by default those of the metric.
        confidence: of intervals, rank intervals and tiers, in (0, 1).
        plugins: single-file plugins that may offer the metric.

    Returns:
        A row per method, best first: ``place`` from 1, ``method``, ``mean``, ``low`` and ``high`` (the interval of the
        mean), ``rank_interval`` as text (``"1 to 3"``), ``tier``, ``seeds`` and ``images``. ``attrs["p"]`` holds the
        p-values of all pairs, Holm-corrected, as a table of methods by methods.

    Raises:
        UserError: the table lacks a column, a score or an image, or has one twice; the text says which.
    """
    if not isinstance(metric, str):
        raise UserError(f"expected the name of a metric, got {metric!r}")
    score = registry(plugin_files(plugins)).score(metric) if metric else None
    return ranked(table, column_of(score, direction, score_range), confidence)


def ranked(table: Any, column: Column, confidence: float) -> DataFrame:
    """Rank as :func:`rank` does, by scores of which a column of boards says all that is known."""
    import pandas as pd

    if isinstance(confidence, bool) or not isinstance(confidence, int | float) or not 0 < confidence < 1:
        raise UserError(f"confidence must be between 0 and 1, got {confidence!r}")
    rows, name = _rows(table, column.name)
    methods, scores = _scores(rows, name, column)
    with np.errstate(invalid="ignore"):  # infinite scores have no variance
        found = findings(column, moments(scores), True, confidence)
    return _described(pd, methods, scores, column, found)


def column_of(
    score: MetricScore | None, direction: Direction | None, score_range: tuple[float, float] | None
) -> Column:
    """Return what is known of the scores: what the metric's entry says, if there is one, unless it is given.

    Args:
        score: with all facts.
        direction, score_range: instead of its own.

    Raises:
        UserError: direction or range is none.
    """
    known: dict[str, Any] = {"name": "score", "direction": "higher"}
    if score is not None:
        known = {name: getattr(score, name) for name in ("name", "direction", "digits", "score_range")}
    if direction is not None:
        try:
            check_direction("direction", direction)
        except (TypeError, ValueError):
            wanted = "'higher', 'lower' or the score that is best"
            raise UserError(f"direction must be {wanted}, got {direction!r}") from None
        known["direction"] = direction
    if score_range is not None:
        try:
            low, high = (float(end) for end in score_range)
        except (TypeError, ValueError):
            low = high = math.nan
        if not low < high:
            raise UserError(f"score_range must be (lowest, highest), got {score_range!r}")
        known["score_range"] = (low, high)
    return Column(**known)


def _rows(table: Any, metric: str) -> tuple[DataFrame, str]:
    """Return the rows with the columns of :data:`COLUMNS`, and what messages call the table."""
    import pandas as pd

    name = _TABLE
    if isinstance(table, str | os.PathLike):
        name = str(table)
        try:
            table = pd.read_csv(Path(table), dtype=str, keep_default_na=False)
        except OSError as error:
            raise UserError(f"{name} cannot be read: {error.strerror or error}") from None
        except (ValueError, pd.errors.ParserError) as error:
            raise UserError(f"{name} cannot be read as CSV: {str(error).strip()}") from None
    elif not isinstance(table, pd.DataFrame):
        try:
            table = pd.DataFrame(table)
        except (ValueError, TypeError):
            raise UserError(f"{_NEEDED}, got {type(table).__name__}") from None
    if "score" not in table.columns and metric in table.columns:
        table = table.rename(columns={metric: "score"})
    for column in COLUMNS:
        if column not in table.columns:
            have = [str(one) for one in table.columns]
            hint = f"; {did_you_mean(column, have)}" if have else ""
            raise UserError(f"{name} has no column '{column}': {_NEEDED}{hint}")
    if not len(table):
        raise UserError(f"{name} has no rows: {_NEEDED}")
    rows: DataFrame = table[list(COLUMNS)].reset_index(drop=True)
    empty = rows[["method", "seed", "image"]].isna() | (rows[["method", "seed", "image"]] == "")
    for column in empty.columns:
        if empty[column].any():
            raise UserError(f"{name}: {_row(empty[column], name)} has no {column}")
    numbers = rows["score"].map(_number).astype("float64")
    if numbers.isna().any():
        first = rows["score"][int(numbers.isna().argmax())]
        came = "NaN" if isinstance(first, float) else repr(first)
        raise UserError(f"{name}: {_row(numbers.isna(), name)} has no number as score, but {came}")
    return rows.assign(score=numbers, method=rows["method"].astype(str)), name


def _number(value: Any) -> float:
    """Return a score as Python reads it, to the last bit; NaN if it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _row(wrong: Any, name: str) -> str:
    """Name the first row that is wrong: rows of tables count from 1, and the first line of a file has the columns."""
    first = int(wrong.argmax())
    return f"row {first + 1}" if name == _TABLE else f"line {first + 2}"


def _scores(rows: DataFrame, name: str, column: Column) -> tuple[list[str], list[NDArray[np.float64]]]:
    """Return the methods in the order of the table, and the scores of each, (S, N), images in one order.

    Raises:
        UserError: a score is missing, or there twice.
    """
    twice = rows.duplicated(["method", "seed", "image"])
    if twice.any():
        method, seed, image = rows.loc[int(twice.argmax()), ["method", "seed", "image"]]
        raise UserError(f"{name}: {_row(twice, name)} is a second score of {method}, seed {seed}, image {image}")
    images = rows["image"].drop_duplicates()
    wide = rows.pivot(index=["method", "seed"], columns="image", values="score")[list(images)]
    if wide.isna().to_numpy().any():
        gap = np.argwhere(wide.isna().to_numpy())[0]
        method, seed = wide.index[gap[0]]
        count = int(wide.iloc[gap[0]].notna().sum())
        lacks = f"{count} of {len(images)} images, and lacks image {images.iloc[gap[1]]}"
        raise UserError(
            f"{name}: {method}, seed {seed} has {lacks}: all methods and seeds must be scored on the same images"
        )
    methods = list(rows["method"].drop_duplicates())
    found = []
    for method in methods:
        seeds = wide.loc[method].to_numpy(dtype=np.float64)
        found.append(np.stack([counted_scores(values, column) for values in seeds]))
    return methods, found


def _described(
    pd: Any, methods: Sequence[str], scores: Sequence[NDArray[np.float64]], column: Column, found: Findings
) -> DataFrame:
    order = sorted(range(len(methods)), key=lambda i: (found.costs[i], methods[i]))
    places = [1 + int((found.costs < found.costs[i]).sum()) for i in range(len(methods))]
    rows: list[Mapping[str, Any]] = []
    for i in order:
        low, high = (float(f"{end:.10g}") for end in found.intervals[i])
        best, worst = found.rank_intervals[i]
        rows.append(
            {
                "place": places[i],
                "method": methods[i],
                "mean": float(np.mean([seed.mean() for seed in scores[i]])),
                "low": low,
                "high": high,
                "rank_interval": f"{best} to {worst}",
                "tier": found.tiers[i],
                "seeds": len(scores[i]),
                "images": scores[i].shape[1],
            }
        )
    described = pd.DataFrame(rows)
    names = [methods[i] for i in order]
    described.attrs = {
        "p": pd.DataFrame(found.corrected[np.ix_(order, order)], index=names, columns=names),
        "metric": column.name,
        "direction": column.direction,
    }
    return cast("DataFrame", described)
