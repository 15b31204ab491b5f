"""Metrics of one label that are not the same metric: when plans are joined, their scores are kept apart by label."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from recbench.plan.merge import differences, flat
from recbench.plan.model import Column, ComponentSpec, brief
from recbench.plan.plan import Plan

_DIGITS = 8
"""Digits of a digest of code in a label."""


def new_labels(first: Plan, second: Plan) -> dict[str, str]:
    """Return new labels, by label, for the metrics of a plan that are others than the first plan's of the same label.

    The same metric has the same code and parameters, and is better in the same direction. One that the first plan has
    under another label gets that label.
    """
    columns, others = _columns(first), _columns(second)
    found: dict[str, str] = {}
    for label, spec in second.metrics.items():
        mine = first.metrics.get(label)
        if mine is None or (mine == spec and columns[label].direction == others[label].direction):
            continue
        known = (
            name
            for name, one in first.metrics.items()
            if one == spec and columns[name].direction == others[label].direction and name not in second.metrics
        )
        taken = {*first.metrics, *second.metrics, *found.values()}
        found[label] = next(known, "") or _free(_label(label, mine, spec, others[label]), taken)
    return found


def _columns(plan: Plan) -> dict[str, Column]:
    return {column.name: column for column in plan.columns}


def _label(label: str, mine: ComponentSpec, spec: ComponentSpec, column: Column) -> str:
    """Return ``psnr@3f0c12ab`` where the code differs, ``psnr window=7`` where parameters do."""
    one, other = flat(mine.model_dump(mode="json")), flat(spec.model_dump(mode="json"))
    changed = {name: value for name, value in other.items() if one.get(name) != value}
    code = changed.pop("code", "")
    parts = [f"{name.removeprefix('params.')}={brief(value)[:20]}" for name, value in changed.items()]
    if not parts and not code:
        parts = [brief(column.direction)]
    return " ".join([f"{label}@{code[:_DIGITS]}" if code else label, *parts])


def _free(label: str, taken: set[str]) -> str:
    found, number = label, 2
    while found in taken:
        found, number = f"{label} ({number})", number + 1
    return found


def relabelled(plan: Plan, labels: Mapping[str, str]) -> Plan:
    """Return a plan whose metrics have new labels, by their old ones; its jobs keep their ids."""
    tuning = plan.tuning
    if tuning is not None:
        tuning = tuning.model_copy(update={"metric": labels.get(tuning.metric, tuning.metric)})
    return plan.model_copy(
        update={
            "metrics": {labels.get(label, label): spec for label, spec in plan.metrics.items()},
            "columns": tuple(
                column.model_copy(update={"name": labels.get(column.name, column.name)}) for column in plan.columns
            ),
            "ranking": tuple(labels.get(label, label) for label in plan.ranking),
            "tuning": tuning,
        }
    )


def remarks(first: str, one: Plan, second: str, other: Plan, labels: Mapping[str, str]) -> Iterator[str]:
    """Yield what differs between the metrics of two plans, and what is made of it.

    Args:
        first, second: where the plans come from.
        one, other: the plans.
        labels: the new labels of the second plan's metrics.
    """
    for label, new in labels.items():
        how = differences(one.metrics[label], other.metrics[label])
        how = how or [f"direction {_columns(one)[label].direction} and {_columns(other)[label].direction}"]
        yield (
            f"the metric {label} is not the same in {first} and {second} ({'; '.join(how)}): their scores are kept "
            f"apart, those of {second} as {new}"
        )
    shared = [label for label in one.metrics if label in other.metrics and label not in labels]
    columns, others = _columns(one), _columns(other)
    for label in shared:
        how = differences(columns[label], others[label])
        if how:
            yield f"the metric {label} is shown as in {first}; {second} differs in {'; '.join(how)}"
    only = [
        f"{label} (only in {name})"
        for label in shared
        for name, ranks, lacks in ((first, one, other), (second, other, one))
        if label in ranks.ranking and label not in lacks.ranking
    ]
    if only:
        yield f"metrics that rank in one plan rank in the joined one: {', '.join(only)}"
