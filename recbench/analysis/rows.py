"""Rows of boards: what the seeds of one method gave, before methods are compared."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from recbench.analysis.board import MetricCell, Row
from recbench.analysis.health import edge_warnings, seed_warnings
from recbench.analysis.tuning import tuned, undecided
from recbench.plan.model import Column, Method, PlannedJob
from recbench.plan.plan import Plan
from recbench.plan.selection import usable
from recbench.store.record import ComparedSets, Cost, Result, Score

if TYPE_CHECKING:
    from recbench.analysis.per_image import ScoreFiles


class MethodRows:
    """The rows of one setting, without places, ranks and tiers.

    Args:
        time_to: as for :func:`recbench.analysis.ranking.rank`.
    """

    def __init__(
        self,
        plan: Plan,
        setting: int,
        records: Mapping[str, Result],
        files: ScoreFiles | None,
        time_to: tuple[str, float] | None,
    ) -> None:
        self.plan = plan
        self.setting = setting
        self.records = records
        self.files = files
        self.time_to = time_to

    def row(self, number: int, seeds: Mapping[int, Result | None]) -> Row:
        """Return the row of a method.

        Args:
            number: of the method in the plan.
            seeds: the record of each seed, None if it has none under the board's protocol.
        """
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
        rates = [r.evaluated.kl for r in done if r.evaluated is not None and r.evaluated.kl is not None]
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
            families=method.families,
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
            health=(*seed_warnings(seeds), *edge_warnings(search)),
        )

    def baseline(self, planned: PlannedJob, label: str) -> Row:
        """Return the row of a baseline's job."""
        record = self.records.get(planned.id)
        row = self.row(planned.method, {planned.seed: record})
        architecture = self.plan.settings[planned.setting].architecture
        facts: dict[str, object] = {"loss": "", "families": (), "kl_weight": None, "kl": None}
        facts |= {"label": label, "params": architecture.params, "baseline": architecture.name, "tuned": None}
        facts |= {"training_seconds": None, "time_to": None}
        cells = {name: cell.model_copy(update={"in_family": False}) for name, cell in row.cells.items()}
        facts |= {"cells": cells, "status": "baseline" if row.status == "ranked" else row.status}
        return row.model_copy(update=facts)

    def _seconds(self, record: Result) -> float | None:
        """Return the seconds of a job's training steps."""
        if record.cost is None or record.data is None or not record.cost.images_per_second:
            return None
        images = self.plan.settings[self.setting].training.epochs * record.data.train
        return images / record.cost.images_per_second

    def _time_to(self, done: Sequence[Result], cells: Mapping[str, MetricCell]) -> float | None:
        """Return the seconds of training until the target; None if unknown.

        A test metric is known at the end of training only, so the time is that of all epochs; a column of
        ``history.jsonl`` is known after each epoch.
        """
        if self.time_to is None or not done:
            return None
        name, value = self.time_to
        columns = {column.name: column for column in self.plan.columns}
        times = []
        for record in done:
            seconds = self._seconds(record)
            if name in columns:
                if name not in cells or seconds is None:
                    return None
                column = columns[name]
                reached = column.cost(usable(record.scores[name], column)) <= column.cost(value)
                times.append(seconds if reached else math.inf)
                continue
            epochs = self.files.history(record.job_id, record.files) if self.files is not None else []
            if record.data is None or not any(name in epoch for epoch in epochs):
                return None
            times.append(_first_below(epochs, name, value, record.data.train))
        return statistics.fmean(times)

    def undecided(self) -> Iterator[Row]:
        """Yield a row for each loss that tuning has chosen nothing for, so that none is left out."""
        tuning = self.plan.tuning
        for search in self.plan.searches:
            if tuning is None or search.setting != self.setting or search.method is not None:
                continue
            status, trouble = undecided(self.plan, search, self.records)
            yield Row(
                place=None,
                label=search.label,
                loss=search.loss.name,
                families=search.families,
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


def _first_below(epochs: Sequence[Mapping[str, float]], name: str, value: float, images: int) -> float:
    """Return the seconds of training until a column of the history is at most a value; infinite if it never is."""
    seconds = 0.0
    for epoch in epochs:
        seconds += images / epoch["images_per_second"] if epoch.get("images_per_second") else 0.0
        if epoch.get(name, math.inf) <= value:
            return seconds
    return math.inf


def _cost(costs: Sequence[Cost]) -> Cost | None:
    """Return means over the seeds, and the highest peak of memory."""
    if not costs:
        return None
    return Cost(
        images_per_second=statistics.fmean(cost.images_per_second for cost in costs),
        step_milliseconds=statistics.fmean(cost.step_milliseconds for cost in costs),
        peak_memory_bytes=max(cost.peak_memory_bytes for cost in costs),
        parameters=costs[0].parameters,
    )


def _trouble(seed: int, record: Result) -> str:
    assert record.failure is not None, "a record without scores has a failure"
    message = record.failure.message.strip().partition("\n")[0]
    # An exception's message alone often says nothing ("'z'"); the message of a diverged job is complete.
    what = message if record.status == "diverged" and message else f"{record.failure.type}: {message}".rstrip(": ")
    return f"seed {seed} {record.status}: {what}"


def _cell(column: Column, method: Method, scores: Sequence[Score]) -> MetricCell:
    means = [usable(score, column) for score in scores]
    spreads = [score.std for score in scores if score.std is not None]
    mean = statistics.fmean(means)
    several = len(means) > 1 and math.isfinite(mean)
    return MetricCell(
        mean=mean,
        std_images=math.hypot(*spreads) / math.sqrt(len(spreads)) if len(spreads) == len(scores) else None,
        std_seeds=math.dist(means, [mean] * len(means)) / math.sqrt(len(means) - 1) if several else None,
        in_family=column.family in method.families,
        infinite=sum(score.infinite for score in scores),
    )


def compared_sets(columns: Sequence[Column], records: Sequence[Result]) -> dict[str, tuple[ComparedSets, ...]]:
    """Return what the scores of distances between sets of images compared, by metric, in the order of the records."""
    found: dict[str, tuple[ComparedSets, ...]] = {}
    for column in columns:
        scores = (record.scores.get(column.name) for record in records)
        of = dict.fromkeys(score.compared for score in scores if score is not None and score.compared is not None)
        if of:
            found[column.name] = tuple(of)
    return found


def reasons(plan: Plan, jobs: Sequence[PlannedJob], records: Mapping[str, Result]) -> dict[tuple[str, str], str]:
    """Return why methods cannot have a score, by metric and the method's label; older records do not say."""
    return {
        (name, plan.methods[planned.method].label): reason
        for planned in jobs
        if planned.id in records
        for name, reason in records[planned.id].reasons.items()
    }
