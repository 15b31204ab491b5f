"""Suites of ``recbench try``: a board's suite with other losses, which get the tuning that the board's losses had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recbench.errors import UserError
from recbench.suite.document import dump, load


def contending(resolved: Path, losses: Sequence[str], name: str) -> str:
    """Return the text of a suite that is another one in all but its losses, and has a name of its own.

    Where the suite tunes parameters of losses, those of the new losses that are tunable are tuned too.

    Args:
        resolved: the ``suite.yaml`` of the results of a suite with tuning.
        losses: names of losses.
        name: of the new suite.

    Raises:
        UserError: the file cannot be read, or is of a suite without tuning.
    """
    data = _data(resolved)
    tuning = data.get("tuning")
    if not isinstance(tuning, dict):
        raise UserError(
            f"{data.get('name')} is a suite without tuning: there is no budget from which a new loss could get its KL "
            "weight; choose a suite with the section tuning"
        )
    tuned = {key: value for key, value in tuning.items() if key != "params" or not value}
    changed = {"name": name, "losses": [{"name": loss} for loss in losses], "tuning": tuned}
    return dump({key: value for key, value in {**data, **changed}.items() if key != "published"})


def shortened(resolved: Path, kl_weights: Mapping[str, float], name: str, epochs: int) -> str:
    """Return the text of a suite that trains losses with one seed over fewer epochs, without tuning.

    Args:
        resolved: the ``suite.yaml`` of the results of a suite.
        kl_weights: of the losses, by name.
        name: of the new suite.
        epochs: of training.

    Raises:
        UserError: the file cannot be read.
    """
    data = _data(resolved)
    changed = {
        "name": name,
        "losses": [{"name": loss, "kl_weight": weight} for loss, weight in kl_weights.items()],
        "seeds": data["seeds"][:1],
        "training": {**data["training"], "epochs": epochs},
    }
    return dump({key: value for key, value in {**data, **changed}.items() if key not in ("published", "tuning")})


def _data(resolved: Path) -> dict[str, Any]:
    data = load(resolved).data
    if not isinstance(data, dict) or not {"name", "seeds", "training"} <= data.keys():
        raise UserError(f"{resolved} is not the file of a suite")
    return data
