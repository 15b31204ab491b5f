"""Boards of methods whose reconstructions were given, and which recbench did not train.

The statistics are those of every board; what a board says of training is left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recbench.analysis.board import Board, Leaderboard, MetricCell, Row
from recbench.analysis.per_image import counted_scores
from recbench.analysis.ranking import MOST_COMPARED, metric_verdict, overall_verdict, ranked_rows
from recbench.analysis.significance import Findings, findings
from recbench.analysis.statistics import moments, moments_of_means
from recbench.plan.model import Column
from recbench.store.record import ComparedSets

GivenScores = Mapping[str, Sequence[NDArray[np.float64]]]
"""By metric, an array for each method: scores (S, N) of S seeds and N images, or (S,) of a metric of whole sets."""


def rank_given(
    name: str,
    setting: str,
    shape: tuple[int, int, int],
    images: int,
    methods: Sequence[str],
    columns: Sequence[Column],
    scores: GivenScores,
    *,
    confidence: float = 0.95,
    notes: Sequence[str] = (),
    compared: Mapping[str, tuple[ComparedSets, ...]] | None = None,
) -> Leaderboard:
    """Rank methods by scores of the same images.

    Args:
        name: of the leaderboard.
        setting: what all methods have reconstructed, in words.
        shape: channels, height and width of the images.
        images: their number N.
        methods: their names.
        columns: the metrics, all of which rank.
        scores: for every column.
        confidence: of intervals, rank intervals and tiers, in (0, 1).
        notes: for the reader.
        compared: as a board has it.
    """
    remarks, sure = list(notes), len(methods) <= MOST_COMPARED
    counted = {column.name: [_counted(values, column) for values in scores[column.name]] for column in columns}
    rows = [
        Row(
            place=None,
            label=method,
            loss="",
            families=(),
            params={},
            kl_weight=None,
            status="ranked",
            seeds_done=len(scores[columns[0].name][i]),
            seeds=len(scores[columns[0].name][i]),
            mean_rank=None,
            cells={c.name: _cell(scores[c.name][i], counted[c.name][i]) for c in columns},
            kl=None,
        )
        for i, method in enumerate(methods)
    ]
    found = {column.name: _findings(column, counted[column.name], confidence) for column in columns} if sure else {}
    if not sure:
        remarks.append(f"more than {MOST_COMPARED} methods: there are no intervals, rank intervals or tiers")
    names = tuple(column.name for column in columns)
    level = confidence if sure else None
    ranked, order, together = ranked_rows(rows, columns, names, found, level)
    places = {method: place for place, method in enumerate(order)}
    board = Board(
        setting=setting,
        shape=shape,
        protocol=None,
        test_images=images,
        columns=tuple(columns),
        ranking=names,
        rows=tuple(ranked),
        confidence=level,
        verdicts={label: metric_verdict(one, order, places) for label, one in found.items()},
        overall=overall_verdict(together, order, places) if together else None,
        compared=dict(compared or {}),
    )
    return Leaderboard(suite=name, description="", jobs=0, done=0, boards=(board,), notes=tuple(remarks))


def _counted(values: NDArray[np.float64], column: Column) -> NDArray[np.float64]:
    return values if values.ndim == 1 else np.stack([counted_scores(seed, column) for seed in values])


def _findings(column: Column, methods: Sequence[NDArray[np.float64]], confidence: float) -> Findings:
    with np.errstate(invalid="ignore"):  # infinite scores have no variance
        if methods[0].ndim == 1:
            return findings(column, moments_of_means(methods), False, confidence)
        return findings(column, moments(methods), True, confidence)


def _cell(values: NDArray[np.float64], counted: NDArray[np.float64]) -> MetricCell:
    means = counted.reshape(len(counted), -1).mean(1)
    mean = float(means.mean())
    with np.errstate(invalid="ignore"):
        spread = float(np.sqrt(values.var(1).mean())) if values.ndim == 2 else math.nan
    several = len(means) > 1 and math.isfinite(mean)
    return MetricCell(
        mean=mean,
        std_images=None if math.isnan(spread) else spread,
        std_seeds=float(means.std(ddof=1)) if several else None,
        infinite=int(np.isinf(values).sum()),
    )
