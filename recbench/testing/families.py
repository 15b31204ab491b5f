"""The families of losses and metrics, as the installed plugins know them."""

from __future__ import annotations

from functools import cache

from recbench.contracts.checked import ContractError
from recbench.contracts.entries import LossEntry, MetricEntry
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry


@cache
def _installed() -> Registry:
    return Registry(load_plugins())


def wrong_family(entry: LossEntry | MetricEntry) -> None:
    """Check that an entry's family does not look like a misspelt one.

    Raises:
        ContractError: it does.
    """
    found = _installed().misspelt_family(entry)
    if found is not None:
        raise ContractError(f"{entry.name}: {found}")
