"""The bound and its rate, from given densities and divergences."""

import importlib
import math

import pytest
import torch
from scipy import stats

from recbench.contracts.entries import ImageShape
from recbench.contracts.metric import BoundMetric
from recbench_metrics import recbench_metrics

ENTRIES = {entry.name: entry for entry in recbench_metrics()}
SHAPE = ImageShape(3, 4, 4)
LOG_PROB = torch.tensor([-100.0, 3062.0, 0.0], dtype=torch.float64)
KL = torch.tensor([5.0, 0.0, 2.5], dtype=torch.float64)


def create(name: str, shape: ImageShape = SHAPE) -> BoundMetric:
    module, _, factory = ENTRIES[name].factory.partition(":")
    metric: BoundMetric = getattr(importlib.import_module(module), factory)(shape)
    return metric


def test_the_bound_is_the_divergence_minus_the_log_density():
    assert create("nll_bound")(LOG_PROB, KL).tolist() == [105.0, -3062.0, 2.5]


def test_the_rate_needs_no_density():
    assert not create("kl").needs_log_prob
    assert create("kl")(LOG_PROB * math.nan, KL).tolist() == KL.tolist()


def test_a_uniform_density_takes_as_many_bits_as_255_steps_need():
    """Density 1 on 0 to 1, and nothing said by z: log2(255) bits for each value."""
    nothing = torch.zeros(1, dtype=torch.float64)
    assert create("bits_per_dim")(nothing, nothing).item() == pytest.approx(math.log2(255))


def test_bits_are_those_of_a_discretised_gaussian():
    """For a Gaussian wide against the steps, density times step is the probability of a step (scipy's normal)."""
    mean, deviation = 0.4, 0.05
    levels = torch.arange(256, dtype=torch.float64) / 255
    half = 0.5 / 255
    exact = stats.norm.cdf(levels + half, mean, deviation) - stats.norm.cdf(levels - half, mean, deviation)
    entropy = -sum(p * math.log2(p) for p in exact if p > 0)
    weights = torch.from_numpy(exact)
    log_prob = torch.from_numpy(stats.norm.logpdf(levels, mean, deviation))
    bits = create("bits_per_dim", ImageShape(1, 1, 1))(log_prob, torch.zeros(256, dtype=torch.float64))
    assert (weights * bits).sum().item() == pytest.approx(entropy, rel=1e-4)
