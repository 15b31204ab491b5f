"""DISTS against values of the authors' package dists-pytorch 0.1, with the same random weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

import recbench_losses_perceptual as plugin
from recbench import ImageShape, Weights
from recbench.contracts.loss import Context, Setting
from recbench.testing import Case, MetricCase, loss_cases, metric_cases
from recbench_losses_perceptual import pretrained
from recbench_losses_perceptual.dists import DISTS, DISTSLoss, DISTSMetric

WIDTHS = {0: 64, 2: 64, 5: 128, 7: 128, 10: 256, 12: 256, 14: 256, 17: 512, 19: 512, 21: 512, 24: 512, 26: 512, 28: 512}
"""Channels of the convolutions of VGG16, by torchvision's numbers."""
# DISTS().double() of the package for pair(), the norm of the gradient of the sum, and one element of it
VALUES = [0.015377731711207598, 0.015286113663745216]
NORM, ELEMENT = 0.026009325038871395, -0.0002590229228384959
GREY = [0.015558104469491574, 0.018014253703229732]

Random = tuple[dict[str, Tensor], dict[str, Tensor]]


@pytest.fixture(scope="module")
def weights() -> Random:
    """Random weights of VGG16 and of DISTS, those that the package was given."""
    generator = torch.Generator().manual_seed(0)
    trunk: dict[str, Tensor] = {}
    channels = 3
    for layer, width in WIDTHS.items():
        filters = torch.randn(width, channels, 3, 3, generator=generator) * (2 / (9 * channels)) ** 0.5
        trunk[f"features.{layer}.weight"] = filters
        trunk[f"features.{layer}.bias"] = torch.randn(width, generator=generator) * 0.1
        channels = width
    return trunk, {name: torch.rand(1, 1475, 1, 1, generator=generator) for name in ("alpha", "beta")}


@pytest.fixture
def placed(weights: Random, fetched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The random weights in the place of the files of torchvision and of the authors."""

    def facts(name: str, state: dict[str, Tensor]) -> Weights:
        file = fetched / name
        if not file.exists():
            torch.save(state, file)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        size = file.stat().st_size
        return Weights(
            file=name, address=f"https://example.org/{name}", sha256=digest, size=size, licence="none", citation="none"
        )

    trunk, learned = weights
    monkeypatch.setitem(pretrained.IMAGENET, "vgg", facts("random_dists_trunk.pth", trunk))
    monkeypatch.setitem(pretrained.DISTS, "vgg", facts("random_dists.pt", learned))


def pair(channels: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(2, channels, 32, 32, generator=generator, dtype=torch.float64)
    noise = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return (target + 0.1 * noise).clamp(0, 1), target


def test_values_and_gradients_are_those_of_the_package(weights: Random) -> None:
    distance = DISTS(*weights).double()
    decoded, target = pair()
    decoded.requires_grad_(True)
    found = distance(decoded, target)
    found.sum().backward()
    assert found.tolist() == pytest.approx(VALUES, rel=1e-6)
    assert decoded.grad is not None
    assert float(decoded.grad.norm()) == pytest.approx(NORM, rel=1e-6)
    assert float(decoded.grad[0, 1, 3, 4]) == pytest.approx(ELEMENT, rel=1e-6)


@pytest.mark.usefixtures("placed")
def test_loss_and_metric_read_the_files() -> None:
    decoded, target = (images.float() for images in pair())
    loss = DISTSLoss(Setting(ImageShape(3, 32, 32), latent_size=2))
    metric = DISTSMetric(ImageShape(3, 32, 32))
    assert loss(decoded, target, Context()).tolist() == pytest.approx(VALUES, rel=1e-3)
    assert metric(decoded, target).tolist() == pytest.approx(VALUES, rel=1e-3)
    assert metric(target, target).tolist() == pytest.approx([0, 0], abs=1e-5)
    grey = [images.float() for images in pair(1)]
    assert metric(*grey).tolist() == pytest.approx(GREY, rel=1e-3)
    assert not list(loss.parameters())
    assert not loss.state_dict()


# What random weights make of more blur and noise has no meaning, and they have so many kinks that differences miss
# derivatives, as for LPIPS.
MEANINGLESS = ("differentiable_twice_or_refused", "gradient_is_the_slope", "grows_with_noise", "grows_with_blur")
CASES: list[Case | MetricCase] = [
    *(case for case in loss_cases([e for e in plugin.recbench_losses() if e.name == "dists"])),
    *(case for case in metric_cases([e for e in plugin.recbench_metrics() if e.name == "dists"])),
]


@pytest.mark.usefixtures("placed")
@pytest.mark.parametrize("case", [case for case in CASES if case.check.__name__ not in MEANINGLESS], ids=str)
def test_conformance(case: Case | MetricCase) -> None:
    case.run()
