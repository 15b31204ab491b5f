"""Steps that are recorded and replayed give the numbers of eager steps, or are not replayed and say why.

CUDA graphs are stood in for by recorded operations on the CPU.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recbench.contracts.architecture import Architecture, Gaussian
from recbench.contracts.entries import ImageShape
from recbench.contracts.loss import Auxiliary, Context, Loss, Setting
from recbench.job import step as steps
from recbench.job import training
from recbench.job.graph import ReplayedStep, Watched
from recbench.job.guard import Diverged
from recbench.job.parts import Model
from recbench.job.training import Interrupted, TrainingImages, Watch, seed_everything, train
from recbench.plan.model import Training
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench_losses_frequency.watson import losses, shift
from tests.recorded_operations import OperationsRecorder
from tests.stand_in_weights import use_stand_ins

REGISTRY = Registry(load_plugins())
SHAPE = ImageShape(3, 32, 32)
PIXELS = torch.randint(0, 256, (96, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
NONE = PIXELS[:0]
IMAGES = TrainingImages(train=PIXELS, validation=PIXELS[:8], traced=NONE)
CONFIG = Training(epochs=2, batch_size=8, learning_rate=1e-3)


class Network(Architecture):
    def __init__(self) -> None:
        super().__init__()
        self.latent_size = 3
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 4, 3, 4, 1, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(256, 6)
        )
        self.decoder = nn.Sequential(nn.Linear(3, 16 * 16), nn.Unflatten(1, (16, 4, 4)), nn.Upsample(scale_factor=8))
        self.last = nn.Conv2d(16, 3, 1)

    def encode(self, images: Tensor) -> Gaussian:
        return Gaussian(*self.encoder(images).chunk(2, dim=1))

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.last(self.decoder(z)).sigmoid()
        return decoded


class Made:
    """What a training made of a model."""

    def __init__(self, folder: Path, loss: Loss, config: Training, recorder: Any = None, stop_after: int = 0) -> None:
        self.notes: list[str] = []
        self.steps: list[ReplayedStep] = []
        self.history: list[dict[str, float]] = []
        seed_everything(0, deterministic=True)
        self.model = Model(Network(), loss, (0.0, 1.0), (0.0, 1.0), kl_weight=0.1)
        seed_everything(1, deterministic=True)
        left = [stop_after]

        def stop() -> bool:
            left[0] -= 1
            return left[0] == 0

        watch = Watch(lambda *_: None, lambda values: self.history.append(dict(values)), stop, 1e9)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "recorder_for", lambda _: recorder)
            patch.setattr(training, "ReplayedStep", self.replayed)
            train(self.model, IMAGES, config, 5, folder, watch)

    def replayed(self, step: Any, recorder: Any, _: Any) -> ReplayedStep:
        self.steps.append(ReplayedStep(step, recorder, self.notes.append))
        return self.steps[-1]

    @property
    def weights(self) -> dict[str, Tensor]:
        modules = nn.ModuleDict({"architecture": self.model.architecture, "loss": self.model.loss})
        return modules.state_dict()

    @property
    def terms(self) -> list[dict[str, float]]:
        return [{k: v for k, v in line.items() if k != "images_per_second"} for line in self.history]


def same(first: Made, second: Made) -> bool:
    pairs = zip(first.weights.values(), second.weights.values(), strict=True)
    epochs = min(len(first.terms), len(second.terms))  # one that was resumed tells only its own
    return first.terms[-epochs:] == second.terms[-epochs:] and all(torch.equal(*pair) for pair in pairs)


def loss_of(name: str, **params: Any) -> Loss:
    seed_everything(2, deterministic=True)
    registered = REGISTRY.get("losses", name)
    made = registered.create(registered.entry.complete(params), Setting(SHAPE, 3))
    assert isinstance(made, Loss)
    return made


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


def test_a_learning_rate_in_memory_changes_under_a_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_memory(*args: Any) -> list[torch.optim.Optimizer]:
        found = make_optimizers(*args)
        found[0].param_groups[0]["lr"] = torch.tensor(CONFIG.learning_rate)  # as on a GPU
        return found

    make_optimizers = steps.make_optimizers
    monkeypatch.setattr(steps, "make_optimizers", in_memory)
    config = CONFIG.model_copy(update={"schedule": "cosine", "epochs": 3})
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


class L2(Loss):
    """Squared error, and what else a plugin may do on the host."""

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return (decoded - target).square().sum((1, 2, 3)) * self.factor(decoded, context)

    def factor(self, decoded: Tensor, context: Context) -> Any:
        return 1.0


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


class AsksForTheStep(L2):
    def factor(self, decoded: Tensor, context: Context) -> Any:
        return 1 + (context.step or 0) / 100


class KeepsElsewhere(L2):
    """Nothing shows that, but the numbers do."""

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
        (ReadsAValue, "the step cannot be recorded (RuntimeError: operation not permitted"),
        (AsksForTheStep, "the loss reads the number of the step"),
        (KeepsElsewhere, "a recorded step gave other numbers than an eager one"),
    ],
)
def test_what_cannot_be_replayed_is_made_eagerly_and_says_why(kind: type[L2], reason: str, tmp_path: Path) -> None:
    ELSEWHERE.clear()
    eager = Made(tmp_path / "a", kind(), CONFIG)
    ELSEWHERE.clear()
    replayed = Made(tmp_path / "b", kind(), CONFIG, OperationsRecorder())
    assert replayed.steps[0].replays == 0
    assert len(replayed.notes) == 1 and reason in replayed.notes[0]
    # Where only the numbers showed it, what was kept elsewhere has counted the recorded step too.
    assert same(eager, replayed) or kind in (KeepsElsewhere, Remembers)


def test_lion_with_a_rate_that_always_changes_is_eager(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"optimizer": "lion", "schedule": "cosine"})
    replayed = Made(tmp_path, loss_of("l2"), config, OperationsRecorder())
    assert "learning rate" in replayed.notes[0] and replayed.steps[0].replays == 0


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


def test_auxiliary_objectives_are_a_part_of_the_recording(tmp_path: Path) -> None:
    class Adversary(L2):
        def __init__(self) -> None:
            super().__init__()
            self.critic = nn.Conv2d(3, 1, 3)

        def factor(self, decoded: Tensor, context: Context) -> Any:
            return self.critic(decoded).mean((1, 2, 3))

        def auxiliary(self) -> Auxiliary:
            return Auxiliary(
                tuple(self.critic.parameters()),
                1e-3,
                lambda decoded, target, _: (self.critic(decoded) - self.critic(target)).mean((1, 2, 3)),
            )

    def made(place: str, recorder: OperationsRecorder | None = None) -> Made:
        seed_everything(2, deterministic=True)
        return Made(tmp_path / place, Adversary(), CONFIG, recorder)

    assert same(made("a"), replayed := made("b", OperationsRecorder())) and replayed.steps[0].replays > 0


def test_a_context_notes_what_was_asked_for() -> None:
    seen: set[str] = set()
    context = Watched(seen, z=torch.ones(2, requires_grad=True), epoch=3, step=4, training=True)
    assert context.training and context.detached().z is not None and not seen
    assert not context.detached().z.requires_grad  # type: ignore[union-attr]
    assert context.detached().epoch == 3 and seen == {"epoch"}
    assert context.step == 4 and seen == {"epoch", "step"}
