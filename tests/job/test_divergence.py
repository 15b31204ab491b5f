"""NaN in, NaN out: no loss hides a model that diverged, and none refuses it before training has looked."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recbench.contracts.architecture import Architecture, Deterministic
from recbench.contracts.checked import ContractError
from recbench.contracts.entries import ImageShape
from recbench.contracts.last_layer import as_last_layer
from recbench.contracts.loss import Context, Loss, Setting
from recbench.job.guard import Diverged, Guard
from recbench.job.parts import Model
from recbench.job.training import TrainingImages, train
from recbench.job.training import Watch as Callbacks
from recbench.plan.model import Training
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from tests.stand_in_weights import use_stand_ins

REGISTRY = Registry(load_plugins())
LATENT = 8
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "barron": [{}, {"representation": "pixel"}, {"alpha_lo": 2.0, "alpha_hi": 2.0}],
    "ffl": [{}, {"patch_factor": 2, "log_matrix": True, "batch_matrix": True}, {"alpha": 0.0}],
    "lpips": [{}, {"implementation": "reference"}, {"net": "squeeze", "linear": False}],
    "mix": [{}, {"beta": 0.0}],
    "ms_ssim": [{}, {"scales": 2}, {"scales": 1}],
    "ssim": [{}, {"implementation": "reference"}],
    "vgg": [{}, {"trunk": "st"}],
    "watson_dct": [{}, {"weights": "initial"}],
    "watson_dft": [{}, {"weights": "initial"}],
    "wiener": [{}, {"warmup_epochs": 0}, {"warmup_epochs": 0, "kernel": "gaussian", "determinant": "exact"}],
}
LEARNING: list[tuple[str, dict[str, Any]]] = [
    ("barron", {}),
    ("barron", {"alpha_lo": 2.0, "alpha_hi": 2.0}),
    ("wiener", {}),
    ("wiener", {"determinant": "exact"}),
]
CASES = [(name, params) for name in REGISTRY.names("losses") for params in VARIANTS.get(name, [{}])]


@pytest.fixture(scope="module", autouse=True)
def weights() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        use_stand_ins(patch)
        yield


def create(name: str, params: dict[str, Any], shape: ImageShape = ImageShape(3, 64, 64)) -> Loss:  # noqa: B008
    registered = REGISTRY.get("losses", name)
    torch.manual_seed(0)
    loss: Loss = registered.create(registered.entry.complete(params), Setting(shape, LATENT))
    return loss


def images(seed: int, name: str) -> Tensor:
    low, high = REGISTRY.get("losses", name).entry.value_range
    return low + (high - low) * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(seed))


def value_of(loss: Loss, decoded: Tensor, target: Tensor, *, training: bool) -> Tensor:
    """The loss of images; for one that looks at the last layer, of a layer that changes nothing."""
    made = context(training=training)
    if training and loss.needs_last_layer:
        decoded, weight = as_last_layer(decoded)
        made = replace(made, last_layer=weight)
    return loss(decoded, target, made)


def context(*, training: bool) -> Context:
    return Context(z=torch.randn(2, LATENT, generator=torch.Generator().manual_seed(2)), epoch=20, training=training)


@pytest.mark.parametrize("broken", ["all", "a pixel", "the target"])
@pytest.mark.parametrize(("name", "params"), CASES, ids=str)
def test_an_image_of_nan_has_a_value_of_nan(name: str, params: dict[str, Any], broken: str) -> None:
    """In training and without gradients, whatever part of the image is broken; the other image may suffer too."""
    loss = create(name, params)
    for training in (True, False):
        decoded, target = images(0, name), images(1, name)
        where = target if broken == "the target" else decoded
        where[(0, 1, 30, 30) if broken == "a pixel" else 0] = math.nan
        decoded.requires_grad_(training)
        with torch.set_grad_enabled(training):
            values = value_of(loss, decoded, target, training=training)
            if training:
                values.mean().backward()
        assert values[0].isnan()


@pytest.mark.parametrize(("name", "params"), LEARNING, ids=str)
def test_parameters_of_nan_make_values_of_nan(name: str, params: dict[str, Any]) -> None:
    """As after a step of an optimizer with an infinite gradient: barron's shapes, the kernels of wiener."""
    loss = create(name, params)
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.fill_(math.nan)
    decoded = images(0, name).requires_grad_()
    values = loss(decoded, images(1, name), context(training=True))
    values.mean().backward()
    assert values.isnan().all()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("name", "params"), CASES, ids=str)
def test_infinite_images_have_no_finite_value(name: str, params: dict[str, Any], sign: int) -> None:
    decoded = images(0, name)
    decoded[0] = sign * math.inf
    assert not value_of(create(name, params), decoded, images(1, name), training=True)[0].isfinite()


def test_barron_takes_no_index_from_nan() -> None:
    """One shape of all is NaN; on a GPU its index would end the process."""
    loss = create("barron", {})
    with torch.no_grad():
        next(loss.parameters())[0, 0, 0] = math.nan
    assert loss(images(0, "barron"), images(1, "barron"), context(training=True)).isnan().all()


def test_ms_ssim_of_nan_is_not_that_of_an_inverted_image() -> None:
    """A channel that is inverted has the value 1 and no gradient, one with NaN has NaN, and a good one is its own."""
    loss = create("ms_ssim", {})
    decoded, target = images(0, "ms_ssim"), images(1, "ms_ssim")
    decoded[:, 0] = 1 - target[:, 0]
    decoded.requires_grad_()
    values = loss(decoded, target, context(training=True))
    (gradient,) = torch.autograd.grad(values.sum(), decoded)
    assert values.isfinite().all()
    assert (gradient[:, 0] == 0).all()
    broken = decoded.detach().clone()
    broken[0, 1] = math.nan
    values = loss(broken.requires_grad_(), target, context(training=True))
    assert values[0].isnan()
    assert values[1].isfinite()


def test_ce_names_a_pixel_out_of_range_on_the_cpu() -> None:
    """NaN is the model's; a number out of range is the user's, who gave images or a decoder of another range."""
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        create("ce", {})(images(0, "ce") + 0.1, images(1, "ce"), context(training=False))


# Training that looks at values every 50 steps, as on a GPU


def train_until(name: str, loss: Loss, monkeypatch: pytest.MonkeyPatch, folder: Path, *, broken_at: int) -> None:
    """Train a small network whose weights become NaN in a step, as after an infinite gradient."""
    monkeypatch.setattr("recbench.job.training.Guard", partial(Guard, every=50))
    shape = ImageShape(3, 32, 32)
    registered = REGISTRY.get("architectures", "vae_bredell_small")
    torch.manual_seed(0)
    params = {"widths": [8, 16], "latent_size": LATENT}
    network = registered.create(registered.entry.complete(params), shape)
    encode, calls = network.encode, iter(range(1, 1000))

    def encode_until(images: Tensor) -> Any:
        if network.training and next(calls) == broken_at:
            with torch.no_grad():
                next(network.parameters()).fill_(math.nan)
        return encode(images)

    network.encode = encode_until
    ranges = registered.entry.value_range, REGISTRY.get("losses", name).entry.value_range
    images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    callbacks = Callbacks(lambda *_: None, lambda _: None, lambda: False, 1e9)
    config = Training(epochs=8, batch_size=4, learning_rate=1e-5)
    train(
        Model(network, loss, *ranges, 1.0), TrainingImages(images, images[:4], images[:0]), config, 0, folder, callbacks
    )


@pytest.mark.parametrize("name", REGISTRY.names("losses"))
def test_every_loss_is_reported_as_diverged(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """At the exact step, though other steps were taken before anybody looked."""
    params = {"kernel_size": 5, "warmup_epochs": 0} if name == "wiener" else {}
    loss = create(name, params, ImageShape(3, 32, 32))
    with pytest.raises(Diverged, match=r"became nan in epoch 2, step 6$") as caught:
        train_until(name, loss, monkeypatch, tmp_path, broken_at=6)
    assert (caught.value.epoch, caught.value.step) == (2, 6)


class Refusing(Loss):
    """½ Σ (x − x̂)², in an implementation that raises on NaN."""

    def __init__(self, refuses: bool) -> None:
        super().__init__()
        self.refuses = refuses

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        if self.refuses or decoded.isnan().any():
            raise ValueError("I take numbers only")
        return 0.5 * (decoded - target).square().sum((1, 2, 3))


def test_a_loss_that_refuses_nan_does_not_hide_the_divergence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(Diverged, match=r"NaN or infinite .* which ValueError says: I take numbers only") as caught:
        train_until("l2", Refusing(refuses=False), monkeypatch, tmp_path, broken_at=6)
    assert (caught.value.epoch, caught.value.step) == (2, 6)


def test_an_error_of_a_model_that_is_whole_stays_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="numbers only"):
        train_until("l2", Refusing(refuses=True), monkeypatch, tmp_path, broken_at=6)


class Logging(Architecture):
    """A linear autoencoder of 8 × 8 pixels that logs a norm of its weights, which the gradient of a step breaks."""

    def __init__(self, broken_at: int, logs: float | None = None) -> None:
        super().__init__()
        self.latent_size = 3
        self.encoder, self.decoder = nn.Linear(64, 3), nn.Linear(3, 64)
        self.broken_at, self.logs = broken_at, logs
        self.calls = 0

    def encode(self, images: Tensor) -> Deterministic:
        self.calls += 1
        z: Tensor = self.encoder(images.flatten(1))
        if self.calls == self.broken_at:
            z.register_hook(lambda gradient: gradient * math.nan)
        return Deterministic(z)

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(z).reshape(-1, 1, 8, 8)
        return decoded

    def log(self) -> dict[str, float]:
        return {"norm": float(self.encoder.weight.detach().norm()) if self.logs is None else self.logs}


def train_logging(network: Logging, folder: Path) -> None:
    images = torch.randint(0, 256, (16, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    callbacks = Callbacks(lambda *_: None, lambda _: None, lambda: False, 1e9)
    model = Model(network, Refusing(refuses=False), (0.0, 1.0), (0.0, 1.0), 1.0)
    data = TrainingImages(images, images[:0], images[:0])
    train(model, data, Training(epochs=2, batch_size=4), 0, folder, callbacks)


def test_a_network_that_logs_its_nan_has_diverged(tmp_path: Path) -> None:
    """The objective of the last step of epoch 1 is finite, the weights after it are not."""
    with pytest.raises(
        Diverged, match=r"in epoch 1, after 4 steps, which ContractError says: .*'norm' is nan"
    ) as caught:
        train_logging(Logging(broken_at=4), tmp_path)
    assert caught.value.epoch == 1


def test_a_network_that_is_whole_and_logs_nan_breaks_its_contract(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="'norm' is nan"):
        train_logging(Logging(broken_at=0, logs=math.nan), tmp_path)
