"""The Fréchet distance against scipy's sqrtm, pytorch-fid and closed forms; KID against torch-fidelity and loops."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
import torch
from scipy import linalg
from torch import Tensor

from recbench_metrics.frechet import (
    FeatureGaussian,
    FeatureMoments,
    combined,
    gaussian_of,
    gaussian_of_few,
    moments_of,
    squared_distance,
)
from recbench_metrics.kid import mean_squared_mmd, squared_mmd


def normal(count: int, dimensions: int, seed: int) -> Tensor:
    """Correlated features with different means for different seeds."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimensions, dimensions, generator=generator, dtype=torch.float64)
    rows = torch.randn(count, dimensions, generator=generator, dtype=torch.float64)
    return rows @ mixing + torch.randn(dimensions, generator=generator, dtype=torch.float64)


def orthogonal(dimensions: int) -> Tensor:
    matrix = torch.randn(dimensions, dimensions, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return torch.linalg.qr(matrix)[0]


def by_sqrtm(x: Tensor, y: Tensor) -> float:
    """The distance as its definition has it, with covariances by NumPy and the root by scipy."""
    one, other = np.cov(x.numpy(), rowvar=False), np.cov(y.numpy(), rowvar=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the product is singular
        root = linalg.sqrtm(one @ other)
    shift = (x.mean(0) - y.mean(0)).square().sum().item()
    return shift + float(np.trace(one) + np.trace(other) - 2 * np.trace(root).real)


def ways(x: Tensor, y: Tensor) -> list[float]:
    """The distance by each kind of factor, with both kinds of what is compared, and the other way round."""
    found = []
    for one, other in ((x, y), (y, x)):
        for factor in (gaussian_of_few(one), gaussian_of(moments_of(one))):
            found += [
                squared_distance(factor, summary).item() for summary in (gaussian_of_few(other), moments_of(other))
            ]
    return found


@pytest.mark.parametrize("counts", [(200, 150), (200, 12), (9, 12), (2, 2)], ids=str)
def test_distance_equals_the_definition(counts: tuple[int, int]) -> None:
    x, y = normal(counts[0], 30, seed=1), normal(counts[1], 30, seed=2)
    assert ways(x, y) == pytest.approx([by_sqrtm(x, y)] * 8, rel=1e-6)


def test_one_dimension() -> None:
    x, y = normal(50, 1, seed=1), normal(60, 1, seed=2)
    expected = (x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2
    assert ways(x, y) == pytest.approx([expected.item()] * 8)


@pytest.mark.parametrize("decades", [0, 6, 12, 16])
def test_commuting_covariances(decades: int) -> None:
    """‖μ₁ − μ₂‖² + Σ (√λ₁ − √λ₂)², also where the covariances are as ill conditioned as those of features are."""
    dimensions = 120
    vectors = orthogonal(dimensions)
    one = torch.logspace(0, -decades, dimensions, dtype=torch.float64)
    other = one.flip(0) * 3
    mean = torch.linspace(-1, 1, dimensions, dtype=torch.float64)
    expected = (mean.square().sum() + (one.sqrt() - other.sqrt()).square().sum()).item()
    covariances = [vectors.T @ (values[:, None] * vectors) for values in (one, other)]
    zero = torch.zeros(dimensions, dtype=torch.float64)
    moments = [FeatureMoments(2, zero, covariances[0]), FeatureMoments(2, mean, covariances[1])]
    gaussians = [gaussian_of(each) for each in moments]
    exact = [
        FeatureGaussian(zero, one.sqrt()[:, None] * vectors),
        FeatureGaussian(mean, other.sqrt()[:, None] * vectors),
    ]
    assert squared_distance(exact[0], exact[1]).item() == pytest.approx(expected, rel=1e-12)
    assert squared_distance(gaussians[0], moments[1]).item() == pytest.approx(expected, rel=1e-7)
    assert squared_distance(gaussians[0], gaussians[1]).item() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("count", [5, 60, 600])
def test_scaled_features_in_ill_conditioned_dimensions(count: int) -> None:
    """Of x and a·x + b it is (a − 1)² tr Σ and the distance of the means; sqrtm is further off for few features."""
    dimensions, scale = 100, 1.05
    spread = torch.logspace(1, -7, dimensions, dtype=torch.float64)  # of the covariance: over 16 decades
    x = torch.randn(count, dimensions, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * spread
    x = x @ orthogonal(dimensions)
    y = scale * x + 0.1
    shift = (x.mean(0) - y.mean(0)).square().sum()
    expected = ((scale - 1) ** 2 * x.var(0).sum() + shift).item()
    few, many = gaussian_of_few(y), moments_of(y)
    found = squared_distance(gaussian_of_few(x), few).item()
    assert found == pytest.approx(expected, rel=1e-10)
    assert squared_distance(gaussian_of(moments_of(x)), many).item() == pytest.approx(expected, rel=1e-5)
    assert abs(found - expected) <= abs(by_sqrtm(x, y) - expected)


def test_equal_features_have_no_distance() -> None:
    x = normal(40, 30, seed=1)
    assert ways(x, x) == pytest.approx([0] * 8, abs=1e-7 * x.var(0).sum().item())


def test_moments_of_batches_equal_those_of_all() -> None:
    """With a mean that would leave nothing of sums of squares in float32, and little in float64."""
    x = normal(100, 8, seed=1) + 1e7
    found = moments_of(x[:1])
    for batch in (x[1:3], x[3:60], x[60:]):
        found = combined(found, moments_of(batch))
    np.testing.assert_allclose(found.mean, x.numpy().mean(0), rtol=1e-14)
    np.testing.assert_allclose(found.covariance, np.cov(x.numpy(), rowvar=False), rtol=1e-7)
    assert found.count == 100


@pytest.mark.slow
def test_2048_dimensions_equal_pytorch_fid() -> None:
    from pytorch_fid.fid_score import calculate_frechet_distance

    decay = torch.logspace(0, -4, 2048, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(count, 2048, generator=generator, dtype=torch.float64) * decay for count in (3000, 2500))
    y = y.roll(5, 1) + 0.01
    arguments = [
        statistic for each in (x, y) for statistic in (each.numpy().mean(0), np.cov(each.numpy(), rowvar=False))
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # disp is deprecated
        expected = float(calculate_frechet_distance(*arguments))
    found = squared_distance(gaussian_of(moments_of(x)), moments_of(y)).item()
    assert found == pytest.approx(expected, rel=1e-6)


def by_loops(x: Tensor, y: Tensor) -> float:
    def kernel(a: Tensor, b: Tensor) -> float:
        return (sum((a * b).tolist()) / len(a) + 1) ** 3

    same = [np.mean([kernel(a, b) for a, b in itertools.permutations(rows, 2)]) for rows in (x, y)]
    return float(sum(same) - 2 * np.mean([kernel(a, b) for a in x for b in y]))


def test_squared_mmd_equals_the_definition() -> None:
    x, y = normal(7, 5, seed=1), normal(4, 5, seed=2)
    assert squared_mmd(x, y).item() == pytest.approx(by_loops(x, y), rel=1e-12)


def test_squared_mmd_equals_torch_fidelity() -> None:
    """Of these features, kernel_mmd of torch-fidelity 0.4.0 with its defaults gives this number."""
    generator = np.random.default_rng(0)
    x, y = generator.normal(0.3, 1, (12, 20)), generator.normal(0, 1.2, (12, 20))
    found = squared_mmd(torch.from_numpy(x), torch.from_numpy(y)).item()
    assert found == pytest.approx(-0.24405904388776767, rel=1e-12)


def test_the_mean_over_all_subsets_is_the_estimate_of_the_whole() -> None:
    """The size of the subsets introduces no bias."""
    x, y = normal(5, 3, seed=1), normal(5, 3, seed=2)
    subsets = list(itertools.combinations(range(5), 3))
    estimates = [squared_mmd(x[list(a)], y[list(b)]).item() for a in subsets for b in subsets]
    assert np.mean(estimates) == pytest.approx(squared_mmd(x, y).item(), rel=1e-12)


def test_random_subsets() -> None:
    x, y = normal(40, 3, seed=1).float(), normal(50, 3, seed=2).float()
    one, same, other = (mean_squared_mmd(x, y, subsets=4, subset_size=20, seed=seed) for seed in (0, 0, 1))
    assert one.dtype == torch.float64
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    many = mean_squared_mmd(x, y, subsets=600, subset_size=20, seed=0).item()
    assert many == pytest.approx(squared_mmd(x.double(), y.double()).item(), rel=0.05)


def test_a_subset_is_no_larger_than_the_smaller_set() -> None:
    x, y = normal(6, 3, seed=1), normal(50, 3, seed=2)
    large = mean_squared_mmd(x, y, subsets=2, subset_size=1000, seed=0)
    assert torch.equal(large, mean_squared_mmd(x, y, subsets=2, subset_size=6, seed=0))
    whole = mean_squared_mmd(x, y[:6], subsets=2, subset_size=1000, seed=0)
    assert torch.equal(whole, squared_mmd(x, y[:6]))
