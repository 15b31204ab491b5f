"""Results with other labels of their metrics, so that stores can be merged in which one label means two metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recbench.plan.model import ComponentSpec
from recbench.plan.relabelling import new_labels, relabelled, remarks
from recbench.store.artifacts import (
    SCORES,
    TRACES,
    is_trace_of,
    read_scores,
    read_traces,
    scores_content,
    traces_content,
)
from recbench.store.record import File, Record, parse_record, sealed
from recbench.store.sources import RecordSource


class RelabelledSource(RecordSource):
    """The results of another source in which some metrics have new labels.

    Records that have scores by these metrics are written anew, with their scores per image; the same source always
    gives the same bytes. Scores by an earlier version of a metric keep its label.

    Args:
        source: the results.
        labels: the new labels by the labels that the source's plan has.
    """

    def __init__(self, source: RecordSource, labels: Mapping[str, str]) -> None:
        self.name = source.name
        self.source = source
        self.labels = labels
        self.metrics: dict[str, ComponentSpec] = source.plan.metrics
        self.plan = relabelled(source.plan, labels)

    def resolved(self) -> bytes | None:
        return self.source.resolved()

    def raw(self, job_id: str) -> bytes | None:
        raw = self.source.raw(job_id)
        if raw is None:
            return None
        record = parse_record(job_id, raw)
        new = self._new(record)
        return sealed(self._record(record, new).model_dump_json(indent=1)) if new else raw

    def _file(self, job_id: str, name: str, size: int) -> bytes | None:
        raw = self.source.raw(job_id) if name in (SCORES, TRACES) else None
        record = parse_record(job_id, raw) if raw is not None else None
        new = self._new(record) if record is not None else {}
        if record is not None and new:
            return self._files(record, new).get(name)
        return self.source._file(job_id, name, size)

    def _new(self, record: Record) -> dict[str, str]:
        """Return the new labels of a record's metrics: of those that are as the plan has them."""
        mine = record.job.metrics
        return {old: new for old, new in self.labels.items() if mine.get(old) == self.metrics[old]}

    def _record(self, record: Record, labels: Mapping[str, str]) -> Record:
        def renamed(found: Mapping[str, Any]) -> dict[str, Any]:
            return {labels.get(label, label): value for label, value in found.items()}

        failure = record.failure
        if failure is not None:
            failure = failure.model_copy(update={"metric": labels.get(failure.metric, failure.metric)})
        files = {name: one for name, one in record.files.items() if name not in (SCORES, TRACES)}
        return record.model_copy(
            update={
                "job": record.job.model_copy(update={"metrics": renamed(record.job.metrics)}),
                "scores": renamed(record.scores),
                "without": tuple(labels.get(label, label) for label in record.without),
                "reasons": renamed(record.reasons),
                "failure": failure,
                "files": files | {name: File.of(raw) for name, raw in self._files(record, labels).items()},
                "rescored": tuple(
                    one.model_copy(update={"metrics": tuple(labels.get(label, label) for label in one.metrics)})
                    for one in record.rescored
                ),
            }
        )

    def _files(self, record: Record, labels: Mapping[str, str]) -> dict[str, bytes]:
        """Return the contents of the files that hold labels of metrics, as far as the source has them."""
        found = {}
        scores, traces = (self.source.file(record, name) for name in (SCORES, TRACES))
        if scores is not None:
            columns = read_scores(scores)
            found[SCORES] = scores_content({labels.get(name, name): values for name, values in columns.items()})
        if traces is not None:
            shown = read_traces(traces)
            found[TRACES] = traces_content({_renamed(name, labels): values for name, values in shown.items()})
        return found


def _renamed(trace: str, labels: Mapping[str, str]) -> str:
    return next((new + trace.removeprefix(old) for old, new in labels.items() if is_trace_of(trace, [old])), trace)


def kept_apart(found: Sequence[RecordSource]) -> tuple[list[RecordSource], list[str]]:
    """Return sources of one suite in which one label always means one metric, and what differed between them.

    The first source keeps its labels. A metric of another one with other code, parameters or direction gets a label of
    its own, so that boards show its scores in a column of their own.
    """
    first, *others = found
    plan, kept = first.plan, [first]
    notes: list[str] = []
    for source in others:
        labels = new_labels(plan, source.plan)
        notes += remarks(first.name, plan, source.name, source.plan, labels)
        kept.append(RelabelledSource(source, labels) if labels else source)
        theirs = kept[-1].plan
        added = [column for column in theirs.columns if column.name not in plan.metrics]
        plan = plan.model_copy(
            update={"metrics": {**theirs.metrics, **plan.metrics}, "columns": (*plan.columns, *added)}
        )
    return kept, notes
