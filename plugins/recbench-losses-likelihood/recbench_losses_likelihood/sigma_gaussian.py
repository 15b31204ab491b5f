"""The optimal σ-VAE's likelihood: a Gaussian whose one variance is the best one for the batch (Rybkin et al. 2021)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recbench.contracts.loss import Context, Likelihood, Setting

PER_IMAGE = (1, 2, 3)
DECAY = 0.99  # of the running estimate: it remembers about the last hundred batches


def optimal_sigma(decoded: Tensor, target: Tensor) -> Tensor:
    """√ of the mean of (x − x̂)² over batch, channels and pixels: the maximum-likelihood σ (section 3.2), a scalar.

    Differentiable; where both are equal the gradient, which has no limit there, is zero.
    """
    error: Tensor = torch.linalg.vector_norm(target - decoded)
    return error / math.sqrt(target.numel())


def soft_lower_bound(sigma: Tensor, log_sigma_min: float) -> Tensor:
    """σ, softly bounded from below: log σ becomes m + softplus(log σ − m), which is σ + exp(m).

    In this form nothing is infinite at σ = 0.
    """
    return sigma + math.exp(log_sigma_min)


def negative_log_density(decoded: Tensor, target: Tensor, sigma: Tensor) -> Tensor:
    """−log N(x; x̂, σ²I) in nats for each image, (B,), of images (B, C, H, W) and a scalar σ."""
    squared = (target - decoded).square().sum(PER_IMAGE)
    return 0.5 * squared / sigma.square() + (torch.log(sigma) + 0.5 * math.log(2 * math.pi)) * target[0].numel()


class SigmaGaussian(Likelihood):
    """−log N(x; x̂, σ²I), σ² the mean squared error of the training batch, softly bounded from below.

    In training the gradient reaches the images through σ as well. A running mean of the training batches' mean squared
    errors, saved with the model, gives the σ of every other call of a training run, so that no σ is ever fitted to test
    images. Outside of any training (``context.epoch`` None), and where nothing has been trained yet, there is no such
    estimate, and σ is the best one for the images at hand.

    Attributes:
        mean_square: exponentially decaying sum of the training batches' mean squared errors, times (1 − DECAY).
        weight: the same sum of ones; ``mean_square / weight`` is the unbiased running mean.
    """

    mean_square: Tensor
    weight: Tensor

    def __init__(self, setting: Setting, *, log_sigma_min: float) -> None:
        super().__init__()
        self.log_sigma_min = log_sigma_min
        self.register_buffer("mean_square", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        sigma = self.sigma(decoded, target, context)
        if context.training:
            self._remember(sigma)
        return negative_log_density(decoded, target, soft_lower_bound(sigma, self.log_sigma_min))

    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        sigma = self.sigma(decoded, target, context)
        return -negative_log_density(decoded, target, soft_lower_bound(sigma, self.log_sigma_min))

    def sigma(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        """σ before its bound, a scalar: of these images, or of the training batches."""
        here = optimal_sigma(decoded, target)
        if context.training or context.epoch is None:
            return here
        trained = self.weight > 0  # chosen by `where`: asking would make a GPU wait
        running = torch.where(trained, self.mean_square / self.weight, 0).sqrt()
        return torch.where(trained, running.to(here.dtype), here)

    @torch.no_grad()
    def _remember(self, sigma: Tensor) -> None:
        self.mean_square.lerp_(sigma.square().to(self.mean_square.dtype), 1 - DECAY)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - DECAY)
