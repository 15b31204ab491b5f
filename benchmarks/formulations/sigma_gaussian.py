"""The optimal σ-VAE's loss (Rybkin et al. 2021, section 3) written as its authors compute it."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional


def negative_log_density(decoded: Tensor, target: Tensor, log_sigma_min: float) -> Tensor:
    """In nats, of images (B, C, H, W) with one σ for the batch, softly bounded from below: (B,)."""
    log_sigma = ((target - decoded) ** 2).mean().sqrt().log()
    log_sigma = log_sigma_min + functional.softplus(log_sigma - log_sigma_min)
    density = 0.5 * ((target - decoded) / log_sigma.exp()) ** 2 + log_sigma + 0.5 * math.log(2 * math.pi)
    return density.sum((1, 2, 3))
