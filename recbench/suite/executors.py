"""The section ``executors`` of a suite: parameters for executors, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from recbench.errors import did_you_mean
from recbench.plugin.registry import Registry
from recbench.suite.values import AddProblem


def executor_params(
    section: Mapping[str, Mapping[str, Any]], registry: Registry, add_problem: AddProblem
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the valid parameters of each executor of the section."""
    for name, params in section.items():
        registered = registry.find("executors", name)
        if registered is None:
            add_problem(("executors", name), registry.unknown("executors", name))
            continue
        valid = {}
        for key, value in params.items():
            parameter = registered.entry.parameter(key)
            try:
                if parameter is None:
                    known = [parameter.name for parameter in registered.entry.parameters]
                    raise ValueError(f"{name} has no parameter '{key}'; {did_you_mean(key, known)}")
                valid[key] = parameter.coerce(value)
            except ValueError as error:
                add_problem(("executors", name, key), str(error))
        yield name, valid
