"""The Fréchet distance between two Gaussians, for features of many dimensions and for few images.

    d² = ‖μ₁ − μ₂‖² + tr Σ₁ + tr Σ₂ − 2 tr (Σ₁ Σ₂)^½

(Dowson & Landau 1982; Heusel et al., NeurIPS 2017, equation 6.) No root of a matrix that is not symmetric is taken.
With any factor F of a covariance, Σ₁ = Fᵀ F, the eigenvalues of Σ₁ Σ₂ are those of the symmetric F Σ₂ Fᵀ and zeros; and
with a factor of each, their square roots are the singular values of F₁ F₂ᵀ. The n centred features of a small set are
such a factor themselves: no covariance is computed, and no root magnifies the rounding of what should be zero.

All in float64: in float32, eigenvalues of 2048 dimensions are wrong by 5e-3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class FeatureMoments:
    """Count, mean and scatter matrix of a set of features.

    Attributes:
        count: number of features.
        mean: (D,), float64.
        scatter: sum of (x − mean)(x − mean)ᵀ, (D, D), float64.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @property
    def covariance(self) -> Tensor:
        """The unbiased estimate of the covariance, (D, D)."""
        return self.scatter / (self.count - 1)


@dataclass(frozen=True)
class FeatureGaussian:
    """A Gaussian by its mean, (D,), and a factor F of its covariance Fᵀ F, (R, D); float64."""

    mean: Tensor
    factor: Tensor


def moments_of(features: Tensor) -> FeatureMoments:
    """Return the moments of (N, D) features, N ≥ 1."""
    features = features.double()
    mean = features.mean(0)
    centred = features - mean
    return FeatureMoments(len(features), mean, centred.T @ centred)


def combined(one: FeatureMoments, other: FeatureMoments) -> FeatureMoments:
    """Return the moments of both sets together, exact where sums of squares would cancel (Chan et al. 1979, eq. 2.1b).

    >>> rows = torch.tensor([[0.0], [2.0], [7.0]])
    >>> both = combined(moments_of(rows[:2]), moments_of(rows[2:]))
    >>> both.count, both.mean.item(), both.scatter.item()
    (3, 3.0, 26.0)
    """
    count = one.count + other.count
    shift = other.mean - one.mean
    mean = one.mean + shift * (other.count / count)
    between = torch.outer(shift, shift) * (one.count * other.count / count)
    return FeatureMoments(count, mean, one.scatter + other.scatter + between)


def gaussian_of_few(features: Tensor) -> FeatureGaussian:
    """Return the Gaussian of (N, D) features, N ≥ 2, with a factor of N rows; for N up to about D."""
    features = features.double()
    mean = features.mean(0)
    return FeatureGaussian(mean, (features - mean) / (len(features) - 1) ** 0.5)


def gaussian_of(moments: FeatureMoments) -> FeatureGaussian:
    """Return the Gaussian with these moments, with a factor of D rows.

    Eigenvalues of the covariance that rounding takes below zero count as zero.
    """
    values, vectors = torch.linalg.eigh(moments.covariance)
    return FeatureGaussian(moments.mean, values.clamp(min=0).sqrt()[:, None] * vectors.T)


def squared_distance(one: FeatureGaussian, other: FeatureGaussian | FeatureMoments) -> Tensor:
    """Return the squared Fréchet distance of two Gaussians (Heusel et al., NeurIPS 2017, equation 6).

    Args:
        one: a Gaussian of D dimensions.
        other: a Gaussian, which takes singular values of the factors' product and is more exact; or moments, which
            take eigenvalues of as many rows as the factor of ``one`` has, and are faster where both have full rank.

    Returns:
        A float64 scalar, at least 0 except for rounding.

    >>> near, far = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [7.0]])  # variances 2 and 8
    >>> round(squared_distance(gaussian_of_few(near), gaussian_of_few(far)).item(), 6)  # (5 - 1)² + (√8 - √2)²
    18.0
    >>> round(squared_distance(gaussian_of_few(near), moments_of(far)).item(), 6)
    18.0
    """
    if isinstance(other, FeatureGaussian):
        trace = other.factor.square().sum()
        root = torch.linalg.svdvals(one.factor @ other.factor.T).sum()
    else:
        covariance = other.covariance
        trace = covariance.trace()
        root = torch.linalg.eigvalsh(one.factor @ covariance @ one.factor.T).clamp(min=0).sqrt().sum()
    distance: Tensor = (one.mean - other.mean).square().sum() + one.factor.square().sum() + trace - 2 * root
    return distance
