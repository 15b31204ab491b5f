"""The values of a job that all trackers show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHOWN = 8


def settings(job: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """A job's hyper-parameters by dotted names: ``loss``, ``loss.C``, ``kl_weight``, ``training.epochs``, ``seed`` …

    Lists become text.
    """
    found: dict[str, Any] = {}
    for kind in ("dataset", "architecture", "loss"):
        found[kind] = job[kind]["name"]
        found.update({f"{kind}.{name}": value for name, value in job[kind]["params"].items()})
    found["kl_weight"] = job["kl_weight"]
    found.update({f"training.{name}": value for name, value in job["training"].items()})
    found["seed"] = job["seed"]
    return {name: value if isinstance(value, bool | int | float | str) else str(value) for name, value in found.items()}


def scores(record: Mapping[str, Any]) -> dict[str, float]:
    """A record's scores as ``test/psnr`` (or ``validation/psnr``), with the KL divergence in nats and what training
    took; empty for a job without scores."""
    if record["status"] != "done":
        return {}
    split = record["job"].get("split", "test")
    found = {f"{split}/{name}": float(score["mean"]) for name, score in record["scores"].items()}
    found.setdefault(f"{split}/kl", float(record["evaluated"]["kl"]))
    found.update({f"cost/{name}": float(value) for name, value in record["cost"].items()})
    return found


def picture(images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.uint8] | None:
    """The first test images above their reconstructions, and samples below: uint8 (H, W, 3); None without images.

    Images that are neither grey nor coloured show their first channel.
    """
    rows = [images[name][:SHOWN] for name in ("target", "decoded", "samples") if name in images]
    if not rows:
        return None
    count = min(len(row) for row in rows)
    grid = np.concatenate([np.concatenate(list(row[:count]), axis=2) for row in rows], axis=1)
    grid = grid if len(grid) == 3 else np.repeat(grid[:1], 3, axis=0)
    return np.ascontiguousarray(grid.transpose(1, 2, 0))
