"""Records, histories, scores and boards as tables: functions named ``…_table`` return pandas tables, for notebooks;
``…_cells`` return columns and rows, which CSV files are written from without the half second that pandas takes to load.

Columns of pandas tables have the dtype object, so that integers with missing values stay integers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recbench.analysis.board import Board, Leaderboard, MetricCell, Row
from recbench.analysis.published import PublishedTable
from recbench.plan.model import PlannedJob
from recbench.plan.plan import Plan
from recbench.store.costs import COST_COLUMNS
from recbench.store.record import Result

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pandas import DataFrame

Cells = tuple[list[str], list[list[Any]]]
"""The columns of a table, and its rows; None where a value is missing."""


# Jobs


def scores_table(plan: Plan, records: Mapping[str, Result]) -> DataFrame:
    """Return a row per job and metric, in the order of the plan; jobs without scores have none.

    Args:
        records: by job id, as :func:`recbench.sweep.sweep.inspect` finds them.

    Returns:
        Columns ``job``, ``setting``, ``method``, ``seed``, ``split``, ``metric``, ``mean`` and ``std`` over test
        images (std missing for metrics of whole sets), and ``n``, the number of images.
    """
    found = ((planned, records[planned.id]) for planned in plan.jobs if planned.id in records)
    return _table(
        {
            **_job(plan, planned),
            "split": planned.split,
            "metric": name,
            "mean": score.mean,
            "std": score.std,
            "n": score.n,
        }
        for planned, record in found
        for name, score in record.scores.items()
    )


def history_table(plan: Plan, histories: Mapping[str, Iterable[Mapping[str, float]]]) -> DataFrame:
    """Return a row per epoch of each job, in the order of the plan.

    Args:
        histories: epochs by job id, as :func:`recbench.store.artifacts.read_history` returns them.

    Returns:
        Columns ``job``, ``setting``, ``method``, ``seed``, ``epoch``, then all that any of the epochs holds.
    """
    return _table(_epochs(plan, histories))


def history_cells(plan: Plan, histories: Mapping[str, Iterable[Mapping[str, float]]], values: Sequence[str]) -> Cells:
    """Return the rows of :func:`history_table`, with these values of the epochs as columns."""
    return _cells(_epochs(plan, histories), ["job", "setting", "method", "seed", "epoch", *values])


def _epochs(plan: Plan, histories: Mapping[str, Iterable[Mapping[str, float]]]) -> Iterator[dict[str, Any]]:
    for planned in plan.jobs:
        for epoch in histories.get(planned.id, ()):
            values = {name: value for name, value in epoch.items() if name != "epoch"}
            yield {**_job(plan, planned), "epoch": int(epoch["epoch"]), **values}


def per_image_table(plan: Plan, scores: Mapping[str, Mapping[str, NDArray[np.float64]]]) -> DataFrame:
    """Return a row per job and test image, in the order of the plan.

    Args:
        scores: by job id and metric, each (N,), as :func:`recbench.store.artifacts.read_scores` returns them.

    Returns:
        Columns ``job``, ``setting``, ``method``, ``seed``, ``image`` (from 0), then a column for each metric.
    """
    import pandas as pd

    parts = []
    for planned in plan.jobs:
        if planned.id in scores:
            values = pd.DataFrame(dict(scores[planned.id]))
            facts = {name: [fact] * len(values) for name, fact in _job(plan, planned).items()}
            parts.append(pd.concat([pd.DataFrame({**facts, "image": range(len(values))}), values], axis=1))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _job(plan: Plan, planned: PlannedJob) -> dict[str, Any]:
    return {
        "job": planned.id,
        "setting": plan.settings[planned.setting].label,
        "method": plan.methods[planned.method].label,
        "seed": planned.seed,
    }


# Boards


def board_table(leaderboard: Leaderboard, *, cost: bool = False) -> DataFrame:
    """Return a row per method of each board: all that ``leaderboard.csv`` holds.

    Args:
        cost: include the columns of training cost.
    """
    return _table(_methods(leaderboard, cost=cost))


def board_cells(leaderboard: Leaderboard, *, cost: bool = False) -> Cells:
    """Return the columns and rows of :func:`board_table`."""
    return _cells(_methods(leaderboard, cost=cost))


def _methods(leaderboard: Leaderboard, *, cost: bool) -> Iterator[dict[str, Any]]:
    metrics = list(dict.fromkeys(column.name for board in leaderboard.boards for column in board.columns))
    tuned = any(row.tuned is not None for board in leaderboard.boards for row in board.rows)
    for board in leaderboard.boards:
        for row in (*board.rows, *board.baselines):
            facts = {"suite": leaderboard.suite, **_standing(board, row)}
            if cost:
                facts |= {c.field: c.value(row.cost) if row.cost else None for c in COST_COLUMNS}
                facts |= {"training_seconds": row.training_seconds, "time_to": row.time_to}
            if tuned:
                facts |= _tuned(row)
            for metric in metrics:
                cell = _metric(row.cells.get(metric))
                facts |= {f"{metric}_{name}": value for name, value in cell.items()}
            health = " | ".join(warned.sentence for warned in row.health)
            yield {**facts, "trouble": " | ".join(row.trouble), "health": health}


def _standing(board: Board, row: Row) -> dict[str, Any]:
    return {
        "setting": board.setting,
        "protocol": board.protocol,
        "place": row.place,
        "method": row.label,
        "loss": row.loss,
        "params": json.dumps(row.params, ensure_ascii=False),
        "kl_weight": row.kl_weight,
        "status": row.status,
        "seeds_done": row.seeds_done,
        "seeds": row.seeds,
        "mean_rank": row.mean_rank,
        "kl": row.kl,
        "tier": row.tier,
        "rank_interval": _ends(row.rank_interval),
        "out_of_family_place": row.out_of_family_place,
        "out_of_family_rank": row.out_of_family_rank,
        "borda": row.borda,
        "pareto": row.pareto if row.status == "ranked" else None,
    }


def _tuned(row: Row) -> dict[str, Any]:
    facts = row.tuned.model_dump(mode="json") if row.tuned is not None else {}
    names = ("values", "scale", "trials", "failed", "metric", "score", "edge", "best_of")
    values = ((name, facts.get(name)) for name in names)
    return {
        f"tuned_{name}": json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value
        for name, value in values
    }


def _metric(cell: MetricCell | None) -> dict[str, Any]:
    low, high = (cell and cell.interval) or (None, None)
    return {
        "mean": cell and cell.mean,
        "std_images": cell and cell.std_images,
        "std_seeds": cell and cell.std_seeds,
        "rank": cell and cell.rank,
        "low": low,
        "high": high,
        "rank_interval": cell and _ends(cell.rank_interval),
        "tier": cell and cell.tier,
        "in_family": cell and cell.in_family,
    }


def _ends(ranks: tuple[int, int] | None) -> str | None:
    """Return ``1 to 3``, which no spreadsheet takes for a date."""
    return None if ranks is None else f"{ranks[0]} to {ranks[1]}"


# Published numbers


_PUBLISHED = (
    "suite", "setting", "protocol", "source", "kind", "metric", "method", "published", "published_std", "measured",
    "std_seeds", "difference", "in_stds", "worse", "worse_published", "worse_measured", "p", "verdict", "why",
)  # fmt: skip


def published_cells(suite: str, tables: Sequence[PublishedTable]) -> Cells:
    """Return columns, and a row per printed number, per ordering and per metric that the suite does not compute.

    The column ``kind`` holds ``number``, ``ordering`` (``method`` was printed as better than ``worse``) or
    ``not computed``.
    """
    rows = (
        {"suite": suite, "setting": table.setting, "protocol": table.protocol, "source": table.source, **facts}
        for table in tables
        for facts in _printed(table)
    )
    return _cells(rows, _PUBLISHED)


def _printed(table: PublishedTable) -> Iterator[dict[str, Any]]:
    for one in table.compared:
        yield {
            "kind": "number",
            "metric": one.metric,
            "method": one.method,
            "published": one.published,
            "published_std": one.std,
            "measured": one.measured,
            "std_seeds": one.std_seeds,
            "difference": one.difference,
            "in_stds": one.in_stds,
        }
    for claim in table.claims:
        yield {
            "kind": "ordering",
            "metric": claim.metric,
            "method": claim.better,
            "published": claim.published[0],
            "measured": claim.measured[0],
            "worse": claim.worse,
            "worse_published": claim.published[1],
            "worse_measured": claim.measured[1],
            "p": claim.p,
            "verdict": claim.verdict,
            "why": claim.why,
        }
    for metric in table.not_computed:
        yield {"kind": "not computed", "metric": metric}


def _cells(rows: Iterable[Mapping[str, Any]], columns: Sequence[str] = ()) -> Cells:
    rows = list(rows)
    names = list(columns or dict.fromkeys(name for row in rows for name in row))
    return names, [[row.get(name) for name in names] for row in rows]


def _table(rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    import pandas as pd

    columns, cells = _cells(rows)
    return pd.DataFrame(cells, columns=columns, dtype=object)
