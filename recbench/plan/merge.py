"""Joining the plans of one suite from several machines, and the differences between two plans."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from recbench.plan.model import BoardSetting, Frozen, Method, PlannedJob
from recbench.plan.plan import Plan


def join_plans(named: Sequence[tuple[str, Plan]]) -> tuple[Plan | None, list[str]]:
    """Join several plans of one suite into a plan with all their settings, methods and jobs.

    A setting or method that differs from another of the same label gets a longer label, such as ``l2 kl_weight=0.2``.

    Args:
        named: the plans, each with the name of the place it comes from, for messages.

    Returns:
        The joined plan, or None and the reasons why the plans cannot be joined.
    """
    (first, joined), *others = named
    problems = []
    for name, plan in others:
        reasons = list(_incompatible(joined, plan))
        if reasons:
            problems += [f"the plans of {joined.suite} in {first} and {name} differ in {reason}" for reason in reasons]
        elif joined.tuning is not None:
            wider = _with_metrics(joined, plan)
            joined = wider
            if {job.id for job in joined.jobs} < {job.id for job in plan.jobs}:
                shared = {"metrics": wider.metrics, "columns": wider.columns, "ranking": wider.ranking}
                joined = plan.model_copy(update=shared)
        elif plan != joined:
            joined = _union(_with_metrics(joined, plan), plan)
    return (None if problems else joined), problems


def _incompatible(first: Plan, second: Plan) -> Iterator[str]:
    if first.schema_version != second.schema_version:
        yield (
            f"their schema ({first.schema_version}, {second.schema_version}): the same job has two ids; "
            "'recbench upgrade' makes the older one fit"
        )
    for label in sorted({*first.metrics, *second.metrics}):
        one, other = first.metrics.get(label), second.metrics.get(label)
        if one is not None and other is not None and one != other:
            yield f"the metric {label}: {'; '.join(differences(one, other))}"
        elif (one is None or other is None) and first.schema_version == 1:
            yield f"the metric {label}, which only one of them has"
    if first.tuning is None or second.tuning is None:
        if first.tuning != second.tuning:
            yield "their tuning, which only one of them has"
    elif first.tuning != second.tuning:
        yield f"their tuning: {'; '.join(differences(first.tuning, second.tuning))}"
    else:
        ids, others = {job.id for job in first.jobs}, {job.id for job in second.jobs}
        if not (ids <= others or others <= ids):
            yield "the trials of their tuning, of which neither has all that the other has"


def differences(first: Frozen, second: Frozen) -> list[str]:
    """Return the differences between two pieces of plain data, as ``name 0.1 and 0.2`` by dotted names."""
    one, other = flat(first.model_dump(mode="json")), flat(second.model_dump(mode="json"))
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    return [f"{name} {one.get(name, 'nothing')} and {other.get(name, 'nothing')}" for name in names]


def flat(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested plain data by dotted names; lists stay whole.

    >>> flat({"a": {"b": 1, "c": [2]}, "d": {}})
    {'a.b': 1, 'a.c': [2], 'd': {}}
    """
    found: dict[str, Any] = {}
    for name, value in data.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{prefix}{name}."))
        else:
            found[prefix + name] = value
    return found


def _with_metrics(first: Plan, second: Plan) -> Plan:
    """Return the first plan with the metrics of both; boards leave out of the ranks what some method lacks."""
    added = [column for column in second.columns if column.name not in first.metrics]
    return first.model_copy(
        update={
            "metrics": {**first.metrics, **{column.name: second.metrics[column.name] for column in added}},
            "columns": (*first.columns, *added),
            "ranking": tuple(dict.fromkeys((*first.ranking, *second.ranking))),
        }
    )


def _union(first: Plan, second: Plan) -> Plan:
    settings, setting_of = _joined(first.settings, second.settings)
    methods, method_of = _joined(first.methods, second.methods)
    known = {job.id for job in first.jobs}
    jobs = [
        PlannedJob(id=p.id, setting=setting_of[p.setting], method=method_of[p.method], seed=p.seed, split=p.split)
        for p in second.jobs
        if p.id not in known
    ]
    published = [
        p.model_copy(update={"setting": setting_of[p.setting], "method": method_of[p.method]}) for p in second.published
    ]
    baselines = [
        b.model_copy(update={"setting": setting_of[b.setting], "fitted": setting_of[b.fitted]})
        for b in second.baselines
    ]
    return first.model_copy(
        update={
            "settings": tuple(settings),
            "methods": tuple(methods),
            "jobs": (*first.jobs, *jobs),
            "published": tuple(dict.fromkeys((*first.published, *published))),
            "baselines": tuple(dict.fromkeys((*first.baselines, *baselines))),
        }
    )


def _joined(first: Sequence[Any], second: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Return the settings or methods of both, and the indices of the second's among them."""
    joined, indices = list(first), []
    for item in second:
        same = [i for i, other in enumerate(joined) if _content(other) == _content(item)]
        if not same:
            same = [len(joined)]
            joined.append(item.model_copy(update={"label": _unique_label(item, joined)}))
        indices.append(same[0])
    return joined, indices


def _unique_label(item: BoardSetting | Method, others: Sequence[BoardSetting | Method]) -> str:
    """Return a label that none of the others has: the item's label, followed by the values that differ."""
    taken = {other.label: other for other in others}
    if item.label not in taken:
        return item.label
    mine, its = flat(_content(item)), flat(_content(taken[item.label]))
    changed = {name: value for name, value in mine.items() if its.get(name) != value}
    short = [f"{name.replace('params.', '').removeprefix('loss.')}={_brief(value)}" for name, value in changed.items()]
    label = " ".join([item.label, *short])
    number = 2
    while label in taken:
        label, number = f"{item.label} ({number})", number + 1
    return label


def _content(item: BoardSetting | Method) -> dict[str, Any]:
    return item.model_dump(mode="json", exclude={"label": True, "dataset": {"locations"}})


def _brief(value: object) -> str:
    return str(value).replace("/", "_").replace("\\", "_")[:20]
