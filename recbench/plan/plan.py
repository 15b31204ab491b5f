"""The plan: a suite laid out as jobs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import ValidationError, model_validator

from recbench.plan.model import (
    SCHEMA,
    Baseline,
    BoardSetting,
    Column,
    ComponentSpec,
    Frozen,
    Job,
    Method,
    PlannedJob,
    PublishedScore,
    digest,
    identity,
    job_of,
    with_checksum,
    without_checksum,
)
from recbench.plan.tuning import Search, Tuning

_ID = re.compile(r"[0-9a-f]{16}")
MOST_PLAN = 1 << 28
"""Largest size of ``plan.json`` in bytes; that of a million jobs has half as many."""


class Plan(Frozen):
    """A suite laid out as jobs: with the records, all that a leaderboard is computed from. Written to ``plan.json``.

    The plan of a suite with tuning grows: :func:`recbench.plan.search.grow` adds jobs as records come in. Its methods
    are the candidates, whose jobs are scored on the validation images, and the ones chosen among them.
    """

    schema_version: Literal[1, 2] = SCHEMA
    suite: str
    description: str = ""
    metrics: dict[str, ComponentSpec]
    columns: tuple[Column, ...]
    ranking: tuple[str, ...]
    settings: tuple[BoardSetting, ...]
    methods: tuple[Method, ...]
    jobs: tuple[PlannedJob, ...]
    published: tuple[PublishedScore, ...] = ()
    tuning: Tuning | None = None
    searches: tuple[Search, ...] = ()
    baselines: tuple[Baseline, ...] = ()

    @model_validator(mode="after")
    def _coherent(self) -> Plan:
        """Refuse an inconsistent plan, such as an edited or damaged file."""
        names = [column.name for column in self.columns]
        if sorted(names) != sorted(self.metrics) or not set(self.ranking) <= set(names):
            raise ValueError("metrics, columns and ranking are inconsistent: every metric needs a column")
        used = {(p.setting, p.method) for p in self.jobs} | {(p.setting, p.method) for p in self.published}
        for setting, method in used:
            if not (0 <= setting < len(self.settings) and 0 <= method < len(self.methods)):
                raise ValueError(f"setting {setting} or method {method} does not exist")
        if (self.tuning is None) != (not self.searches) or (self.tuning and self.tuning.metric not in names):
            raise ValueError("tuning and searches are inconsistent")
        for search in self.searches:
            methods = [trial.method for trial in search.trials] + ([] if search.method is None else [search.method])
            if not (0 <= search.setting < len(self.settings) and all(0 <= m < len(self.methods) for m in methods)):
                raise ValueError(f"the search of {search.label} names a setting or method that does not exist")
            if search.chosen is not None and not 0 <= search.chosen < len(search.trials):
                raise ValueError(
                    f"the search of {search.label} has chosen a trial that does not exist: {search.chosen}"
                )
        of = {job.setting for job in self.jobs}
        if not all(0 <= one.setting < len(self.settings) and one.fitted in of for one in self.baselines):
            raise ValueError("a baseline names a setting that does not exist, or has no job")
        for job in self.jobs:
            if not _ID.fullmatch(job.id):  # ids become names of folders
                raise ValueError(f"expected 16 hexadecimal digits as id of a job, got {job.id!r}")
        return self

    @property
    def fitted(self) -> frozenset[int]:
        """Indices of the settings of baselines, which have no board of their own."""
        return frozenset(one.fitted for one in self.baselines)

    def job(self, planned: PlannedJob) -> Job:
        """Return the full job behind one line of the plan."""
        setting, method = self.settings[planned.setting], self.methods[planned.method]
        return job_of(setting, method, self.metrics, planned.seed, planned.split)

    def id_of(self, planned: PlannedJob) -> str:
        """Return the id of the full job behind one line of the plan, by the rule of the plan's schema."""
        return digest(identity(self.job(planned).form, self.schema_version))

    def forms(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the id of every job and what it is made of, in canonical form; much faster than job by job."""
        shared: dict[tuple[int, int, str], dict[str, Any]] = {}
        for planned in self.jobs:
            key = planned.setting, planned.method, planned.split
            if key not in shared:
                shared[key] = identity(self.job(planned).form, self.schema_version)
            yield planned.id, {**shared[key], "seed": planned.seed}

    @property
    def counts(self) -> tuple[int, int]:
        """The most jobs that the plan can grow to: those of tuning's trials, and those scored on test images."""
        if self.tuning is None:
            return 0, len(self.jobs)
        size, fitted = len(self.searches), len(self.fitted)
        return size * self.tuning.budget * len(self.tuning.candidate_seeds), size * len(self.tuning.seeds) + fitted


def sealed_plan(plan: Plan) -> bytes:
    """Return the content of ``plan.json``: the plan as JSON, with the SHA-256 of the preceding bytes as last member."""
    return with_checksum(plan.model_dump_json().encode())


def parse_plan(raw: bytes) -> Plan:
    """Return the plan in the content of a ``plan.json``. Those that were written before plans had a seal have none.

    Raises:
        ValueError: it is damaged, or is not a plan; the text says why, in one line.
    """
    try:
        return Plan.model_validate_json(without_checksum(raw)[0])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise ValueError(": ".join(filter(None, [where, first["msg"].removeprefix("Value error, ")]))) from None
