"""The contract of architectures: an encoder to a posterior of the latent z, and a decoder."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from recbench.contracts.last_layer import nearest_weight


class Posterior(ABC):
    """The approximate posterior q(z|x) of the latent z, for a batch of B images.

    Attributes:
        has_kl: whether its divergence says how much z tells of the image. Where it is False, ``kl()`` gives zeros, no
            KL divergence is reported, and metrics that are made of it (``kl``, ``bits_per_dim`` …) have no score.
    """

    has_kl: ClassVar[bool] = True

    @abstractmethod
    def sample(self) -> Tensor:
        """Draw one sample of z for each image, by the reparameterization trick (Kingma & Welling 2013, section 2.4).

        Draws from torch's global random state.

        Returns:
            Float tensor (B, *latent_shape), differentiable with respect to the posterior's parameters.
        """

    @property
    @abstractmethod
    def mean(self) -> Tensor:
        """The mean of z, float (B, *latent_shape), from which test images are reconstructed."""

    @abstractmethod
    def kl(self) -> Tensor:
        """Return the Kullback-Leibler divergence to the prior.

        Returns:
            Float tensor (B,) in nats for each image: a sum over all axes of z, not negative.
        """

    def penalty(self) -> Tensor:
        """Return a term of the objective that no KL weight multiplies, as the commitment of a vector quantizer.

        Returns:
            Float tensor (B,), zeros unless a posterior says otherwise.
        """
        return self.mean.new_zeros(len(self.mean))

    @property
    def has_penalty(self) -> bool:
        """True if there is a penalty at all."""
        return type(self).penalty is not Posterior.penalty

    @abstractmethod
    def float(self) -> Posterior:
        """Return the same posterior in float32, whatever precision the network ran in."""


@dataclass(frozen=True)
class Gaussian(Posterior):
    """A Gaussian posterior with diagonal covariance, as in a variational autoencoder.

    Attributes:
        location: mean μ, float (B, *latent_shape).
        log_variance: log σ², of the same shape.

    >>> posterior = Gaussian(torch.zeros(2, 4), torch.zeros(2, 4))
    >>> posterior.sample().shape, posterior.kl()
    (torch.Size([2, 4]), tensor([0., 0.]))
    """

    location: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """Return μ + σ ε with ε drawn from a standard normal distribution, (B, *latent_shape)."""
        noise = torch.randn_like(self.location)
        return self.location + torch.exp(0.5 * self.log_variance) * noise

    @property
    def mean(self) -> Tensor:
        """The mean μ, (B, *latent_shape)."""
        return self.location

    def kl(self) -> Tensor:
        """Return ½ Σ (μ² + σ² − 1 − log σ²) over all latent axes, (B,) (Kingma & Welling 2013, appendix B)."""
        terms = self.location.square() + self.log_variance.exp() - 1 - self.log_variance
        return 0.5 * terms.flatten(1).sum(dim=1)

    def float(self) -> Self:
        """Return the same with all tensors in float32, those of a derived class too."""
        return replace(self, **_in_float32({each.name: getattr(self, each.name) for each in fields(self)}))


@dataclass(frozen=True)
class Deterministic(Posterior):
    """The code of a plain autoencoder: z without noise, and without a divergence; or that of a vector quantizer.

    Attributes:
        code: float (B, *latent_shape).
        commitment: what :meth:`penalty` returns, (B,); None if there is no penalty.
    """

    has_kl: ClassVar[bool] = False
    code: Tensor
    commitment: Tensor | None = field(default=None, kw_only=True)

    def sample(self) -> Tensor:
        """Return the code, (B, *latent_shape)."""
        return self.code

    @property
    def mean(self) -> Tensor:
        """The code, (B, *latent_shape)."""
        return self.code

    def kl(self) -> Tensor:
        """Return zeros, (B,)."""
        return self.code.new_zeros(len(self.code))

    def penalty(self) -> Tensor:
        """Return the commitment, (B,), or zeros."""
        return super().penalty() if self.commitment is None else self.commitment

    @property
    def has_penalty(self) -> bool:
        """True if there is a commitment, or a derived class has a penalty of its own."""
        return self.commitment is not None or type(self).penalty is not Deterministic.penalty

    def float(self) -> Self:
        """Return the same with all tensors in float32, those of a derived class too."""
        return replace(self, **_in_float32({each.name: getattr(self, each.name) for each in fields(self)}))


def _in_float32(values: Mapping[str, object]) -> dict[str, Tensor]:
    return {name: value.float() for name, value in values.items() if isinstance(value, Tensor)}


@dataclass(frozen=True)
class Decoded:
    """Decoded images, and what else the decoder says of them, as the variance that it expects of each pixel.

    Attributes:
        images: float (B, C, H, W), as :meth:`Architecture.decode` gives them.
        extras: float tensors (B, …) by name, which losses get as ``context.extras``. They are taken to float32 like the
            images, and not converted to the loss's value range: what they mean is between architecture and loss.
    """

    images: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, returned: Tensor | Decoded) -> Decoded:
        """Return what ``decode`` returned, images alone or with extras, in float32.

        >>> Decoded.of(torch.zeros(1, 1, 2, 2, dtype=torch.bfloat16)).images.dtype
        torch.float32
        """
        given = returned if isinstance(returned, Decoded) else cls(returned)
        return cls(given.images.float(), {name: value.float() for name, value in given.extras.items()})


class Architecture(nn.Module, ABC):
    """An autoencoder: base class of the architectures that plugins offer.

    The factory is called with the :class:`ImageShape` of the images and every parameter of the entry by keyword, under
    the job's seed. The entry's ``value_range`` is the range of the images that it encodes and decodes.

    Attributes:
        latent_shape: shape of z for one image, to be set by the constructor: ``(C, h, w)`` of a spatial latent,
            ``(size,)`` of a vector. The constructor of an architecture of vectors may set ``latent_size`` instead.
        has_prior: whether z can be drawn without an image. Without a prior, as of a vector quantizer whose codes have
            no model of their own, metrics of samples have no score. Its entry must say the same.
    """

    latent_shape: tuple[int, ...]
    has_prior: bool = True

    @property
    def latent_size(self) -> int:
        """Number of elements of z: the product of ``latent_shape``."""
        return math.prod(self.latent_shape)

    @latent_size.setter
    def latent_size(self, size: int) -> None:
        self.latent_shape = (size,)

    @abstractmethod
    def encode(self, images: Tensor) -> Posterior:
        """Return the posterior of z for a batch of images.

        Args:
            images: float (B, C, H, W) in the entry's value range.
        """

    @abstractmethod
    def decode(self, z: Tensor) -> Tensor | Decoded:
        """Decode a batch of latent samples.

        Args:
            z: float (B, *latent_shape).

        Returns:
            Images, float (B, C, H, W), alone or as :class:`Decoded`. The entry's value range is their nominal range;
            values outside are not clipped before losses see them.
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

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """Draw z from the prior: of the standard normal distribution, unless an architecture has another prior.

        The first draws do not depend on how many there are.

        Args:
            n: number of draws.
            generator: of the CPU; nothing else may be drawn from.

        Returns:
            Float tensor (n, *latent_shape), on the CPU.
        """
        return torch.cat([torch.randn(1, *self.latent_shape, generator=generator) for _ in range(n)])

    def log(self) -> Mapping[str, float]:
        """Return numbers to look at, such as the perplexity of a codebook; called once, at the end of every epoch.

        They become values of ``history.jsonl``, and curves of the report. What an epoch sums up may be reset here; sums
        belong into buffers, so that an interrupted epoch goes on with them.

        Returns:
            Finite numbers by name, and no name of what the core records itself.
        """
        return {}


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
