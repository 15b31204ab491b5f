"""Leaderboards: a pure function of a plan and its records.

One board for each setting (data set, architecture, training) and protocol: records whose protocol hashes differ are
never ranked together. A method is ranked once all its seeds are done; one that failed, diverged or is incomplete is
shown below, never left out. Ranks, intervals and tiers are those of :mod:`recbench.analysis.statistics`.
"""

from __future__ import annotations

import math
import statistics
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from recbench.analysis.board import Board, Cell, Leaderboard, OverallVerdict, Row, Verdict
from recbench.analysis.protocols import Key, explain_protocols, key
from recbench.analysis.tuning import remarks, tuned, undecided
from recbench.plan.model import Column, Method, PlannedJob
from recbench.plan.plan import Plan
from recbench.store.record import Cost, Result, Score
from recbench.store.store import Store

if TYPE_CHECKING:  # numpy and scipy take longer to import than many a command to run
    from recbench.analysis.per_image import PerImageScores, ScoreFiles
    from recbench.analysis.significance import Findings, Overall


__all__ = ["Board", "Cell", "Leaderboard", "OverallVerdict", "Row", "Verdict", "rank", "rank_stored"]


MOST_COMPARED = 500
"""Ranked methods of a board up to which every two are compared: time, memory and files grow with the square."""


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
        unusable: reasons why records of some jobs could not be used, by job id; told as notes.
        files: scores of single test images; without them, methods are compared as if each had images of its own.
        confidence: of intervals, rank intervals and tiers; None leaves statistics out.
        ranking: metrics to rank by, instead of the suite's.
        time_to: a metric, or a column of ``history.jsonl`` (which needs ``files``), and the value to be reached.
    """
    if ranking is not None:
        plan = plan.model_copy(update={"ranking": tuple(ranking)})
    by_setting: dict[int, list[PlannedJob]] = {}
    for planned in plan.jobs:
        if planned.split != "test":
            continue  # a candidate of tuning, which is chosen among its like and never ranked
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
            board = _Assembly(plan, setting, protocol, jobs, records, files, confidence, time_to).board()
            boards.append(board)
            notes.extend(_remarks(board))
            if confidence is not None and board.confidence is None:
                notes.append(
                    f"{label}: more than {MOST_COMPARED} methods: not every two are compared, so there are no "
                    "intervals, places and tiers"
                )
        notes.extend(remarks(plan, setting))
        warnings = {
            f"{label}: {name}: {score.warning}"
            for planned in jobs
            if planned.id in records
            for name, score in records[planned.id].scores.items()
            if score.warning
        }
        notes.extend(sorted(warnings))
    if files is not None:
        notes.extend(dict.fromkeys(files.strange))
    ranked = [planned for jobs in by_setting.values() for planned in jobs]
    done = sum(planned.id in records and records[planned.id].status == "done" for planned in ranked)
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
    """As :func:`rank`, with the scores of single images that lie in a store; keeps what was computed of them there."""
    from recbench.analysis.per_image import ScoreFiles

    files = ScoreFiles(store)
    leaderboard = rank(plan, records, unusable, files=files, confidence=confidence, ranking=ranking, time_to=time_to)
    files.save()
    return leaderboard


def _remarks(board: Board) -> Iterator[str]:
    """Metrics that some ranked method has no value for, which therefore do not count."""
    for column in board.columns:
        without = [row.label for row in board.rows if row.status == "ranked" and column.name not in row.cells]
        if without:
            yield f"{board.setting}: {column.name} ranks nobody, since {', '.join(without)} cannot have a value for it"


def _protocols(jobs: Sequence[PlannedJob], records: Mapping[str, Result]) -> list[Key]:
    """The protocols among records, the most frequent first."""
    counts: dict[Key, int] = {}
    for planned in jobs:
        record = records.get(planned.id)
        if record is not None and record.protocol is not None:
            counts[key(record)] = counts.get(key(record), 0) + 1
    return sorted(counts, key=lambda protocol: (-counts[protocol], str(protocol)))


class _Assembly:
    """One board in the making."""

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
        self.records = records
        self.confidence = confidence
        self.time_to = time_to
        self.by_method: dict[int, dict[int, Result | None]] = {}
        for planned in jobs:
            record = records.get(planned.id)
            if record is not None and record.protocol is not None and key(record) != protocol:
                record = None
            self.by_method.setdefault(planned.method, {})[planned.seed] = record

    def board(self) -> Board:
        plan, columns = self.plan, self.plan.columns
        rows = {number: self._row(number, seeds) for number, seeds in self.by_method.items()}
        sound = {number: row for number, row in rows.items() if row.status == "ranked"}
        judged = tuple(c for c in columns if sound and all(c.name in row.cells for row in sound.values()))
        names = {column.name for column in judged}
        ranking = tuple(name for name in plan.ranking if name in names or not sound)
        found: dict[str, Findings] = {}
        confidence = self.confidence if len(sound) <= MOST_COMPARED else None
        if confidence is not None and sound:
            from recbench.analysis.significance import judge

            found = judge(judged, [self._scored(number) for number in sound], confidence, self.files)
        ranked, order, together = _ranked(list(sound.values()), judged, ranking, found, confidence)
        places = {method: place for place, method in enumerate(order)}
        others = sorted(
            (row for row in (*rows.values(), *self._undecided()) if row.status != "ranked"),
            key=lambda row: (row.status, row.label),
        )
        records = (record for seeds in self.by_method.values() for record in seeds.values() if record is not None)
        return Board(
            setting=plan.settings[self.setting].label,
            shape=plan.settings[self.setting].shape,
            protocol=self.protocol[0] if self.protocol else None,
            test_images=next((record.data.test for record in records if record.data is not None), None),
            columns=columns,
            ranking=ranking,
            rows=(*ranked, *others),
            confidence=confidence,
            verdicts={name: _verdict(verdict, order, places) for name, verdict in found.items()},
            overall=_overall_verdict(together, order, places) if together else None,
            target=f"{self.time_to[0]} of {self.time_to[1]:g}" if self.time_to else "",
        )

    def _scored(self, method: int) -> dict[str, list[PerImageScores]]:
        """The scores of a ranked method's seeds, by metric."""
        from recbench.analysis.per_image import PerImageScores

        done = [self.by_method[method][seed] for seed in sorted(self.by_method[method])]
        found: dict[str, list[PerImageScores]] = {}
        for record in done:
            assert record is not None, "all seeds of a ranked method are done"
            for name, score in record.scores.items():
                found.setdefault(name, []).append(PerImageScores(record.job_id, score))
        return found

    def _undecided(self) -> Iterator[Row]:
        """A row for each loss that tuning has chosen nothing for, so that none is left out."""
        tuning = self.plan.tuning
        for search in self.plan.searches:
            if tuning is None or search.setting != self.setting or search.method is not None:
                continue
            status, trouble = undecided(self.plan, search, self.records)
            yield Row(
                place=None,
                label=search.label,
                loss=search.loss.name,
                family=search.family,
                params=search.loss.params,
                kl_weight=None,
                status=status,
                seeds_done=0,
                seeds=len(tuning.seeds),
                mean_rank=None,
                cells={},
                kl=None,
                trouble=trouble,
                tuned=tuned(search, tuning),
            )

    def _row(self, number: int, seeds: Mapping[int, Result | None]) -> Row:
        method, tuning = self.plan.methods[number], self.plan.tuning
        searches = (s for s in self.plan.searches if s.setting == self.setting and s.method == number)
        search = next(searches, None)
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
        cells = {
            column.name: _cell(column, method, [record.scores[column.name] for record in done])
            for column in self.plan.columns
            if done and all(column.name in record.scores for record in done)
        }
        seconds = [found for found in map(self._seconds, done) if found is not None]
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
            cells=cells,
            kl=statistics.fmean(rates) if rates else None,
            cost=_cost([record.cost for record in done if record.cost is not None]),
            training_seconds=statistics.fmean(seconds) if seconds else None,
            time_to=self._time_to(done, cells),
            trouble=tuple(_trouble(seed, record) for seed, record in trouble.items()),
            tuned=tuned(search, tuning) if search is not None and tuning is not None else None,
        )

    def _seconds(self, record: Result) -> float | None:
        """Seconds of a job's training steps."""
        if record.cost is None or record.data is None:
            return None
        images = self.plan.settings[self.setting].training.epochs * record.data.train
        return images / record.cost.images_per_second

    def _time_to(self, done: Sequence[Result], cells: Mapping[str, Cell]) -> float | None:
        """Seconds of training until the target; None where that is not known.

        Test metrics are known at the end of training only: then the time is that of all of it. What ``history.jsonl``
        has for every epoch is known after each.
        """
        if self.time_to is None or not done:
            return None
        name, value = self.time_to
        directions = {column.name: column.direction for column in self.plan.columns}
        times = []
        for record in done:
            seconds = self._seconds(record)
            if name in directions:
                if name not in cells or seconds is None:
                    return None
                mean = record.scores[name].mean
                reached = mean >= value if directions[name] == "higher" else mean <= value
                times.append(seconds if reached else math.inf)
                continue
            epochs = self.files.history(record.job_id) if self.files is not None else []
            if record.data is None or not any(name in epoch for epoch in epochs):
                return None
            times.append(_first_below(epochs, name, value, record.data.train))
        return statistics.fmean(times)


def _first_below(epochs: Sequence[Mapping[str, float]], name: str, value: float, images: int) -> float:
    """Seconds of training until a column of the history is at most a value; infinite where it never is."""
    seconds = 0.0
    for epoch in epochs:
        seconds += images / epoch["images_per_second"] if epoch.get("images_per_second") else 0.0
        if epoch.get(name, math.inf) <= value:
            return seconds
    return math.inf


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


def _cell(column: Column, method: Method, scores: Sequence[Score]) -> Cell:
    means = [score.mean for score in scores]
    spreads = [score.std for score in scores if score.std is not None]
    mean = statistics.fmean(means)
    several = len(means) > 1 and math.isfinite(mean)
    return Cell(
        mean=mean,
        std_images=math.hypot(*spreads) / math.sqrt(len(spreads)) if len(spreads) == len(scores) else None,
        std_seeds=math.dist(means, [mean] * len(means)) / math.sqrt(len(means) - 1) if several else None,
        home=bool(method.family) and method.family == column.family,
    )


def _ranked(
    rows: Sequence[Row],
    columns: Sequence[Column],
    ranking: Sequence[str],
    found: Mapping[str, Findings],
    confidence: float | None,
) -> tuple[list[Row], list[int], Overall | None]:
    """The rows by mean rank over the ranking metrics, with all that follows from ranks filled in; the places in
    ``rows`` that they come from; and what can be said over all ranking metrics."""
    if not rows:
        return [], [], None
    from recbench.analysis.significance import neutral_ranks, overall, pareto

    signs = {column.name: -1 if column.direction == "higher" else 1 for column in columns}
    costs = {name: [sign * row.cells[name].mean for row in rows] for name, sign in signs.items()}
    ranks = {name: _mean_places(values) for name, values in costs.items()}
    best = {name: signs[name] * min(values) for name, values in costs.items()}
    mean_ranks = [statistics.fmean(ranks[name][i] for name in ranking) if ranking else 1.0 for i in range(len(rows))]
    places = _places(mean_ranks)
    criteria = [[costs[name][i] for name in ranking] for i in range(len(rows))]
    neutral = neutral_ranks(criteria, [[row.cells[name].home for name in ranking] for row in rows])
    neutral_places = _places([math.inf if rank is None else rank for rank in neutral])
    front = pareto(criteria)
    together = None
    if confidence is not None and ranking:
        together = overall([found[name] for name in ranking], mean_ranks, confidence)
    full = []
    for i, row in enumerate(rows):
        cells = dict(row.cells)
        for name, cell in row.cells.items():
            if name in ranks:
                facts: dict[str, object] = {"rank": ranks[name][i], "best": cell.mean == best[name]}
                cells[name] = cell.model_copy(update={**facts, **_judged(found.get(name), i)})
        facts = {
            "place": places[i],
            "mean_rank": mean_ranks[i],
            "cells": cells,
            "neutral_rank": neutral[i],
            "neutral_place": None if neutral[i] is None else neutral_places[i],
            "borda": sum(len(rows) - ranks[name][i] for name in ranking),
            "pareto": front[i],
        }
        if together is not None:
            facts["rank_interval"] = together.rank_intervals[i]
            facts["tier"] = together.tiers[i]
        full.append(row.model_copy(update=facts))
    order = sorted(range(len(rows)), key=lambda i: (places[i], rows[i].label))
    return [full[i] for i in order], order, together


def _judged(found: Findings | None, i: int) -> dict[str, object]:
    """What a metric's statistics add to the cell of a method."""
    if found is None:
        return {}
    low, high = (_short(float(end)) for end in found.intervals[i])
    return {
        "interval": None if math.isnan(low) else (low, high),
        "rank_interval": found.rank_intervals[i],
        "tier": found.tiers[i],
    }


def _short(value: float) -> float:
    """A value without the digits that another order of summation would change."""
    return float(f"{value:.10g}")


def _verdict(found: Findings, order: Sequence[int], places: Mapping[int, int]) -> Verdict:
    from recbench.analysis.significance import condensed, rounded

    return Verdict(
        basis=found.basis,
        by_image=found.by_image,
        p=tuple(condensed(rounded(found.corrected), order)),
        groups=tuple(tuple(places[i] for i in group) for group in found.groups),
    )


def _overall_verdict(found: Overall, order: Sequence[int], places: Mapping[int, int]) -> OverallVerdict:
    from recbench.analysis.significance import condensed

    return OverallVerdict(
        better=tuple(map(bool, condensed(found.better, order))),
        groups=tuple(tuple(places[i] for i in group) for group in found.groups),
    )


def _places(values: Sequence[float]) -> list[int]:
    """Places from the smallest (1); values that are equal up to rounding share the first of theirs."""
    order = sorted(values)
    return [1 + bisect_left(order, value - 1e-9) for value in values]


def _mean_places(values: Sequence[float]) -> list[float]:
    """Places of values from the smallest (1); equal values share the mean of their places."""
    order = sorted(values)
    return [(bisect_left(order, value) + bisect_right(order, value) + 1) / 2 for value in values]
