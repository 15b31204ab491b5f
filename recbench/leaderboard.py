"""Leaderboards: a pure function of a plan and its records.

One board for each setting (data set, architecture, training) and protocol: records whose protocol hashes differ are
never ranked together. A method is ranked once all its seeds are done; one that failed, diverged or is incomplete is
shown below, never left out.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

from recbench.jobs import Column, Frozen, Method, Plan, PlannedJob
from recbench.store import Cost, Number, Result, Score


class Cell(Frozen):
    """A metric of a method.

    Attributes:
        mean: mean over seeds of the mean over test images.
        std_images: spread over test images within a seed: root of the mean variance over seeds; null for set metrics.
        std_seeds: standard deviation (n − 1) of the seeds' means; null with a single seed.
        rank: place among the ranked methods by this metric (1 is best, ties share the mean place); null if unranked.
        best: whether it is ranked, and no ranked method is better by this metric.
    """

    mean: Number
    std_images: Number | None
    std_seeds: Number | None
    rank: float | None = None
    best: bool = False


class Row(Frozen):
    """A method on a board.

    Attributes:
        place: by mean rank, from 1; ties share a place; null where the method is not ranked.
        status: ``"ranked"``, ``"incomplete"`` (seeds missing), ``"failed"`` or ``"diverged"`` (a seed ended so).
        trouble: one line for each seed that failed or diverged.
    """

    place: int | None
    label: str
    loss: str
    family: str
    params: dict[str, object]
    kl_weight: float
    status: Literal["ranked", "incomplete", "failed", "diverged"]
    seeds_done: int
    seeds: int
    mean_rank: float | None
    cells: dict[str, Cell]
    kl: float | None
    cost: Cost | None = None
    trouble: tuple[str, ...] = ()


class Board(Frozen):
    """The methods of one setting, best first; then those that cannot be ranked."""

    setting: str
    shape: tuple[int, int, int]
    protocol: str | None
    test_images: int | None
    columns: tuple[Column, ...]
    ranking: tuple[str, ...]
    rows: tuple[Row, ...]


class Leaderboard(Frozen):
    """All boards of a suite, with how many of its jobs are done."""

    suite: str
    description: str
    jobs: int
    done: int
    boards: tuple[Board, ...]
    notes: tuple[str, ...] = ()


def rank(plan: Plan, records: Mapping[str, Result], unusable: Mapping[str, str] | None = None) -> Leaderboard:
    """Rank the methods of a plan by its records.

    Args:
        unusable: reasons why records of some jobs could not be used, by job id; told as notes.
    """
    by_setting: dict[int, list[PlannedJob]] = {}
    for planned in plan.jobs:
        if planned.split != "test":
            continue  # a candidate of tuning, which is chosen among its like and never ranked
        by_setting.setdefault(planned.setting, []).append(planned)
    boards, notes = [], [f"job {job}: its record cannot be used: {why}" for job, why in (unusable or {}).items()]
    for setting, jobs in by_setting.items():
        protocols = _protocols(jobs, records)
        if len(protocols) > 1:
            notes.append(
                f"{plan.settings[setting].label}: its records follow {len(protocols)} protocols (other images, or "
                "other code for the data or the network) and are not ranked together"
            )
        for protocol in protocols or [None]:
            board = _board(plan, setting, protocol, jobs, records)
            boards.append(board)
            notes.extend(_remarks(board))
        warnings = {
            f"{plan.settings[setting].label}: {name}: {score.warning}"
            for planned in jobs
            if planned.id in records
            for name, score in records[planned.id].scores.items()
            if score.warning
        }
        notes.extend(sorted(warnings))
    done = sum(planned.id in records and records[planned.id].status == "done" for planned in plan.jobs)
    return Leaderboard(
        suite=plan.suite,
        description=plan.description,
        jobs=len(plan.jobs),
        done=done,
        boards=tuple(boards),
        notes=tuple(notes),
    )


def _remarks(board: Board) -> Iterator[str]:
    """Metrics that some ranked method has no value for, which therefore do not count."""
    for column in board.columns:
        without = [row.label for row in board.rows if row.status == "ranked" and column.name not in row.cells]
        if without:
            yield f"{board.setting}: {column.name} ranks nobody, since {', '.join(without)} cannot have a value for it"


def _protocols(jobs: Sequence[PlannedJob], records: Mapping[str, Result]) -> list[str | None]:
    """The protocols among records, the most frequent first."""
    counts: dict[str | None, int] = {}
    for planned in jobs:
        record = records.get(planned.id)
        if record is not None and record.protocol is not None:
            counts[record.protocol] = counts.get(record.protocol, 0) + 1
    return sorted(counts, key=lambda protocol: (-counts[protocol], str(protocol)))


def _board(
    plan: Plan, setting: int, protocol: str | None, jobs: Sequence[PlannedJob], records: Mapping[str, Result]
) -> Board:
    by_method: dict[int, dict[int, Result | None]] = {}
    for planned in jobs:
        record = records.get(planned.id)
        if record is not None and record.protocol not in (protocol, None):
            record = None
        by_method.setdefault(planned.method, {})[planned.seed] = record
    names = [column.name for column in plan.columns]
    rows = [_row(plan.methods[method], seeds, names) for method, seeds in by_method.items()]
    sound = [row for row in rows if row.status == "ranked"]
    ranking = tuple(name for name in plan.ranking if all(name in row.cells for row in sound))
    ranked = _ranked(sound, plan.columns, ranking)
    others = sorted((row for row in rows if row.status != "ranked"), key=lambda row: (row.status, row.label))
    images = (
        r.data.test for seeds in by_method.values() for r in seeds.values() if r is not None and r.data is not None
    )
    return Board(
        setting=plan.settings[setting].label,
        shape=plan.settings[setting].shape,
        protocol=protocol,
        test_images=next(images, None),
        columns=plan.columns,
        ranking=ranking,
        rows=(*ranked, *others),
    )


def _row(method: Method, seeds: Mapping[int, Result | None], names: Sequence[str]) -> Row:
    done = [record for record in seeds.values() if record is not None and record.status == "done"]
    trouble = {seed: record for seed, record in seeds.items() if record is not None and record.status != "done"}
    status: Literal["ranked", "incomplete", "failed", "diverged"] = "ranked"
    if any(record.status == "failed" for record in trouble.values()):
        status = "failed"
    elif trouble:
        status = "diverged"
    elif len(done) < len(seeds):
        status = "incomplete"
    rates = [record.evaluated.kl for record in done if record.evaluated is not None]
    return Row(
        place=None,
        label=method.label,
        loss=method.loss.name,
        family=method.family,
        params=method.loss.params,
        kl_weight=method.kl_weight,
        status=status,
        seeds_done=len(done),
        seeds=len(seeds),
        mean_rank=None,
        cells={
            name: _cell([record.scores[name] for record in done])
            for name in names
            if done and all(name in record.scores for record in done)
        },
        kl=statistics.fmean(rates) if rates else None,
        cost=_cost([record.cost for record in done if record.cost is not None]),
        trouble=tuple(_trouble(seed, record) for seed, record in trouble.items()),
    )


def _cost(costs: Sequence[Cost]) -> Cost | None:
    """Means over the seeds; the peak of memory is the highest."""
    if not costs:
        return None
    return Cost(
        images_per_second=statistics.fmean(cost.images_per_second for cost in costs),
        step_milliseconds=statistics.fmean(cost.step_milliseconds for cost in costs),
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
        parameters=costs[0].parameters,
    )


def _trouble(seed: int, record: Result) -> str:
    assert record.failure is not None, "a record without scores says why"
    message = record.failure.message.strip().partition("\n")[0]
    # An exception's message alone is often nothing ("'z'"); that a job diverged says it all.
    what = message if record.status == "diverged" and message else f"{record.failure.type}: {message}".rstrip(": ")
    return f"seed {seed} {record.status}: {what}"


def _cell(scores: Sequence[Score]) -> Cell:
    means = [score.mean for score in scores]
    spreads = [score.std for score in scores if score.std is not None]
    mean = statistics.fmean(means)
    several = len(means) > 1 and math.isfinite(mean)
    return Cell(
        mean=mean,
        std_images=math.hypot(*spreads) / math.sqrt(len(spreads)) if len(spreads) == len(scores) else None,
        std_seeds=math.dist(means, [mean] * len(means)) / math.sqrt(len(means) - 1) if several else None,
    )


def _ranked(rows: Sequence[Row], columns: Iterable[Column], ranking: Sequence[str]) -> list[Row]:
    """The rows by mean rank over the suite's ranking metrics, with all ranks filled in."""
    ranks, best = {}, {}
    for column in columns:
        if not all(column.name in row.cells for row in rows):
            continue  # some methods have no value: nothing to rank all of them by
        sign = -1 if column.direction == "higher" else 1
        values = [sign * row.cells[column.name].mean for row in rows]
        ranks[column.name] = _mean_places(values)
        best[column.name] = sign * min(values, default=math.inf)
    mean_ranks = [statistics.fmean(ranks[name][i] for name in ranking) if ranking else 1.0 for i in range(len(rows))]
    best_first = sorted(mean_ranks)
    full = []
    for i, row in enumerate(rows):
        cells = {
            name: cell.model_copy(update={"rank": ranks[name][i], "best": cell.mean == best[name]})
            if name in ranks
            else cell
            for name, cell in row.cells.items()
        }
        place = 1 + bisect_left(best_first, mean_ranks[i] - 1e-9)
        full.append(row.model_copy(update={"place": place, "mean_rank": mean_ranks[i], "cells": cells}))
    return sorted(full, key=lambda row: (row.place or 0, row.label))


def _mean_places(values: Sequence[float]) -> list[float]:
    """Places of values from the smallest (1); equal values share the mean of their places."""
    order = sorted(values)
    return [(bisect_left(order, value) + bisect_right(order, value) + 1) / 2 for value in values]
