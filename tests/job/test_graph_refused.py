"""Steps that cannot be recorded are made eagerly, with the numbers of a training that records none, and say why."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recbench.contracts.loss import Context
from recbench.job.graph import CudaRecorder
from tests.recorded_operations import OperationsRecorder
from tests.recorded_training import CONFIG, L2, Made, loss_of, same


class DrawsInPython(L2):
    def factor(self, decoded: Tensor, context: Context) -> Any:
        return 1 + random.random()


class DrawsInNumPy(L2):
    def factor(self, decoded: Tensor, context: Context) -> Any:
        return 1 + float(np.random.random())  # noqa: NPY002


class Counts(L2):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def factor(self, decoded: Tensor, context: Context) -> Any:
        self.calls += 1
        return 1 + self.calls / 100


class Remembers(L2):
    def __init__(self) -> None:
        super().__init__()
        self.means: list[Tensor] = []

    def factor(self, decoded: Tensor, context: Context) -> Any:
        self.means.append(decoded.detach().mean())
        return 1 + torch.stack(self.means).mean()


class ReplacesABuffer(L2):
    average: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.ones(()))

    def factor(self, decoded: Tensor, context: Context) -> Any:
        self.average = 0.9 * self.average + 0.1 * decoded.detach().mean()
        return self.average


class ReadsAValue(L2):
    def factor(self, decoded: Tensor, context: Context) -> Any:
        return 1 + float(decoded.detach().mean())


class ReadsAList(L2):
    def factor(self, decoded: Tensor, context: Context) -> Any:
        return 1 + sum(decoded.detach().mean((1, 2, 3)).tolist())


class ReadsAnArray(L2):
    def factor(self, decoded: Tensor, context: Context) -> Any:
        return 1 + float(decoded.detach().numpy().mean())


class Masks(L2):
    def factor(self, decoded: Tensor, context: Context) -> Any:
        return 1 + decoded.detach()[decoded > 0.5].sum()


class AsksForTheStep(L2):
    def factor(self, decoded: Tensor, context: Context) -> Any:
        return 1 + (context.step or 0) / 100


class BeginsLate(L2):
    """A parameter has its first gradient in the step that would be recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.calls = [0]

    def factor(self, decoded: Tensor, context: Context) -> Any:
        self.calls[0] += 1
        return self.scale if self.calls[0] > 3 else 1.0


class KeepsAPair(L2):
    """In a tuple, which is compared by what is in it."""

    pair: tuple[Tensor, Tensor] | None = None

    def factor(self, decoded: Tensor, context: Context) -> Any:
        self.pair = decoded.detach(), decoded.detach() * 2
        return 1.0


class FillsLate(L2):
    """An attribute and an item are made in the step that would be recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, Tensor] = {0: torch.ones(())}
        self.calls = [0]

    def factor(self, decoded: Tensor, context: Context) -> Any:
        self.calls[0] += 1
        if self.calls[0] > 3 and not hasattr(self, "window"):
            self.known[1] = self.window = decoded.detach().mean()
        return sum(self.known.values())


class WritesInto(L2):
    """A tensor that is no buffer, and matters in the next step only."""

    def __init__(self) -> None:
        super().__init__()
        self.average = torch.ones(())

    def factor(self, decoded: Tensor, context: Context) -> Any:
        found = self.average.clone()
        self.average.mul_(0.9).add_(0.1 * decoded.detach().mean())
        return found


class KeepsElsewhere(L2):
    """In a global."""

    def factor(self, decoded: Tensor, context: Context) -> Any:
        ELSEWHERE.append(1)
        return 1 + len(ELSEWHERE) / 100


ELSEWHERE: list[int] = []


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (DrawsInPython, "random numbers are drawn from python on the CPU"),
        (DrawsInNumPy, "random numbers are drawn from numpy on the CPU"),
        (Counts, "Counts.calls changes from step to step"),
        (Remembers, "Remembers.means changes from step to step"),
        (ReplacesABuffer, "ReplacesABuffer.average is another tensor after each step"),
        (BeginsLate, "BeginsLate.calls changes from step to step"),
        (KeepsAPair, "KeepsAPair.pair changes from step to step"),
        (FillsLate, "FillsLate.window changes from step to step"),
        (WritesInto, "WritesInto.average, a tensor that is no buffer, changes"),
        (ReadsAValue, "the step cannot be recorded (RuntimeError: operation not permitted"),
        (ReadsAList, "the step cannot be recorded (RuntimeError: operation not permitted"),
        (ReadsAnArray, "the step cannot be recorded (RuntimeError: operation not permitted"),
        (Masks, "the step cannot be recorded (RuntimeError: operation not permitted"),
        (AsksForTheStep, "the loss reads the number of the step"),
        (KeepsElsewhere, "ELSEWHERE changes from step to step"),
    ],
)
def test_what_cannot_be_replayed_is_made_eagerly_and_says_why(kind: type[L2], reason: str, tmp_path: Path) -> None:
    ELSEWHERE.clear()
    eager = Made(tmp_path / "a", kind(), CONFIG)
    ELSEWHERE.clear()
    replayed = Made(tmp_path / "b", kind(), CONFIG, OperationsRecorder())
    assert replayed.steps[0].replays == 0
    assert len(replayed.notes) == 1 and reason in replayed.notes[0]
    assert same(eager, replayed)


def test_what_is_kept_and_stays_is_replayed(tmp_path: Path) -> None:
    class Keeps(L2):
        def __init__(self) -> None:
            super().__init__()
            self.factors = {"first": torch.ones(()), "second": torch.ones(())}
            self.scale = nn.Parameter(torch.ones(()))
            self.views = [self.scale.detach()]

        def factor(self, decoded: Tensor, context: Context) -> Any:
            return sum(self.factors.values()) * self.scale

    eager = Made(tmp_path / "a", Keeps(), CONFIG)
    replayed = Made(tmp_path / "b", Keeps(), CONFIG, OperationsRecorder())
    assert same(eager, replayed) and not replayed.notes and replayed.steps[0].replays > 0


class Forgets(OperationsRecorder):
    """A recorder without memory: for the recording, for what comes after it, or at its end for another reason."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where = where

    def record(self, work: Any) -> Any:
        if self.where == "end":
            try:
                return super().record(work)
            except RuntimeError as error:
                raise RuntimeError("operation failed due to a previous error during capture") from error
        terms = super().record(work)[1]
        if self.where == "recording":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return self, terms

    def replay(self) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")


@pytest.mark.parametrize("where", ["recording", "replay"])
def test_without_memory_for_it_steps_are_eager(where: str, tmp_path: Path) -> None:
    eager = Made(tmp_path / "a", loss_of("l2"), CONFIG)
    replayed = Made(tmp_path / "b", loss_of("l2"), CONFIG, Forgets(where))
    assert same(eager, replayed)
    assert [note.rpartition(": ")[2] for note in replayed.notes] == ["there is no memory for a recorded step"]


def test_the_reason_is_the_first_error_of_a_recording(tmp_path: Path) -> None:
    replayed = Made(tmp_path, ReadsAValue(), CONFIG, Forgets("end"))
    assert "(RuntimeError: operation not permitted when stream is capturing)" in replayed.notes[0]


def test_a_recording_that_breaks_off_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch leaves begun, on a driver that is not there."""
    done: list[str] = []

    class Graph:
        def reset(self) -> None:
            done.append("reset")

    class Generator:
        def clone_state(self) -> str:
            return "copy"

        def graphsafe_set_state(self, state: str) -> None:
            done.append(f"generator {state}")

    @contextmanager
    def graph(*_: Any, pool: Any, stream: Any) -> Iterator[None]:
        done.append(f"begin {pool}")
        yield
        done.append("end")

    def ended(index: int, pool: Any) -> None:
        done.append(f"end {index} {pool}")
        if pool == 2:
            raise RuntimeError("not currently recording to mempool_id")

    pools = iter((1, 2, 3))
    stream = SimpleNamespace(wait_stream=lambda _: None, device=torch.device("cuda", 0))
    for name, value in {
        "Stream": lambda _: stream,
        "current_stream": lambda _: stream,
        "set_stream": lambda _: None,
        "CUDAGraph": Graph,
        "graph_pool_handle": lambda: next(pools),
        "graph": graph,
        "default_generators": (Generator(),),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", ended, raising=False)
    released = lambda index, pool: done.append(f"release {index} {pool}")  # noqa: E731
    monkeypatch.setattr(torch._C, "_cuda_releasePool", released, raising=False)
    recorder = CudaRecorder(torch.device("cuda"))

    def fails() -> Tensor:
        raise ValueError("it reads a value")

    for _ in range(2):
        with pytest.raises(ValueError, match="it reads a value"):
            recorder.record(fails)
    recorder.record(lambda: torch.ones(()))
    first = ["begin 1", "reset", "end 0 1", "release 0 1", "generator copy"]
    assert done == [*first, "begin 2", "reset", "end 0 2", "generator copy", "begin 3", "end"]
