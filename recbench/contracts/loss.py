"""What a reconstruction loss is to recbench."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from recbench.contracts.entries import ImageShape


@dataclass(frozen=True)
class Setting:
    """What a loss may know when it is made: the shape of the images, and the size of z."""

    shape: ImageShape
    latent_size: int


@dataclass(frozen=True)
class Context:
    """What a loss may know about the step it is called in.

    Attributes:
        z: the latent sample that ``decoded`` was made from, (B, latent_size); None where there is none, as when two
            given images are compared.
        epoch: the running epoch, from 1; in evaluation the last one. None outside of any training, as when two given
            images are compared: a warm-up is over then.
        step: optimizer steps made before this one, from 0.
        training: whether gradients are wanted for training.
    """

    z: Tensor | None = None
    epoch: int | None = None
    step: int = 0
    training: bool = False

    def detached(self) -> Context:
        """The same context with z cut from the graph."""
        return replace(self, z=None if self.z is None else self.z.detach())


@dataclass(frozen=True)
class Auxiliary:
    """A second objective with parameters and an optimizer (Adam) of its own, stepped after every model step.

    Attributes:
        parameters: what its optimizer updates; the model's optimizer leaves them alone.
        learning_rate: of that optimizer.
        objective: ``objective(decoded, target, context)`` gives (B,); images and z are detached.
    """

    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    objective: Callable[[Tensor, Tensor, Context], Tensor]


class Loss(nn.Module, ABC):
    """A reconstruction loss. Its factory gets ``(setting, **params)``, every parameter by keyword.

    Parameters of the module that belong to no :class:`Auxiliary` are trained together with the autoencoder.
    """

    @abstractmethod
    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        """One value for each image, (B,), of decoded and target images (B, C, H, W).

        Both are float32 (float64 in tests) in the entry's value range, outside any autocast. The value is not
        averaged over the batch, and nothing is detached or clamped that the loss's definition does not name: the
        core reduces, weighs and adds the KL term.
        """

    def auxiliary(self) -> Auxiliary | None:
        """The auxiliary objective, for losses that train something alternately with the model."""
        return None

    def trace(self, decoded: Tensor, target: Tensor, context: Context) -> Mapping[str, Tensor]:
        """What there is to see of the loss's own state, (B, …) for each name, such as estimated blur kernels.

        Called without gradients at the end of every epoch with the same few test images, and kept with the job.
        """
        return {}


class Likelihood(Loss, ABC):
    """A loss that is the negative logarithm of a normalized density p(x|z), up to a constant."""

    @abstractmethod
    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        """Logarithm of p(target|z) in nats for each image, (B,), with all constants, in the entry's value range."""
