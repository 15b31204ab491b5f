"""The pixel losses against torch's own losses and distributions, and against NumPy."""

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Laplace, Normal
from torch.nn import functional

from recbench.contracts.entries import ImageShape
from recbench.contracts.loss import Context, Likelihood, Setting
from recbench_losses_pixel.losses import CE, L1, L2, Charbonnier

SETTING = Setting(ImageShape(3, 16, 16), latent_size=8)
PER_IMAGE = (1, 2, 3)


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 4, 3, 16, 16, generator=generator, dtype=torch.float64)


def test_l2_is_half_of_the_squared_error_that_torch_sums(pair):
    decoded, target = pair
    expected = 0.5 * functional.mse_loss(decoded, target, reduction="none").sum(PER_IMAGE)
    torch.testing.assert_close(L2(SETTING)(decoded, target, Context()), expected)


def test_l1_is_what_torch_sums(pair):
    decoded, target = pair
    expected = functional.l1_loss(decoded, target, reduction="none").sum(PER_IMAGE)
    torch.testing.assert_close(L1(SETTING)(decoded, target, Context()), expected)


def test_ce_is_the_negative_log_probability_of_bernoulli_pixels(pair):
    decoded, target = pair
    expected = -Bernoulli(probs=decoded, validate_args=False).log_prob(target).sum(PER_IMAGE)
    torch.testing.assert_close(CE(SETTING)(decoded, target, Context()), expected)


def test_ce_is_bounded_where_a_pixel_is_surely_wrong():
    decoded, target = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    assert CE(SETTING)(decoded, target, Context()).item() == 100 * 3 * 16 * 16


def test_ce_at_the_target_is_the_entropy_of_its_pixels(pair):
    _, target = pair
    entropy = Bernoulli(probs=target).entropy().sum(PER_IMAGE)
    torch.testing.assert_close(CE(SETTING)(target, target, Context()), entropy)


@pytest.mark.parametrize("epsilon", [1e-3, 0.1, 10.0])
def test_charbonnier_is_a_hypotenuse(pair, epsilon):
    decoded, target = pair
    expected = (np.hypot((decoded - target).numpy(), epsilon) - epsilon).sum(PER_IMAGE)
    value = Charbonnier(SETTING, epsilon=epsilon)(decoded, target, Context())
    np.testing.assert_allclose(value.numpy(), expected, rtol=1e-12)


def test_charbonnier_goes_from_l1_to_l2(pair):
    decoded, target = pair
    narrow = Charbonnier(SETTING, epsilon=1e-9)(decoded, target, Context())
    torch.testing.assert_close(narrow, L1(SETTING)(decoded, target, Context()))
    wide = 1e3 * Charbonnier(SETTING, epsilon=1e3)(decoded, target, Context())
    torch.testing.assert_close(wide, L2(SETTING)(decoded, target, Context()), rtol=1e-4, atol=0)


@pytest.mark.parametrize(("loss", "distribution"), [(L2, Normal), (L1, Laplace)])
def test_log_prob_is_that_of_the_distribution(pair, loss, distribution):
    decoded, target = pair
    expected = distribution(decoded, 1.0).log_prob(target).sum(PER_IMAGE)
    torch.testing.assert_close(loss(SETTING).log_prob(decoded, target, Context()), expected)


@pytest.mark.parametrize("loss", [L2, L1])
def test_a_likelihood_is_its_negative_log_prob_up_to_a_constant(pair, loss):
    """The same constant for every image: otherwise a KL weight of 1 would not be the evidence lower bound."""
    decoded, target = pair
    constants = loss(SETTING).log_prob(decoded, target, Context()) + loss(SETTING)(decoded, target, Context())
    torch.testing.assert_close(constants, constants[:1].expand(4))


def test_only_densities_that_are_normalized_are_likelihoods():
    assert issubclass(L2, Likelihood)
    assert issubclass(L1, Likelihood)
    assert not issubclass(CE, Likelihood)
    assert not issubclass(Charbonnier, Likelihood)


def test_losses_do_not_clamp(pair):
    """A decoder may leave the range; a loss that clamps would be blind to it and have no gradient there."""
    decoded, target = pair
    for loss in (L2(SETTING), L1(SETTING), Charbonnier(SETTING, epsilon=1e-3)):
        assert (loss(decoded + 5, target, Context()) > loss(decoded + 4, target, Context())).all()
