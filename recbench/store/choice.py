"""The choice of the source that each job's record is merged from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.plan.model import identity
from recbench.plan.plan import Plan
from recbench.store import artifacts
from recbench.store.artifacts import MODEL, SCORES, TRACES, is_trace_of
from recbench.store.record import File, Record, Rescored, fitted, parse_record, sealed

if TYPE_CHECKING:
    from recbench.store.sources import RecordSource


@dataclass(frozen=True)
class Gain:
    """Scores by metrics of these labels that a record of the same model has, and the chosen one lacks."""

    source: RecordSource
    record: Record
    labels: tuple[str, ...]


def counted(number: int, word: str) -> str:
    """Return a number with a word, in the plural where that is due."""
    return f"{number} {word}{'s' if number != 1 else ''}"


class SourceSelection:
    """The source that each job's record is taken from, and the problems that prevent merging."""

    def __init__(
        self, plan: Plan, found: Sequence[RecordSource], there: RecordSource | None, prefer: Path | None
    ) -> None:
        self.taken: dict[str, RecordSource] = {}
        self.records: dict[str, Record] = {}
        self.equal: dict[str, list[RecordSource]] = {}
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.plan = plan
        self.there = there
        self.planned = {job.id: job for job in plan.jobs}
        preferred = prefer.resolve() if prefer else None
        self.repeated: list[str] = []
        self.gains: dict[str, list[Gain]] = {}
        for job_id in self.planned:
            self._choose(job_id, found, preferred)
        if self.gains:
            self.notes.append(f"{counted(len(self.gains), 'job')} got scores of further metrics, of the same models")
        if self.repeated:
            self.notes.append(
                f"{counted(len(self.repeated), 'job')} ran more than once, with equal scores; each counts once"
            )

    def _choose(self, job_id: str, found: Sequence[RecordSource], preferred: Path | None) -> None:
        raws: dict[bytes, list[RecordSource]] = {}
        for source in found:
            try:
                raw = source.raw(job_id)
                if raw is not None:
                    self._check(job_id, source, raw)
                    raws.setdefault(raw, []).append(source)
            except ValueError as error:
                self.problems.append(f"{self._name(job_id)}: its record in {source.name} cannot be used: {error}")
        records = {raw: parse_record(job_id, raw) for raw in raws}
        standing = [raw for raw, record in records.items() if record.status != "failed"]
        candidates = standing or list(raws)
        liked = [raw for raw in candidates if any(_is(source, preferred) for source in raws[raw])]
        there = [raw for raw in standing if self.there in raws[raw]]
        if there and liked and liked != there:
            self.problems.append(
                f"{self._name(job_id)}: its record in the target is never replaced, not even with --prefer"
            )
        elif len(standing) > 1 and not liked and not _are_equal([records[raw] for raw in standing]):
            self.problems.append(self._clash(job_id, [(raws[raw][0], records[raw]) for raw in standing]))
        elif candidates:
            chosen = (liked or there or candidates)[0]
            self.taken[job_id], self.records[job_id] = raws[chosen][0], records[chosen]
            self.equal[job_id] = raws[chosen]
            if chosen in standing:
                self._gain(job_id, [(raws[raw][0], records[raw]) for raw in standing if raw != chosen])
            if len(standing) > 1 and not liked:
                if job_id not in self.gains:
                    self.repeated.append(job_id)
            elif len(raws) > 1:
                others = ", ".join(raws[raw][0].name for raw in raws if raw != chosen)
                self.notes.append(
                    f"{self._name(job_id)}: the record in {raws[chosen][0].name} is used, not that in {others}"
                )

    def _gain(self, job_id: str, others: Sequence[tuple[RecordSource, Record]]) -> None:
        """Note which scores the chosen record lacks and others have, of the same model by the plan's metrics."""
        chosen = self.records[job_id]
        lacking = {label for label, spec in self.plan.metrics.items() if chosen.job.metrics.get(label) != spec}
        for source, record in others:
            has = [label for label in lacking if record.job.metrics.get(label) == self.plan.metrics[label]]
            if not has or record.status != "done":
                continue
            if MODEL not in chosen.files or record.files.get(MODEL) != chosen.files[MODEL]:
                self.notes.append(
                    f"{self._name(job_id)}: its scores of {', '.join(sorted(has))} in {source.name} are of another "
                    "model, and were not taken; 'recbench evaluate' scores the model that is stored"
                )
                continue
            self.gains.setdefault(job_id, []).append(Gain(source, record, tuple(sorted(has))))
            lacking.difference_update(has)

    def merged(self, job_id: str) -> tuple[Record, bytes, dict[str, bytes]]:
        """Return the record of a job and its bytes, and the contents of the files that no source has as it says."""
        source, record = self.taken[job_id], self.records[job_id]
        raw = source.raw(job_id)
        assert raw is not None, "it was read before"
        if job_id not in self.gains:
            return record, raw, {}
        record, contents = joined(source, record, self.gains[job_id])
        return record, sealed(record.model_dump_json(indent=1)), contents

    def _check(self, job_id: str, source: RecordSource, raw: bytes) -> None:
        """Raise a ValueError if a record or one of its files is damaged, or if it is not of the planned job."""
        record = parse_record(job_id, raw)
        planned = self.plan.job(self.planned[job_id]).form
        if identity(record.job.form, record.schema_version) != identity(planned, record.schema_version):
            raise ValueError("it is not of the job that the plan specifies")
        for name in artifacts.ALL:
            source.file(record, name)

    def _name(self, job_id: str) -> str:
        planned = self.planned[job_id]
        return f"job {job_id} ({self.plan.methods[planned.method].label}, seed {planned.seed})"

    def _clash(self, job_id: str, records: Sequence[tuple[RecordSource, Record]]) -> str:
        what = "with different scores" if len({record.status for _, record in records}) == 1 else "with different ends"
        listed = " and ".join(f"{source.name} ({record.provenance.finished})" for source, record in records)
        return f"{self._name(job_id)} was run more than once, {what}: {listed}; choose one with --prefer SOURCE"


def _are_equal(records: Sequence[Record]) -> bool:
    """Return whether records of one job say the same about it by the same metrics, though not of the same run."""
    first, *others = records
    return all(
        (each.status, each.data) == (first.status, first.data)
        and fitted(each, first.job.metrics).scores == fitted(first, each.job.metrics).scores
        for each in others
    )


def joined(source: RecordSource, record: Record, gains: Sequence[Gain]) -> tuple[Record, dict[str, bytes]]:
    """Return a record with the scores of others of the same model, and the contents of the files that change with it:
    the scores per image, and the traces if a metric has any."""
    columns, traces, before = _columns(source, record), _traces(source, record), record.files.get(TRACES)
    metrics, scores, rescored = dict(record.job.metrics), dict(record.scores), list(record.rescored)
    reasons = dict(record.reasons)
    for gain in gains:
        other = gain.record
        theirs, shown = _columns(gain.source, other), _traces(gain.source, other)
        columns = columns or dict(theirs)
        traces = {name: values for name, values in traces.items() if not is_trace_of(name, gain.labels)}
        traces |= {name: values for name, values in shown.items() if is_trace_of(name, gain.labels)}
        for label in gain.labels:
            metrics[label] = other.job.metrics[label]
            scores.pop(label, None)
            columns.pop(label, None)
            if label in other.scores:
                scores[label] = other.scores[label]
            if label in other.reasons:
                reasons[label] = other.reasons[label]
            if label in theirs:
                columns[label] = theirs[label]
        seconds = other.evaluated.seconds if other.evaluated is not None else 0.0
        rescored.append(Rescored(metrics=gain.labels, seconds=seconds, provenance=other.provenance))
    contents = {SCORES: artifacts.scores_content(columns)}
    if traces and (before is None or source.file(record, TRACES) is not None):
        contents[TRACES] = artifacts.traces_content(traces)
    without = tuple(label for label in metrics if label not in scores)
    update = {
        "job": record.job.model_copy(update={"metrics": metrics}),
        "scores": scores,
        "without": without,
        "reasons": reasons,
        "files": {**record.files, **{name: File.of(content) for name, content in contents.items()}},
        "rescored": tuple(rescored),
    }
    return record.model_copy(update=update), contents


def _columns(source: RecordSource, record: Record) -> dict[str, Any]:
    content = source.file(record, SCORES)
    return {} if content is None else dict(artifacts.read_scores(content))


def _traces(source: RecordSource, record: Record) -> dict[str, Any]:
    content = source.file(record, TRACES)
    return {} if content is None else dict(artifacts.read_traces(content))


def _is(source: RecordSource, path: Path | None) -> bool:
    return path is not None and (Path(source.name).resolve() == path or Path(source.name).resolve().parent == path)
