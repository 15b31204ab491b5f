"""Checkpoints: the position of training, and all state that is needed to continue from there."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau

from recbench.files import full_disk_named
from recbench.store import artifacts

TERMS = ("objective", "reconstruction", "kl", "auxiliary")


@dataclass
class Position:
    """The position of training: the next batch, and the sums over the running epoch and the whole run."""

    epoch: int = 1
    batch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(TERMS))
    seconds: float = 0.0
    epoch_seconds: float = 0.0


class Checkpoint:
    """The unfinished state of a job: one file, written atomically, read without unpickling objects."""

    def __init__(
        self,
        folder: Path,
        modules: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer | ReduceLROnPlateau],
        images: str = "",
    ) -> None:
        self.file = folder / "checkpoint" / "state.pt"
        self.folder = folder
        self.modules = modules
        self.optimizers = optimizers
        self.images = images
        self.lines: list[str] = []
        self.traces: dict[str, list[Tensor]] = {}

    def save(self, position: Position) -> None:
        state = {
            "images": self.images,
            "model": self.modules.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "random": random_states(),
            "position": vars(position),
            "history": self.lines,
            "traces": self.traces,
        }
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(".tmp")
        with full_disk_named(self.file.parent):
            try:
                with temporary.open("wb") as stream:
                    torch.save(state, stream)
                    stream.flush()
                    os.fsync(stream.fileno())
            except RuntimeError as error:  # torch's writer hides the errno of a full disk
                temporary.unlink(missing_ok=True)
                raise OSError(28, str(error)) if _is_full(self.file.parent) else error from None
            temporary.replace(self.file)

    def load(self) -> Position:
        """Restore the state and return the position: the beginning if there is no usable checkpoint."""
        try:
            state: dict[str, Any] = torch.load(self.file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            state = {}
        except Exception:  # noqa: BLE001 - whatever is wrong with the file, the job can begin anew
            self.file.rename(self.file.with_suffix(".damaged"))
            state = {}
        if not state or state.get("images", self.images) != self.images:  # a job may find other images in another place
            artifacts.start_history(self.folder)
            return Position()
        self.modules.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        restore_random_states(state["random"])
        self.lines, self.traces = state["history"], state["traces"]
        artifacts.start_history(self.folder, self.lines)
        return Position(**state["position"])

    def add_history(self, values: Mapping[str, float]) -> None:
        self.lines.append(artifacts.history_line(values))
        artifacts.append_history(self.folder, self.lines[-1])


def _is_full(folder: Path) -> bool:
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize < 2**20


def random_states() -> dict[str, Any]:
    """Return the global random states of Python, NumPy and torch, as tensors and plain data."""
    version, numbers, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), place, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_states(states: Mapping[str, Any]) -> None:
    """Restore what :func:`random_states` returned."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, place, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), place, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
