"""docs/examples/vq.py and learned_variance.py: they keep their contracts, and do what they say."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.spatial.distance import cdist

from recbench.contracts.architecture import Architecture
from recbench.contracts.entries import ArchitectureEntry, ImageShape, LossEntry
from recbench.contracts.loss import Setting
from recbench.contracts.metric import Reference
from recbench.job.evaluation import evaluate
from recbench.job.parts import MetricSpec, Model, create_architecture, create_loss
from recbench.job.training import seed_everything, train
from recbench.plan.model import Training
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.testing import architecture_cases, loss_cases
from tests.conftest import ROOT
from tests.job.test_evaluation import Bound
from tests.job.test_training import PIXELS, WATCHED, history, watch

EXAMPLES = ROOT / "docs" / "examples"
SHAPE = ImageShape(1, 8, 8)
CONFIG = Training(epochs=2, batch_size=16, learning_rate=1e-2)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(load_plugins([str(EXAMPLES / "vq.py"), str(EXAMPLES / "learned_variance.py")]))


def make(registry: Registry, architecture: str, loss: str, **params: Any) -> Model:
    seed_everything(0, deterministic=True)
    registered, chosen = registry.get("architectures", architecture), registry.get("losses", loss)
    network = create_architecture(registered, registered.entry.complete(params), SHAPE)
    setting = Setting(SHAPE, network.latent_size, network.latent_shape)
    entry = cast(LossEntry, chosen.entry)
    return Model(network, create_loss(chosen, entry.complete({}), setting), (-1.0, 1.0), entry.value_range, 0.1)


@pytest.mark.parametrize(
    "case",
    [
        *architecture_cases(
            [
                cast(ArchitectureEntry, registered.entry)
                for registered in Registry(
                    load_plugins([str(EXAMPLES / "vq.py"), str(EXAMPLES / "learned_variance.py")])
                ).all("architectures")
                if registered.entry.name in ("small_vq", "two_heads")
            ],
            {"small_vq": [{}, {"ema": True, "downs": 1}]},
        ),
    ],
    ids=str,
)  # fmt: skip
def test_the_architectures_pass_the_conformance_tests(case: Any) -> None:
    case.run()


def test_the_loss_passes_the_conformance_tests(registry: Registry) -> None:
    for case in loss_cases([cast(LossEntry, registry.get("losses", "learned_variance").entry)]):
        try:
            case.run()
        except unittest.SkipTest as reason:
            assert "GPU" in str(reason)


def test_the_example_of_a_codebook_has_the_loss_of_its_paper(registry: Registry) -> None:
    """Equation 3 of van den Oord et al. 2017, and each term's gradient where it belongs."""
    network: Any = make(registry, "small_vq", "l2", width=4, codes=5, dim=3).architecture
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    posterior, maps = network.encode(images), network.encoder(images)
    rows, book = maps.detach().permute(0, 2, 3, 1).reshape(-1, 3).double().numpy(), network.codebook.weight
    nearest = cdist(rows, book.detach().double().numpy())
    expected = 1.25 * np.square(nearest.min(1)).reshape(2, -1).sum(1)
    np.testing.assert_allclose(posterior.penalty().detach().numpy(), expected, rtol=1e-5)
    codes = book.detach()[nearest.argmin(1)].reshape(2, 2, 2, 3).permute(0, 3, 1, 2)
    torch.testing.assert_close(posterior.mean.detach(), codes)
    bias = network.encoder[-1].bias
    pulled, learned = torch.autograd.grad(posterior.penalty().sum(), [bias, book])
    torch.testing.assert_close(pulled, 2 * 0.25 * (maps - codes).sum((0, 2, 3)).detach())
    own = np.zeros((5, 3))
    np.add.at(own, nearest.argmin(1), 2 * (book.detach().numpy()[nearest.argmin(1)] - rows))
    np.testing.assert_allclose(learned.numpy(), own, rtol=1e-4, atol=1e-5)


def test_the_example_of_a_codebook_trains(registry: Registry, tmp_path: Path) -> None:
    model = make(registry, "small_vq", "l2", width=4, codes=5, dim=3)
    train(model, WATCHED, CONFIG, 0, tmp_path, watch())
    for line in history(tmp_path):
        assert line["penalty"] > 0
        assert line["objective"] == pytest.approx(line["reconstruction"] + line["penalty"])


def test_the_example_of_a_codebook_follows_moving_averages(registry: Registry, tmp_path: Path) -> None:
    """Appendix A.1 of van den Oord et al. 2017, in float64; in training mode alone, and without a gradient."""
    network: Any = make(registry, "small_vq", "l2", width=4, codes=5, dim=3, ema=True).architecture
    images, book = torch.rand(2, 1, 8, 8) * 2 - 1, network.codebook.weight.detach().double().numpy()
    rows = network.encoder(images).detach().permute(0, 2, 3, 1).reshape(-1, 3).double().numpy()
    chosen = np.eye(5)[cdist(rows, book).argmin(1)]
    before = network.eval().encode(images)
    np.testing.assert_array_equal(network.codebook.weight.detach().numpy(), book)
    learning = network.train().encode(images)
    torch.testing.assert_close(learning.penalty(), before.penalty())
    counts = 0.99 + 0.01 * chosen.sum(0)
    expected = (0.99 * book + 0.01 * chosen.T @ rows) / counts[:, None]
    np.testing.assert_allclose(network.codebook.weight.numpy(), expected, rtol=1e-5, atol=1e-6)
    assert not network.codebook.weight.requires_grad
    model = make(registry, "small_vq", "l2", width=4, codes=5, dim=3, ema=True)
    start = model.architecture.get_parameter("codebook.weight").clone()
    train(model, WATCHED, CONFIG, 0, tmp_path, watch())
    assert not torch.equal(model.architecture.get_parameter("codebook.weight"), start)


def test_learned_variances_are_those_of_a_gaussian_likelihood(registry: Registry, tmp_path: Path) -> None:
    """Trained by what its decoder says beside the images; the log-density is SciPy's, also in evaluation."""
    model = make(registry, "two_heads", "learned_variance", latent_size=3)
    train(model, WATCHED, CONFIG, 0, tmp_path, watch())
    trained = model.architecture.get_parameter("decoder.weight")
    fresh = make(registry, "two_heads", "learned_variance", latent_size=3).architecture.get_parameter("decoder.weight")
    assert (trained != fresh).any(1).all(), "both heads learn"
    reference = Reference(PIXELS[:10], "images of a test", tmp_path, torch.device("cpu"))
    metrics = {"bound": MetricSpec(Bound())}
    found = evaluate(model, metrics, reference, batch_size=10, config=CONFIG).per_image["bound"]
    target = PIXELS[:10].float() / 127.5 - 1
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        network: Architecture = model.architecture
        output: Any = network.decode(network.encode(target).sample())
    deviation = (0.5 * output.extras["log_variance"]).exp().double().numpy()
    expected = stats.norm.logpdf(target.double().numpy(), output.images.double().numpy(), deviation).sum((1, 2, 3))
    np.testing.assert_allclose(found, expected + 64 * np.log(2), rtol=1e-5)
