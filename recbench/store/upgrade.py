"""Upgrade of older results to the present schema, without training anything.

In schema 1, a job's id was made of the place of its images and of the metrics as well, and the code of a component was
the digest of whole source files. Places and metrics can be taken out of a job afterwards. Digests cannot be translated:
nobody can tell from them what code was reached. They stay as they are, so upgraded records are compared with each
other, and named as of other code when they meet records of the present.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping

from recbench.errors import UserError
from recbench.plan.model import SCHEMA, BoardSetting, ComponentSpec, Job
from recbench.plan.plan import Plan
from recbench.store import artifacts
from recbench.store.record import Record, parse_record, sealed
from recbench.store.sources import RecordSource

PlacesByDataset = Mapping[str, tuple[str, ...]]
"""By name of a data set, the parameters that only say where its images are."""


class UpgradedSource(RecordSource):
    """Results of schema 1 as those of the present schema; they are only read.

    Attributes:
        unusable: one line for each record that cannot be upgraded, with the reason.
        upgraded: number of records that can.

    Args:
        source: results of schema 1.
        locations: of the data sets of its plan.

    Raises:
        UserError: a data set is not among them, or the plan is of the present schema.
    """

    def __init__(self, source: RecordSource, locations: PlacesByDataset) -> None:
        if source.plan.schema_version == SCHEMA:
            raise UserError(f"{source.name} is of schema {SCHEMA} already; there is nothing to upgrade")
        self.name = source.name
        self.source = source
        self.locations = locations
        self.plan = upgraded_plan(source.plan, locations, source.name)
        new = [planned.id for planned in self.plan.jobs]
        self.old = {job_id: planned.id for job_id, planned in zip(new, source.plan.jobs, strict=True)}
        self.planned = {planned.id: planned for planned in self.plan.jobs}
        self.unusable: list[str] = []
        self._usable = {job_id for job_id in new if self._is_usable(job_id)}
        self.upgraded = len(self._usable)

    def resolved(self) -> bytes | None:
        return self.source.resolved()

    def raw(self, job_id: str) -> bytes | None:
        if job_id not in self._usable:
            return None
        return sealed(self._record(job_id).model_dump_json(indent=1))

    def _file(self, job_id: str, name: str, size: int) -> bytes | None:
        return self.source._file(self.old[job_id], name, size)

    def _is_usable(self, job_id: str) -> bool:
        old = self.old[job_id]
        try:
            if self.source.raw(old) is None:
                return False
            record = self._record(job_id)
            for name in artifacts.ALL:
                self.file(record, name)
        except ValueError as error:
            planned = self.planned[job_id]
            method = self.plan.methods[planned.method].label
            self.unusable.append(
                f"job {old} ({method}, seed {planned.seed}) of {self.name} cannot be upgraded: {error}"
            )
            return False
        return True

    def _record(self, job_id: str) -> Record:
        """Return the record of a job as one of the present schema.

        Raises:
            ValueError: it cannot be used; the text says why.
        """
        old = self.old[job_id]
        raw = self.source.raw(old)
        if raw is None:
            raise ValueError("it was there before, and has gone")
        record = parse_record(old, raw)
        planned = self.plan.job(self.planned[job_id])
        job = planned.model_copy(update={"metrics": record.job.metrics})
        if _placed(record.job, self.locations) != _placed(job, self.locations):
            raise ValueError("it is not of the job that the plan specifies")
        protocol = record.protocol
        if protocol is not None:
            if record.data is None or record.job.protocol(record.data.fingerprint, record.schema_version) != protocol:
                raise ValueError("its protocol does not follow from its job and images")
            protocol = job.protocol(record.data.fingerprint)
        update = {"schema_version": SCHEMA, "job_id": job_id, "job": job, "protocol": protocol}
        return record.model_copy(update=update)


def _placed(job: Job, locations: PlacesByDataset) -> str:
    """Return a job as JSON without the place of its images."""
    dataset = _apart(job.dataset, locations[job.dataset.name]).model_copy(update={"locations": {}, "variant": ""})
    return job.model_copy(update={"dataset": dataset}).model_dump_json()


def upgraded_plan(plan: Plan, locations: PlacesByDataset, name: str) -> Plan:
    """Return a plan of schema 1 as one of the present schema, with the ids that its jobs have now.

    Args:
        plan: of schema 1.
        locations: of its data sets.
        name: of its place, for messages.

    Raises:
        UserError: a data set is not among ``locations``.
    """
    missing = sorted({one.dataset.name for one in plan.settings} - locations.keys())
    if missing:
        raise UserError(
            f"{name} cannot be upgraded: no plugin offers its data set {missing[0]}, so it is not known which of its "
            "parameters only say where the images are; load the plugin (--plugin FILE)"
        )
    datasets = [_apart(one.dataset, locations[one.dataset.name]) for one in plan.settings]
    places: dict[str, set[str]] = {}
    for dataset in datasets:
        places.setdefault(dataset.identity, set()).add(json.dumps(dataset.locations, sort_keys=True))
    settings = [
        setting.model_copy(update={"dataset": _told_apart(dataset, setting, len(places[dataset.identity]) > 1)})
        for setting, dataset in zip(plan.settings, datasets, strict=True)
    ]
    wider = plan.model_copy(update={"schema_version": SCHEMA, "settings": tuple(settings)})
    jobs = tuple(planned.model_copy(update={"id": wider.id_of(planned)}) for planned in plan.jobs)
    twice = [job_id for job_id, count in Counter(planned.id for planned in jobs).items() if count > 1]
    if twice:
        raise UserError(f"{name} cannot be upgraded: several of its jobs would be the job {twice[0]}")
    return wider.model_copy(update={"jobs": jobs})


def _apart(dataset: ComponentSpec, locations: tuple[str, ...]) -> ComponentSpec:
    """Return a data set whose locations are no parameters."""
    places = {name: value for name, value in dataset.params.items() if name in locations}
    params = {name: value for name, value in dataset.params.items() if name not in locations}
    return dataset.model_copy(update={"params": params, "locations": {**dataset.locations, **places}})


def _told_apart(dataset: ComponentSpec, setting: BoardSetting, several: bool) -> ComponentSpec:
    """Return a data set with the label that tells it from others of its plan in other places."""
    return dataset.model_copy(update={"variant": setting.label.partition(" · ")[0]}) if several else dataset
