"""Steps that are recorded and replayed give the numbers of eager steps, or are not replayed and say why.

CUDA graphs are stood in for by recorded operations on the CPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lion_pytorch
import pytest
import torch
from torch import Tensor, nn

from recbench.contracts.loss import Auxiliary, Context
from recbench.job import step as steps
from recbench.job.graph import Watched
from recbench.job.guard import Diverged
from recbench.job.lion import LionInMemory
from recbench.job.parts import Model
from recbench.job.training import Interrupted, seed_everything
from recbench_losses_frequency.watson import losses, shift
from tests.recorded_operations import OperationsRecorder
from tests.recorded_training import CONFIG, L2, REGISTRY, Made, loss_of, same
from tests.stand_in_weights import use_stand_ins


@pytest.fixture(autouse=True)
def weights(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    use_stand_ins(monkeypatch)
    yield


@pytest.mark.parametrize("name", REGISTRY.names("losses"))
def test_every_loss_is_replayed_with_the_numbers_of_eager_steps(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the end of a warm-up and the switch of mix, at which a step is recorded anew."""
    draw_shifts_as_on_a_gpu(monkeypatch)
    params = {"wiener": {"warmup_epochs": 1}, "mix": {"beta": 1}}.get(name, {})
    eager = Made(tmp_path / "a", loss_of(name, **params), CONFIG)
    recorder = OperationsRecorder()
    replayed = Made(tmp_path / "b", loss_of(name, **params), CONFIG, recorder)
    assert same(eager, replayed)
    if name == "vqgan":  # when its discriminator starts
        assert [note.rpartition(": ")[2] for note in replayed.notes] == ["the loss reads the number of the step"]
        return
    assert replayed.notes == []
    assert recorder.made == (2 if params else 1)
    # Eager are the warm-up, the first step of the second epoch, which is checked, and those that are recorded.
    assert replayed.steps[0].replays == 24 - 3 - 1 - recorder.made


def draw_shifts_as_on_a_gpu(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(losses, "random_shift", lambda _: torch.randint(shift.SHIFTS, (2,)) - shift.SHIFTS // 2)


@pytest.mark.parametrize("name", ["l2", "wiener"])
@pytest.mark.parametrize("stop_after", [2, 5, 12, 15])
def test_a_resumed_training_ends_bitwise_like_an_undisturbed_one(name: str, stop_after: int, tmp_path: Path) -> None:
    whole = Made(tmp_path / "a", loss_of(name), CONFIG)
    with pytest.raises(Interrupted):
        Made(tmp_path / "b", loss_of(name), CONFIG, OperationsRecorder(), stop_after)
    continued = Made(tmp_path / "b", loss_of(name), CONFIG, OperationsRecorder())
    assert continued.steps[0].replays > 0
    assert same(whole, continued)


@pytest.mark.parametrize("optimizer", ["adam", "lion"])
def test_a_learning_rate_in_memory_changes_under_a_recording(
    optimizer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lion_pytorch, "Lion", LionInMemory)

    def in_memory(*args: Any) -> list[torch.optim.Optimizer]:
        found = make_optimizers(*args)
        found[0].param_groups[0]["lr"] = torch.tensor(CONFIG.learning_rate)  # as on a GPU
        return found

    make_optimizers = steps.make_optimizers
    monkeypatch.setattr(steps, "make_optimizers", in_memory)
    config = CONFIG.model_copy(update={"optimizer": optimizer, "schedule": "cosine", "epochs": 3})
    eager = Made(tmp_path / "a", loss_of("l2"), config)
    recorder = OperationsRecorder()
    replayed = Made(tmp_path / "b", loss_of("l2"), config, recorder)
    assert same(eager, replayed) and recorder.made == 1 and not replayed.notes
    rates = [line["learning_rate"] for line in replayed.history]
    assert rates == sorted(rates, reverse=True) and len(set(rates)) == 3
    with pytest.raises(Interrupted):
        Made(tmp_path / "c", loss_of("l2"), config, OperationsRecorder(), 14)
    assert same(eager, Made(tmp_path / "c", loss_of("l2"), config, OperationsRecorder()))


def test_a_rate_that_is_a_number_is_recorded_anew_when_it_changes(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"schedule": "plateau", "patience": 0, "factor": 0.5, "learning_rate": 0.02})
    config = config.model_copy(update={"optimizer": "lion", "epochs": 4})
    eager = Made(tmp_path / "a", loss_of("l2"), config)
    recorder = OperationsRecorder()
    assert same(eager, Made(tmp_path / "b", loss_of("l2"), config, recorder))
    assert recorder.made == len({line["learning_rate"] for line in eager.history}) > 1


def test_lion_with_its_rate_in_memory_has_the_numbers_of_the_package() -> None:
    torch.manual_seed(0)
    first = [torch.randn(5, 3, requires_grad=True), torch.randn(7, requires_grad=True)]
    second = [each.detach().clone().requires_grad_() for each in first]
    theirs = lion_pytorch.Lion(first, lr=1e-2, betas=(0.9, 0.99))
    ours = LionInMemory(second, lr=1e-2, betas=(0.9, 0.99))
    ours.param_groups[0]["lr"] = rate = torch.tensor(1e-2)
    for step in range(20):
        theirs.param_groups[0]["lr"] = 1e-2 / (1 + step)
        rate.fill_(1e-2 / (1 + step))
        for optimizer, params in ((theirs, first), (ours, second)):
            optimizer.zero_grad()
            (params[0].square().sum() + (params[1] - 1).abs().sum()).backward()
            optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


def test_a_loss_that_diverges_is_found_at_its_step(tmp_path: Path) -> None:
    class Explodes(L2):
        scale: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("scale", torch.ones(()))

        def factor(self, decoded: Tensor, context: Context) -> Any:
            return self.scale.mul_(1e4)

    with pytest.raises(Diverged) as eager:
        Made(tmp_path / "a", Explodes(), CONFIG)
    with pytest.raises(Diverged) as replayed:
        Made(tmp_path / "b", Explodes(), CONFIG, OperationsRecorder())
    assert (eager.value.epoch, eager.value.step) == (replayed.value.epoch, replayed.value.step)


class Adversary(L2):
    """A critic, which gets gradients from the model's objective, too; it is trained after some steps."""

    def __init__(self, start: int) -> None:
        super().__init__()
        seed_everything(2, deterministic=True)
        self.critic = nn.Conv2d(3, 1, 3)
        self.start = start

    def factor(self, decoded: Tensor, context: Context) -> Any:
        return self.critic(decoded).mean((1, 2, 3))

    def auxiliary(self) -> Auxiliary:
        return Auxiliary(
            tuple(self.critic.parameters()),
            1e-3,
            lambda decoded, target, _: (self.critic(decoded) - self.critic(target)).mean((1, 2, 3)),
            start=self.start,
        )


class WithoutGradients(OperationsRecorder):
    """A recorder that refuses a step whose gradients are added to memory from before: a graph would write there, when
    it has long been given to others."""

    model: Model

    def record(self, work: Any) -> Any:
        parameters = (*self.model.architecture.parameters(), *self.model.loss.parameters())
        assert all(parameter.grad is None for parameter in parameters)
        return super().record(work)


@pytest.mark.parametrize("start", [0, 3, 6])
def test_auxiliary_objectives_are_a_part_of_the_recording(start: int, tmp_path: Path) -> None:
    """Also one that begins with the step that would be recorded, or later: its optimizer makes its state before."""
    eager = Made(tmp_path / "a", Adversary(start), CONFIG)
    recorder = WithoutGradients()
    replayed = Made(tmp_path / "b", Adversary(start), CONFIG, recorder)
    assert same(eager, replayed) and not replayed.notes
    assert recorder.made == (2 if start == 6 else 1) and replayed.steps[0].replays > 12


def test_a_context_notes_what_was_asked_for() -> None:
    seen: set[str] = set()
    facts = {"z": torch.ones(2, requires_grad=True), "epoch": 3, "step": 4, "training": True}
    context = Watched.of(seen, facts)
    assert context.training and context.detached().z is not None and not seen
    assert not context.detached().z.requires_grad  # type: ignore[union-attr]
    assert context.detached().epoch == 3 and seen == {"epoch"}
    assert context.step == 4 and seen == {"epoch", "step"}
