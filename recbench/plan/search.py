"""Tuning: every method gets the same number of trials, and their scores on the validation images select one.

Everything here is a pure function of the plan and the records. A suite's plan grows with :func:`grow`, which replays
the strategies from the records, so that no state is kept between two runs.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from recbench.contracts.direction import cost
from recbench.plan.model import EvaluationSplit, Method, PlannedJob, PublishedScore, brief, digest, identity, job_of
from recbench.plan.plan import Plan
from recbench.plan.selection import at_edge, select, usable
from recbench.plan.strategies import KL_WEIGHT, OptunaStudy, Values, candidates, rounded
from recbench.plan.tuning import Search, Trial, Tuning


class _HasMean(Protocol):
    @property
    def mean(self) -> float: ...
    @property
    def finite(self) -> float | None: ...


class TrialResult(Protocol):
    """The part of a record (:class:`recbench.store.record.Result`) that tuning reads."""

    @property
    def status(self) -> str: ...
    @property
    def scores(self) -> Mapping[str, _HasMean]: ...


def grow(plan: Plan, records: Mapping[str, TrialResult]) -> Plan:
    """Return the plan with all jobs that the records determine so far.

    Trials come first, to be scored on the validation images; once all trials of a search have a record, the chosen one
    follows with all seeds, to be scored on the test images. Jobs of baselines stay. Growing a plan again with the same
    records changes nothing.

    Args:
        plan: the plan of a suite with tuning; any other is returned unchanged. Earlier growth is recomputed.
        records: by job id. A trial with a record of a failure has failed and is never chosen.

    Returns:
        A new plan.

    Raises:
        UserError: the strategy needs a package that is not installed.
    """
    if plan.tuning is None:
        return plan
    growth = _Growth(plan, plan.tuning, records)
    searches = tuple(growth.search(search) for search in plan.searches)
    baselines = tuple(growth.baseline(job) for job in plan.jobs if job.setting in plan.fitted)
    return plan.model_copy(
        update={
            "methods": tuple(growth.methods),
            "jobs": (*growth.candidates.values(), *growth.finals.values(), *baselines),
            "published": tuple(growth.published),
            "searches": searches,
        }
    )


def with_scales(plan: Plan, scales: Mapping[tuple[int, str], float]) -> Plan:
    """Return the plan with scales found by calibration filled in where the suite gives none.

    Args:
        plan: the plan of a suite with tuning.
        scales: by index of the setting and label of the loss.
    """
    searches = (
        search
        if search.scale is not None
        else search.model_copy(update={"scale": scales.get((search.setting, search.label))})
        for search in plan.searches
    )
    return plan.model_copy(update={"searches": tuple(searches)})


class _Growth:
    """Collects the methods and jobs of a plan while it grows."""

    def __init__(self, plan: Plan, tuning: Tuning, records: Mapping[str, TrialResult]) -> None:
        self.plan = plan
        self.tuning = tuning
        self.records = records
        self.methods: list[Method] = []
        self.indices: dict[tuple[object, ...], int] = {}
        self.candidates: dict[str, PlannedJob] = {}
        self.finals: dict[str, PlannedJob] = {}
        self.published: list[PublishedScore] = []

    def search(self, search: Search) -> Search:
        """Replay a search from its start."""
        trials = [] if search.scale is None else list(self.trials(search, search.scale))
        chosen = None
        if len(trials) == self.tuning.budget and all(trial.status != "open" for trial in trials):
            chosen = select([trial.score for trial in trials], self.tuning.direction)
        method = None
        if chosen is not None:
            best = self.methods[trials[chosen].method]
            method = self.method(best.model_copy(update={"label": search.label}))
            self.finals.update(self.jobs(search.setting, method, self.tuning.seeds, "test"))
            self.published += [number.model_copy(update={"method": method}) for number in search.published]
        edge = () if chosen is None else at_edge([trial.values for trial in trials], chosen)
        return search.model_copy(update={"trials": tuple(trials), "chosen": chosen, "method": method, "edge": edge})

    def baseline(self, planned: PlannedJob) -> PlannedJob:
        """Return the job of a baseline, which is there from the start, with its method among those of the plan."""
        return planned.model_copy(update={"method": self.method(self.plan.methods[planned.method])})

    def trials(self, search: Search, scale: float) -> Iterator[Trial]:
        """Yield the trials of a search so far."""
        if self.tuning.strategy != "optuna":
            for values in candidates(self.tuning, search.axes):
                yield self.trial(search, values, scale)
            return
        study = OptunaStudy(self.tuning, search.axes)
        for _ in range(self.tuning.budget):
            trial = self.trial(search, study.ask(), scale)
            yield trial
            if trial.status == "open":
                return  # the next candidate depends on its score
            study.tell(trial.score)

    def trial(self, search: Search, values: Values, scale: float) -> Trial:
        """Return one trial, with its jobs added to the plan, and its score if its records exist."""
        axes = {axis.name: axis for axis in search.axes}
        scaled = {**values, KL_WEIGHT: rounded(scale * values[KL_WEIGHT])}
        params = {name: int(v) if axes[name].whole else v for name, v in scaled.items() if name != KL_WEIGHT}
        label = " ".join([search.label, *(f"{name}={brief(value)}" for name, value in {**scaled, **params}.items())])
        loss = search.loss.model_copy(update={"params": {**search.loss.params, **params}})
        method = self.method(Method(label=label, loss=loss, kl_weight=scaled[KL_WEIGHT], families=search.families))
        jobs = self.jobs(search.setting, method, self.tuning.candidate_seeds, "validation")
        self.candidates.update(jobs)
        found = [self.records.get(job_id) for job_id in jobs]
        results = [record for record in found if record is not None]
        if len(results) < len(found):
            return Trial(method=method, values=scaled)
        metric = self.tuning.metric
        scores = [usable(r.scores[metric], self.tuning) for r in results if r.status == "done" and metric in r.scores]
        mean = statistics.fmean(scores) if len(scores) == len(results) else math.nan
        if math.isnan(mean) or cost(mean, self.tuning.direction) == math.inf:  # infinitely bad: as good as none
            return Trial(method=method, values=scaled, status="failed")
        return Trial(method=method, values=scaled, status="scored", score=mean)

    def method(self, method: Method) -> int:
        """Return the index of a method in the plan, added if it is new; settings share equal methods."""
        key = (method.label, method.kl_weight, json.dumps(method.loss.model_dump(mode="json")))
        if key not in self.indices:
            self.indices[key] = len(self.methods)
            self.methods.append(method)
        return self.indices[key]

    def jobs(self, setting: int, method: int, seeds: Iterable[int], split: EvaluationSplit) -> dict[str, PlannedJob]:
        job = job_of(self.plan.settings[setting], self.methods[method], self.plan.metrics, 0, split)
        form = identity(job.form)
        planned = {}
        for seed in seeds:
            job_id = digest({**form, "seed": seed})
            planned[job_id] = PlannedJob(id=job_id, setting=setting, method=method, seed=seed, split=split)
        return planned
