"""sigma_gaussian against torch's own normal distribution, and against the softclip of the authors' definition."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional

from recbench import ImageShape
from recbench.contracts.loss import Context, Setting
from recbench_losses_likelihood import recbench_losses
from recbench_losses_likelihood.losses import SigmaGaussian

ENTRY = next(entry for entry in recbench_losses() if entry.name == "sigma_gaussian")
TRAINING = Context(epoch=1, training=True)
EVALUATION = Context(epoch=1)


def make(log_sigma_min: float = -6.0) -> SigmaGaussian:
    return SigmaGaussian(Setting(ImageShape(3, 8, 8), 4), **ENTRY.complete({"log_sigma_min": log_sigma_min}))


def pair(noise: float = 0.1, count: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(count, 3, 8, 8, generator=generator, dtype=torch.float64)
    return target + noise * torch.randn(target.shape, generator=generator, dtype=torch.float64), target


def expected(decoded: Tensor, target: Tensor, log_sigma_min: float) -> Tensor:
    """By the definition: the logarithm of the root mean square, softly clipped by a softplus; torch's log density."""
    log_sigma = (target - decoded).square().mean().sqrt().log()
    log_sigma = log_sigma_min + functional.softplus(log_sigma - log_sigma_min)
    return -Normal(decoded, log_sigma.exp()).log_prob(target).sum((1, 2, 3))


@pytest.mark.parametrize("log_sigma_min", [-6.0, -2.0, 0.0])
@pytest.mark.parametrize("noise", [0.001, 0.1])
def test_value_and_gradient_are_those_of_the_definition(noise: float, log_sigma_min: float) -> None:
    decoded, target = pair(noise)
    one, other = decoded.clone().requires_grad_(), decoded.clone().requires_grad_()
    value, want = make(log_sigma_min)(one, target, TRAINING), expected(other, target, log_sigma_min)
    torch.testing.assert_close(value, want)
    value.sum().backward()
    want.sum().backward()
    torch.testing.assert_close(one.grad, other.grad)


def test_no_other_sigma_is_better_without_the_bound() -> None:
    decoded, target = pair()
    best = make(-60.0)(decoded, target, TRAINING).sum()
    sigma = (target - decoded).square().mean().sqrt()
    for factor in (0.98, 1.02):
        assert best < -Normal(decoded, factor * sigma).log_prob(target).sum()


def test_equal_images_are_as_likely_as_the_bound_allows() -> None:
    _, target = pair()
    decoded = target.clone().requires_grad_()
    value = make()(decoded, target, TRAINING)
    assert value.tolist() == pytest.approx([192 * (-6 + 0.5 * math.log(2 * math.pi))] * 4)
    value.sum().backward()
    assert decoded.grad is not None
    assert torch.equal(decoded.grad, torch.zeros_like(target))


def test_evaluation_uses_the_sigma_of_training_and_learns_nothing() -> None:
    loss = make(-60.0)
    generator = torch.Generator().manual_seed(1)
    _, target = pair()
    squares = []
    for _ in range(5):
        decoded = target + 0.1 * torch.rand(1, generator=generator) * torch.randn(target.shape, generator=generator)
        loss(decoded, target, TRAINING)
        squares.append((target - decoded).square().mean().item())
    weights = [0.99 ** (4 - step) for step in range(5)]
    sigma = math.sqrt(sum(w * s for w, s in zip(weights, squares, strict=True)) / sum(weights))
    before = {name: value.clone() for name, value in loss.state_dict().items()}
    for noise in (0.3, 0.0):
        decoded, target = pair(noise)
        want = Normal(decoded, sigma).log_prob(target).sum((1, 2, 3))
        torch.testing.assert_close(loss.log_prob(decoded, target, EVALUATION), want, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(loss(decoded, target, EVALUATION), -want, rtol=1e-5, atol=1e-6)
        alone = loss.log_prob(decoded[:1], target[:1], EVALUATION)
        torch.testing.assert_close(alone, want[:1], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(value, before[name]) for name, value in loss.state_dict().items())


def test_the_estimate_is_saved_with_the_model() -> None:
    loss, other = make(), make()
    decoded, target = pair()
    loss(decoded, target, TRAINING)
    other.load_state_dict(loss.state_dict())
    decoded, target = pair(0.5)
    assert torch.equal(loss.log_prob(decoded, target, EVALUATION), other.log_prob(decoded, target, EVALUATION))


@pytest.mark.parametrize("context", [Context(), EVALUATION])
def test_without_an_estimate_sigma_is_the_best_for_the_images_at_hand(context: Context) -> None:
    decoded, target = pair()
    torch.testing.assert_close(make()(decoded, target, context), expected(decoded, target, -6.0))


def test_two_given_images_are_judged_by_their_own_sigma_whatever_was_trained() -> None:
    loss = make()
    loss(*pair(0.5), TRAINING)
    decoded, target = pair()
    torch.testing.assert_close(loss(decoded, target, Context()), expected(decoded, target, -6.0))


def test_gradients_are_right_once_and_twice() -> None:
    loss = make().double()
    decoded, target = pair(count=2)
    decoded, target = decoded[..., :3, :3].requires_grad_(), target[..., :3, :3].requires_grad_()
    assert torch.autograd.gradcheck(lambda d, t: loss(d, t, TRAINING), (decoded, target))
    assert torch.autograd.gradgradcheck(lambda d, t: loss(d, t, TRAINING), (decoded, target))
