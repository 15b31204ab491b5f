"""What plugins keep on the host is seen wherever it is kept: steps are then eager, with the same numbers."""

from __future__ import annotations

import functools
import itertools
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recbench.contracts.architecture import Gaussian
from recbench.contracts.loss import Context
from tests import recorded_training
from tests.recorded_operations import OperationsRecorder
from tests.recorded_training import CONFIG, L2, Made, Network, same

Factor = Callable[[Any, Tensor, Context], Any]
COUNT = 0
TABLE = {"calls": {"n": 0}}


class Counted:
    shared = 0

    def __init__(self) -> None:
        self.n = 0


class Slotted:
    __slots__ = ("n",)

    def __init__(self) -> None:
        self.n = 0


def by_global(kept: Any, decoded: Tensor, context: Context) -> float:
    global COUNT  # noqa: PLW0603 - what a plugin may do
    COUNT += 1
    return 1 + COUNT // 8


def by_nested_global(kept: Any, decoded: Tensor, context: Context) -> float:
    TABLE["calls"]["n"] += 1
    return 1 + TABLE["calls"]["n"] // 8


def by_object(kept: Any, decoded: Tensor, context: Context) -> float:
    kept.n += 1
    return float(1 + kept.n // 8)


def by_class(kept: Any, decoded: Tensor, context: Context) -> float:
    type(kept).shared += 1
    return float(1 + type(kept).shared // 8)


def by_nested(kept: Any, decoded: Tensor, context: Context) -> float:
    kept["a"][0]["n"] += 1
    return float(1 + kept["a"][0]["n"] // 8)


def by_array(kept: Any, decoded: Tensor, context: Context) -> float:
    kept += 1
    return float(1 + kept[0] // 8)


def by_tensor(kept: Any, decoded: Tensor, context: Context) -> Tensor:
    kept["average"] = 0.9 * kept["average"] + 0.1 * decoded.detach().mean()
    average: Tensor = kept["average"]
    return average


def closure() -> Callable[[], float]:
    n = 0

    def count() -> float:
        nonlocal n
        n += 1
        return 1 + n // 8

    return count


CASES: dict[str, tuple[Callable[[], Any], Factor, str]] = {
    "a global": (object, by_global, "a global of by_global() changes"),
    "in a global": (object, by_nested_global, "TABLE.calls.n changes"),
    "an object": (Counted, by_object, "Keeps.kept.n changes"),
    "slots": (Slotted, by_object, "Keeps.kept changes"),
    "a class": (Counted, by_class, "Counted changes"),
    "nested": (lambda: {"a": [{"n": 0}]}, by_nested, "Keeps.kept.a.n changes"),
    "an array": (lambda: np.zeros(3), by_array, "Keeps.kept changes"),
    "a tensor in a dictionary": (lambda: {"average": torch.ones(())}, by_tensor, "Keeps.kept.average changes"),
    "a closure": (closure, lambda kept, *_: kept(), "Keeps.kept changes"),
    "a partial": (lambda: functools.partial(by_object, Counted()), lambda kept, *a: kept(*a), "Keeps.kept.n changes"),
    "random numbers": (lambda: random.Random(0), lambda kept, *_: 1 + kept.random(), "Keeps.kept changes"),
    "NumPy's": (lambda: np.random.default_rng(0), lambda kept, *_: 1 + kept.random(), "Keeps.kept changes"),
    "torch's": (
        lambda: torch.Generator().manual_seed(0),
        lambda kept, *_: 1 + torch.rand((), generator=kept),
        "Keeps.kept changes",
    ),
    "seldom": (lambda: random.Random(3), lambda kept, *_: 2.0 if kept.random() < 0.15 else 1.0, "Keeps.kept changes"),
    "a counter": (
        itertools.count,
        lambda kept, *_: 1 + next(kept) // 8,
        "nobody can see where Keeps.kept, a count, is",
    ),
    "a cache": (
        lambda: functools.lru_cache(lambda n: n),
        lambda kept, decoded, context: kept(random.Random(id(decoded)).random()) * 0 + 1.0,
        "Keeps.kept changes",
    ),
    "vars": (object, lambda kept, decoded, context: float(vars(context)["epoch"]), "the loss copies its context"),
    "a copy": (object, lambda kept, decoded, context: replace(context, z=None) and 1.0, "the loss copies its context"),
}


class Keeps(L2):
    def __init__(self, kept: Any, factor: Factor) -> None:
        super().__init__()
        self.kept = kept
        self.by = factor

    def factor(self, decoded: Tensor, context: Context) -> Any:
        return self.by(self.kept, decoded, context)


@pytest.mark.parametrize("case", CASES)
def test_state_on_the_host_makes_steps_eager_with_the_same_numbers(case: str, tmp_path: Path) -> None:
    make, factor, reason = CASES[case]
    found = []
    for recorder in (None, OperationsRecorder()):
        globals()["COUNT"] = TABLE["calls"]["n"] = Counted.shared = 0
        found.append(Made(tmp_path / str(recorder is None), Keeps(make(), factor), CONFIG, recorder))
    assert same(*found)
    assert found[1].steps[0].replays == 0
    assert len(found[1].notes) == 1 and reason in found[1].notes[0]


def test_a_parameter_that_is_replaced_is_seen(tmp_path: Path) -> None:
    class Replaces(L2):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()), requires_grad=False)

        def factor(self, decoded: Tensor, context: Context) -> Any:
            self.scale = nn.Parameter(self.scale.detach() * 0.9, requires_grad=False)
            return self.scale

    eager = Made(tmp_path / "a", Replaces(), CONFIG)
    replayed = Made(tmp_path / "b", Replaces(), CONFIG, OperationsRecorder())
    assert same(eager, replayed) and replayed.steps[0].replays == 0
    assert "_parameters.scale changes" in replayed.notes[0]


def test_a_loss_that_logs_is_replayed(tmp_path: Path) -> None:
    class Logs(L2):
        def factor(self, decoded: Tensor, context: Context) -> Any:
            self.logged["mean"] = decoded.detach().mean()
            return 1.0

    eager = Made(tmp_path / "a", Logs(), CONFIG)
    replayed = Made(tmp_path / "b", Logs(), CONFIG, OperationsRecorder())
    assert same(eager, replayed) and not replayed.notes and replayed.steps[0].replays > 0
    assert "mean" in replayed.terms[0]


class ReplacesBetween(Network):
    """A sum over the steps of an epoch, in a buffer that is another tensor in the next."""

    used: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("used", torch.zeros(()))

    def encode(self, images: Tensor) -> Gaussian:
        if self.training:
            self.used += 1
        return super().encode(images)

    def log(self) -> dict[str, float]:
        value = float(self.used)
        self.used = torch.zeros(())
        return {"used": value}


class ChangesBetween(Network):
    def __init__(self) -> None:
        super().__init__()
        self.temperature = 1.0

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z * self.temperature)

    def log(self) -> dict[str, float]:
        self.temperature *= 0.5
        return {"temperature": self.temperature}


@pytest.mark.parametrize("network", [ReplacesBetween, ChangesBetween])
def test_what_changes_between_epochs_is_recorded_anew(
    network: type[Network], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded_training, "Network", network)
    config = CONFIG.model_copy(update={"epochs": 3})
    recorder = OperationsRecorder()
    eager = Made(tmp_path / "a", L2(), config)
    replayed = Made(tmp_path / "b", L2(), config, recorder)
    assert same(eager, replayed) and not replayed.notes
    assert recorder.made == 3 and replayed.steps[0].replays > 0


def test_an_error_that_reaches_gradients_alone_is_seen_without_deterministic_algorithms(tmp_path: Path) -> None:
    class Turns(L2):
        def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
            factor = 1 + os.urandom(1)[0] / 256  # which leaves no trace
            if decoded.requires_grad:
                decoded.register_hook(lambda gradient: gradient * factor)
            return super().forward(decoded, target, context)

    config = CONFIG.model_copy(update={"deterministic": False})
    replayed = Made(tmp_path, Turns(), config, OperationsRecorder())
    assert replayed.steps[0].replays == 0 and len(replayed.notes) == 1
