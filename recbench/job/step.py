"""One step of training: encode, decode, loss, backward, both optimizers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import lion_pytorch
import lion_pytorch.foreach
import torch
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from recbench.contracts.architecture import Decoded
from recbench.contracts.checked import (
    auxiliaries_of,
    check_decoded,
    check_latent,
    check_log,
    check_posterior,
    check_values,
    last_layer_of,
    respected,
)
from recbench.contracts.loss import Auxiliary, Context
from recbench.contracts.numerics import allow_tf32
from recbench.job.device import autocast, precision_on
from recbench.job.images import convert
from recbench.job.lion import LionInMemory
from recbench.job.parts import Model
from recbench.plan.model import Training


class Step:
    """Takes steps of training, with optimizers that it makes.

    Attributes:
        optimizers: that of the model, and Adam for each auxiliary objective of the loss.
        decoded: the images of the last step that decoded any, as the loss got them.
        logged: what the loss logged in the last step.
        make_context: makes the context of a step from its facts.
    """

    def __init__(self, model: Model, config: Training) -> None:
        """Make the optimizers.

        Raises:
            ContractError: what the loss calls its auxiliary objective is none, or the network does not give the last
                layer that the loss needs.
        """
        self.model = model
        self.config = config
        self.device = next(model.architecture.parameters()).device
        self.auxiliaries = auxiliaries_of(model.loss_part, model.loss)
        self.optimizers = make_optimizers(model, config, self.auxiliaries)
        self._rate = config.learning_rate
        self._groups = [dict(optimizer.param_groups[0]) for optimizer in self.optimizers]
        self.decoded: Tensor | None = None
        self.make_context: Callable[..., Context] = Context
        self.logged: Mapping[str, Tensor | float] = {}
        self.last_layer = last_layer_of(model.architecture_part, model.architecture, model.loss_part, model.loss)
        self.tf32 = precision_on(config.precision, self.device) == "tf32"
        self.encode, self.decode = model.architecture.encode, model.architecture.decode
        if config.compile:
            torch.use_deterministic_algorithms(config.deterministic)
            self.encode = torch.compile(self.encode)
            if self.last_layer is None:  # else its gradient is taken alone, from a graph that is used again
                self.decode = torch.compile(self.decode)

    @property
    def rate(self) -> float:
        """The learning rate of the model's optimizer."""
        found = self.optimizers[0].param_groups[0]["lr"]
        return self._rate if isinstance(found, Tensor) else float(found)

    @rate.setter
    def rate(self, rate: float) -> None:
        group = self.optimizers[0].param_groups[0]
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
            self._rate = rate
        else:
            group["lr"] = rate

    def settle(self) -> None:
        """Have optimizers that were read from a checkpoint, which another device may have written, suit this one."""
        for optimizer, made in zip(self.optimizers, self._groups, strict=True):
            group = optimizer.param_groups[0]
            group.update({name: made[name] for name in ("capturable",) if name in made})
            if isinstance(group["lr"], Tensor) or isinstance(made["lr"], Tensor):
                group["lr"] = made["lr"]  # which the schedule sets before every step

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
        made, latent = output.images, z.flatten(1)
        decoded = convert(made, model.image_range, model.loss_range)
        target = convert(target, model.image_range, model.loss_range)
        self.decoded = decoded.detach()
        facts = {"epoch": epoch, "step": step, "last_layer": self.last_layer, "extras": output.extras}
        context = self.make_context(z=latent, training=True, **facts)
        with watched(loss, "forward", decoded=decoded, target=target, z=latent):
            values = model.loss(decoded, target, context)
        if checked:
            check_values(loss, "forward", values, decoded, connected=True)
        if self.tf32:  # once the gradient reaches the network; that of the loss, and what it takes itself, is IEEE's
            made.register_hook(lambda _: allow_tf32(allowed=True))  # type: ignore[no-untyped-call]
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
            for number in range(auxiliary.steps_after(step)):
                with watched(loss, "the auxiliary objective", decoded=aside, target=target):
                    values = auxiliary.objective(aside, target, context.detached())
                if checked:
                    check_values(loss, "the auxiliary objective", values, aside, connected=True)
                fit = values.mean()
                optimizer.zero_grad(set_to_none=True)
                fit.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
                if number == 0:  # that of the model's step, before it is fitted to these images
                    fits.append(fit.detach())
        with watched(loss, "log()"):
            self.logged = check_log(loss, model.loss.log())
        total = torch.stack(fits).sum() if fits else none
        return torch.stack([objective, reconstruction, kl, total, penalty]).detach()


def make_optimizers(model: Model, config: Training, auxiliaries: Sequence[Auxiliary]) -> list[torch.optim.Optimizer]:
    """Return the optimizer of all trained parameters, and Adam for each auxiliary objective.

    On a GPU they can be parts of a CUDA graph: a learning rate that changes at every step is in memory there, and Lion
    takes a few kernels for all parameters instead of some for each.
    """
    apart = {id(parameter) for auxiliary in auxiliaries for parameter in auxiliary.parameters}
    candidates = (*model.architecture.parameters(), *model.loss.parameters())
    learning = [p for p in candidates if p.requires_grad and id(p) not in apart]
    betas = config.beta1, config.beta2
    device = next(model.architecture.parameters()).device
    on_gpu = device.type == "cuda"
    in_memory = on_gpu and config.schedule == "cosine"
    optimizers: list[torch.optim.Optimizer] = []
    if config.optimizer == "lion":
        lion = LionInMemory if in_memory else lion_pytorch.foreach.Lion if on_gpu else lion_pytorch.Lion
        optimizers.append(lion(learning, lr=config.learning_rate, betas=betas))
    else:
        adam = torch.optim.Adam(learning, lr=config.learning_rate, betas=betas, fused=True, capturable=on_gpu)
        optimizers.append(adam)
    if in_memory:
        optimizers[0].param_groups[0]["lr"] = torch.tensor(config.learning_rate, device=device)
    optimizers += (each.optimizer(fused=True, capturable=on_gpu) for each in auxiliaries)
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
