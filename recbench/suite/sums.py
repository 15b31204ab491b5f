"""Weighted sums of losses in a suite: ``{sum: [{name: l1}, {name: st_lpips, weight: 0.1}]}``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from recbench.contracts.entries import Entry
from recbench.contracts.parameters import Parameter
from recbench.contracts.sums import PREFIX, WEIGHT, SumEntry, param_name, part_keys, part_names, sum_name
from recbench.errors import did_you_mean
from recbench.plugin.registry import Registered, Registry
from recbench.suite.document import KeyPath
from recbench.suite.schema import Choice, LossChoice
from recbench.suite.values import AddProblem

_EXAMPLE = "a sum names its losses, as in {sum: [{name: l1}, {name: st_lpips, weight: 0.1}]}"


@dataclass(frozen=True)
class Given:
    """A parameter that a suite sets.

    Attributes:
        key: its name in the entry of the item.
        at: its place in the suite file.
        parameter: None if there is none of this name.
        unknown: what to say then.
    """

    key: str
    at: KeyPath
    value: Any
    parameter: Parameter | None
    unknown: str


def chosen_entry(
    kind: str, path: KeyPath, choice: Choice, registry: Registry, add_problem: AddProblem
) -> Registered | None:
    """Return the entry that an item names, or that of the sum of losses that it lists; None, with problems, if there is
    none."""
    parts = choice.sum if isinstance(choice, LossChoice) else None
    if parts is None:
        registered = registry.find(kind, choice.name)
        if registered is None:
            unnamed = kind == "losses" and choice.name in ("sum", PREFIX)
            add_problem((*path, "name"), _EXAMPLE if unnamed else registry.unknown(kind, choice.name))
        return registered
    names = [part.name for part in parts]
    known = registry.names(kind)
    for index, name in enumerate(names):
        if name not in known:
            what = "a part of a sum is a single loss" if name.startswith("sum") else registry.unknown(kind, name)
            add_problem((*path, "sum", index, "name"), what)
    if choice.name != sum_name(names):
        add_problem((*path, "name"), "an item is either a loss, by its name, or a sum; a sum can have a label")
    if choice.params:
        add_problem((*path, "params"), "the parameters of a sum stand with its parts, as in {name: l1, params: {…}}")
    if not set(names) <= set(known):
        return None
    return registry.find(kind, sum_name(names))


def default_label(choice: Choice) -> str:
    """Return the label of an item that has none: the names of its losses, ``l1+st_lpips``, for a sum."""
    return "+".join(part_keys(part_names(choice.name))) if choice.name.startswith(PREFIX) else choice.name


def given_params(path: KeyPath, choice: Choice, entry: Entry) -> Iterator[Given]:
    """Yield the parameters that an item sets; for a sum, those of its parts and their weights."""

    def one(key: str, at: KeyPath, value: Any, owner: Entry, name: str) -> Given:
        known = [parameter.name for parameter in owner.parameters]
        unknown = f"{owner.name} has no such parameter; {did_you_mean(name, known)}"
        return Given(key, at, value, entry.parameter(key), unknown)

    if not isinstance(choice, LossChoice) or choice.sum is None or not isinstance(entry, SumEntry):
        for key, value in choice.params.items():
            yield one(key, (*path, "params", key), value, entry, key)
        return
    for index, (part, (key, owner)) in enumerate(zip(choice.sum, entry.parts.items(), strict=True)):
        at = (*path, "sum", index)
        if part.weight is not None:
            yield one(f"{key}.{WEIGHT}", (*at, "weight"), part.weight, owner, WEIGHT)
        for name, value in part.params.items():
            yield one(param_name(key, name), (*at, "params", name), value, owner, name)


def resolved_sum(entry: SumEntry, params: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parts of a sum as a suite file has them.

    Args:
        entry: of the sum.
        params: its parameters without those that are tuned.
    """
    found = []
    for key, part in entry.parts.items():
        names = {parameter.name: param_name(key, parameter.name) for parameter in part.parameters}
        own = {name: params[full] for name, full in names.items() if full in params}
        weight = {WEIGHT: params[f"{key}.{WEIGHT}"]} if f"{key}.{WEIGHT}" in params else {}
        found.append({"name": part.name, **weight, "params": own})
    return found
