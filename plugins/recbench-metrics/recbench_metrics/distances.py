"""Distances between sets of features, and the maximum mean discrepancy with a Gaussian kernel."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_ROWS = 512


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    """Return the squared Euclidean distances of all pairs of rows of (M, D) and (N, D), as (M, N).

    By |x|² + |y|² − 2 xᵀy: of equal rows, rounding leaves a little, on either side of 0.
    """
    return x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T


def gaussian_mmd(x: Tensor, y: Tensor, deviation: float) -> float:
    """Return the biased estimate of the squared maximum mean discrepancy (Gretton et al., JMLR 2012, equation 5).

    The kernel is exp(−|x − y|² / 2σ²). The means are over all pairs, those of an image with itself included.

    Args:
        x: features (M, D).
        y: features (N, D).
        deviation: σ.

    Returns:
        A number from 0; of equal sets, up to rounding.

    >>> round(gaussian_mmd(torch.zeros(2, 1), torch.full((3, 1), 2.0), 1.0), 6)  # 2 − 2 exp(−2)
    1.729329
    """
    x, y = x.double(), y.double()

    def mean_kernel(first: Tensor, second: Tensor) -> float:
        kernels = (
            torch.exp(-squared_distances(rows, second) / (2 * deviation**2)) for rows in torch.split(first, _ROWS)
        )
        return math.fsum(float(kernel.sum()) for kernel in kernels) / (len(first) * len(second))

    return mean_kernel(x, x) + mean_kernel(y, y) - 2 * mean_kernel(x, y)
