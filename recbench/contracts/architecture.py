"""The contract of architectures: an encoder to a posterior of the latent z, and a decoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from recbench.contracts.last_layer import nearest_weight


class Posterior(ABC):
    """The approximate posterior q(z|x) of the latent z, for a batch of B images."""

    @abstractmethod
    def sample(self) -> Tensor:
        """Draw one sample of z for each image, by the reparameterization trick (Kingma & Welling 2013, section 2.4).

        Draws from torch's global random state.

        Returns:
            Float tensor (B, latent_size), differentiable with respect to the posterior's parameters.
        """

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """The mean of z, float (B, latent_size), from which test images are reconstructed."""

    @abstractmethod
    def kl(self) -> Tensor:
        """Return the Kullback-Leibler divergence to the standard normal prior.

        Returns:
            Float tensor (B,) in nats, not negative.
        """

    @abstractmethod
    def float(self) -> Posterior:
        """Return the same posterior in float32, whatever precision the network ran in."""


@dataclass(frozen=True)
class Gaussian(Posterior):
    """A Gaussian posterior with diagonal covariance, as in a variational autoencoder.

    Attributes:
        location: mean μ, float (B, latent_size).
        log_variance: log σ², float (B, latent_size).

    >>> posterior = Gaussian(torch.zeros(2, 4), torch.zeros(2, 4))
    >>> posterior.sample().shape, posterior.kl()
    (torch.Size([2, 4]), tensor([0., 0.]))
    """

    location: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """Return μ + σ ε with ε drawn from a standard normal distribution, (B, latent_size)."""
        noise = torch.randn_like(self.location)
        return self.location + torch.exp(0.5 * self.log_variance) * noise

    @property
    def mean(self) -> Tensor:
        """The mean μ, (B, latent_size)."""
        return self.location

    def kl(self) -> Tensor:
        """Return ½ Σ (μ² + σ² − 1 − log σ²) over the latent axes, (B,) (Kingma & Welling 2013, appendix B)."""
        terms = self.location.square() + self.log_variance.exp() - 1 - self.log_variance
        return 0.5 * terms.sum(dim=1)

    def float(self) -> Gaussian:
        return Gaussian(self.location.float(), self.log_variance.float())


@dataclass(frozen=True)
class Deterministic(Posterior):
    """The code of a plain autoencoder: z without noise, and with a divergence of zero.

    Attributes:
        code: float (B, latent_size).
    """

    code: Tensor

    def sample(self) -> Tensor:
        """Return the code, (B, latent_size)."""
        return self.code

    @property
    def mean(self) -> Tensor:
        """The code, (B, latent_size)."""
        return self.code

    def kl(self) -> Tensor:
        """Return zeros, (B,)."""
        return self.code.new_zeros(len(self.code))

    def float(self) -> Deterministic:
        return Deterministic(self.code.float())


class Architecture(nn.Module, ABC):
    """An autoencoder: base class of the architectures that plugins offer.

    The factory is called with the :class:`ImageShape` of the images and every parameter of the entry by keyword, under
    the job's seed. The entry's ``value_range`` is the range of the images that it encodes and decodes.

    Attributes:
        latent_size: number of elements of z, to be set by the constructor.
    """

    latent_size: int

    @abstractmethod
    def encode(self, images: Tensor) -> Posterior:
        """Return the posterior of z for a batch of images.

        Args:
            images: float (B, C, H, W) in the entry's value range.
        """

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor:
        """Decode a batch of latent samples.

        Args:
            z: float (B, latent_size).

        Returns:
            Images, float (B, C, H, W). The entry's value range is their nominal range; values outside are not clipped
            before losses see them.
        """

    def last_layer(self) -> nn.Parameter | None:
        """Return the weight of the decoder's last layer, at which losses with an adaptive weight compare gradients
        (Esser et al. 2021, equation 7); None if there is none.

        By default one latent of zeros is decoded, in evaluation mode, and the trained parameter of this network with
        two axes or more (the weight of a convolution or of a linear layer) that is the fewest operations away from the
        images is taken. Override it where that is another one, as where the last layer is not the only way from
        weights to images, or where its weight is computed from several parameters.
        """
        return nearest_weight(self)


class Fitted(Architecture):
    """An autoencoder that is fitted to the training images in closed form, without steps, loss or random numbers.

    Its entry says ``trainable=False``. What it finds are parameters (with ``requires_grad=False``) and buffers, which
    the constructor makes in their final shapes: they are stored with the job, and filled into a new network later.
    """

    @abstractmethod
    def fit(self, batches: Callable[[], Iterable[Tensor]]) -> None:
        """Set the parameters, in place.

        Args:
            batches: each call starts over all training images, as float32 (B, C, H, W) in the entry's value range, in
                a fixed order.

        Raises:
            ValueError: it cannot be fitted to these images; the text says why.
        """
