"""Checkpoints: the position of training, and all state that is needed to continue from there."""

from __future__ import annotations

import hashlib
import io
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

from recbench.errors import RecbenchError
from recbench.files import UNFINISHED, full_disk_named, open_regular
from recbench.store import artifacts
from recbench.store.attempt import CHECKPOINT, show, warn

LogSums = tuple[bool, list[str], list[float], int]
"""Of :mod:`recbench.job.logs`: whether they are numbers of the host, names, sums over steps, and number of steps."""
TERMS = ("objective", "reconstruction", "kl", "auxiliary", "penalty")


@dataclass
class Position:
    """The position of training: the next batch, and the sums over the running epoch (of what a loss logs, too) and the
    whole run.

    The first steps of every process are apart, as warm-up: libraries choose algorithms, and memory is allocated.
    Where a suite says ``auto``, ``precision`` is what the first machine has chosen, in which all others go on; it is
    empty elsewhere, and in older checkpoints.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(TERMS))
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    warm_steps: int = 0
    warm_seconds: float = 0.0
    logged: list[LogSums] = field(default_factory=list)
    precision: str = ""

    @property
    def step_seconds(self) -> float:
        """Mean duration of a step, without those of warm-ups if there are others."""
        steps = self.step - self.warm_steps
        return (self.seconds - self.warm_seconds) / steps if steps > 0 else self.seconds / self.step


class DamagedCheckpointError(RecbenchError):
    """A checkpoint is not what was written, or is of another job or other images; the text says why."""


class Checkpoint:
    """The unfinished state of a job: one file, written atomically, verified and read without unpickling objects. The
    one before is kept, for the case that the last one is damaged.

    Args:
        folder: of the job; holds ``checkpoint/``.
        work: where the history and unfinished files are written; None: ``folder``.
        origin: identifies job and images, a line of text; a checkpoint of another origin is never used.
    """

    def __init__(
        self,
        folder: Path,
        modules: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer | ReduceLROnPlateau],
        work: Path | None = None,
        origin: str = "",
    ) -> None:
        self.file = folder / CHECKPOINT / "state.pt"
        self.previous = self.file.with_name("previous.pt")
        self.folder = folder
        self.work = work or folder
        self.origin = origin
        self.modules = modules
        self.device = next((parameter.device for parameter in modules.parameters()), torch.device("cpu"))
        self.optimizers = optimizers
        self.lines: list[str] = []
        self.traces: dict[str, list[Tensor]] = {}
        self.pictures: dict[int, Tensor] = {}

    def save(self, position: Position) -> None:
        """Write the state.

        Raises:
            OutOfSpaceError: the file system is full; the checkpoint before is still there.
            FileNotFoundError: another attempt has taken over the job.
        """
        state = {
            "model": self.modules.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "random": random_states(self.device),
            "position": vars(position),
            "history": self.lines,
            "traces": self.traces,
            "pictures": self.pictures,
        }
        payload = io.BytesIO()  # torch's own writing to files hides why it failed
        torch.save(state, payload)
        content = payload.getbuffer()
        temporary = self.work / f".{self.file.name}{UNFINISHED}"
        with full_disk_named(self.folder):
            try:
                temporary.unlink(missing_ok=True)  # of a process that was killed; or a link, which must not be followed
                with os.fdopen(open_regular(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as stream:
                    stream.write(_header(self.origin, content))
                    stream.write(content)
                    stream.flush()
                    os.fsync(stream.fileno())
                if self.file.parent.is_symlink():  # what it points to is not ours
                    self.file.parent.unlink()
                self.file.parent.mkdir(exist_ok=True)
                if self.file.exists():
                    self.file.replace(self.previous)
                temporary.replace(self.file)
            finally:
                temporary.unlink(missing_ok=True)

    def load(self) -> Position:
        """Restore the state and return the position: that of the last undamaged checkpoint, or the beginning.

        A damaged one is kept as ``….damaged``, and ``warnings.log`` names it.
        """
        damaged = []
        state: dict[str, Any] | None = None
        for file in (self.file, self.previous):
            try:
                state = _read(file, self.origin)
                break
            except FileNotFoundError:
                continue
            except DamagedCheckpointError as error:
                file.replace(file.with_suffix(".damaged"))
                damaged.append(f"{file} cannot be used ({error})")
        if damaged:
            then = "began anew" if state is None else f"went on from {self.previous.name}, the one before"
            warn(self.folder, f"{' and '.join(damaged)}: training {then}")
        position = Position()
        if state is not None:
            self.modules.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
                optimizer.load_state_dict(saved)
            restore_random_states(state["random"], self.device)
            self.lines, self.traces = state["history"], state["traces"]
            self.pictures = state.get("pictures", {})  # older ones have none
            position = Position(**state["position"])
            position.sums += [0.0] * (len(TERMS) - len(position.sums))  # of a version with fewer terms
        artifacts.start_history(self.work, self.lines)
        if self.work != self.folder:
            show(artifacts.HISTORY, self.work, self.folder)
        return position

    def add_history(self, values: Mapping[str, float]) -> None:
        self.lines.append(artifacts.history_line(values))
        artifacts.append_history(self.work, self.lines[-1])


_MAGIC = b"recbench checkpoint 1"


def _header(origin: str, payload: bytes | memoryview) -> bytes:
    """Return three lines: the format, the origin, and the SHA-256 of origin and payload."""
    digest = hashlib.sha256(origin.encode() + b"\n")
    digest.update(payload)
    return b"\n".join([_MAGIC, origin.encode(), digest.hexdigest().encode(), b""])


def _read(file: Path, origin: str) -> dict[str, Any]:
    """Return the state in a checkpoint.

    Raises:
        FileNotFoundError: there is none.
        DamagedCheckpointError: it cannot be used.
    """
    try:
        if file.is_symlink() or (file.exists() and not file.is_file()):
            raise DamagedCheckpointError("it is not a regular file")
        with file.open("rb") as stream:
            magic, found, digest = (stream.readline(_LONGEST).removesuffix(b"\n") for _ in range(3))
            payload = stream.read()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedCheckpointError(f"it cannot be read: {error.strerror}") from None
    if magic != _MAGIC:
        raise DamagedCheckpointError("it is damaged, or not a checkpoint of this version")
    if _header(found.decode(errors="replace"), payload) != b"\n".join([magic, found, digest, b""]):
        raise DamagedCheckpointError("it is damaged: its SHA-256 is not that of its content")
    if found.decode() != origin:
        raise DamagedCheckpointError("it is of another job, or of other images")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the file, the job can begin anew
        raise DamagedCheckpointError(f"it cannot be read: {type(error).__name__}") from None
    return state


_LONGEST = 4096
"""Bytes of a line of the header."""


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the global random states of Python, NumPy and torch, on the CPU and the job's device, as plain data."""
    version, numbers, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), place, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state(device)] if device.type == "cuda" else [],
    }


def restore_random_states(states: Mapping[str, Any], device: torch.device) -> None:
    """Restore what :func:`random_states` returned, on whatever GPU the job is now.

    Checkpoints were once written with the states of all GPUs that were visible, of which the job had the first, or the
    one with its index.
    """
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, keys, place, has_gauss, cached = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), place, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] and device.type == "cuda":
        known = states["cuda"]
        torch.cuda.set_rng_state(known[min(device.index or 0, len(known) - 1)], device)
