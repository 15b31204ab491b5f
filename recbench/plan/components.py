"""Components of jobs, made from entries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recbench.contracts.entries import DatasetEntry
from recbench.plan.model import ComponentSpec
from recbench.plugin.registry import Registered


def component(registered: Registered, params: Mapping[str, Any]) -> ComponentSpec:
    """Return an entry with its parameters as jobs define it.

    Args:
        registered: the entry.
        params: the complete parameters.

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
    )
