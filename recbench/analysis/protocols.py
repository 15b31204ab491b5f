"""Differences between protocols: the reasons why results cannot be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recbench.plan.model import METHOD, PlannedJob, brief, identity
from recbench.plan.plan import Plan
from recbench.store.record import Data, Record, Result

Key = tuple[str | None, str | None]
"""A protocol's hash and the fingerprint of the images; records are ranked together if both are equal."""


def key(record: Result) -> Key:
    """Return what must be equal for two records of one setting to be ranked together."""
    return record.protocol, record.data.fingerprint if record.data is not None and record.protocol else None


def explain_protocols(plan: Plan, jobs: Sequence[PlannedJob], records: Mapping[str, Result]) -> Iterator[str]:
    """Yield one line per protocol among the records of a setting: whose it is, and how it differs."""
    by_key: dict[Key, list[PlannedJob]] = {}
    for planned in jobs:
        record = records.get(planned.id)
        if record is not None and record.protocol is not None:
            by_key.setdefault(key(record), []).append(planned)
    fingerprints = {fingerprint for _, fingerprint in by_key}
    for (protocol, fingerprint), theirs in sorted(by_key.items(), key=lambda item: (-len(item[1]), str(item[0]))):
        found = records[theirs[0].id]
        facts: list[str] = []
        if len(fingerprints) > 1 and found.data is not None:
            facts.append(_images(found.data))
        if fingerprint is not None and _follows(plan, theirs[0], found) != protocol:
            facts.append(
                f"their protocol hash {protocol} does not follow from their job and images: they were made by another "
                "version of recbench, or changed afterwards"
            )
        if len(by_key) > 1 or facts:
            yield f"{_whose(plan, theirs)} ({'; '.join(facts) or f'protocol {protocol}'})"


def _follows(plan: Plan, planned: PlannedJob, found: Result) -> str:
    """Return the protocol that follows from a job and the images of its record."""
    assert found.data is not None, "it has a fingerprint"
    return plan.job(planned).protocol(found.data.fingerprint, found.schema_version)


def _images(data: Data) -> str:
    counts = f"{data.train} training, {data.validation} validation and {data.test} test images"
    return f"{counts} with the fingerprint {data.fingerprint[:12]}"


def _whose(plan: Plan, jobs: Sequence[PlannedJob], most: int = 3) -> str:
    names = list(dict.fromkeys(plan.methods[planned.method].label for planned in jobs))
    shown = ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
    return f"{len(jobs)} {'record' if len(jobs) == 1 else 'records'} of {shown}"


def differences(first: Record, second: Record) -> list[str]:
    """Return one line per difference that keeps two records from being compared; empty if their protocols are the same.

    Compared are data set, architecture, training, their code, and the images: all but method and seed. Metrics are
    compared one by one (:func:`metric_differences`), but those of records of schema 1 are part of their protocol.
    """
    found = [_line(path, one, other) for path, one, other in _differing(_shared(first), _shared(second), "")]
    if first.data is not None and second.data is not None and first.data.fingerprint != second.data.fingerprint:
        found.append(f"images: {_images(first.data)}, and {_images(second.data)}")
    if not found and first.protocol != second.protocol:
        found.append(f"protocol: {first.protocol} and {second.protocol}, though job and images are the same")
    return found


def metric_differences(first: Record, second: Record) -> list[str]:
    """Return one line per difference between metrics of one label, which keeps their scores from being compared."""
    one, other = first.job.metrics, second.job.metrics
    return [
        _line(path, *values)
        for label in one
        if label in other
        for path, *values in _differing(
            one[label].model_dump(mode="json"), other[label].model_dump(mode="json"), f"metrics.{label}"
        )
    ]


def _shared(record: Record) -> dict[str, Any]:
    form = identity(record.job.form, record.schema_version)
    return {name: value for name, value in form.items() if name not in METHOD}


def _line(path: str, one: object, other: object) -> str:
    if path == "numerics":
        return f"version of recbench's numbers: {one} and {other}"
    if path.endswith(".code"):
        return f"{path.removesuffix('.code')}: its code has changed"
    return f"{path}: {_shown(one)} and {_shown(other)}"


def _shown(value: object) -> str:
    return "absent" if value is _ABSENT else brief(value)


_ABSENT = object()


def _differing(one: object, other: object, path: str) -> Iterator[tuple[str, object, object]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in sorted({*one, *other}):
            below = f"{path}.{name}" if path else name
            yield from _differing(one.get(name, _ABSENT), other.get(name, _ABSENT), below)
    elif one != other:
        yield path, one, other
