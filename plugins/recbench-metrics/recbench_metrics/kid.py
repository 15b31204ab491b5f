"""The kernel Inception distance of Bińkowski et al., Demystifying MMD GANs, ICLR 2018, section 4."""

from __future__ import annotations

import torch
from torch import Tensor


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return (xᵀy / D + 1)³ for all pairs of features (M, D) and (N, D), as (M, N)."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def squared_mmd(x: Tensor, y: Tensor) -> Tensor:
    """Return the unbiased estimate of the squared maximum mean discrepancy (Gretton et al., JMLR 2012, equation 3).

    For two sets of one distribution, the estimate is as often below zero as above.

    Args:
        x: features (M, D), M ≥ 2.
        y: features (N, D), N ≥ 2.

    Returns:
        A scalar; it can be negative.

    >>> squared_mmd(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [2.0]])).item()
    -13.0
    """
    between = polynomial_kernel(x, y).mean()
    return _mean_of_pairs(x) + _mean_of_pairs(y) - 2 * between


def _mean_of_pairs(x: Tensor) -> Tensor:
    """Return the mean kernel of two different rows."""
    kernel = polynomial_kernel(x, x)
    return (kernel.sum() - kernel.trace()) / (len(x) * (len(x) - 1))


def mean_squared_mmd(x: Tensor, y: Tensor, *, subsets: int, subset_size: int, seed: int) -> Tensor:
    """Return the mean of :func:`squared_mmd` over random subsets of both sets, as Bińkowski et al. estimate KID.

    Each subset is drawn without replacement, independently of the others. No subset is larger than the smaller set.
    Where that is the whole of both sets, there is only one estimate to make. In the mean over all draws, the estimate
    is that of the whole sets, whatever the size.

    Args:
        x: features (M, D), M ≥ 2.
        y: features (N, D), N ≥ 2.
        subsets: number of pairs of subsets.
        subset_size: images in each.
        seed: of the generator that draws them.

    Returns:
        A float64 scalar; it can be negative.

    >>> x, y = torch.arange(8.0)[:, None], torch.arange(6.0)[:, None] / 2
    >>> one, again = (mean_squared_mmd(x, y, subsets=5, subset_size=4, seed=0) for _ in range(2))
    >>> torch.equal(one, again)
    True
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
