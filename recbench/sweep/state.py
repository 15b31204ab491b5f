"""The state of a plan in a store: which jobs are to be trained, which stored models to be scored, and how far a plan
with tuning has grown. Imports no torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from recbench.plan.model import PlannedJob
from recbench.plan.plan import Plan
from recbench.plan.search import grow
from recbench.store.artifacts import MODEL, has_model
from recbench.store.record import Result, fitted
from recbench.store.store import Store


@dataclass(frozen=True)
class PlanState:
    """The state of a plan in a store.

    Attributes:
        records: usable records by job id, whatever their status, with the scores by the plan's metrics alone.
        unusable: job ids with a record that cannot be used, and why.
        to_run: jobs without a record, with one of a failure, or with one that lacks scores and has no model to score;
            in the plan's order.
        to_score: jobs whose stored model is to be scored: by a metric that is new or has changed, or because a metric
            failed; in the plan's order.
        stale: the labels of the metrics that a finished job is not scored with as they are now, by job id.
        lost: of the jobs to run, those that were trained before, and why their model cannot be scored.
    """

    records: dict[str, Result]
    unusable: dict[str, str]
    to_run: tuple[PlannedJob, ...]
    to_score: tuple[PlannedJob, ...] = ()
    stale: dict[str, tuple[str, ...]] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)

    @property
    def open(self) -> int:
        """The number of jobs that are to be trained or scored."""
        return len(self.to_run) + len(self.to_score)


def inspect(plan: Plan, store: Store, fingerprints: dict[int, str] | None = None) -> PlanState:
    """Compare a plan with a store; changes nothing.

    Args:
        fingerprints: of the prepared images, by setting; a record of other images cannot be used.
    """
    return _state(plan, store, *_scanned(plan, store, fingerprints))


def _scanned(
    plan: Plan, store: Store, fingerprints: dict[int, str] | None
) -> tuple[dict[str, Result], dict[str, str], dict[str, tuple[str, ...]]]:
    """Return records, reasons why others cannot be used, and the stale metrics of records, each by job id."""
    scan = store.scan(plan)
    unusable = {damaged.job_id: damaged.reason for damaged in scan.damaged}
    records = dict(scan.records)
    for planned in plan.jobs:
        record, wanted = records.get(planned.id), (fingerprints or {}).get(planned.setting)
        if wanted and record and record.data and record.data.fingerprint != wanted:
            dataset = plan.settings[planned.setting].dataset.name
            unusable[planned.id] = f"the images of {dataset} have changed since it was made"
            del records[planned.id]
    return records, unusable, scan.stale


def _state(
    plan: Plan,
    store: Store,
    records: dict[str, Result],
    unusable: dict[str, str],
    stale: Mapping[str, tuple[str, ...]],
) -> PlanState:
    """Return the state of a plan with these records."""
    to_run, to_score, lacking, lost = [], [], {}, {}
    for planned in plan.jobs:
        record, labels = records.get(planned.id), stale.get(planned.id, ())
        if record is None:
            to_run.append(planned)
            continue
        if record.status == "done" and labels:
            lacking[planned.id] = labels
        elif not _runs_again(record, labels, plan):
            continue
        if MODEL in record.files and has_model(store.folder(planned.id)):
            to_score.append(planned)
            continue
        to_run.append(planned)
        if record.status != "failed":
            lost[planned.id] = (
                f"it has no scores of {', '.join(labels)} as the suite has them, and its {MODEL} is not there to be "
                "scored: cleaned away, exported without models, or not merged"
            )
    return PlanState(records, unusable, tuple(to_run), tuple(to_score), lacking, lost)


def _runs_again(record: Result, stale: Collection[str], plan: Plan) -> bool:
    """Return whether a job without scores is to run again: it failed, or the metric that gave NaN is another now."""
    if record.status != "diverged":
        return record.status == "failed"
    metric = record.failure.metric if record.failure is not None else ""
    return bool(metric) and (metric in stale or metric not in plan.metrics)


class _Records(Mapping[str, Result]):
    """Records by job id for a plan that grows: those that were scanned, and others as they are asked for.

    A failure that is going to be run again is none yet, and neither is a record that is going to be scored again with
    the metric that selects.
    """

    def __init__(self, plan: Plan, store: Store, fingerprints: Mapping[int, str], tried: Collection[str]) -> None:
        self.store = store
        self.tried = tried
        self.metrics = plan.metrics
        self.metric = plan.tuning.metric if plan.tuning is not None else ""
        self.fingerprints = {plan.settings[i].dataset.identity: wanted for i, wanted in fingerprints.items()}
        self.known: dict[str, Result | None] = {}

    def __getitem__(self, job_id: str) -> Result:
        record = self.known[job_id] if job_id in self.known else self.read(job_id)
        if record is None or (job_id not in self.tried and not self.counts(record)):
            raise KeyError(job_id)
        self.known[job_id] = record
        return record

    def counts(self, record: Result) -> bool:
        """Return whether a record says how good its trial is."""
        if record.status == "done":
            return self.metric in record.scores or self.metric in record.without
        return record.status != "failed"

    def read(self, job_id: str) -> Result | None:
        try:
            record = self.store.read(job_id)
        except ValueError:
            return None  # inspect tells why, once the job is in the plan
        if record is None:
            return None
        wanted = self.fingerprints.get(record.job.dataset.identity)
        other = wanted and record.data and record.data.fingerprint != wanted
        return None if other else fitted(record, self.metrics)

    def __iter__(self) -> Iterator[str]:
        return (job_id for job_id in self.known if job_id in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def grown(
    plan: Plan, store: Store, fingerprints: dict[int, str] | None = None, tried: Collection[str] = ()
) -> tuple[Plan, PlanState]:
    """Return the plan, grown as far as the records allow, and its state in the store; changes nothing.

    Args:
        tried: ids of the jobs whose failures count: they ran just now. Others are to run again first.
    """
    if plan.tuning is None:
        return plan, inspect(plan, store, fingerprints)
    records = _Records(plan, store, fingerprints or {}, tried)
    unusable: dict[str, str] = {}
    stale: dict[str, tuple[str, ...]] = {}
    plan = grow(plan, {})
    while new := [planned for planned in plan.jobs if planned.id not in records.known]:
        found, why, old = _scanned(plan.model_copy(update={"jobs": tuple(new)}), store, fingerprints)
        unusable.update(why)
        stale.update(old)
        records.known.update({planned.id: found.get(planned.id) for planned in new})
        plan = grow(plan, records)
    held = {p.id: record for p in plan.jobs if (record := records.known[p.id]) is not None}
    unusable = {p.id: unusable[p.id] for p in plan.jobs if p.id in unusable}
    return plan, _state(plan, store, held, unusable, stale)
