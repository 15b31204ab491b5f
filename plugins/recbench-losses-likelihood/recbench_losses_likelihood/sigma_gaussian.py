"""The optimal σ-VAE's likelihood: a Gaussian whose one variance is the best one for the batch (Rybkin et al. 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

PER_IMAGE = (1, 2, 3)


def optimal_sigma(decoded: Tensor, target: Tensor) -> Tensor:
    """Return the maximum-likelihood σ, a scalar: √ of the mean of (x − x̂)² over the batch (section 3.2).

    Differentiable; where both are equal the gradient, which has no limit there, is zero.

    >>> optimal_sigma(torch.zeros(2, 1, 4, 4), torch.full((2, 1, 4, 4), 0.5))
    tensor(0.5000)
    """
    error: Tensor = torch.linalg.vector_norm(target - decoded)
    return error / math.sqrt(target.numel())


def soft_lower_bound(sigma: Tensor, log_sigma_min: float) -> Tensor:
    """Return σ, softly bounded from below: log σ becomes m + softplus(log σ − m), which is σ + exp(m).

    In this form nothing is infinite at σ = 0.

    Args:
        sigma: σ, at least 0.
        log_sigma_min: m, the lower bound of log σ (the authors' code: −6).
    """
    return sigma + math.exp(log_sigma_min)


def negative_log_density(decoded: Tensor, target: Tensor, sigma: Tensor) -> Tensor:
    """Return −log N(x; x̂, σ²I) in nats for each image, (B,), of images (B, C, H, W) and a scalar σ > 0.

    >>> image = torch.zeros(1, 1, 1, 1)
    >>> negative_log_density(image, image, torch.tensor(1.0))  # ½ log 2π
    tensor([0.9189])
    """
    squared = (target - decoded).square().sum(PER_IMAGE)
    return 0.5 * squared / sigma.square() + (torch.log(sigma) + 0.5 * math.log(2 * math.pi)) * target[0].numel()
