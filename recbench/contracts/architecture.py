"""What an autoencoder is to recbench: an encoder to a posterior, and a decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor, nn


class Posterior(ABC):
    """Distribution of the latent z given an image, q(z|x), for a batch of B images."""

    @abstractmethod
    def sample(self) -> Tensor:
        """A reparameterized sample, (B, latent_size), from torch's global random state."""

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """Its mean, (B, latent_size): what test images are reconstructed from."""

    @abstractmethod
    def kl(self) -> Tensor:
        """Kullback-Leibler divergence to the standard normal prior in nats, (B,)."""

    @abstractmethod
    def float(self) -> Posterior:
        """The same posterior in float32, whatever precision the network ran in."""


@dataclass(frozen=True)
class Gaussian(Posterior):
    """A Gaussian with diagonal covariance; ``location`` and ``log_variance`` are (B, latent_size)."""

    location: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        noise = torch.randn_like(self.location)
        return self.location + torch.exp(0.5 * self.log_variance) * noise

    @property
    def mean(self) -> Tensor:
        return self.location

    def kl(self) -> Tensor:
        """½ Σ (μ² + σ² − 1 − log σ²) over the latent axes (Kingma & Welling 2013, appendix B)."""
        terms = self.location.square() + self.log_variance.exp() - 1 - self.log_variance
        return 0.5 * terms.sum(dim=1)

    def float(self) -> Gaussian:
        return Gaussian(self.location.float(), self.log_variance.float())


@dataclass(frozen=True)
class Deterministic(Posterior):
    """The code of a plain autoencoder, (B, latent_size): no noise, and a divergence of zero."""

    code: Tensor

    def sample(self) -> Tensor:
        return self.code

    @property
    def mean(self) -> Tensor:
        return self.code

    def kl(self) -> Tensor:
        return self.code.new_zeros(len(self.code))

    def float(self) -> Deterministic:
        return Deterministic(self.code.float())


class Architecture(nn.Module, ABC):
    """An autoencoder. Its factory gets ``(shape, **params)``; its entry says the value range of images.

    Attributes:
        latent_size: number of entries of z.
    """

    latent_size: int

    @abstractmethod
    def encode(self, images: Tensor) -> Posterior:
        """Posterior of z for images (B, C, H, W) in the entry's value range."""

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in the entry's value range for latent samples (B, latent_size)."""
