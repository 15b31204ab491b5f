"""The contract of reconstruction losses."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from recbench.contracts.entries import ImageShape

_DELTA = 1e-4
_HEAVIEST = 1e4
"""Of adaptive weights."""


@dataclass(frozen=True)
class Setting:
    """The facts that a loss is constructed with.

    Attributes:
        shape: the shape of the images.
        latent_size: number of elements of the latent z.
        latent_shape: shape of z in the architecture, whose product is ``latent_size``; by default ``(latent_size,)``.
    """

    shape: ImageShape
    latent_size: int
    latent_shape: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Fill in the shape of a vector, or refuse a shape of another size with a ValueError."""
        if not self.latent_shape:
            object.__setattr__(self, "latent_shape", (self.latent_size,))
        if math.prod(self.latent_shape) != self.latent_size:
            raise ValueError(f"Setting: latent_shape {self.latent_shape} does not have {self.latent_size} elements")


@dataclass(frozen=True)
class Context:
    """The circumstances of one call of a loss.

    Attributes:
        z: the latent samples that were decoded, float (B, latent_size); None if there are none, as when two given
            images are compared. Those of a spatial latent are flat, too: ``z.unflatten(1, setting.latent_shape)`` has
            their shape.
        epoch: the current epoch, from 1; in evaluation the last one. None outside of training, as when two given
            images are compared: a warm-up is then over.
        step: number of optimizer steps before this one, from 0. None outside of training, in evaluation and where two
            given images are compared: what starts after some steps has then started.
        training: whether the call is a training step.
        last_layer: in training, the weight of the decoder's last layer, which the decoded images were made with, for a
            loss that says :attr:`Loss.needs_last_layer`; None for others, and outside of training.
        extras: what the decoder says beside the images, float (B, …) by name
            (:class:`recbench.contracts.architecture.Decoded`); empty for most architectures.
    """

    z: Tensor | None = None
    epoch: int | None = None
    step: int | None = None
    training: bool = False
    last_layer: nn.Parameter | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    def detached(self) -> Context:
        """Return the same context with z and extras detached from the graph, and without the last layer."""
        extras = {name: value.detach() for name, value in self.extras.items()}
        return replace(self, z=None if self.z is None else self.z.detach(), last_layer=None, extras=extras)

    def adaptive_weight(self, term: Tensor, other: Tensor, at: Tensor | None = None) -> Tensor:
        """Return the weight with which a second term pulls as much as a first one: the ratio of the norms of their mean
        gradients, between 0 and 10⁴, held constant (Esser et al. 2021, equation 7; 1e-4 is added to the norm below, as
        in the authors' code).

        Args:
            term: the first term, (B,), whose graph is kept.
            other: the second one, which is multiplied by the weight.
            at: where gradients are compared; by default :attr:`last_layer`.

        Returns:
            Tensor without axes.

        Raises:
            ValueError: there is no last layer: the loss does not say that it needs it, or this is no training step.

        >>> weight = nn.Parameter(torch.tensor([[3.0, 4.0]]))
        >>> Context(last_layer=weight).adaptive_weight(10 * weight.sum(1), weight.sum(1))
        tensor(9.9993)
        """
        layer = self.last_layer if at is None else at
        if layer is None:
            raise ValueError("an adaptive weight needs needs_last_layer = True, and is of training steps alone")
        ours, theirs = (
            torch.linalg.vector_norm(torch.autograd.grad(each.mean(), layer, retain_graph=True)[0])
            for each in (term, other)
        )
        weight: Tensor = (ours / (theirs + _DELTA)).clamp(0, _HEAVIEST)
        return weight


@dataclass(frozen=True)
class Auxiliary:
    """A second objective with its own parameters and optimizer (Adam), stepped after every step of the model.

    Attributes:
        parameters: the parameters that its optimizer updates; the model's optimizer does not.
        learning_rate: learning rate of its optimizer, above 0.
        objective: ``objective(decoded, target, context)`` returns a tensor (B,) to be minimized; images and z are
            detached.
        betas: decay of the optimizer's mean gradient and mean squared gradient, each from 0 to below 1.
        steps: its steps after each step of the model, from 1, all with the same images.
        start: number of the model's steps that come before the first of these, from 0.
    """

    parameters: tuple[nn.Parameter, ...]
    learning_rate: float
    objective: Callable[[Tensor, Tensor, Context], Tensor]
    betas: tuple[float, float] = (0.9, 0.999)
    steps: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        """Refuse what would train nothing.

        Raises:
            TypeError: ``parameters`` is no tuple of parameters, as a generator, which is empty once it was read; or
                ``objective`` is no function.
            ValueError: a number is out of its bounds, or there are no parameters.
        """
        if not (isinstance(self.parameters, tuple) and all(isinstance(p, nn.Parameter) for p in self.parameters)):
            came = type(self.parameters).__name__
            raise TypeError(
                f"Auxiliary: parameters must be a tuple of nn.Parameter, as tuple(net.parameters()), not {came}"
            )
        if not self.parameters:
            raise ValueError("Auxiliary: parameters is empty, so that there is nothing to train")
        if not (isinstance(self.learning_rate, float | int) and 0 < self.learning_rate < math.inf):
            raise ValueError(f"Auxiliary: learning_rate must be a number above 0, not {self.learning_rate!r}")
        if not callable(self.objective):
            raise TypeError(f"Auxiliary: objective must be a function, not {type(self.objective).__name__}")
        betas = self.betas if isinstance(self.betas, tuple) else ()
        if not (len(betas) == 2 and all(isinstance(beta, float | int) and 0 <= beta < 1 for beta in betas)):
            raise ValueError(f"Auxiliary: betas must be a tuple of two numbers from 0 to below 1, not {self.betas!r}")
        for name, least in (("steps", 1), ("start", 0)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"Auxiliary: {name} must be a whole number from {least}, not {value!r}")

    def optimizer(self, *, fused: bool = False, capturable: bool = False) -> torch.optim.Optimizer:
        """Return a new optimizer of the parameters; ``capturable`` as a part of CUDA graphs."""
        rate, betas = self.learning_rate, self.betas
        return torch.optim.Adam(self.parameters, lr=rate, betas=betas, fused=fused or None, capturable=capturable)

    def steps_after(self, step: int | None) -> int:
        """Return how many steps of it come after a step of the model, which is numbered from 0."""
        return self.steps if step is None or step >= self.start else 0


class Loss(nn.Module, ABC):
    """A reconstruction loss: base class of those that plugins offer.

    The factory is called with a :class:`Setting` and every parameter of the entry by keyword. Module parameters that do
    not belong to an :class:`Auxiliary` are trained together with the autoencoder.

    Attributes:
        needs_last_layer: whether :meth:`forward` looks at ``context.last_layer`` in training, to compare the gradients
            of its terms there: set it in the class, or in the constructor where parameters decide. The network's
            decoder is not compiled then, as parts of a compiled graph cannot be differentiated alone.
        logged: what :meth:`log` returns, to be filled by name while a step is made; empty at first.
    """

    needs_last_layer: bool = False
    logged: dict[str, Tensor | float]

    def __init__(self) -> None:
        super().__init__()
        self.logged = {}

    @abstractmethod
    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        """Return the loss of each image.

        Must not average over the batch, nor detach or clamp anything beyond the definition of the loss: the core
        reduces, weights and adds the KL term. Called outside any autocast.

        Args:
            decoded: decoded images, float32 (float64 in tests) (B, C, H, W). The entry's value range is their nominal
                range.
            target: target images of the same shape and type, in the entry's value range.
            context: the circumstances of the call.

        Returns:
            Tensor (B,) of the images' type; lower is better.
        """

    def auxiliary(self) -> Auxiliary | tuple[Auxiliary, ...] | None:
        """Return the auxiliary objective of a loss that trains parameters in alternation with the model, or several,
        each with an optimizer of its own; else None.
        """
        return None

    def trace(self, decoded: Tensor, target: Tensor, context: Context) -> Mapping[str, Tensor]:
        """Return internal state of the loss for inspection, such as estimated blur kernels.

        Called without gradients at the end of every epoch with the same few test images, and stored with the job.

        Args:
            decoded: as for :meth:`forward`.
            target: as for :meth:`forward`.
            context: as for :meth:`forward`.

        Returns:
            Tensors (B, …) by name.
        """
        return {}

    def log(self) -> Mapping[str, Tensor | float]:
        """Return numbers that the last step of training was made with, such as the weight of a term: by default what
        :attr:`logged` holds.

        Called after every step of the model, and of what is auxiliary. Their means over the steps of an epoch, of those
        that gave them, become values of ``history.jsonl``, and curves of the report. A mean that is not finite is left
        out of it, with a warning.

        Returns:
            Tensors without axes, detached, or numbers, by name: letters, digits, underscores and dots, beginning with a
            letter, and no name of what the core records itself.
        """
        found: Mapping[str, Tensor | float] = vars(self).get("logged", {})
        return found


class Likelihood(Loss, ABC):
    """A loss that is the negative logarithm of a normalized density p(x|z), up to an additive constant."""

    @abstractmethod
    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        """Return log p(target|z) of each image with all constants.

        Args:
            decoded: as for :meth:`forward`.
            target: as for :meth:`forward`.
            context: as for :meth:`forward`.

        Returns:
            Tensor (B,) in nats, of a density over images in the entry's value range.
        """
