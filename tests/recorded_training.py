"""Training of a small network whose steps are recorded by a stand-in for CUDA graphs, and what it made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recbench.contracts.architecture import Architecture, Gaussian
from recbench.contracts.entries import ImageShape
from recbench.contracts.loss import Context, Loss, Setting
from recbench.job import training
from recbench.job.graph import ReplayedStep
from recbench.job.parts import Model
from recbench.job.training import TrainingImages, Watch, seed_everything, train
from recbench.plan.model import Training
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry

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
    """What a training made of a model, with steps that a recorder records, or without."""

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
        recorder.model = self.model
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


class L2(Loss):
    """Squared error, and what else a plugin may do on the host."""

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return (decoded - target).square().sum((1, 2, 3)) * self.factor(decoded, context)

    def factor(self, decoded: Tensor, context: Context) -> Any:
        return 1.0
