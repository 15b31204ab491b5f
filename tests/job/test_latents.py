"""Spatial latents, codebooks and priors of one's own: training, evaluation, and what is not reported of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from recbench.contracts.architecture import Architecture, Deterministic, Gaussian, Posterior
from recbench.contracts.checked import ContractError
from recbench.contracts.entries import ImageShape
from recbench.contracts.loss import Context, Setting
from recbench.contracts.metric import Reference
from recbench.errors import UserError
from recbench.job.evaluation import NO_KL, NO_LIKELIHOOD, NO_PRIOR, Evaluation, evaluate
from recbench.job.images import to_range
from recbench.job.parts import MetricSpec, Model, create_architecture, create_loss
from recbench.job.training import Interrupted, TrainingImages, logged, seed_everything, train
from recbench.plan.model import Training
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from tests.job.test_evaluation import Bound, Normal, Plain, Rate, Seen
from tests.job.test_training import history, state, watch

SHAPE = ImageShape(1, 16, 16)
PIXELS = torch.randint(0, 256, (24, 1, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
IMAGES = TrainingImages(train=PIXELS, validation=PIXELS[:6], traced=PIXELS[:2])
CONFIG = Training(epochs=2, batch_size=8, learning_rate=1e-2, schedule="plateau")
REGISTRY = Registry(load_plugins())
SMALL: dict[str, dict[str, Any]] = {
    "kl_f4": {"channels": 4, "multipliers": [1, 1, 2], "blocks": 1, "latent_channels": 2},
    "vq": {"width": 4, "codes": 9, "dim": 3, "blocks": 1},
}


def make(architecture: str, loss: str = "l2", **params: Any) -> Model:
    seed_everything(0, deterministic=True)
    found, chosen = REGISTRY.get("architectures", architecture), REGISTRY.get("losses", loss)
    network = create_architecture(found, found.entry.complete(SMALL[architecture]), SHAPE)
    setting = Setting(SHAPE, network.latent_size, network.latent_shape)
    made = create_loss(chosen, chosen.entry.complete(params), setting)
    return Model(network, made, (-1.0, 1.0), chosen.entry.value_range, kl_weight=0.1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", SMALL)
def test_an_interrupted_training_ends_bitwise_like_an_undisturbed_one(name: str, tmp_path: Path) -> None:
    """Parameters, the codebook's buffers, and what it logs of an epoch that was interrupted."""
    whole, parts = make(name), make(name)
    train(whole, IMAGES, CONFIG, 0, tmp_path / "whole", watch())
    for steps in (2, 2):
        asked = iter([*[False] * (steps - 1), True])
        with pytest.raises(Interrupted):
            train(make(name), IMAGES, CONFIG, 0, tmp_path / "parts", watch(asked.__next__))
    train(parts, IMAGES, CONFIG, 0, tmp_path / "parts", watch())
    assert all(torch.equal(state(parts)[key], value) for key, value in state(whole).items())
    assert history(tmp_path / "parts") == history(tmp_path / "whole")


def test_the_history_has_the_terms_of_the_objective(tmp_path: Path) -> None:
    for name in SMALL:
        train(make(name), IMAGES, CONFIG, 0, tmp_path / name, watch())
    for line in history(tmp_path / "kl_f4"):
        assert line["objective"] == pytest.approx(line["reconstruction"] + 0.1 * line["kl"])
        assert line["kl"] > 0
        assert not {"penalty", "usage", "perplexity"} & line.keys()
    for line in history(tmp_path / "vq"):
        assert line["objective"] == pytest.approx(line["reconstruction"] + line["penalty"])
        assert (line["kl"], line["penalty"] > 0) == (0, True)
        assert 1 / 9 <= line["usage"] <= 1
        assert 1 <= line["perplexity"] <= 9 * line["usage"] + 1e-6


def test_the_validation_loss_has_the_penalty_too(tmp_path: Path) -> None:
    model = make("vq")
    train(model, IMAGES, CONFIG.model_copy(update={"epochs": 1}), 0, tmp_path, watch())
    model.architecture.eval()
    target = to_range(PIXELS[:6], (-1.0, 1.0))
    with torch.no_grad():
        posterior = model.architecture.encode(target)
        decoded: Any = model.architecture.decode(posterior.mean)
        values = model.loss((decoded + 1) / 2, (target + 1) / 2, Context()) + posterior.penalty()
    assert history(tmp_path)[-1]["validation"] == pytest.approx(float(values.mean()), rel=1e-5)


def scored(model: Model, folder: Path, **metrics: MetricSpec) -> Evaluation:
    reference = Reference(PIXELS[:10], "images of a test", folder, torch.device("cpu"))
    return evaluate(model, metrics, reference, batch_size=4, config=CONFIG)


def test_the_divergence_of_a_map_is_in_nats_for_each_image(tmp_path: Path) -> None:
    model = make("kl_f4")
    found = scored(model, tmp_path, rate=MetricSpec(Rate()))
    with torch.no_grad():
        posterior: Any = model.architecture.encode(to_range(PIXELS[:10], (-1.0, 1.0)))
    each = torch.distributions.Normal(posterior.location, (0.5 * posterior.log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    expected = torch.distributions.kl_divergence(each, standard).sum((1, 2, 3)).double().numpy()
    np.testing.assert_allclose(found.per_image["kl"], expected, rtol=1e-4)
    assert found.kl == pytest.approx(expected.mean(), rel=1e-4)
    assert found.scores["rate"].mean == pytest.approx(found.kl)
    assert found.pictures["samples"].shape == (16, 1, 16, 16)


def test_nothing_meaningless_is_reported_of_a_codebook(tmp_path: Path) -> None:
    model, drawn, kept = make("vq"), Seen(), Seen()
    model = Model(model.architecture, Normal(), (-1.0, 1.0), (0.0, 1.0), kl_weight=0.1)
    metrics = {"bits": MetricSpec(Bound()), "kl": MetricSpec(Rate()), "generated": MetricSpec(drawn, samples=True)}
    found = scored(model, tmp_path, **metrics, reconstructed=MetricSpec(kept))
    assert set(found.scores) == {"reconstructed"}
    assert found.reasons == {"bits": NO_KL, "kl": NO_KL, "generated": NO_PRIOR}
    assert (found.kl, set(found.per_image), set(found.pictures)) == (None, set(), {"target", "decoded"})
    assert not drawn.references, "statistics of the test images would be computed for nothing"
    plain = Model(make("kl_f4").architecture, Plain(), (-1.0, 1.0), (0.0, 1.0), kl_weight=0.1)
    assert scored(plain, tmp_path, bits=MetricSpec(Bound())).reasons == {"bits": NO_LIKELIHOOD}


def test_losses_of_the_latent_get_a_vector_and_its_shape(tmp_path: Path) -> None:
    """wiener estimates its kernels from z, which it wants flat."""
    model = make("kl_f4", "wiener", hidden=4, kernel_size=3, warmup_epochs=0)
    train(model, IMAGES, CONFIG, 0, tmp_path, watch())
    assert history(tmp_path)[-1]["auxiliary"] > 0
    setting = Setting(SHAPE, 32, (2, 4, 4))
    flat = torch.zeros(3, setting.latent_size)
    assert flat.unflatten(1, setting.latent_shape).shape == (3, 2, 4, 4)  # type: ignore[no-untyped-call]
    assert Setting(SHAPE, 5).latent_shape == (5,)
    with pytest.raises(ValueError, match="does not have 5 elements"):
        Setting(SHAPE, 5, (2, 2))


class Uniform(Architecture):
    """z is uniform in 0 to 1, in the prior too."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_shape = (1, 4, 4)
        self.scale = nn.Parameter(torch.ones(()))
        self.drawn: list[Tensor] = []

    def encode(self, images: Tensor) -> Posterior:
        return Deterministic(nn.functional.avg_pool2d(images, 4) / 2 + 0.5)

    def decode(self, z: Tensor) -> Tensor:
        self.drawn.append(z)
        return self.scale * nn.functional.interpolate(2 * z - 1, scale_factor=4)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.rand(n, *self.latent_shape, generator=generator)


def test_samples_are_of_the_prior_of_the_architecture(tmp_path: Path) -> None:
    network, seen = Uniform(), Seen()
    model = Model(network, Plain(), (-1.0, 1.0), (0.0, 1.0), kl_weight=1.0)
    scored(model, tmp_path, generated=MetricSpec(seen, samples=True))
    z = torch.cat(network.drawn[3:6])
    assert torch.equal(z[:4], torch.rand(4, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert len(z) == 10


def test_draws_of_another_shape_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Uniform, "sample", lambda self, n, generator: torch.rand(n, 16))
    model = Model(Uniform(), Plain(), (-1.0, 1.0), (0.0, 1.0), kl_weight=1.0)
    with pytest.raises(ContractError, match=r"sample\(n, generator\) must be a float tensor \(4, 1, 4, 4\)"):
        scored(model, tmp_path, generated=MetricSpec(Seen(), samples=True))


@pytest.mark.parametrize(
    ("logs", "message"),
    [
        ([1.0], "return numbers by name"),
        ({"usage": "all"}, "'usage' is a str"),
        ({"usage": float("nan")}, "return finite numbers"),
        ({"kl": 0.0}, "a name of the core's"),
    ],
)
def test_what_is_logged_are_finite_numbers_by_names_of_their_own(
    logs: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Uniform, "log", lambda self: logs)
    with pytest.raises(ContractError, match=message):
        logged(Model(Uniform(), Plain(), (-1.0, 1.0), (0.0, 1.0), kl_weight=1.0))


def test_the_size_of_a_latent_follows_from_its_shape() -> None:
    network = Uniform()
    assert network.latent_size == 16
    network.latent_size = 5
    assert network.latent_shape == (5,)
    assert not hasattr(Architecture, "latent_shape")


def test_vectors_have_the_divergence_that_they_had_bit_for_bit() -> None:
    location, log_variance = torch.randn(7, 13), torch.randn(7, 13)
    before = 0.5 * (location.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
    assert torch.equal(Gaussian(location, log_variance).kl(), before)
    strided = torch.randn(7, 26)
    location, log_variance = strided.chunk(2, dim=1)
    before = 0.5 * (location.square() + log_variance.exp() - 1 - log_variance).sum(dim=1)
    assert torch.equal(Gaussian(location, log_variance).kl(), before)


def test_a_trained_model_without_a_prior_draws_nothing() -> None:
    from recbench.api.models import TrainedModel

    vq, kl = (TrainedModel(make(name).architecture, (-1.0, 1.0), SHAPE) for name in ("vq", "kl_f4"))
    with pytest.raises(UserError, match="VQ has no prior"):
        vq.sample(2)
    assert kl.latent_shape == (2, 4, 4)
    assert kl.sample(2).shape == vq(torch.rand(2, 1, 16, 16)).shape == (2, 1, 16, 16)


def test_a_code_may_have_a_commitment() -> None:
    code = torch.zeros(3, 2, dtype=torch.bfloat16)
    plain, committed = Deterministic(code), Deterministic(code, commitment=torch.ones(3, dtype=torch.bfloat16))
    assert not plain.has_penalty and torch.equal(plain.float().penalty(), torch.zeros(3))
    assert committed.has_penalty and torch.equal(committed.float().penalty(), torch.ones(3))
    assert committed.float().penalty().dtype == torch.float32
