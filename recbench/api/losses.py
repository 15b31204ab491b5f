"""Losses for training loops of one's own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from recbench.api.entries import PluginFiles, check_accepted, chosen, image_shape
from recbench.contracts.checked import auxiliaries_of
from recbench.contracts.entries import LossEntry, Range
from recbench.contracts.loss import Context, Likelihood, Loss, Setting
from recbench.errors import UserError
from recbench.job.images import convert
from recbench.job.parts import create_loss, own_random_states
from recbench.plugin.registry import Registered

_CPU = torch.device("cpu")


def loss(
    name: str,
    *,
    shape: tuple[int, int, int],
    latent_size: int | None = None,
    value_range: Range = (0.0, 1.0),
    seed: int = 0,
    plugins: PluginFiles = (),
    **params: Any,
) -> StandaloneLoss:
    """Return a loss for a training loop of one's own::

        loss = recbench.loss("wiener", shape=(3, 64, 64), latent_size=128)
        optimizer = torch.optim.Adam([*network.parameters(), *loss.parameters()])
        objective = loss(decoded, target, z=z, epoch=epoch).mean() + 0.01 * kl

    Args:
        name: of the loss, as ``recbench list losses`` prints it.
        shape: (channels, height, width) of the images.
        latent_size: number of elements of z, for losses that look at it; by default that of the first z.
        value_range: lowest and highest value of the images that it will be called with.
        seed: of weights that the loss starts with.
        plugins: single-file plugins that may offer it.
        params: its parameters, as ``recbench show loss NAME`` lists them; the others have their defaults.

    Raises:
        UserError: there is no such loss or parameter, it cannot take such images, or its pretrained weights are not
            on this machine.
    """
    registered, complete = chosen("losses", name, params, plugins)
    size = image_shape(shape)
    check_accepted(registered.entry, size, complete)
    if latent_size is not None and (type(latent_size) is not int or latent_size < 1):
        raise UserError(f"latent_size must be a whole number from 1, got {latent_size!r}")
    return StandaloneLoss(registered, complete, Setting(size, latent_size or 1), _range(value_range), seed, latent_size)


def _range(value_range: Range) -> Range:
    try:
        low, high = (float(end) for end in value_range)
    except (TypeError, ValueError):
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"value_range must be (lowest, highest), such as (-1, 1), got {value_range!r}")
    return low, high


class StandaloneLoss(nn.Module):
    """A loss of images in a given range, without the core around it.

    Called with decoded and target images, it returns one value per image, with the same value and gradient as in a
    suite. What a loss trains alternately with the model, such as the kernel generator of ``wiener``, has an optimizer
    of its own, which steps on its own: once for every value that was taken a gradient of, before the next call in
    training mode. :meth:`parameters` leaves its parameters out.

    Attributes:
        loss: the plugin's loss, with everything else that it offers.
        value_range: lowest and highest value of the images that it is called with.
    """

    def __init__(
        self,
        registered: Registered,
        params: dict[str, Any],
        setting: Setting,
        value_range: Range,
        seed: int,
        latent_size: int | None,
    ) -> None:
        super().__init__()
        self.registered = registered
        self.params = params
        self.setting = setting
        self.value_range = value_range
        self.seed = seed
        self._latent_size = latent_size
        self._waiting: list[tuple[Tensor, Tensor, Context]] = []
        self._steps = 0
        self.loss = self._created(setting)
        self._prepare()

    @property
    def entry(self) -> LossEntry:
        """The loss's entry: value range, family, citation, notes."""
        return cast(LossEntry, self.registered.entry)

    def forward(
        self,
        decoded: Tensor,
        target: Tensor,
        *,
        z: Tensor | None = None,
        epoch: int | None = None,
        last_layer: nn.Parameter | None = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return the loss of each image, float32 (B,).

        Args:
            decoded: decoded images, (B, C, H, W), in ``value_range``.
            target: target images of the same shape and range.
            z: the latent samples that were decoded, (B, latent_size), or (B, C, h, w) of a spatial latent; some
                losses need it.
            epoch: the current epoch, from 1, for losses with a warm-up; None: warm-ups are over.
            last_layer: in training, the weight of the decoder's last layer, which ``decoded`` was made with, for losses
                that compare the gradients of their terms there.
            extras: what the decoder says beside the images, (B, …) by name, for losses that look at it.

        Raises:
            UserError: the images or z have another shape, or the loss needs a z or the last layer.
        """
        self._check(decoded, target, z)
        learning = self.training and torch.is_grad_enabled()
        if learning and self.loss.needs_last_layer and not isinstance(last_layer, nn.Parameter):
            raise UserError(
                f"{self.entry.name} compares gradients at the decoder's last layer in training: pass its weight, as in "
                "loss(decoded, target, last_layer=network.decoder[-1].weight), or call loss.eval()"
            )
        if learning:
            self._step_aside()
        dtype = self._dtype(decoded)
        with torch.autocast(decoded.device.type, enabled=False):
            shown = convert(decoded.to(dtype), self.value_range, self.entry.value_range)
            wanted = convert(target.to(dtype), self.value_range, self.entry.value_range)
            latent = None if z is None else z.to(dtype).flatten(1)
            looked_at = last_layer if learning and self.loss.needs_last_layer else None
            more = {name: value.to(dtype) for name, value in (extras or {}).items()}
            context = Context(latent, epoch, self._steps if learning else None, learning, looked_at, more)
            try:
                value: Tensor = self.loss(shown, wanted, context)
            except (ValueError, RuntimeError) as error:
                raise UserError(self._explained(error, z)) from error
        if learning and value.requires_grad:
            aside = shown.detach(), wanted.detach(), context.detached()

            def graded(gradient: Tensor) -> None:
                self._steps += 1
                if self._auxiliaries:
                    self._waiting.append(aside)

            value.register_hook(graded)  # type: ignore[no-untyped-call]
        return value

    def log_prob(
        self,
        decoded: Tensor,
        target: Tensor,
        *,
        z: Tensor | None = None,
        epoch: int | None = None,
        extras: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Return log p(target | z) of each image in nats, (B,), of images in the loss's own value range.

        Raises:
            UserError: the loss is not a likelihood; and as of :meth:`forward`.
        """
        if not isinstance(self.loss, Likelihood):
            raise UserError(f"{self.entry.name} is not a likelihood, and has no log_prob")
        self._check(decoded, target, z)
        dtype = self._dtype(decoded)
        shown, wanted = (
            convert(each.to(dtype), self.value_range, self.entry.value_range) for each in (decoded, target)
        )
        more = {name: value.to(dtype) for name, value in (extras or {}).items()}
        try:
            context = Context(None if z is None else z.to(dtype).flatten(1), epoch, extras=more)
            return self.loss.log_prob(shown, wanted, context)
        except (ValueError, RuntimeError) as error:
            raise UserError(self._explained(error, z)) from error

    def named_parameters(
        self, prefix: str = "", recurse: bool = True, remove_duplicate: bool = True
    ) -> Iterator[tuple[str, nn.Parameter]]:
        """Yield the parameters that are to be trained with the model; ``state_dict`` has all."""
        aside = {id(parameter) for auxiliary in self._auxiliaries for parameter in auxiliary.parameters}
        for name, parameter in super().named_parameters(prefix, recurse, remove_duplicate):
            if id(parameter) not in aside:
                yield name, parameter

    def _created(self, setting: Setting) -> Loss:
        with own_random_states(_CPU):
            torch.manual_seed(self.seed)
            return create_loss(self.registered, self.params, setting)

    def _prepare(self) -> None:
        """Make the optimizers of the auxiliary objectives; for other losses there are none."""
        self._auxiliaries = auxiliaries_of(str(self.registered), self.loss)
        self._optimizers = [each.optimizer() for each in self._auxiliaries]

    def _step_aside(self) -> None:
        """Step the auxiliary objectives for every value that was taken a gradient of since the last call."""
        waiting, self._waiting = self._waiting, []
        for decoded, target, context in waiting:
            for auxiliary, optimizer in zip(self._auxiliaries, self._optimizers, strict=True):
                for _ in range(auxiliary.steps_after(context.step)):
                    optimizer.zero_grad(set_to_none=True)
                    with torch.enable_grad(), torch.autocast(decoded.device.type, enabled=False):
                        auxiliary.objective(decoded, target, context).mean().backward()  # type: ignore[no-untyped-call]
                    optimizer.step()

    def _dtype(self, decoded: Tensor) -> torch.dtype:
        """Return float32, or float64 if the loss's tensors are; if it has none, if the images are."""
        own = [t.dtype for t in (*self.loss.parameters(), *self.loss.buffers()) if t.is_floating_point()]
        double = torch.float64 in own if own else decoded.dtype == torch.float64
        return torch.float64 if double else torch.float32

    def _check(self, decoded: Tensor, target: Tensor, z: Tensor | None) -> None:
        name, shape = self.entry.name, self.setting.shape
        wanted = (shape.channels, shape.height, shape.width)
        for what, images in (("decoded", decoded), ("target", target)):
            if not isinstance(images, Tensor) or not images.is_floating_point():
                came = images.dtype if isinstance(images, Tensor) else type(images).__name__
                raise UserError(f"{name}: {what} must be a floating-point tensor (B, C, H, W), got {came}")
            if images.ndim != 4 or tuple(images.shape[1:]) != wanted or len(images) != len(decoded):
                batch = "B" if what == "decoded" else len(decoded)
                of = ", ".join(map(str, (batch, *wanted)))
                raise UserError(f"{name}: {what} must have the shape ({of}), got {tuple(images.shape)}")
        own = next((t.device for t in (*self.loss.parameters(), *self.loss.buffers())), decoded.device)
        for what, device in (("target is", target.device), ("the loss is", own)):
            if device != decoded.device:
                raise UserError(f"{name}: decoded is on {decoded.device}, but {what} on {device}; use .to(device)")
        if z is not None:
            if not isinstance(z, Tensor) or z.ndim < 2 or len(z) != len(decoded):
                shown = tuple(z.shape) if isinstance(z, Tensor) else type(z).__name__
                raise UserError(f"{name}: z must be a tensor ({len(decoded)}, latent_size), got {shown}")
            self._fit_to(tuple(z.shape[1:]))

    def _fit_to(self, shape: tuple[int, ...]) -> None:
        """Create the loss anew for a latent size that was not known when it was created, if it depends on it.

        Raises:
            UserError: it was known, and is another; or parameters that the model's optimizer may have depend on it.
        """
        name, size = self.entry.name, math.prod(shape)
        if self._latent_size == size:
            return
        if self._latent_size is not None:
            raise UserError(f"{name}: z has {size} elements, but the loss was created with {self._latent_size}")
        self._latent_size = size
        setting = Setting(self.setting.shape, size, shape)
        fresh = self._created(setting)
        shapes = [{key: value.shape for key, value in each.state_dict().items()} for each in (self.loss, fresh)]
        if shapes[0] == shapes[1]:
            self.setting = setting
            return
        if next(self.parameters(), None) is not None:
            raise UserError(f"{name} has parameters that depend on z: create it with latent_size={size}")
        like = next(iter(self.loss.state_dict().values()))
        self.loss = fresh.to(device=like.device, dtype=like.dtype).train(self.loss.training)
        self.setting = setting
        self._prepare()

    def _explained(self, error: Exception, z: Tensor | None) -> str:
        name = self.entry.name
        hint = "; pass the latent samples that were decoded, as loss(decoded, target, z=z)" if z is None else ""
        if self.loss.needs_last_layer:
            hint = "; decoded must have been made with last_layer"
        return f"{name} cannot be computed for these images: {' '.join(str(error).split())}{hint}"
