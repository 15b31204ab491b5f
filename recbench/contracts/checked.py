"""Checks of what plugins return and leave behind: by training, evaluation, preflight and the conformance tests.

Each raises :class:`ContractError`, whose text names the part, what its contract wants and what came. Apart from those
that say so, they look at shapes, types and version counters of tensors only: they cost microseconds, and never make
the host wait for a GPU.
"""

from __future__ import annotations

import math
import numbers
import random
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbench.contracts.architecture import Architecture, Decoded, Posterior
from recbench.contracts.loss import Auxiliary, Loss
from recbench.contracts.numerics import float32_flags, set_float32_flags
from recbench.errors import RecbenchError

RECORDED = frozenset({
    "epoch", "step", "objective", "reconstruction", "kl", "penalty", "auxiliary", "validation", "validation_psnr",
    "validation_ssim", "learning_rate", "images_per_second",
})  # fmt: skip
"""The values of an epoch that the core records itself, whose names nothing may log by."""
_LOGGED = re.compile(r"[A-Za-z][A-Za-z0-9_.#]{0,127}")  # as l1#2.name, in a sum
_MOST_LOGGED = 100
_INDEPENDENT = 1e-3
"""Largest relative change of an image's value when other images of its batch change: far above rounding."""


class ContractError(RecbenchError):
    """A part of a plugin does not keep to its contract. The text names it, what is wanted and what came."""


def described(value: Any) -> str:
    """Return the type of a value, and the shape of a tensor or array, for an error message.

    >>> described(torch.zeros(2, 1)), described(None), described(3.0), described(np.zeros(2))
    ('a float32 tensor (2, 1)', 'None', 'a float', 'a NumPy array (2,)')
    """
    if isinstance(value, Tensor):
        return f"{_with_article(_dtype(value))} tensor {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a NumPy array {value.shape}"
    return "None" if value is None else _with_article(type(value).__name__)


def _with_article(noun: str) -> str:
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def wrong(part: str, call: str, wanted: str, came: str) -> ContractError:
    """Return the error of a part that gave something other than its contract wants."""
    return ContractError(f"{part}: {call} must {wanted}; {came}")


_GLOBAL: Mapping[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "whether gradients are recorded (torch.set_grad_enabled)": (torch.is_grad_enabled, torch.set_grad_enabled),
    "torch's default dtype": (torch.get_default_dtype, torch.set_default_dtype),
    "torch's number of threads": (torch.get_num_threads, torch.set_num_threads),
    "whether algorithms are deterministic": (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    "the precision of products of float32 (TF32)": (float32_flags, set_float32_flags),
    "anomaly detection": (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
}


@contextmanager
def respected(part: str, call: str, **inputs: Tensor | None) -> Iterator[None]:
    """Check that a block of a plugin's code writes into none of the given tensors, and leaves global state as it was.

    Global state that was changed is set back. Writes that go around torch (``tensor.numpy()``) are not seen.

    Args:
        part: the plugin's part in words, such as ``"the loss 'l2' of …"``.
        call: the method that the block calls.
        inputs: the tensors by the contract's name of the argument.
    """
    versions = {name: (tensor, tensor._version) for name, tensor in inputs.items() if tensor is not None}
    state = {what: read() for what, (read, _) in _GLOBAL.items()}
    yield
    for name, (tensor, version) in versions.items():
        if tensor._version != version:
            raise wrong(part, call, "leave its inputs as they are", f"it writes into {name}, which others read too")
    for what, (read, restore) in _GLOBAL.items():
        found = read()
        if found != state[what]:
            restore(state[what])
            raise wrong(part, call, "leave global state as it is", f"it changes {what} from {state[what]} to {found}")


@contextmanager
def read_only(part: str, call: str, **inputs: Tensor | None) -> Iterator[None]:
    """Check as :func:`respected` does, and by comparing values, so that no way of writing goes unseen."""
    copies = {name: (tensor, tensor.detach().clone()) for name, tensor in inputs.items() if tensor is not None}
    with respected(part, call, **inputs):
        yield
    for name, (tensor, before) in copies.items():
        if not torch.equal(tensor.detach(), before):
            raise wrong(part, call, "leave its inputs as they are", f"it writes into {name}, which others read too")


def check_values(part: str, call: str, values: object, like: Tensor, *, connected: bool = False) -> None:
    """Check the values that a loss or an objective gives.

    Args:
        values: what it gave: must be a tensor (B,) of the dtype of ``like``.
        like: the decoded images, (B, C, H, W).
        connected: whether the values must have a gradient.
    """
    wanted = f"return a {_dtype(like)} tensor ({len(like)},), one value for each image"
    if not (isinstance(values, Tensor) and values.shape == (len(like),) and values.dtype == like.dtype):
        raise wrong(part, call, wanted, f"it returned {described(values)}")
    if values.device.type != like.device.type:
        raise wrong(part, call, f"{wanted} on {like.device}", f"it returned one on {values.device}")
    if connected and not values.requires_grad:
        raise wrong(part, call, "be differentiable", "it returned values without a gradient (detached, or no_grad)")


def check_finite(part: str, call: str, values: Tensor) -> None:
    """Check that values are finite. Looks at them."""
    if not values.isfinite().all():
        shown = ", ".join(f"{value:g}" for value in values.detach().flatten()[:4].tolist())
        raise wrong(part, call, "give finite values for ordinary images", f"it gave {shown}")


def set_latent_shape(part: str, network: Architecture) -> None:
    """Check that an architecture has the shape of its z, which one with ``latent_size`` alone is given."""
    shape: object = getattr(network, "latent_shape", None)
    if shape is None:  # a class may have latent_size as an attribute of its own
        shape = (getattr(network, "latent_size", None),)
    wanted = "set latent_size, a whole number from 1, or latent_shape, a tuple of them"
    if not (isinstance(shape, tuple) and shape and all(type(side) is int and side > 0 for side in shape)):
        shown = shape[0] if isinstance(shape, tuple) and len(shape) == 1 else shape
        came = "there is none" if shown is None else f"it is {shown!r}"
        raise wrong(part, "its constructor", wanted, came)
    network.latent_shape = shape
    if network.latent_size != math.prod(shape):
        raise wrong(part, "its constructor", wanted, f"latent_shape is {shape}, but latent_size {network.latent_size}")


def check_posterior(part: str, posterior: object, batch: int, latent_shape: tuple[int, ...]) -> None:
    """Check the posterior of a batch of images: its type, its KL divergence (B,) and its penalty (B,)."""
    if not isinstance(posterior, Posterior):
        raise wrong(part, "encode(images)", "return a Posterior", f"it returned {described(posterior)}")
    check_latent(part, posterior.mean, batch, latent_shape, "the posterior's mean")
    kl = posterior.kl()
    if not (isinstance(kl, Tensor) and kl.shape == (batch,)):
        wanted = f"return a tensor ({batch},), the divergence of each image"
        raise wrong(part, "the posterior's kl()", wanted, f"it returned {described(kl)}")
    penalty = posterior.penalty()
    if not (isinstance(penalty, Tensor) and penalty.shape == (batch,)):
        wanted = f"return a tensor ({batch},), one value for each image"
        raise wrong(part, "the posterior's penalty()", wanted, f"it returned {described(penalty)}")


def check_latent(
    part: str, z: object, batch: int, latent_shape: tuple[int, ...], call: str = "the posterior's sample()"
) -> None:
    """Check z: float (B, *latent_shape)."""
    if not (isinstance(z, Tensor) and z.shape == (batch, *latent_shape) and z.is_floating_point()):
        size = math.prod(latent_shape)
        said = f"latent_shape = {latent_shape}" if len(latent_shape) > 1 else f"latent_size = {size}"
        wanted = f"be a float tensor {(batch, *latent_shape)}: {said} for each image"
        spatial = isinstance(z, Tensor) and z.ndim > 2 and len(latent_shape) == 1
        hint = "; the constructor of an architecture of spatial latents sets latent_shape" if spatial else ""
        raise wrong(part, call, wanted, f"it is {described(z)}{hint}")


def check_decoded(part: str, returned: object, target: Tensor) -> None:
    """Check what ``decode`` returned: floating-point images of the shape of the target, alone or as a
    :class:`Decoded` with extras (B, …)."""
    images = returned.images if isinstance(returned, Decoded) else returned
    if not (isinstance(images, Tensor) and images.is_floating_point() and images.shape == target.shape):
        wanted = f"return float images of the target's shape {tuple(target.shape)}"
        raise wrong(part, "decode(z)", wanted, f"it returned {described(images)}")
    extras = returned.extras if isinstance(returned, Decoded) else {}
    if not isinstance(extras, Mapping):
        raise wrong(part, "decode(z)", "return extras by name", f"it returned {described(extras)}")
    for name, value in extras.items():
        shaped = isinstance(value, Tensor) and value.is_floating_point() and value.shape[:1] == target.shape[:1]
        if not (isinstance(name, str) and name and shaped):
            wanted = f"return extras that are float tensors ({len(target)}, …) by name"
            raise wrong(part, "decode(z)", wanted, f"{name!r} is {described(value)}")


def check_epoch_log(part: str, logged: object) -> None:
    """Check what an architecture logs of an epoch: finite numbers by names that nothing else has."""
    if not isinstance(logged, Mapping):
        raise wrong(part, "log()", "return numbers by name", f"it returned {described(logged)}")
    for name, value in logged.items():
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not (isinstance(name, str) and name and number):
            raise wrong(part, "log()", "return numbers by name", f"{name!r} is {described(value)}")
        if name in RECORDED:
            raise wrong(part, "log()", "return numbers by names of its own", f"{name!r} is a name of the core's")
        if not math.isfinite(value):
            raise wrong(part, "log()", "return finite numbers", f"{name!r} is {value}")


def auxiliaries_of(part: str, loss: Loss) -> tuple[Auxiliary, ...]:
    """Return the auxiliary objectives of a loss, after checking that each is an Auxiliary over parameters of the loss,
    and that no parameter belongs to two."""
    given: object = loss.auxiliary()
    found = () if given is None else (given,) if isinstance(given, Auxiliary) else given
    if not isinstance(found, tuple | list) or not all(isinstance(one, Auxiliary) for one in found):
        wanted = "return an Auxiliary, a tuple of them, or None"
        raise wrong(part, "auxiliary()", wanted, f"it returned {described(given)}")
    own = {id(parameter) for parameter in loss.parameters()}
    trained = [id(parameter) for one in found for parameter in one.parameters]
    if not own.issuperset(trained):
        wanted = "name parameters of the loss itself"
        raise wrong(part, "auxiliary()", wanted, "one of them is not among the loss's parameters(), and is not stored")
    if len(set(trained)) < len(trained):
        raise wrong(part, "auxiliary()", "give each parameter one optimizer", "it names a parameter twice")
    return tuple(found)


def check_frozen(part: str, loss: Loss) -> None:
    """Check that a loss with pretrained weights has no layers that would be trained together with the model.

    Single numbers and vectors, such as a learned variance, are left to the loss.
    """
    apart = {id(parameter) for each in auxiliaries_of(part, loss) for parameter in each.parameters}
    for name, parameter in loss.named_parameters():
        if parameter.requires_grad and parameter.ndim > 1 and id(parameter) not in apart:
            wanted = (
                "freeze its pretrained network, as with network.requires_grad_(False), or keep it in buffers that are "
                "not persistent; what is to be trained belongs to an Auxiliary"
            )
            raise wrong(part, "its constructor", wanted, f"{name} would be trained together with the model")


def check_trace(part: str, call: str, traced: object, batch: int | None) -> None:
    """Check a trace: a mapping of tensors by name, each (B, …) where ``batch`` is given."""
    if not isinstance(traced, Mapping):
        raise wrong(part, call, "return tensors by name", f"it returned {described(traced)}")
    for name, value in traced.items():
        shaped = isinstance(value, Tensor) and (batch is None or (value.ndim > 0 and len(value) == batch))
        if not (isinstance(name, str) and name and shaped):
            wanted = "return tensors by name" if batch is None else f"return tensors ({batch}, …) by name"
            raise wrong(part, call, wanted, f"{name!r} is {described(value)}")


def check_log(part: str, logged: object) -> dict[str, Tensor | float]:
    """Return what a loss logs, after checking that it is numbers by names that nothing else has."""
    if not isinstance(logged, Mapping) or len(logged) > _MOST_LOGGED:
        came = f"it has {len(logged)} names" if isinstance(logged, Mapping) else f"it returned {described(logged)}"
        raise wrong(part, "log()", f"return at most {_MOST_LOGGED} numbers by name", came)
    for name, value in logged.items():
        if not (isinstance(name, str) and _LOGGED.fullmatch(name)) or name in RECORDED:
            came = f"{name!r} is a name of the core's" if name in RECORDED else f"there is {name!r}"
            wanted = "name what it returns by letters, digits, underscores and dots, a letter first, at most 128"
            raise wrong(part, "log()", wanted, came)
        real = isinstance(value, Tensor) and value.ndim == 0 and not value.is_complex()
        if not (real or isinstance(value, numbers.Real)):
            raise wrong(part, "log()", "return numbers or tensors without axes", f"{name} is {described(value)}")
    return dict(logged)


def last_layer_of(network: str, architecture: Architecture, part: str, loss: Loss) -> nn.Parameter | None:
    """Return the weight of the decoder's last layer for a loss that looks at it, and None for others.

    Args:
        network, part: what errors call the architecture and the loss.

    Raises:
        ContractError: the architecture gives none, or something that is not its own.
    """
    if not loss.needs_last_layer:
        return None
    with respected(network, "last_layer()"):
        weight: object = architecture.last_layer()
    if isinstance(weight, nn.Parameter) and any(weight is each for each in architecture.parameters()):
        if weight.requires_grad:
            return weight
        came = "it is frozen"
    else:
        came = "it is no parameter of the network" if weight is not None else "it returned None"
    wanted = f"return the weight of the decoder's last layer, at which {part} compares gradients"
    raise wrong(network, "last_layer()", wanted, came)


def check_range(part: str, call: str, values: Tensor, score_range: tuple[float, float]) -> None:
    """Check that scores lie in the range that the entry declares, but for rounding. Looks at values; NaN passes."""
    low, high = score_range
    slack = 1e-5 * max([1.0, *(abs(end) for end in score_range if math.isfinite(end))])
    outside = values[(values < low - slack) | (values > high + slack)]
    if len(outside):
        wanted = f"stay in the entry's score_range, {low:g} to {high:g}"
        raise wrong(part, call, wanted, f"it gave {float(outside[0]):g}")


def expanded(module: nn.Module) -> list[str]:
    """Return the names of buffers that are expanded: several elements share memory, so that nothing can be loaded into
    them."""
    return [name for name, buffer in module.named_buffers() if _is_expanded(buffer)]


def _is_expanded(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and any(
        size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True)
    )


def materialize(module: nn.Module) -> None:
    """Give expanded buffers memory of their own: as they are, a checkpoint could not be loaded into them."""
    for each in module.modules():
        for name, buffer in list(each.named_buffers(recurse=False)):
            if _is_expanded(buffer):
                each._buffers[name] = buffer.clone(memory_format=torch.contiguous_format)


def check_module(part: str, module: nn.Module) -> None:
    """Check that the parameters of a module can be trained and stored: none is expanded."""
    for name, parameter in module.named_parameters():
        if _is_expanded(parameter):
            raise wrong(part, "its constructor", "give each parameter memory of its own", f"{name} is expanded")


def check_unseeded(part: str, call: str, action: Callable[[], object]) -> None:
    """Check that an action does not reseed a global random generator, by running it from two different states.

    The states are those of before, afterwards.
    """
    python, numbered, drawn = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    ends = []
    try:
        for seed in (40_487, 91_193):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - the global state is what a plugin may reseed
            torch.manual_seed(seed)
            action()
            numpy_state: Any = np.random.get_state()  # noqa: NPY002
            ends.append((random.getstate(), numpy_state[1].tolist(), torch.get_rng_state().tolist()))
    finally:
        random.setstate(python)
        np.random.set_state(numbered)  # noqa: NPY002
        torch.set_rng_state(drawn)
    for name, one, other in zip(("Python's", "NumPy's", "torch's"), *ends, strict=True):
        if one == other:
            came = f"it seeds {name} global generator; use a generator of its own, or torch.random.fork_rng"
            raise wrong(part, call, "leave the global random states to the core", came)


def check_independent(
    part: str, call: str, function: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor, remedy: str
) -> None:
    """Check that the value of an image does not depend on the others of its batch. Looks at values.

    Args:
        function: gives (B, …) for two batches of images, from the same random state in every call.
        first, second: images (B, C, H, W), B of 2 or more.
        remedy: what to declare if the dependence is meant; empty if nothing can.
    """
    whole = function(first, second)[0]
    others = torch.cat([first[:1], first[1:].flip(-1) * 0.7]), torch.cat([second[:1], second[1:].flip(-1) * 0.9])
    moved = function(*others)[0]
    scale = max(float(whole.abs().max()), 1e-6)
    change = float((moved - whole).abs().max()) / scale
    if change > _INDEPENDENT or math.isnan(change):
        came = f"the first image's changes by {100 * change:.2g} % when the others do"
        raise wrong(part, call, f"give each image a value of its own{remedy}", came)
