"""Weighted sums of losses: values, gradients, value ranges, auxiliary objectives, traces."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from recbench.contracts.architecture import Gaussian
from recbench.contracts.checked import ContractError, auxiliaries_of
from recbench.contracts.entries import ImageShape, LossEntry, Parameter
from recbench.contracts.loss import Auxiliary, Context, Likelihood, Loss, Setting
from recbench.job.parts import Model, create_loss
from recbench.job.step import Step
from recbench.job.sums import Part, SumLoss
from recbench.job.training import Interrupted, TrainingImages, seed_everything, train
from recbench.plan.model import Training
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registered, Registry
from tests.job.test_training import PIXELS, Network, history, state, watch

REGISTRY = Registry(load_plugins())
SETTING = Setting(ImageShape(3, 32, 32), 4)
UNIT, SIGNED = (0.0, 1.0), (-1.0, 1.0)


def made(name: str, **params: Any) -> Loss:
    torch.manual_seed(0)
    return create_loss(REGISTRY.get("losses", name), params, SETTING)


def pair() -> tuple[Tensor, Tensor]:
    decoded, target = torch.rand(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return decoded.requires_grad_(), target


def value_and_gradient(loss: Loss) -> tuple[Tensor, Tensor]:
    decoded, target = pair()
    torch.manual_seed(2)
    values = loss(decoded, target, Context(z=torch.zeros(3, 4), epoch=1, step=0, training=True))
    return values.detach(), torch.autograd.grad(values.sum(), decoded)[0]


@pytest.mark.parametrize("name", ["l1", "ssim", "ffl", "wiener"])
def test_one_part_of_weight_1_is_the_part_itself(name: str) -> None:
    if REGISTRY.find("losses", name) is None:
        pytest.skip(f"{name} is not installed")
    for one, other in zip(value_and_gradient(made(f"sum:{name}")), value_and_gradient(made(name)), strict=True):
        assert torch.equal(one, other)


class Made(Loss):
    """L1 and a tenth of the mean squared error of images in −1 to 1, by hand."""

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        first = (decoded - target).abs().sum(dim=(1, 2, 3))
        second = ((2 * decoded - 1) - (2 * target - 1)).square().mean(dim=(1, 2, 3))
        return first + 0.1 * second


class Mean(Loss):
    """A loss that expects images in −1 to 1, and says so if it gets others."""

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        assert target.min() < -0.5
        return (decoded - target).square().mean(dim=(1, 2, 3))


def test_a_sum_is_the_hand_made_one_and_each_part_gets_its_own_range() -> None:
    parts = [Part("l1", "l1", made("l1"), 1.0, UNIT), Part("mean", "mean", Mean(), 0.1, SIGNED)]
    for one, other in zip(value_and_gradient(SumLoss(parts)), value_and_gradient(Made()), strict=True):
        torch.testing.assert_close(one, other)


def test_a_sum_of_l1_and_st_lpips_is_the_hand_made_one() -> None:
    registered = REGISTRY.get("losses", "sum:l1+st_lpips")
    entry = registered.entry
    params = entry.complete({"st_lpips.weight": 0.1})
    from recbench.data.weights import missing

    if missing(entry.needed_weights(SETTING.shape, params)):
        pytest.skip("the weights of st_lpips are missing")
    whole = create_loss(registered, params, SETTING)
    l1, lpips = made("l1"), made("st_lpips")
    low, high = REGISTRY.get("losses", "st_lpips").entry.value_range  # type: ignore[attr-defined]

    class Both(Loss):
        def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
            shown = [low + (high - low) * images for images in (decoded, target)]
            value: Tensor = l1(decoded, target, context) + 0.1 * lpips(*shown, context)
            return value

    for one, other in zip(value_and_gradient(whole), value_and_gradient(Both()), strict=True):
        torch.testing.assert_close(one, other)


def test_a_sum_has_the_ranges_families_weights_and_refusals_of_its_parts() -> None:
    entry = REGISTRY.get("losses", "sum:ssim+lpips").entry
    ssim, lpips = (REGISTRY.get("losses", name).entry for name in ("ssim", "lpips"))
    assert entry.value_range == ssim.value_range  # type: ignore[attr-defined]
    assert entry.families == ssim.families | lpips.families  # type: ignore[attr-defined]
    assert set(entry.weights) == set(lpips.weights)
    params = entry.complete({})
    assert entry.needed_weights(SETTING.shape, params) == lpips.needed_weights(SETTING.shape, lpips.complete({}))
    reasons = entry.refusals(ImageShape(3, 4, 4), params)
    assert any(reason.startswith("has the part ssim, which needs at least") for reason in reasons)
    none = entry.complete({"ssim.weight": 0, "lpips.weight": 0})
    assert entry.refusals(SETTING.shape, none) == ["has no part with a weight above 0"]


def test_a_sum_of_likelihoods_is_no_likelihood() -> None:
    names = [each.entry.name for each in REGISTRY.all("losses")]
    likely = next(name for name in names if name.startswith("gaussian") or name == "wiener")
    assert isinstance(made(likely), Likelihood)
    assert not isinstance(made(f"sum:{likely}+{likely}"), Likelihood)


def test_the_code_of_a_sum_is_that_of_its_parts() -> None:
    code = {name: REGISTRY.get("losses", name).code for name in ("l1", "sum:l1+ssim", "sum:ssim+l1", "sum:l1+l1")}
    assert len(set(code.values())) == 4


class Fitted(Loss):
    """Pulls images to a parameter that its auxiliary objective brings to the targets, and has a trace of it."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.2))
        self.noisy = nn.Parameter(torch.tensor(1.0))
        self.rate = rate

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return (decoded - self.level.detach()).square().mean(dim=(1, 2, 3)) * self.noisy

    def auxiliary(self) -> Auxiliary:
        return Auxiliary((self.level,), self.rate, self._fit)

    def _fit(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return (target - self.level).square().mean(dim=(1, 2, 3))

    def trace(self, decoded: Tensor, target: Tensor, context: Context) -> dict[str, Tensor]:
        return {"level": self.level.detach().expand(len(decoded))}


def model() -> Model:
    seed_everything(0, deterministic=True)
    parts = [
        Part("fitted", "one", Fitted(0.1), 1.0, UNIT),
        Part("fitted#2", "other", Fitted(0.01), 0.5, SIGNED),
    ]
    return Model(Network(), SumLoss(parts), SIGNED, UNIT, kl_weight=0.1)


def test_each_auxiliary_objective_trains_its_part_with_its_own_optimizer() -> None:
    found = model()
    step = Step(found, Training(epochs=1))
    assert [each.param_groups[0]["lr"] for each in step.optimizers[1:]] == [0.1, 0.01]
    step(torch.zeros(4, 1, 8, 8), 1, 0, checked=True)
    first, second = (part.loss.level.item() for part in found.loss._parts)  # type: ignore[attr-defined]
    assert first == pytest.approx(0.3, abs=1e-4)  # Adam's first step is its rate: up, to grey, which is 0.5
    assert second == pytest.approx(0.19, abs=1e-4)  # down, to grey, which is 0


def test_a_sum_with_two_auxiliaries_resumes_bit_for_bit(tmp_path: Path) -> None:
    images = TrainingImages(train=PIXELS, validation=PIXELS[:0], traced=PIXELS[:2])
    config = Training(epochs=2, batch_size=8)
    whole = model()
    _, expected = train(whole, images, config, 0, tmp_path / "whole", watch())
    calls = iter(range(100))
    with pytest.raises(Interrupted):
        train(model(), images, config, 0, tmp_path / "part", watch(stop=lambda: next(calls) == 6))
    resumed = model()
    _, traced = train(resumed, images, config, 0, tmp_path / "part", watch())
    assert all(torch.equal(state(resumed)[name], value) for name, value in state(whole).items())
    assert set(traced) == {"fitted.level", "fitted#2.level"}
    assert all(torch.equal(traced[name], value) for name, value in expected.items())
    assert history(tmp_path / "part") == history(tmp_path / "whole")


def test_traces_have_the_key_of_their_part() -> None:
    traced = model().loss.trace(PIXELS[:2] / 255, PIXELS[:2] / 255, Context())
    assert set(traced) == {"fitted.level", "fitted#2.level"}


class Scalar(Loss):
    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return (decoded - target).abs().mean()


def test_a_part_that_returns_a_single_number_is_named() -> None:
    loss = SumLoss([Part("l1", "l1", made("l1"), 1.0, UNIT), Part("odd", "the loss 'odd'", Scalar(), 1.0, UNIT)])
    with pytest.raises(ContractError, match="the loss 'odd'"):
        loss(*pair(), Context())


def test_a_parameter_cannot_belong_to_two_auxiliaries() -> None:
    class Twice(Fitted):
        def auxiliary(self) -> tuple[Auxiliary, ...]:  # type: ignore[override]
            return super().auxiliary(), super().auxiliary()

    with pytest.raises(ContractError, match="a parameter twice"):
        auxiliaries_of("twice", Twice(0.1))


class Pretrained(Loss):
    """A network that a plugin's author may have forgotten to freeze, beside a number that is learned."""

    def __init__(self, setting: Setting, *, frozen: bool) -> None:
        super().__init__()
        self.network = nn.Conv2d(3, 2, 3).requires_grad_(not frozen)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return self.scale * (self.network(decoded) - self.network(target)).square().mean((1, 2, 3))


def pretrained() -> Registered:
    weights = next(file for each in REGISTRY.all("losses") for file in each.entry.weights)
    entry = LossEntry(
        name="pretrained",
        factory=Pretrained,
        summary="",
        parameters=(Parameter("frozen", bool, True, ""),),
        weights=(weights,),
    )
    return Registered(entry, REGISTRY.get("losses", "l1").plugin)


def test_a_pretrained_network_that_would_be_trained_is_refused_with_the_fix() -> None:
    with pytest.raises(ContractError, match=r"requires_grad_\(False\).*network\.weight would be trained"):
        create_loss(pretrained(), {"frozen": False}, SETTING)


def test_frozen_parameters_of_a_loss_stay_as_they_are() -> None:
    loss = create_loss(pretrained(), {}, SETTING)
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    architecture = Network()
    architecture.decode = lambda z: architecture.decoder(z)[:, :48].reshape(-1, 3, 4, 4)  # type: ignore[method-assign]
    architecture.encode = lambda images: Gaussian(images.flatten(1)[:, :3], images.flatten(1)[:, :3])  # type: ignore[method-assign]
    step = Step(Model(architecture, loss, SIGNED, UNIT, kl_weight=0.1), Training(epochs=1, learning_rate=0.1))
    for number in range(3):
        step(torch.rand(4, 3, 4, 4), 1, number, checked=True)
    after = loss.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in ("network.weight", "network.bias"))
    assert not torch.equal(before["scale"], after["scale"])
