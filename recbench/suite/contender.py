"""Suites of ``recbench try``: a board's suite with other losses, which get the tuning that the board's losses had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbench.contracts.entries import DatasetEntry
from recbench.errors import UserError
from recbench.plugin.registry import Registry
from recbench.suite.document import dump, load


def contending(data: Mapping[str, Any], losses: Sequence[str], name: str) -> str:
    """Return the text of a suite that is another one in all but its losses, and has a name of its own.

    Where the suite tunes parameters of losses, those of the new losses that are tunable are tuned too.

    Args:
        data: the content of the ``suite.yaml`` of the results of a suite with tuning.
        losses: names of losses.
        name: of the new suite.

    Raises:
        UserError: the suite has no tuning.
    """
    tuning = data.get("tuning")
    if not isinstance(tuning, dict):
        raise UserError(
            f"{data.get('name')} is a suite without tuning: there is no budget from which a new loss could get its KL "
            "weight; choose a suite with the section tuning"
        )
    tuned = {key: value for key, value in tuning.items() if key != "params" or not value}
    changed = {"name": name, "losses": [{"name": loss} for loss in losses], "tuning": tuned}
    return dump({key: value for key, value in {**data, **changed}.items() if key != "published"})


def shortened(data: Mapping[str, Any], kl_weights: Mapping[str, float], name: str, epochs: int) -> str:
    """Return the text of a suite that trains losses with one seed over fewer epochs, without tuning.

    Args:
        data: the content of the ``suite.yaml`` of the results of a suite.
        kl_weights: of the losses, by name.
        name: of the new suite.
        epochs: of training.
    """
    changed = {
        "name": name,
        "losses": [{"name": loss, "kl_weight": weight} for loss, weight in kl_weights.items()],
        "seeds": data["seeds"][:1],
        "training": {**data["training"], "epochs": epochs},
    }
    return dump({key: value for key, value in {**data, **changed}.items() if key not in ("published", "tuning")})


def relocated(resolved: Path, suite: Path | None, registry: Registry) -> dict[str, Any]:
    """Return the content of a ``suite.yaml`` with its images where another suite file has them, or where they are by
    default, rather than where they were on the machine that ran it.

    Args:
        resolved: the ``suite.yaml`` of the results of a suite.
        suite: its suite file, if there is one.
        registry: the data sets, which know the parameters that say where images are.

    Raises:
        UserError: a file cannot be read.
    """
    data = _data(resolved)
    original = load(suite).data if suite is not None else None
    items = original.get("datasets", []) if isinstance(original, dict) else []
    given = {item["name"]: item.get("params") or {} for item in items if isinstance(item, dict) and "name" in item}
    for item in data["datasets"]:
        registered = registry.find("datasets", item["name"])
        if registered is not None and isinstance(registered.entry, DatasetEntry):
            for place in registered.entry.locations:
                item["params"].pop(place, None)
                if place in given.get(item["name"], {}):
                    item["params"][place] = given[item["name"]][place]
    return data


def _data(resolved: Path) -> dict[str, Any]:
    data = load(resolved).data
    if not isinstance(data, dict) or not {"name", "datasets", "seeds", "training"} <= data.keys():
        raise UserError(f"{resolved} is not the file of a suite")
    return data
