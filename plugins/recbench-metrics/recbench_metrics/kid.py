"""The kernel Inception distance of Bińkowski et al., Demystifying MMD GANs, ICLR 2018, section 4."""

from __future__ import annotations

import torch
from torch import Tensor


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """(xᵀy / D + 1)³ for all pairs of features (M, D) and (N, D), (M, N)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Unbiased estimate of the squared maximum mean discrepancy of (M, D) and (N, D) features, M, N ≥ 2; a scalar.

    Without bias, the estimate for sets of one distribution is as often below zero as above (Gretton et al., JMLR 2012,
    equation 3).
    """
    between = polynomial_kernel(x, y).mean()
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * between


def _mean_of_pairs(x: Tensor) -> Tensor:
    """Mean kernel of two different rows."""
    kernel = polynomial_kernel(x, x)
    return (kernel.sum() - kernel.trace()) / (len(x) * (len(x) - 1))


def mean_squared_mmd(x: Tensor, y: Tensor, *, subsets: int, subset_size: int, seed: int) -> Tensor:
    """Mean of the estimates from ``subsets`` random subsets of both sets, in float64; a scalar.

    Each subset is drawn without replacement, by a generator with that seed, independently of the others. No subset is
    larger than the smaller set. Where that is the whole of both sets, there is only one estimate to make. In the mean
    over all draws, the estimate is that of the whole sets, whatever the size.
    """
    x, y = x.double(), y.double()
    size = min(subset_size, len(x), len(y))
    if size == len(x) == len(y):
        return squared_mmd(x, y)
    generator = torch.Generator().manual_seed(seed)
    estimates = []
    for _ in range(subsets):
        chosen_x, chosen_y = (torch.randperm(len(rows), generator=generator)[:size].to(rows.device) for rows in (x, y))
        estimates.append(squared_mmd(x[chosen_x], y[chosen_y]))
    return torch.stack(estimates).mean()
