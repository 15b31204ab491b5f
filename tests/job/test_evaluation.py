"""Evaluation: what metrics of each kind are given, against the same computed by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from recbench.contracts.architecture import Architecture, Gaussian
from recbench.contracts.loss import Context, Likelihood, Loss
from recbench.contracts.metric import BoundMetric, ImageMetric, Reference, SetMetric
from recbench.job.evaluation import Evaluation, evaluate
from recbench.job.images import convert, to_8_bits, to_range
from recbench.job.parts import MetricSpec, Model
from recbench.job.training import seed_everything
from recbench.plan.model import Training

IMAGES = torch.randint(0, 256, (10, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
CONFIG = Training(epochs=7)


class Network(Architecture):
    """A linear network on images in -1 to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_size = 3
        self.encoder = nn.Linear(16, 6)
        self.decoder = nn.Linear(3, 16)

    def encode(self, images: Tensor) -> Gaussian:
        mean, log_variance = self.encoder(images.flatten(1)).chunk(2, dim=1)
        return Gaussian(mean, log_variance)

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(z).reshape(-1, 1, 4, 4)
        return decoded.tanh()


class Plain(Loss):
    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return (decoded - target).abs().sum((1, 2, 3))


class Normal(Likelihood):
    """A Gaussian with a deviation of 0.2 in the loss's range. Remembers the contexts and images that it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Tensor, Context]] = []

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return -self.log_prob(decoded, target, context)

    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        self.seen.append((decoded, context))
        return torch.distributions.Normal(decoded, 0.2).log_prob(target).sum((1, 2, 3))


class Bound(BoundMetric):
    def forward(self, log_prob: Tensor, kl: Tensor) -> Tensor:
        return log_prob


class Rate(BoundMetric):
    needs_log_prob = False

    def forward(self, log_prob: Tensor, kl: Tensor) -> Tensor:
        return kl


class Seen(SetMetric):
    """Keeps what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[Reference] = []
        self.pairs: list[tuple[Tensor, Tensor]] = []

    def prepare(self, reference: Reference) -> None:
        assert not self.pairs
        self.references.append(reference)

    def update(self, decoded: Tensor, target: Tensor) -> None:
        self.pairs.append((decoded, target))

    def compute(self) -> float:
        self.warning = "only a test"
        return float(len(self.pairs))


Evaluate = Callable[..., Evaluation]


@pytest.fixture
def run(tmp_path: Path) -> Evaluate:
    def call(model: Model, metrics: dict[str, MetricSpec], batch_size: int = 4) -> Evaluation:
        reference = Reference(IMAGES, "images of a test", tmp_path, torch.device("cpu"))
        return evaluate(model, metrics, reference, batch_size=batch_size, config=CONFIG)

    return call


def make(loss: Loss, loss_range: tuple[float, float] = (0.0, 1.0)) -> Model:
    seed_everything(0, deterministic=True)
    return Model(Network(), loss, (-1.0, 1.0), loss_range, kl_weight=0.1)


@pytest.mark.parametrize("loss_range", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_the_log_density_is_that_of_images_in_0_to_1(run: Evaluate, loss_range: tuple[float, float]) -> None:
    """Against SciPy's density of the same Gaussian, written for images in 0 to 1."""
    loss = Normal()
    found = run(make(loss, loss_range), {"bound": MetricSpec(Bound())}, batch_size=10).per_image["bound"]
    ((decoded, context),) = loss.seen
    assert (context.epoch, context.training) == (7, False)
    scale = loss_range[1] - loss_range[0]
    mean = ((decoded - loss_range[0]) / scale).double().numpy()
    target = IMAGES.double().numpy() / 255
    expected = stats.norm.logpdf(target, mean, 0.2 / scale).sum((1, 2, 3))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_z_is_a_sample_for_the_density_and_the_mean_for_reconstructions(run: Evaluate) -> None:
    loss, seen = Normal(), Seen()
    model = make(loss)
    run(model, {"bound": MetricSpec(Bound()), "seen": MetricSpec(seen)}, batch_size=10)
    (decoded, context), ((rounded, _),) = loss.seen[0], seen.pairs
    target = to_range(IMAGES, (-1.0, 1.0))
    posterior = model.architecture.encode(target)
    assert context.z is not None
    assert not torch.allclose(context.z, posterior.mean)
    mean = convert(model.architecture.decode(posterior.mean), (-1.0, 1.0), (0.0, 1.0))
    assert torch.equal(rounded, to_8_bits(mean).float().mul(1 / 255))
    assert not torch.allclose(decoded, mean, atol=1e-3)


def test_losses_that_are_no_likelihood_have_no_bound_but_a_rate(run: Evaluate) -> None:
    found = run(make(Plain()), {"bound": MetricSpec(Bound()), "rate": MetricSpec(Rate())})
    assert set(found.scores) == {"rate"}
    assert found.scores["rate"].mean == pytest.approx(found.kl)
    assert set(found.per_image) == {"kl", "rate"}


def test_a_set_metric_is_prepared_once_and_given_every_image(run: Evaluate, tmp_path: Path) -> None:
    seen = Seen()
    found = run(make(Plain()), {"seen": MetricSpec(seen)})
    (reference,) = seen.references
    assert reference.images is IMAGES
    assert (reference.fingerprint, reference.cache) == ("images of a test", tmp_path)
    targets = torch.cat([target for _, target in seen.pairs])
    assert torch.equal(to_8_bits(targets), IMAGES)
    assert [len(target) for _, target in seen.pairs] == [4, 4, 2]
    score = found.scores["seen"]
    assert (score.mean, score.std, score.n, score.warning) == (3.0, None, 0, "only a test")


@pytest.mark.parametrize("batch_size", [3, 4, 10])
def test_samples_are_decoded_draws_from_the_prior(run: Evaluate, batch_size: int) -> None:
    """As many as there are test images, whatever the batch size; and the same for every model of that latent size."""
    seen = Seen()
    model = make(Plain())
    run(model, {"seen": MetricSpec(seen, samples=True)}, batch_size)
    samples = torch.cat([decoded for decoded, _ in seen.pairs])
    generator = torch.Generator().manual_seed(0)
    z = torch.cat([torch.randn(1, 3, generator=generator) for _ in range(10)])
    expected = convert(model.architecture.decode(z), (-1.0, 1.0), (0.0, 1.0))
    difference = (to_8_bits(samples).int() - to_8_bits(expected).int()).abs()
    assert difference.max() <= 1  # a batch of another size may round otherwise
    assert not math.isclose(float(samples.mean()), float(to_range(IMAGES, (0.0, 1.0)).mean()), abs_tol=1e-4)


def test_evaluation_leaves_the_random_state_of_training_alone(run: Evaluate) -> None:
    model = make(Normal())
    before = torch.get_rng_state()
    metrics: dict[str, Any] = {"bound": MetricSpec(Bound()), "seen": MetricSpec(Seen(), samples=True)}
    run(model, metrics)
    assert torch.equal(torch.get_rng_state(), before)


def test_metrics_see_rounded_images_unless_they_say_otherwise(run: Evaluate) -> None:
    rounded, exact, samples = Seen(), Seen(), Seen()
    metrics = {
        "a": MetricSpec(rounded),
        "b": MetricSpec(exact, rounded=False),
        "c": MetricSpec(samples, samples=True, rounded=False),
    }
    run(make(Plain()), metrics, batch_size=10)
    (saved, _), (decoded, _), (drawn, _) = rounded.pairs[0], exact.pairs[0], samples.pairs[0]
    assert torch.equal(saved, to_8_bits(decoded).float().mul(1 / 255))
    for images in (decoded, drawn):
        assert (255 * images - (255 * images).round()).abs().max() > 0.1


def test_the_rate_may_also_be_a_metric_of_that_name(run: Evaluate) -> None:
    found = run(make(Plain()), {"kl": MetricSpec(Rate())})
    assert set(found.per_image) == {"kl"}
    assert len(found.per_image["kl"]) == len(IMAGES)
    assert found.scores["kl"].mean == pytest.approx(found.kl)


class Infinite(ImageMetric):
    """Infinite for the first images, then 1, 2, 3, …"""

    def __init__(self, infinite: int, sign: float = 1.0) -> None:
        super().__init__()
        self.infinite, self.sign, self.seen = infinite, sign, 0

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        numbers = torch.arange(self.seen, self.seen + len(decoded)) + 1.0
        self.seen += len(decoded)
        self.warning = f"{self.seen} images were seen"
        return self.sign * numbers.masked_fill(numbers <= self.infinite, math.inf)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_infinite_scores_are_counted_and_the_mean_of_the_others_is_kept(run: Evaluate, sign: float) -> None:
    metrics = {f"{n}": MetricSpec(Infinite(n, sign)) for n in (0, 2, 10)}
    scores = run(make(Plain()), metrics).scores
    assert {name: (score.infinite, score.finite) for name, score in scores.items()} == {
        "0": (0, None),
        "2": (2, pytest.approx(sign * (10 + 10 + sum(range(3, 11))) / 10)),
        "10": (10, None),
    }
    assert [math.isinf(score.mean) for score in scores.values()] == [False, True, True]
    assert scores["0"].warning == "10 images were seen", "an image metric may warn, too"
