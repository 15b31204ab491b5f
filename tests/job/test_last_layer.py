"""The decoder's last layer: which it is, and that losses get it wherever they are called in training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recbench
from recbench.contracts.architecture import Architecture
from recbench.contracts.checked import ContractError
from recbench.contracts.entries import ImageShape, LossEntry
from recbench.contracts.loss import Context, Loss, Setting
from recbench.contracts.numerics import float32_flags
from recbench.errors import UserError
from recbench.job.calibration import measure
from recbench.job.images import to_range
from recbench.job.parts import Model
from recbench.job.step import Step
from recbench.job.sums import Part, SumLoss
from recbench.job.training import seed_everything
from recbench.plan.model import ComponentSpec, Training
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registered, Registry
from recbench.suite.suite import load_suite
from tests.conftest import TINY
from tests.job.test_preflight import loss as plugin_of_a_loss
from tests.job.test_training import PIXELS, Network

REGISTRY = Registry(load_plugins())
TRAINED = [name for name in REGISTRY.names("architectures") if REGISTRY.get("architectures", name).entry.trainable]
SMALL = {"widths": [2, 3], "mapping_widths": [2, 3], "hidden": 5, "latent_size": 4, "channels": 4, "width": 4}
CONFIG = Training(epochs=1, batch_size=8, learning_rate=1e-2)
BATCH = to_range(PIXELS[:8], (-1.0, 1.0))


class Twice(Loss):
    """Half the squared error, and the same in other units, brought to the same slope at the last layer: their sum."""

    needs_last_layer = True

    def __init__(self, setting: Setting | None = None, factor: float = 7.0) -> None:
        super().__init__()
        self.factor = factor
        self.seen: list[tuple[Tensor, Context]] = []

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        first = 0.5 * (decoded - target).square().sum((1, 2, 3))
        if not context.training:
            assert context.last_layer is None
            return first
        other = self.factor * first
        assert context.last_layer is not None
        ours, theirs = (
            torch.autograd.grad(term.mean(), context.last_layer, retain_graph=True)[0] for term in (first, other)
        )
        weight = ours.norm() / theirs.norm()
        self.seen.append((weight, context))
        return first + weight * other


class Convolutional(Network):
    """Ends with a convolution and a batch norm, whose vectors are no layer, and decodes with noise in training."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Conv2d(1, 1, 3, padding=1)
        self.end = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.5), nn.Sigmoid())

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.end(self.last(super().decode(z)))
        return decoded


def model(loss: Loss, architecture: Callable[[], Architecture] = Network) -> Model:
    seed_everything(0, deterministic=True)
    return Model(architecture(), loss, (-1.0, 1.0), (0.0, 1.0), kl_weight=0.1)


@pytest.mark.parametrize("name", TRAINED)
def test_of_every_architecture_it_is_the_last_convolution_of_the_decoder(name: str) -> None:
    registered = REGISTRY.get("architectures", name)
    params = {key: value for key, value in SMALL.items() if registered.entry.parameter(key)}
    network = registered.create(params, ImageShape(3, 16, 16))
    filters = {own: each for own, each in network.named_parameters() if "decoder" in own and each.ndim == 4}
    last = list(filters.values())[-1]
    assert 3 in last.shape[:2]
    assert network.last_layer() is last


def test_looking_for_it_leaves_the_network_and_random_states_as_they_were() -> None:
    seed_everything(0, deterministic=True)
    network = Convolutional().train()
    network.decoder.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    random_state = torch.get_rng_state()
    with torch.no_grad():
        assert network.last_layer() is network.last.weight
    assert torch.equal(torch.get_rng_state(), random_state)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_frozen_layers_and_vectors_are_none() -> None:
    network = Convolutional()
    network.last.requires_grad_(False)
    assert network.last_layer() is network.decoder[0].weight
    network.requires_grad_(False)
    assert network.last_layer() is None


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("architecture", [Network, Convolutional])
def test_a_step_weighs_terms_by_their_slopes_there(precision: str, architecture: Any) -> None:
    """Twice the slope of half the squared error: the steps are those with the loss doubled."""
    tolerance = 1e-4 if precision == "float32" else 1e-2

    class Doubled(Loss):
        def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
            assert context.last_layer is None
            return (decoded - target).square().sum((1, 2, 3))

    ends = []
    for loss in (Twice(), Doubled()):
        made = model(loss, architecture)
        step = Step(made, CONFIG.model_copy(update={"precision": precision}))
        for number in range(3):
            terms = step(BATCH, 1, number, checked=True)
        ends.append(terms)
        if isinstance(loss, Twice):
            assert [context.last_layer for _, context in loss.seen] == [step.last_layer] * 3
            assert [float(weight) for weight, _ in loss.seen] == pytest.approx([1 / 7] * 3, rel=tolerance)
    torch.testing.assert_close(ends[0], ends[1], rtol=tolerance, atol=0)


@pytest.mark.slow
def test_a_compiled_network_trains_as_a_plain_one() -> None:
    ends = []
    for compiled in (False, True):
        made = model(Twice(), Convolutional)
        made.architecture.end[1].p = 0.0  # type: ignore[index,union-attr]  # whose compiled noise is another
        step = Step(made, CONFIG.model_copy(update={"compile": compiled}))
        ends.append([step(BATCH, 1, number, checked=True) for number in range(3)])
    torch.testing.assert_close(torch.stack(ends[1]), torch.stack(ends[0]), rtol=1e-4, atol=1e-5)


def test_what_the_loss_differentiates_itself_is_in_ieee_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    """With TF32, which begins where the gradient of the whole reaches the network, and ends with it."""
    before = float32_flags()
    seen = []

    class Watching(Twice):
        def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
            values = super().forward(decoded, target, context)
            seen.append(float32_flags())
            return values

    step = Step(model(Watching()), CONFIG)
    step.tf32 = True
    step(BATCH, 1, 0, checked=True)
    assert seen == [before]
    assert float32_flags() == before


def test_a_sum_hands_it_to_its_parts() -> None:
    whole = SumLoss([Part("twice", "twice", Twice(), 0.5, (0.0, 1.0)), Part("other", "other", Twice(), 2, (-1.0, 1.0))])
    assert whole.needs_last_layer
    Step(model(whole), CONFIG)(BATCH, 1, 0, checked=True)
    assert [len(part.loss.seen) for part in whole._parts] == [1, 1]  # type: ignore[attr-defined]
    assert not SumLoss(
        [Part("l1", "l1", REGISTRY.get("losses", "l1").create({}, None), 1, (0.0, 1.0))]
    ).needs_last_layer


class Nothing(Network):
    def last_layer(self) -> nn.Parameter | None:
        return None


class Foreign(Network):
    def last_layer(self) -> nn.Parameter | None:
        return nn.Parameter(torch.ones(1))


class Frozen(Network):
    def last_layer(self) -> nn.Parameter | None:
        self.encoder[0].requires_grad_(False)
        weight: nn.Parameter = self.encoder[0].weight
        return weight


@pytest.mark.parametrize(
    ("architecture", "came"),
    [(Nothing, "it returned None"), (Foreign, "it is no parameter of the network"), (Frozen, "it is frozen")],
)
def test_an_architecture_without_one_is_refused_before_the_first_step(architecture: Any, came: str) -> None:
    with pytest.raises(ContractError, match=rf"last_layer\(\) must .* the loss compares gradients; {came}"):
        Step(model(Twice(), architecture), CONFIG)
    Step(model(REGISTRY.get("losses", "l1").create({}, None), architecture), CONFIG)  # which does not ask


ADAPTIVE = plugin_of_a_loss(
    "first = (decoded - target).square().sum((1, 2, 3)); "
    "w = torch.autograd.grad(first.mean(), context.last_layer, retain_graph=True)[0] if context.training else 1; "
    "return first + (0 * w.norm() if context.training else 0)",
    more="needs_last_layer = True",
    entry=", stops_gradient=True",
)
LACKING = """
@hookimpl
def recbench_architectures():
    yield ArchitectureEntry(name="lacking", factory=Lacking, summary="")

class Lacking(Architecture):
    def __init__(self, shape):
        super().__init__()
        self.latent_size, self.shape = 4, (shape.channels, shape.height, shape.width)
        self.gain = nn.Parameter(torch.ones(math.prod(self.shape)))
    def encode(self, images):
        return Deterministic(images.flatten(1)[:, :4] * self.gain[:4])
    def decode(self, z):
        return (z.sum(1, keepdim=True) * self.gain).view(-1, *self.shape)
"""


@pytest.mark.parametrize(("network", "wanted"), [("linear", ""), ("lacking", r"'lacking'.*last_layer\(\) must.*'bad'")])
def test_preflight_tries_it(network: str, wanted: str, tmp_path: Path) -> None:
    import re

    from recbench.job import preflight

    plugin = tmp_path / "bad.py"
    plugin.write_text(ADAPTIVE + LACKING)
    suite = tmp_path / "s.yaml"
    suite.write_text(
        f"name: s\ndatasets: [blobs]\narchitectures: [{network}]\nlosses: [bad]\nseeds: [0]\n"
        "training: {epochs: 1, batch_size: 16, kl_weight: 0.001}\nmetrics: [psnr]\n"
    )
    registry = Registry(load_plugins((str(TINY), str(plugin))))
    plan = load_suite(suite, registry).plan
    said: list[tuple[str, str]] = []
    flight = preflight.Flight(job=plan.job(plan.jobs[0]), shape=(3, 16, 16))
    preflight.fly(flight, registry, torch.device("cpu"), lambda kind, text: said.append((kind, text)))
    problems = [text for kind, text in said if kind == "problem"]
    assert len(problems) == bool(wanted)
    assert all(re.search(wanted, text) for text in problems)


def test_calibration_finds_the_scale_of_an_adaptive_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It pulls twice as strongly as l2, since both terms pull alike; others are what they are without it."""
    registry = Registry(load_plugins((str(TINY),)))
    suite = tmp_path / "s.yaml"
    suite.write_text(
        "name: s\ndatasets: [blobs]\narchitectures: [linear]\nlosses: [l2, l1]\nseeds: [0]\n"
        "training: {epochs: 1, batch_size: 16, kl_weight: 0.001}\nmetrics: [psnr]\n"
    )
    plan = load_suite(suite, registry).plan
    entry = LossEntry(name="twice", factory=Twice, summary="", stops_gradient=True)
    mine = Registered(entry, registry.get("losses", "l2").plugin)
    own = registry.get
    monkeypatch.setattr(registry, "get", lambda kind, name: mine if name == "twice" else own(kind, name))
    l1 = ComponentSpec(name="l1", params={})
    (alone,), together = (
        measure(plan.settings[0], [("l1", l1), *others], registry, tmp_path / "cache", steps=4)
        for others in ([], [("twice", ComponentSpec(name="twice", params={}))])
    )
    assert together[0] == alone
    assert together[1].scale == 2.0


def test_a_loop_of_ones_own_passes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = recbench.loss("vqgan", shape=(3, 16, 16), perceptual_weight=0, disc_start=1, disc_width=2, disc_layers=1)
    target = torch.rand(2, 3, 16, 16)
    layer = nn.Conv2d(3, 3, 1)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    for number in range(3):
        loss(layer(target), target, last_layer=layer.weight).mean().backward()
        assert ("adaptive_weight" in loss.loss.log()) == (number > 0)
    loss.eval()(layer(target), target)
    assert not any(parameter is other for parameter in loss.parameters() for other in loss.loss.parameters())
    assert not all(torch.equal(before[name], value) for name, value in loss.state_dict().items())
    with pytest.raises(UserError, match="vqgan compares gradients at the decoder's last layer in training: pass"):
        loss.train()(layer(target), target)
    with pytest.raises(UserError, match=r"cannot be computed .*; decoded must have been made with last_layer$"):
        loss(target.clone().requires_grad_(), target, last_layer=layer.weight)


def test_an_adaptive_weight_makes_both_gradients_equally_long() -> None:
    """At the last layer, or where else it is asked for; held constant, bounded, and refused without a layer."""
    weight, images = nn.Parameter(torch.randn(3, 4)), torch.randn(5, 3, requires_grad=True)
    decoded = images @ weight
    first, second = decoded.square().sum(1), 7 * decoded.sin().sum(1)
    context = Context(last_layer=weight)
    for found, at in (
        (context.adaptive_weight(first, second), weight),
        (context.adaptive_weight(first, second, decoded), decoded),
    ):
        ours, theirs = (torch.autograd.grad(each.mean(), at, retain_graph=True)[0].norm() for each in (first, second))
        assert not found.requires_grad and found.ndim == 0
        torch.testing.assert_close(found * theirs, ours, rtol=1e-3, atol=0)
    assert context.adaptive_weight(1e9 * first, second) == 1e4
    with pytest.raises(ValueError, match="needs_last_layer = True"):
        Context().adaptive_weight(first, second)
