"""The loss of VQGAN against definitions written here, and facts that its discriminator's authors published."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import recbench_losses_perceptual as plugin
from recbench import ImageShape, LossEntry
from recbench.contracts.loss import Context, Setting
from recbench.testing import Case, loss_cases
from recbench_losses_perceptual.discriminator import PatchDiscriminator
from recbench_losses_perceptual.vqgan import VQGANLoss, adaptive_weight, hinge

ENTRY: LossEntry = next(entry for entry in plugin.recbench_losses() if entry.name == "vqgan")
SHAPE = ImageShape(3, 16, 16)
SMALL: dict[str, Any] = {"perceptual_weight": 0.0, "disc_start": 0, "disc_width": 4, "disc_layers": 1}


def make(shape: ImageShape = SHAPE, **params: Any) -> VQGANLoss:
    torch.manual_seed(0)
    return VQGANLoss(Setting(shape, latent_size=8), **ENTRY.complete({**SMALL, **params}))


def pair() -> tuple[Tensor, Tensor, nn.Parameter]:
    """Images from a last layer of 1 × 1 pixel, target images, and its weight, in float64."""
    generator = torch.Generator().manual_seed(1)
    features, target = torch.randn(2, 4, 3, 16, 16, generator=generator, dtype=torch.float64)
    weight = nn.Parameter(torch.randn(3, 3, 1, 1, generator=generator, dtype=torch.float64))
    return features, target, weight


# The discriminator


def test_the_number_of_parameters_is_the_published_one() -> None:
    """2,764,737 with instance norm (CycleGAN, 3 channels; "2.765 M" in the authors' logs), which has biases in place of
    batch norm's two vectors; "2.769 M" with batch norm and the 6 channels of pix2pix."""
    channels = 128 + 256 + 512  # of the normalized layers
    count = sum(parameter.numel() for parameter in PatchDiscriminator(3, 64, 3).parameters())
    assert count - 2 * channels + channels == 2_764_737
    assert round(sum(parameter.numel() for parameter in PatchDiscriminator(6, 64, 3).parameters()) / 1e6, 3) == 2.769


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70), (4, 142)])
def test_a_logit_sees_the_published_number_of_pixels(layers: int, field: int) -> None:
    """Isola et al. 2017, appendix 6.1.2 and their code: 16 × 16, 34 × 34, 70 × 70."""
    discriminator = PatchDiscriminator(1, 2, layers)
    linear = nn.Sequential(*(each for each in discriminator if isinstance(each, nn.Conv2d)))
    for each in linear:
        nn.init.ones_(each.weight)
    images = torch.zeros(1, 1, 192, 192, requires_grad=True)
    logits = linear(images)
    middle = logits.shape[-1] // 2
    (seen,) = torch.autograd.grad(logits[0, 0, middle, middle], images)
    rows = seen[0, 0].abs().sum(1).nonzero()
    assert int(rows[-1] - rows[0]) + 1 == field


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_smallest_image_that_is_declared_works_and_no_smaller_one(layers: int) -> None:
    params = ENTRY.complete({**SMALL, "disc_layers": layers})
    smallest = 3 * 2**layers
    assert not ENTRY.refusals(ImageShape(3, smallest, 64), params)
    (reason,) = ENTRY.refusals(ImageShape(3, smallest - 1, 64), params)
    assert f"needs at least {smallest} pixels a side with disc_layers: {layers}" in reason
    discriminator = PatchDiscriminator(3, 4, layers)
    assert discriminator(torch.rand(1, 3, smallest, smallest)).shape == (1, 1, 1, 1)
    with pytest.raises((RuntimeError, ValueError)):
        discriminator(torch.rand(1, 3, smallest - 1, smallest - 1))


def test_it_has_no_state_but_its_parameters() -> None:
    discriminator = PatchDiscriminator(3, 4, 2)
    assert set(discriminator.state_dict()) == {name for name, _ in discriminator.named_parameters()}
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(discriminator(images), discriminator.eval()(images))


# Values


def test_the_hinge_loss_is_its_formula() -> None:
    real, decoded = torch.randn(2, 3, 1, 2, 5, generator=torch.Generator().manual_seed(0)).mul(2).double()
    for index, value in enumerate(hinge(real, decoded).tolist()):
        terms = [max(0.0, 1 - logit) + max(0.0, 1 + other) for logit, other in zip(
            real[index].flatten().tolist(), decoded[index].flatten().tolist(), strict=True)]  # fmt: skip
        assert value == pytest.approx(sum(terms) / len(terms) / 2)


def test_the_adaptive_weight_is_the_ratio_of_slopes_at_the_last_layer() -> None:
    """That of L1 by its sign, that of the discriminator by central differences: nothing of autograd."""
    loss = make(disc_weight=0.5).double()
    assert loss.discriminator is not None
    features, target, weight = pair()

    def adversarial(filters: Tensor) -> float:
        with torch.no_grad():
            return -float(loss.discriminator(nn.functional.conv2d(features, filters)).mean())  # type: ignore[misc]

    decoded = nn.functional.conv2d(features, weight)
    sign = np.sign((decoded - target).detach().numpy())
    l1 = np.einsum("bihw,bjhw->ij", sign, features.numpy()) / sign.size
    slopes = np.zeros((3, 3))
    for i, j in itertools.product(range(3), repeat=2):
        moved = torch.zeros_like(weight)
        moved[i, j] = 1e-6
        slopes[i, j] = (adversarial(weight + moved) - adversarial(weight - moved)) / 2e-6
    wanted = 0.5 * np.linalg.norm(l1) / (np.linalg.norm(slopes) + 1e-4)
    context = Context(step=0, training=True, last_layer=weight)
    values = loss(decoded, target, context)
    assert float(loss.log()["adaptive_weight"]) == pytest.approx(wanted, rel=1e-6)
    plain = (decoded - target).abs().mean((1, 2, 3))
    logits = loss.discriminator(decoded.detach()).mean((1, 2, 3)).detach()
    torch.testing.assert_close(values, plain - wanted * logits)
    assert float(loss.log()["adversarial"]) == pytest.approx(-float(logits.mean()))


@pytest.mark.parametrize(("slope", "wanted"), [(1e-9, 1e-9 / (1e-9 + 1e-4)), (0.0, 0.0)])
def test_the_adaptive_weight_has_its_delta(slope: float, wanted: float) -> None:
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    assert float(adaptive_weight(slope * weight, 1e-9 * weight, weight)) == pytest.approx(wanted)


def test_the_adaptive_weight_is_clamped_and_lets_nan_through() -> None:
    weight = nn.Parameter(torch.ones((), dtype=torch.float64))
    assert float(adaptive_weight(1e3 * weight, 0 * weight, weight)) == 1e4
    assert adaptive_weight(float("nan") * weight, weight, weight).isnan()


def test_nan_in_the_images_is_nan_in_values_and_gradients() -> None:
    loss = make()
    features, target, weight = (each.float() for each in pair())
    weight = nn.Parameter(weight)
    features[0, 0, 0, 0] = float("nan")
    decoded = nn.functional.conv2d(features, weight)
    values = loss(decoded, target, Context(step=0, training=True, last_layer=weight))
    assert values[0].isnan()
    (gradient,) = torch.autograd.grad(values.sum(), weight)
    assert gradient.isnan().any()
    objective = loss.auxiliary().objective(decoded.detach(), target, Context(step=0, training=True))  # type: ignore[union-attr]
    assert objective[0].isnan()


# When the discriminator takes part


def test_before_its_start_and_outside_of_training_it_takes_no_part() -> None:
    loss = make(disc_start=3).double()
    features, target, weight = pair()
    decoded = nn.functional.conv2d(features, weight)
    plain = (decoded - target).abs().mean((1, 2, 3))
    for context in (Context(step=2, training=True, last_layer=weight), Context(step=9), Context()):
        assert torch.equal(loss(decoded, target, context), plain)
    assert set(loss.log()) == {"l1"}
    started = loss(decoded, target, Context(step=3, training=True, last_layer=weight))
    assert not torch.equal(started, plain)
    auxiliary = loss.auxiliary()
    assert auxiliary is not None
    assert [auxiliary.steps_after(step) for step in (0, 2, 3, 4)] == [0, 0, 1, 1]
    assert auxiliary.betas == (0.5, 0.9)


def test_the_models_step_leaves_the_discriminator_alone() -> None:
    loss = make().double()
    assert loss.discriminator is not None
    features, target, weight = pair()
    decoded = nn.functional.conv2d(features, weight)
    loss(decoded, target, Context(step=0, training=True, last_layer=weight)).sum().backward()
    assert weight.grad is not None
    assert all(parameter.grad is None for parameter in loss.discriminator.parameters())


def test_without_a_discriminator_it_is_l1_and_the_distance() -> None:
    loss = make(disc_weight=0.0)
    assert not loss.needs_last_layer
    assert loss.auxiliary() is None
    assert not list(loss.parameters())
    assert not ENTRY.couples(ENTRY.complete({"disc_weight": 0.0}))
    assert ENTRY.couples(ENTRY.complete({}))


@pytest.mark.usefixtures("shift_tolerant")
def test_the_perceptual_term_is_st_lpips() -> None:
    from recbench_losses_perceptual.losses import STLPIPSLoss

    setting = Setting(ImageShape(3, 32, 32), latent_size=8)
    loss = make(setting.shape, perceptual="st_lpips", net="alex", perceptual_weight=0.25, disc_weight=0.0)
    decoded, target = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(2)) * 2 - 1
    own = STLPIPSLoss(setting, net="alex", linear=True, precision="float32")
    with torch.no_grad():
        wanted = (decoded - target).abs().mean((1, 2, 3)) + 0.25 * own(decoded, target, Context())
        torch.testing.assert_close(loss(decoded, target, Context()), wanted)
    assert not loss.state_dict()


def test_shapes_and_nets_that_do_not_fit_are_refused_and_only_what_is_needed_is_asked_for() -> None:
    (reason,) = ENTRY.refusals(SHAPE, ENTRY.complete({"perceptual": "st_lpips", "net": "squeeze"}))
    assert reason == "needs net: vgg or alex with perceptual: st_lpips"
    reasons = ENTRY.refusals(SHAPE, ENTRY.complete({"perceptual": "st_lpips"}))
    assert [each.partition(" with ")[0] for each in reasons] == [
        "needs at least 18 pixels a side",
        "needs at least 24 pixels a side",
    ]
    assert not ENTRY.needed_weights(SHAPE, ENTRY.complete({"perceptual_weight": 0}))
    for params, files in (
        ({}, {"vgg16-397923af.pth", "lpips_v0.1_vgg.pth"}),
        ({"perceptual": "st_lpips", "net": "alex"}, {"alex_shift_tolerant.pth"}),
    ):
        assert {each.file for each in ENTRY.needed_weights(SHAPE, ENTRY.complete(params))} == files


CASES = loss_cases([ENTRY], {"vqgan": [SMALL]})
DEEP = loss_cases([ENTRY], {"vqgan": [{**SMALL, "perceptual": "st_lpips", "net": "alex", "perceptual_weight": 1.0}]})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_conformance(case: Case) -> None:
    case.run()


@pytest.mark.slow
@pytest.mark.usefixtures("shift_tolerant")
@pytest.mark.parametrize("case", DEEP, ids=str)
def test_conformance_with_st_lpips(case: Case) -> None:
    case.run()
