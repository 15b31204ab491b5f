"""Made-up plans and records, for tests of the store and of leaderboards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbench.plan.model import BoardSetting, Column, ComponentSpec, Method, PlannedJob, Training
from recbench.plan.plan import Plan
from recbench.store.record import Data, Evaluated, Failure, File, Provenance, Record, Score, Trained

FINGERPRINT = "f" * 64
COLUMNS = (
    Column(name="psnr", direction="higher", unit="dB", digits=2),
    Column(name="mse", direction="lower", digits=5),
)


def make_plan(
    methods: Sequence[str] = ("l2", "l1"),
    seeds: Sequence[int] = (0, 1),
    settings: Sequence[str] = ("photos · vae",),
    columns: Sequence[Column] = COLUMNS,
    ranking: Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
) -> Plan:
    plan = Plan(
        suite="made-up",
        description="made up",
        metrics={column.name: ComponentSpec(name=column.name) for column in columns},
        columns=tuple(columns),
        ranking=tuple(ranking or (column.name for column in columns)),
        settings=tuple(
            BoardSetting(
                label=label,
                dataset=ComponentSpec(name="photos", params={"size": 32 + index}),
                architecture=ComponentSpec(name="vae"),
                training=Training(epochs=3),
                shape=(3, 32, 32),
            )
            for index, label in enumerate(settings)
        ),
        methods=tuple(
            Method(label=label, loss=ComponentSpec(name="l2", params=dict(params or {})), kl_weight=0.5 + index)
            for index, label in enumerate(methods)
        ),
        jobs=(),
    )
    jobs = []
    for setting in range(len(settings)):
        for method in range(len(methods)):
            for seed in seeds:
                planned = PlannedJob.model_construct(id="", setting=setting, method=method, seed=seed)
                jobs.append(PlannedJob(**{**vars(planned), "id": plan.job(planned).id}))
    return plan.model_copy(update={"jobs": tuple(jobs)})


def make_record(plan: Plan, planned: PlannedJob, scores: Mapping[str, Score] | None = None, **changes: Any) -> Record:
    """Return a finished record with these scores (1 by default) and changes."""
    job = plan.job(planned)
    facts: dict[str, Any] = {
        "job_id": planned.id,
        "suite": plan.suite,
        "status": "done",
        "job": job,
        "protocol": job.protocol(FINGERPRINT),
        "scores": scores or {name: Score(mean=1.0, std=0.5, n=8) for name in plan.metrics},
        "data": Data(fingerprint=FINGERPRINT, train=32, validation=4, test=8),
        "trained": Trained(
            epochs=3,
            steps=12,
            parameters=99,
            loss_parameters=0,
            seconds=1.5,
            images_per_second=800.0,
            final={"epoch": 3, "step": 12, "objective": 4.5},
        ),
        "evaluated": Evaluated(n=8, kl=12.25, seconds=0.1),
        "provenance": Provenance(
            recbench="0.1.0",
            plugins={"pixel": "recbench 0.1.0"},
            packages={"torch": "2.15.0"},
            python="3.11.7",
            platform="Linux",
            processor="a processor",
            device="cpu",
            threads=1,
            git=None,
            started="2026-01-01T00:00:00+00:00",
            finished="2026-01-01T00:00:02+00:00",
        ),
        "files": {"log.txt": File(bytes=12, sha256="a" * 64)},
    }
    return Record(**{**facts, **changes})


def make_trouble(plan: Plan, planned: PlannedJob, status: str = "failed", **failure: Any) -> Record:
    """Return the record of a job that failed or diverged."""
    facts = {"type": "RuntimeError", "message": "it broke", "traceback": "Traceback …", **failure}
    nothing: dict[str, Any] = {"scores": {}, "trained": None, "evaluated": None, "files": {}}
    return make_record(plan, planned).model_copy(update={"status": status, "failure": Failure(**facts), **nothing})
