"""What a loss trains alternately with the model, and what it logs of each step."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recbench.contracts.checked import RECORDED, ContractError, check_log
from recbench.contracts.loss import Auxiliary, Context, Loss
from recbench.job.images import to_range
from recbench.job.logs import Logs
from recbench.job.parts import Model
from recbench.job.step import Step
from recbench.job.sums import Part, SumLoss
from recbench.job.training import Interrupted, TrainingImages, seed_everything, train
from recbench.plan.model import Training
from recbench.store.attempt import warnings
from tests.job.test_training import PIXELS, Network, history, state, watch

CONFIG = Training(epochs=3, batch_size=8, learning_rate=1e-2)
IMAGES = TrainingImages(train=PIXELS, validation=PIXELS[:4], traced=PIXELS[:0])
STEPS = len(PIXELS) // 8
BATCH = to_range(PIXELS[:8], (-1.0, 1.0))


class Telling(Loss):
    """Half the squared error and a critic of single pixels, of which everything is logged."""

    def __init__(self, extra: Mapping[str, Any] | None = None, **auxiliary: Any) -> None:
        super().__init__()
        self.critic = nn.Conv2d(1, 1, 1)
        self.extra = extra or {}
        self.options = {"start": 2, **auxiliary}
        self.now: dict[str, Any] = {}
        self.told: list[dict[str, float]] = []
        self.steps: list[int | None] = []

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        values = 0.5 * (decoded - target).square().sum((1, 2, 3))
        if context.training:
            self.now = {"half": values.detach().mean(), "on_host": 0.1 * (context.step or 0), **self.extra}
        return values

    def objective(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        self.steps.append(context.step)
        values = (self.critic(target) - 1).square().mean((1, 2, 3)) + self.critic(decoded).square().mean((1, 2, 3))
        self.now["critic"] = values.detach().mean()
        return values

    def auxiliary(self) -> Auxiliary:
        return Auxiliary(tuple(self.critic.parameters()), 1e-2, self.objective, **self.options)

    def log(self) -> Mapping[str, Any]:
        self.told.append({name: float(value) for name, value in self.now.items() if isinstance(value, Tensor | float)})
        return self.now


def make(**arguments: Any) -> Model:
    seed_everything(0, deterministic=True)
    return Model(Network(), Telling(**arguments), (-1.0, 1.0), (0.0, 1.0), kl_weight=0.1)


def test_the_history_has_the_mean_over_the_steps_that_logged_a_name(tmp_path: Path) -> None:
    model = make()
    train(model, IMAGES, CONFIG.model_copy(update={"schedule": "plateau"}), 0, tmp_path, watch())
    assert isinstance(model.loss, Telling)
    told = [model.loss.told[start : start + STEPS] for start in range(0, 3 * STEPS, STEPS)]
    lines = history(tmp_path)
    for line, steps in zip(lines, told, strict=True):
        for name in ("half", "on_host", "critic"):
            given = [step[name] for step in steps if name in step]
            assert line[name] == pytest.approx(math.fsum(given) / len(given), rel=1e-6)
        assert line["half"] == pytest.approx(line["reconstruction"], rel=1e-6)
    assert [("critic" in step) for step in told[0]] == [False, False, *[True] * (STEPS - 2)]
    assert {*lines[0]} - {"half", "on_host", "critic"} <= RECORDED
    assert not warnings(tmp_path)


@pytest.mark.parametrize("stops", [{1}, {2, 3}, {4, 5, 6}, {STEPS}, {STEPS + 2, 2 * STEPS}])
def test_a_resumed_job_logs_and_trains_bit_for_bit_as_an_undisturbed_one(stops: set[int], tmp_path: Path) -> None:
    options: dict[str, Any] = {"betas": (0.5, 0.9), "steps": 2, "start": 3}
    whole = make(**options)
    train(whole, IMAGES, CONFIG, 0, tmp_path / "whole", watch())
    step = 0

    def stop() -> bool:
        nonlocal step
        step += 1
        return step in stops

    for _ in stops:
        with pytest.raises(Interrupted):
            train(make(**options), IMAGES, CONFIG, 0, tmp_path / "parts", watch(stop))
    parts = make(**options)
    train(parts, IMAGES, CONFIG, 0, tmp_path / "parts", watch(stop))
    assert all(torch.equal(state(parts)[name], value) for name, value in state(whole).items())
    assert history(tmp_path / "parts") == history(tmp_path / "whole")
    assert "critic" in history(tmp_path / "parts")[0]


@pytest.mark.parametrize(
    ("value", "shown"), [(torch.tensor(math.nan), "nan"), (math.inf, "inf"), (-torch.tensor(1.0) / 0, "-inf")]
)
def test_what_is_not_finite_is_left_out_with_a_warning(value: Any, shown: str, tmp_path: Path) -> None:
    train(make(extra={"odd": value}), IMAGES, CONFIG, 0, tmp_path, watch())
    assert all("odd" not in line and "half" in line for line in history(tmp_path))
    assert warnings(tmp_path) == [f"epoch 1: the loss logged odd = {shown}, which history.jsonl leaves out"]


@pytest.mark.parametrize(
    ("logged", "message"),
    [
        ([], r"log\(\) must return at most 100 numbers by name; it returned a list"),
        ({f"n{number}": 1.0 for number in range(101)}, "it has 101 names"),
        ({"kl": 1.0}, "'kl' is a name of the core's"),
        ({"validation": 1.0}, "'validation' is a name of the core's"),
        ({"a b": 1.0}, "letters, digits, underscores and dots, a letter first, at most 128; there is 'a b'"),
        ({"": 1.0}, "there is ''"),
        ({3: 1.0}, "there is 3"),
        ({".name": 1.0}, "there is '.name'"),
        ({"x" * 129: 1.0}, "there is 'xxx"),
        ({"x": torch.ones(1)}, r"without axes; x is a float32 tensor \(1,\)"),
        ({"x": "1"}, "x is a str"),
        ({"x": None}, "x is None"),
    ],
)
def test_bad_logs_are_named(logged: Any, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        check_log("the loss", logged)


def test_a_bad_log_ends_the_first_step() -> None:
    step = Step(make(extra={"objective": 1.0}), CONFIG)
    with pytest.raises(ContractError, match=r"the loss: log\(\)"):
        step(BATCH, 1, 0, checked=False)


def test_numbers_of_any_kind_are_taken_and_a_loss_that_logs_nothing_costs_nothing() -> None:
    logs = Logs(torch.device("cpu"))
    assert logs.sums() == []
    logs.see({"a": 1, "b": torch.tensor(2), "c": torch.tensor(3.0, dtype=torch.bfloat16), "d": 0.5})
    logs.see({"b": torch.tensor(4.0)})
    assert logs.means() == ({"b": 3.0, "c": 3.0, "a": 1.0, "d": 0.5}, {})
    again = Logs(torch.device("cpu"), json.loads(json.dumps(logs.sums())))
    assert again.means() == logs.means()


def test_a_sum_logs_by_the_keys_of_its_parts() -> None:
    parts = [Part("one", "one", Telling(), 1.0, (0.0, 1.0)), Part("one#2", "one", Telling(), 2.0, (0.0, 1.0))]
    step = Step(Model(Network(), SumLoss(parts), (-1.0, 1.0), (0.0, 1.0), kl_weight=0.1), CONFIG)
    step(BATCH, 1, 0, checked=True)
    assert set(step.logged) == {"one.half", "one.on_host", "one#2.half", "one#2.on_host"}
    bad = SumLoss([Part("one", "the part", Telling(extra={"kl": 1}), 1.0, (0.0, 1.0))])
    with pytest.raises(ContractError, match="the part: log"):
        Step(Model(Network(), bad, (-1.0, 1.0), (0.0, 1.0), kl_weight=0.1), CONFIG)(BATCH, 1, 0, checked=True)


def test_an_auxiliary_has_its_betas_steps_and_start() -> None:
    """Against a plain loop over the images that the loss got."""
    model = make(betas=(0.5, 0.9), steps=3, start=2)
    loss = model.loss
    assert isinstance(loss, Telling)
    twin = copy.deepcopy(loss)
    optimizer = torch.optim.Adam(twin.critic.parameters(), lr=1e-2, betas=(0.5, 0.9))
    step = Step(model, CONFIG)
    for number in range(4):
        terms = step(BATCH, 1, number, checked=True)
        assert step.decoded is not None
        values = []
        for _ in range(3 if number >= 2 else 0):
            value = twin.objective(step.decoded, (BATCH + 1) / 2, Context()).mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            values.append(value.item())
        assert float(terms[3]) == pytest.approx(values[0] if values else 0.0)
    assert loss.steps == [2, 2, 2, 3, 3, 3]
    torch.testing.assert_close(loss.critic.weight, twin.critic.weight)
    assert step.optimizers[1].param_groups[0]["betas"] == (0.5, 0.9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"betas": (0.5, 1.0)}, "betas must be a tuple of two numbers from 0 to below 1, not"),
        ({"betas": 0.5}, "betas must be"),
        ({"betas": (0.5,)}, "betas must be"),
        ({"betas": ("a", 0.9)}, "betas must be"),
        ({"steps": 0}, "steps must be a whole number from 1, not 0"),
        ({"steps": 1.5}, "steps must be"),
        ({"steps": True}, "steps must be"),
        ({"start": -1}, "start must be a whole number from 0, not -1"),
    ],
)
def test_an_auxiliary_refuses_bad_numbers(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"Auxiliary: {message}"):
        Telling(**options).auxiliary()


class Filling(Loss):
    """One that fills in what it logs."""

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        self.logged["level"] = decoded.detach().mean()
        return (decoded - target).square().sum((1, 2, 3))


def test_what_a_loss_fills_in_is_logged_without_a_method() -> None:
    one, other = Filling(), Filling()
    assert one.log() == {}
    one(torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4), Context())
    assert one.log() == {"level": torch.ones(())} and other.log() == {}
    assert not one.state_dict()
