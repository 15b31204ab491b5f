"""Components of jobs, made from entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbench.contracts.entries import DatasetEntry
from recbench.plan.model import ComponentSpec
from recbench.plugin.registry import Registered


def component(registered: Registered, params: Mapping[str, Any], score: str = "") -> ComponentSpec:
    """Return an entry with its parameters as jobs define it.

    Args:
        registered: the entry.
        params: the complete parameters.
        score: of a metric with several scores, the name of the one that is meant.

    Raises:
        PluginError: the source of its code cannot be found.
    """
    entry = registered.entry
    places = entry.locations if isinstance(entry, DatasetEntry) else ()
    return ComponentSpec(
        name=entry.name,
        params={name: value for name, value in params.items() if name not in places},
        code=registered.code,
        locations={name: value for name, value in params.items() if name in places},
        score=score,
    )
