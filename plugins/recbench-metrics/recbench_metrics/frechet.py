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
    """What is known of features taken in so far.

    Attributes:
        count: how many there were.
        mean: (D,), float64.
        scatter: sum of (x − mean)(x − mean)ᵀ, (D, D), float64.
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @property
    def covariance(self) -> Tensor:
        """The unbiased estimate, (D, D)."""
        return self.scatter / (self.count - 1)


@dataclass(frozen=True)
class FeatureGaussian:
    """A FeatureGaussian by its mean, (D,), and a factor F of its covariance Fᵀ F, (R, D); float64."""

    mean: Tensor
    factor: Tensor


def moments_of(features: Tensor) -> FeatureMoments:
    """Of (N, D) features, N ≥ 1."""
    features = features.double()
    mean = features.mean(0)
    centred = features - mean
    return FeatureMoments(len(features), mean, centred.T @ centred)


def combined(one: FeatureMoments, other: FeatureMoments) -> FeatureMoments:
    """Of both sets together (Chan et al. 1979, equation 2.1b); exact where sums of squares would cancel."""
    count = one.count + other.count
    shift = other.mean - one.mean
    mean = one.mean + shift * (other.count / count)
    between = torch.outer(shift, shift) * (one.count * other.count / count)
    return FeatureMoments(count, mean, one.scatter + other.scatter + between)


def gaussian_of_few(features: Tensor) -> FeatureGaussian:
    """The FeatureGaussian of (N, D) features, N ≥ 2, with a factor of N rows: for N up to about D."""
    features = features.double()
    mean = features.mean(0)
    return FeatureGaussian(mean, (features - mean) / (len(features) - 1) ** 0.5)


def gaussian_of(moments: FeatureMoments) -> FeatureGaussian:
    """The same by the eigenvalues of the covariance, with a factor of D rows. Rounding below zero counts as zero."""
    values, vectors = torch.linalg.eigh(moments.covariance)
    return FeatureGaussian(moments.mean, values.clamp(min=0).sqrt()[:, None] * vectors.T)


def squared_distance(one: FeatureGaussian, other: FeatureGaussian | FeatureMoments) -> Tensor:
    """Squared Fréchet distance, a scalar; rounding can take that of equal Gaussians a little below zero.

    A ``FeatureGaussian`` for ``other`` costs singular values of the factors' product, and is the more exact; ``FeatureMoments`` cost
    eigenvalues of as many rows as the factor of ``one`` has, and are the faster where both have full rank.
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
