"""Leaderboards: a pure function of a plan and its records.

There is one board per setting (data set, architecture, training) and protocol: records whose protocol hashes differ are
never ranked together. A method is ranked once all its seeds are done; one that failed, diverged or is incomplete is
shown below, never left out. Rows come from :mod:`recbench.analysis.rows`; intervals, rank intervals and tiers from
:mod:`recbench.analysis.significance`.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from recbench.analysis.board import Board, Leaderboard, MetricCell, OverallVerdict, Row, Verdict
from recbench.analysis.health import baseline_warnings
from recbench.analysis.protocols import Key, explain_protocols, key
from recbench.analysis.rows import MethodRows, compared_sets, reasons
from recbench.analysis.tuning import remarks
from recbench.plan.model import Column, PlannedJob
from recbench.plan.plan import Plan
from recbench.store.record import Result
from recbench.store.store import Store

if TYPE_CHECKING:  # numpy and scipy take longer to import than many a command to run
    from recbench.analysis.per_image import PerImageScores, ScoreFiles
    from recbench.analysis.significance import Findings, Overall


__all__ = ["metric_verdict", "overall_verdict", "rank", "rank_stored", "ranked_rows"]


MOST_COMPARED = 500
"""Largest number of ranked methods of a board for statistics: time, memory and files grow with its square."""


def rank(
    plan: Plan,
    records: Mapping[str, Result],
    unusable: Mapping[str, str] | None = None,
    *,
    files: ScoreFiles | None = None,
    confidence: float | None = 0.95,
    ranking: Sequence[str] | None = None,
    time_to: tuple[str, float] | None = None,
) -> Leaderboard:
    """Rank the methods of a plan by its records.

    Args:
        plan: the suite, laid out as jobs.
        records: by job id; jobs without one count as not done.
        unusable: why the records of some jobs could not be read, by job id; listed in the notes.
        files: scores per test image; without them, methods are compared as if each had its own test images.
        confidence: of intervals, rank intervals and tiers, in (0, 1); None leaves statistics out.
        ranking: labels of metrics to rank by, instead of the suite's.
        time_to: a metric, or a column of ``history.jsonl`` (which needs ``files``), and the value to reach.

    Returns:
        A board for each setting and protocol, and notes on what could not be ranked or compared.
    """
    if ranking is not None:
        plan = plan.model_copy(update={"ranking": tuple(ranking)})
    by_setting: dict[int, list[PlannedJob]] = {}
    for planned in plan.jobs:
        if planned.split != "test" or planned.setting in plan.fitted:
            continue  # a candidate of tuning, scored on validation images and never ranked, or a baseline
        by_setting.setdefault(planned.setting, []).append(planned)
    for search in plan.searches:
        by_setting.setdefault(search.setting, [])
    boards, notes = [], [f"job {job}: its record cannot be used: {why}" for job, why in (unusable or {}).items()]
    for setting, jobs in by_setting.items():
        label = plan.settings[setting].label
        protocols = _protocols(jobs, records)
        explained = list(explain_protocols(plan, jobs, records))
        if len(protocols) > 1:
            notes.append(
                f"{label}: its records follow {len(protocols)} protocols and are not ranked together: "
                + "; ".join(explained)
            )
        else:
            notes.extend(f"{label}: {line}" for line in explained)
        groups: list[Key | None] = [*protocols]
        for protocol in groups or [None]:
            board = _BoardBuilder(plan, setting, protocol, jobs, records, files, confidence, time_to).board()
            boards.append(board)
            notes.extend(_remarks(board, _unscored(plan, jobs, records), reasons(plan, jobs, records)))
            if confidence is not None and board.confidence is None:
                notes.append(
                    f"{label}: more than {MOST_COMPARED} methods: not all pairs are compared, so there are no "
                    "intervals, rank intervals or tiers"
                )
        notes.extend(remarks(plan, setting))
        notes.extend(f"{label}: {warning}" for warning in _warnings(plan, jobs, records))
    if files is not None:
        notes.extend(dict.fromkeys(files.warnings))
    counted = (planned for planned in plan.jobs if planned.split == "test")
    done = sum(planned.id in records and records[planned.id].status == "done" for planned in counted)
    return Leaderboard(
        suite=plan.suite,
        description=plan.description,
        jobs=plan.counts[1],
        done=done,
        boards=tuple(boards),
        notes=tuple(notes),
    )


def rank_stored(
    plan: Plan,
    store: Store,
    records: Mapping[str, Result],
    unusable: Mapping[str, str] | None = None,
    *,
    confidence: float | None = 0.95,
    ranking: Sequence[str] | None = None,
    time_to: tuple[str, float] | None = None,
) -> Leaderboard:
    """Rank as :func:`rank` does, with the scores per image of a store; caches their moments in the store."""
    from recbench.analysis.per_image import ScoreFiles

    files = ScoreFiles(store)
    leaderboard = rank(plan, records, unusable, files=files, confidence=confidence, ranking=ranking, time_to=time_to)
    files.save()
    return leaderboard


def _unscored(plan: Plan, jobs: Sequence[PlannedJob], records: Mapping[str, Result]) -> set[tuple[str, str]]:
    """Return the metrics that finished jobs are not scored with as the plan has them, each with the method's label."""
    return {
        (name, plan.methods[planned.method].label)
        for planned in jobs
        if (record := records.get(planned.id)) is not None and record.status == "done"
        for name in plan.metrics
        if name not in record.scores and name not in record.without
    }


def _remarks(board: Board, unscored: Collection[tuple[str, str]], why: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """Yield a note for each metric that some ranked method has no value for, and which therefore does not count."""
    for column in board.columns:
        lacking = [row.label for row in board.rows if row.status == "ranked" and column.name not in row.cells]
        missing = [label for label in lacking if (column.name, label) in unscored]
        without = [label for label in lacking if label not in missing]
        if missing:
            yield (
                f"{board.setting}: {column.name} does not rank, since {_some(missing)} are not scored with it as "
                "the suite has it: 'recbench evaluate SUITE' does that"
            )
        if without:
            known = "; ".join(
                dict.fromkeys(why[column.name, label] for label in without if (column.name, label) in why)
            )
            lack = f"{', '.join(without)} cannot have a value for it{f' ({known})' if known else ''}"
            yield f"{board.setting}: {column.name} does not rank, since {lack}"
        yield from _infinities(board, column)


def _warnings(plan: Plan, jobs: Sequence[PlannedJob], records: Mapping[str, Result]) -> Iterator[str]:
    """Yield the warnings of scores, with the methods that they are about unless they are about all."""
    found: dict[str, list[str]] = {}
    for planned in jobs:
        for name, score in records[planned.id].scores.items() if planned.id in records else ():
            if score.warning:
                found.setdefault(f"{name}: {score.warning}", []).append(plan.methods[planned.method].label)
    everyone = {plan.methods[planned.method].label for planned in jobs}
    for warning, labels in sorted(found.items()):
        named = list(dict.fromkeys(labels))
        yield warning if len(named) == len(everyone) else f"{warning} ({_some(named)})"


def _infinities(board: Board, column: Column) -> Iterator[str]:
    """Yield what became of infinite scores of single images, and which means are infinite."""
    cells = {row.label: row.cells[column.name] for row in board.rows if column.name in row.cells}
    counted = [f"{cell.infinite} of {label}" for label, cell in cells.items() if cell.infinite and _is_finite(cell)]
    if counted:
        yield (
            f"{board.setting}: {column.name} is infinite for some test images ({_some(counted)}): each counts as the "
            "best finite score of its training"
        )
    infinite = [label for label, cell in cells.items() if not _is_finite(cell)]
    if infinite:
        yield f"{board.setting}: {column.name} is infinite (∞) for {_some(infinite)}: ranked, but not tested"


def _is_finite(cell: MetricCell) -> bool:
    return math.isfinite(cell.mean)


def _some(labels: Sequence[str], most: int = 5) -> str:
    return ", ".join(labels[:most]) + (f" and {len(labels) - most} more" if len(labels) > most else "")


def _protocols(jobs: Sequence[PlannedJob], records: Mapping[str, Result]) -> list[Key]:
    """Return the protocols among records, the most frequent first."""
    counts: dict[Key, int] = {}
    for planned in jobs:
        record = records.get(planned.id)
        if record is not None and record.protocol is not None:
            counts[key(record)] = counts.get(key(record), 0) + 1
    return sorted(counts, key=lambda protocol: (-counts[protocol], str(protocol)))


class _BoardBuilder:
    """Builds the board of one setting and protocol."""

    def __init__(
        self,
        plan: Plan,
        setting: int,
        protocol: Key | None,
        jobs: Sequence[PlannedJob],
        records: Mapping[str, Result],
        files: ScoreFiles | None,
        confidence: float | None,
        time_to: tuple[str, float] | None,
    ) -> None:
        self.plan = plan
        self.setting = setting
        self.protocol = protocol
        self.files = files
        self.confidence = confidence
        self.time_to = time_to
        self.rows = MethodRows(plan, setting, records, files, time_to)
        self.by_method: dict[int, dict[int, Result | None]] = {}
        for planned in jobs:
            record = records.get(planned.id)
            if record is not None and record.protocol is not None and key(record) != protocol:
                record = None
            self.by_method.setdefault(planned.method, {})[planned.seed] = record

    def board(self) -> Board:
        """Return the board: ranked rows, best first, then the others."""
        plan, columns = self.plan, self.plan.columns
        rows = {number: self.rows.row(number, seeds) for number, seeds in self.by_method.items()}
        sound = {number: row for number, row in rows.items() if row.status == "ranked"}
        complete = tuple(c for c in columns if sound and all(c.name in row.cells for row in sound.values()))
        names = {column.name for column in complete}
        ranking = tuple(name for name in plan.ranking if name in names or not sound)
        found: dict[str, Findings] = {}
        confidence = self.confidence if len(sound) <= MOST_COMPARED else None
        if confidence is not None and sound:
            from recbench.analysis.significance import compare_methods

            found = compare_methods(complete, [self._scored(number) for number in sound], confidence, self.files)
        baselines = tuple(self._baselines())
        ranked, order, together = ranked_rows(list(sound.values()), complete, ranking, found, confidence)
        places = {method: place for place, method in enumerate(order)}
        others = sorted(
            (row for row in (*rows.values(), *self.rows.undecided()) if row.status != "ranked"),
            key=lambda row: (row.status, row.label),
        )
        records = [record for seeds in self.by_method.values() for record in seeds.values() if record is not None]
        return Board(
            setting=plan.settings[self.setting].label,
            shape=plan.settings[self.setting].shape,
            protocol=self.protocol[0] if self.protocol else None,
            test_images=next((record.data.test for record in records if record.data is not None), None),
            columns=columns,
            ranking=ranking,
            rows=tuple(self._held_against(row, baselines) for row in (*ranked, *others)),
            confidence=confidence,
            verdicts={name: metric_verdict(verdict, order, places) for name, verdict in found.items()},
            overall=overall_verdict(together, order, places) if together else None,
            target=f"{self.time_to[0]} of {self.time_to[1]:g}" if self.time_to else "",
            baselines=baselines,
            compared=compared_sets(columns, records),
        )

    def _baselines(self) -> Iterator[Row]:
        """Yield the rows of the setting's baselines; one that saw other images than the board is left out."""
        for one in self.plan.baselines:
            if one.setting != self.setting:
                continue
            planned = next(job for job in self.plan.jobs if job.setting == one.fitted)
            record = self.rows.records.get(planned.id)
            images = record.data.fingerprint if record is not None and record.data is not None else None
            if images is None or self.protocol is None or images == self.protocol[1]:
                yield self.rows.baseline(planned, one.label)

    def _held_against(self, row: Row, baselines: Sequence[Row]) -> Row:
        found = tuple(baseline_warnings(row, baselines, self.plan.columns))
        return row.model_copy(update={"health": (*row.health, *found)}) if found else row

    def _scored(self, method: int) -> dict[str, list[PerImageScores]]:
        """Return the scores of a ranked method's seeds, by metric."""
        from recbench.analysis.per_image import PerImageScores

        done = [self.by_method[method][seed] for seed in sorted(self.by_method[method])]
        found: dict[str, list[PerImageScores]] = {}
        for record in done:
            assert record is not None, "all seeds of a ranked method are done"
            for name, score in record.scores.items():
                found.setdefault(name, []).append(PerImageScores(record.job_id, score, record.files))
        return found


def ranked_rows(
    rows: Sequence[Row],
    columns: Sequence[Column],
    ranking: Sequence[str],
    found: Mapping[str, Findings],
    confidence: float | None,
) -> tuple[list[Row], list[int], Overall | None]:
    """Return the rows by mean rank over the ranking metrics, with ranks and statistics filled in; their indices in
    ``rows``; and the statistics over all ranking metrics."""
    if not rows:
        return [], [], None
    from recbench.analysis.ordering import out_of_family_ranks, pareto_front
    from recbench.analysis.significance import overall

    costs = {column.name: [column.cost(row.cells[column.name].mean) for row in rows] for column in columns}
    ranks = {name: _mean_places(values) for name, values in costs.items()}
    best = {name: min(values) for name, values in costs.items()}
    mean_ranks = [statistics.fmean(ranks[name][i] for name in ranking) if ranking else 1.0 for i in range(len(rows))]
    places = _places(mean_ranks)
    criteria = [[costs[name][i] for name in ranking] for i in range(len(rows))]
    out_of_family = out_of_family_ranks(criteria, [[row.cells[name].in_family for name in ranking] for row in rows])
    their_places = _places([math.inf if rank is None else rank for rank in out_of_family])
    front = pareto_front(criteria)
    together = None
    if confidence is not None and ranking:
        together = overall([found[name] for name in ranking], mean_ranks, confidence)
    full = []
    for i, row in enumerate(rows):
        cells = dict(row.cells)
        for name, cell in row.cells.items():
            if name in ranks:
                facts: dict[str, object] = {"rank": ranks[name][i], "best": costs[name][i] == best[name]}
                cells[name] = cell.model_copy(update={**facts, **_statistics(found.get(name), i)})
        facts = {
            "place": places[i],
            "mean_rank": mean_ranks[i],
            "cells": cells,
            "out_of_family_rank": out_of_family[i],
            "out_of_family_place": None if out_of_family[i] is None else their_places[i],
            "borda": sum(len(rows) - ranks[name][i] for name in ranking),
            "pareto": front[i],
        }
        if together is not None:
            facts["rank_interval"] = together.rank_intervals[i]
            facts["tier"] = together.tiers[i]
        full.append(row.model_copy(update=facts))
    order = sorted(range(len(rows)), key=lambda i: (places[i], rows[i].label))
    return [full[i] for i in order], order, together


def _statistics(found: Findings | None, i: int) -> dict[str, object]:
    """Return what a metric's statistics add to the cell of a method."""
    if found is None:
        return {}
    low, high = (_short(float(end)) for end in found.intervals[i])
    return {
        "interval": None if math.isnan(low) else (low, high),
        "rank_interval": found.rank_intervals[i],
        "tier": found.tiers[i],
    }


def _short(value: float) -> float:
    """Return a value without the digits that another order of summation would change."""
    return float(f"{value:.10g}")


def metric_verdict(found: Findings, order: Sequence[int], places: Mapping[int, int]) -> Verdict:
    """Return a metric's verdict: ``order`` and ``places`` are those of the ranked rows, by number of the method."""
    from recbench.analysis.significance import condensed, rounded

    return Verdict(
        basis=found.basis,
        by_image=found.by_image,
        p=tuple(condensed(rounded(found.corrected), order)),
        groups=tuple(tuple(places[i] for i in group) for group in found.groups),
    )


def overall_verdict(found: Overall, order: Sequence[int], places: Mapping[int, int]) -> OverallVerdict:
    """Return the verdict over all ranking metrics; see :func:`metric_verdict`."""
    from recbench.analysis.significance import condensed

    return OverallVerdict(
        better=tuple(map(bool, condensed(found.better, order))),
        groups=tuple(tuple(places[i] for i in group) for group in found.groups),
    )


def _places(values: Sequence[float]) -> list[int]:
    """Return places from the smallest (1); values equal up to rounding share the first of their places."""
    order = sorted(values)
    return [1 + bisect_left(order, value - 1e-9) for value in values]


def _mean_places(values: Sequence[float]) -> list[float]:
    """Return places from the smallest (1); equal values share the mean of their places."""
    order = sorted(values)
    return [(bisect_left(order, value) + bisect_right(order, value) + 1) / 2 for value in values]
