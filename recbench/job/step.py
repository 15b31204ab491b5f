"""One step of training: encode, decode, loss, backward, both optimizers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from lion_pytorch import Lion
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from recbench.contracts.architecture import Decoded
from recbench.contracts.checked import (
    auxiliaries_of,
    check_decoded,
    check_latent,
    check_posterior,
    check_values,
    respected,
)
from recbench.contracts.loss import Auxiliary, Context
from recbench.contracts.numerics import allow_tf32
from recbench.job.device import autocast, precision_on
from recbench.job.images import convert
from recbench.job.parts import Model
from recbench.plan.model import Training


class Step:
    """Takes steps of training, with optimizers that it makes.

    Attributes:
        optimizers: that of the model, and Adam for each auxiliary objective of the loss.
        decoded: the images of the last step that decoded any, as the loss got them.
    """

    def __init__(self, model: Model, config: Training) -> None:
        """Make the optimizers.

        Raises:
            ContractError: what the loss calls its auxiliary objective is none.
        """
        self.model = model
        self.config = config
        self.device = next(model.architecture.parameters()).device
        self.auxiliaries = auxiliaries_of(model.loss_part, model.loss)
        self.optimizers = make_optimizers(model, config, self.auxiliaries)
        self.decoded: Tensor | None = None
        self.tf32 = precision_on(config.precision, self.device) == "tf32"
        self.encode, self.decode = model.architecture.encode, model.architecture.decode
        if config.compile:
            torch.use_deterministic_algorithms(config.deterministic)
            self.encode, self.decode = torch.compile(self.encode), torch.compile(self.decode)

    def __call__(self, target: Tensor, epoch: int, step: int, *, checked: bool) -> Tensor:
        """Take a step and return its terms: objective, reconstruction, KL, sum of the auxiliary objectives, and the
        posterior's penalty, (5,).

        Args:
            target: images (B, C, H, W) in the architecture's value range.
            epoch: the current epoch, from 1.
            step: number of steps before this one.
            checked: whether to check what the plugins return, and what they write into.

        Raises:
            ContractError: a check failed.
        """
        model, count = self.model, len(target)
        network, loss = model.architecture_part, model.loss_part

        def watched(part: str, call: str, **inputs: Tensor) -> AbstractContextManager[None]:
            return respected(part, call, **inputs) if checked else nullcontext()

        with watched(network, "encode", images=target), autocast(self.device, self.config.precision):
            posterior = self.encode(target)
        if checked:
            check_posterior(network, posterior, count, model.architecture.latent_shape)
        posterior = posterior.float()
        z = posterior.sample()
        if checked:
            check_latent(network, z, count, model.architecture.latent_shape)
        with watched(network, "decode", z=z), autocast(self.device, self.config.precision):
            returned = self.decode(z)
        if checked:
            check_decoded(network, returned, target)
        output = Decoded.of(returned)
        decoded, latent = output.images, z.flatten(1)
        if self.tf32:  # once the gradient reaches the network; that of the loss is IEEE's
            decoded.register_hook(lambda _: allow_tf32(allowed=True))  # type: ignore[no-untyped-call]
        decoded = convert(decoded, model.image_range, model.loss_range)
        target = convert(target, model.image_range, model.loss_range)
        self.decoded = decoded.detach()
        context = Context(z=latent, epoch=epoch, step=step, training=True, extras=output.extras)
        with watched(loss, "forward", decoded=decoded, target=target, z=latent):
            values = model.loss(decoded, target, context)
        if checked:
            check_values(loss, "forward", values, decoded, connected=True)
        reconstruction = values.mean()
        kl = posterior.kl().mean()
        objective = reconstruction + model.kl_weight * kl
        penalty = none = objective.new_zeros(())
        if posterior.has_penalty:
            penalty = posterior.penalty().mean()
            objective = objective + penalty
        self.optimizers[0].zero_grad(set_to_none=True)
        objective.backward()
        if self.tf32:
            allow_tf32(allowed=False)
        self.optimizers[0].step()
        fits = []
        for auxiliary, optimizer in zip(self.auxiliaries, self.optimizers[1:], strict=True):
            aside = decoded.detach()
            with watched(loss, "the auxiliary objective", decoded=aside, target=target):
                values = auxiliary.objective(aside, target, context.detached())
            if checked:
                check_values(loss, "the auxiliary objective", values, aside, connected=True)
            fit = values.mean()
            optimizer.zero_grad(set_to_none=True)
            fit.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            fits.append(fit.detach())
        total = torch.stack(fits).sum() if fits else none
        return torch.stack([objective, reconstruction, kl, total, penalty]).detach()


def make_optimizers(model: Model, config: Training, auxiliaries: Sequence[Auxiliary]) -> list[torch.optim.Optimizer]:
    """Return the optimizer of all trained parameters, and Adam for each auxiliary objective."""
    apart = {id(parameter) for auxiliary in auxiliaries for parameter in auxiliary.parameters}
    candidates = (*model.architecture.parameters(), *model.loss.parameters())
    learning = [p for p in candidates if p.requires_grad and id(p) not in apart]
    betas = config.beta1, config.beta2
    optimizers: list[torch.optim.Optimizer] = []
    if config.optimizer == "lion":
        optimizers.append(Lion(learning, lr=config.learning_rate, betas=betas))
    else:
        optimizers.append(torch.optim.Adam(learning, lr=config.learning_rate, betas=betas, fused=True))
    optimizers += (torch.optim.Adam(each.parameters, lr=each.learning_rate, fused=True) for each in auxiliaries)
    return optimizers


def make_schedule(optimizer: torch.optim.Optimizer, config: Training) -> ReduceLROnPlateau | None:
    """Return the schedule of the learning rate, to be stepped with the validation loss; None if it has none."""
    if config.schedule != "plateau":
        return None
    # Any lower loss counts: torch's relative threshold has the wrong sign where the loss is negative.
    return ReduceLROnPlateau(optimizer, factor=config.factor, patience=config.patience, threshold=0)


def rate_factor(config: Training, step: int, steps: int) -> float:
    """Return what the learning rate is multiplied by at a step, where its schedule follows from the step alone.

    With ``cosine`` it rises linearly over the first ``warmup`` of the steps, and falls to 0 along half a cosine, which
    it would reach one step after the last (Loshchilov and Hutter 2017, equation 5, without restarts).

    Args:
        step: from 0.
        steps: of the whole training.

    >>> config = Training(epochs=1, schedule="cosine", warmup=0.2)
    >>> [round(rate_factor(config, step, 10), 3) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.038]
    """
    if config.schedule != "cosine":
        return 1.0
    rising = round(config.warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))
