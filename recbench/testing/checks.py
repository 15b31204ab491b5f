"""The checks of the conformance test. Each raises AssertionError if the loss of a case fails it."""

from __future__ import annotations

import contextlib
import itertools
import unittest
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from recbench.contracts.checked import (
    auxiliaries_of,
    check_finite,
    check_frozen,
    check_log,
    check_module,
    check_trace,
    check_unseeded,
    check_values,
    expanded,
    read_only,
    respected,
)
from recbench.contracts.last_layer import as_last_layer
from recbench.contracts.loss import Context, Likelihood, Loss
from recbench.testing.case import BATCH, Case
from recbench.testing.families import wrong_family

_NOISE = (0.02, 0.06, 0.18)
_BLUR = (0.6, 1.2, 2.4)


def _called(loss: Loss, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
    """Return the loss; the images come from a last layer, if the loss looks at that."""
    if loss.needs_last_layer and context.training:
        decoded, weight = as_last_layer(decoded)
        context = replace(context, last_layer=weight)
    return loss(decoded, target, context)  # type: ignore[no-any-return]


def _value(loss: Loss, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
    """Return the loss with a fixed random state."""
    with torch.random.fork_rng(devices=[decoded.device] if decoded.is_cuda else []):
        torch.manual_seed(4)
        return _called(loss, decoded, target, context)


def _as_distance(loss: Loss, case: Case) -> Context:
    """Return the context in which values are compared: outside of training for a loss whose terms are weighed by their
    gradients, since what training minimizes is then not one function."""
    context = case.context()
    return replace(context, training=False) if loss.needs_last_layer else context


def _gradient(loss: Loss, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
    decoded = decoded.detach().clone().requires_grad_()
    _value(loss, decoded, target, context).sum().backward()  # type: ignore[no-untyped-call]
    assert decoded.grad is not None, "no gradient reaches the decoded images"
    return decoded.grad


def one_value_for_each_image(case: Case) -> None:
    """The loss returns a finite tensor (B,) of the images' dtype with a gradient, and leaves its inputs alone."""
    loss = case.create()
    target = case.images(torch.float32)
    decoded = case.noisy(target, 0.03).requires_grad_()
    context = case.context(torch.float32)
    with read_only(case.entry.name, "forward", decoded=decoded, target=target, z=context.z):
        value = _value(loss, decoded, target, context)
    check_values(case.entry.name, "forward", value, decoded, connected=True)
    check_finite(case.entry.name, "forward", value)


def global_state_is_left_alone(case: Case) -> None:
    """Neither the constructor nor a call reseeds a global random generator, or changes torch's global settings."""
    name = case.entry.name
    target = case.images(torch.float32)
    decoded, context = case.noisy(target, 0.03), case.context(torch.float32)
    with respected(name, "its constructor"):
        loss = case.create()
    with respected(name, "forward"):
        _value(loss, decoded, target, context)
    check_unseeded(name, "forward", lambda: _called(loss, decoded, target, context))


def its_state_can_be_stored(case: Case) -> None:
    """Parameters and buffers have memory of their own, and a second instance can be filled with them."""
    loss = case.create()
    check_module(case.entry.name, loss)
    if case.entry.weights:
        check_frozen(case.entry.name, loss)
    shared = expanded(loss)
    assert not shared, f"expected buffers with memory of their own, but {', '.join(shared)} is expanded: .clone() it"
    case.create().load_state_dict(loss.state_dict())


def traces_have_a_value_for_each_image(case: Case) -> None:
    """``trace`` returns tensors (B, …) by name, and does not write into its inputs."""
    loss = case.create()
    target = case.images(torch.float32)
    decoded, context = case.noisy(target, 0.03), case.context(torch.float32)
    with torch.no_grad(), read_only(case.entry.name, "trace", decoded=decoded, target=target, z=context.z):
        traced = loss.trace(decoded, target, context)
    check_trace(case.entry.name, "trace", traced, BATCH)


def what_it_logs_is_numbers(case: Case) -> None:
    """``log`` returns numbers by names of its own, after a step and before any."""
    loss = case.create()
    check_log(case.entry.name, loss.log())
    target = case.images(torch.float32)
    decoded, context = case.noisy(target, 0.03), case.context(torch.float32)
    _value(loss, decoded, target, context)
    for auxiliary in auxiliaries_of(case.entry.name, loss):
        auxiliary.objective(decoded, target, context)
    check_log(case.entry.name, loss.log())


def its_family_is_not_misspelt(case: Case) -> None:
    """The entry's family is not nearly, but not quite, that of another loss or metric."""
    wrong_family(case.entry)


def images_are_independent(case: Case) -> None:
    """Other images of a batch have no influence, unless the entry sets ``couples_batch``; a batch may be one image."""
    loss = case.create().double()
    target = case.images()
    decoded = case.noisy(target, 0.03)
    context = case.context()
    assert context.z is not None
    whole = _value(loss, decoded, target, context)
    for index in range(BATCH):
        one = slice(index, index + 1)
        alone = _value(loss, decoded[one], target[one], Context(context.z[one], context.epoch, context.step, True))
        assert alone.shape == (1,), f"expected shape (1,) for a batch of one image, got {tuple(alone.shape)}"
        assert alone.isfinite().all(), f"expected a finite value for a batch of one image, got {alone.tolist()}"
        if not case.couples:
            torch.testing.assert_close(alone, whole[one], msg=lambda text: f"depends on the rest of the batch: {text}")


def gradient_is_the_slope(case: Case) -> None:
    """The gradient matches central differences in float64, unless the entry sets ``stops_gradient``."""
    if case.entry.stops_gradient:
        return
    loss = case.create().double()
    target = case.images()
    decoded = case.noisy(target, 0.03)
    gradient = _gradient(loss, decoded, target, case.context())
    generator = torch.Generator().manual_seed(5)
    for _ in range(3):
        direction = torch.randn(decoded.shape, generator=generator, dtype=decoded.dtype)
        slopes = [_slope(loss, decoded, target, case.context(), direction, step) for step in (1e-6, 1e-7)]
        expected = (gradient * direction).sum()
        error = min(abs(expected - slope) for slope in slopes)
        size = gradient.norm() * direction.norm() / direction.numel() ** 0.5
        assert error <= 1e-4 * size, f"gradient {expected:.8g}, finite differences {[f'{s:.8g}' for s in slopes]}"


@torch.no_grad()
def _slope(loss: Loss, decoded: Tensor, target: Tensor, context: Context, direction: Tensor, step: float) -> Tensor:
    ahead = _value(loss, decoded + step * direction, target, context)
    behind = _value(loss, decoded - step * direction, target, context)
    return (ahead - behind).sum() / (2 * step)


def gradients_are_finite(case: Case) -> None:
    """Gradients are finite where those of square roots, norms and logarithms often are not, as at equal images."""
    loss = case.create()
    target = case.images(torch.float32)
    black, grey, white = (case.scale(torch.full_like(target, level)) for level in (0.0, 0.5, 1.0))
    checker = case.scale((torch.arange(target.numel()) % 2).float().reshape(target.shape))
    opposite = case.scale(torch.ones_like(target)) - target + case.scale(torch.zeros_like(target))
    pairs = {
        "decoded = target": (target, target),
        "two constant images": (grey, white),
        "equal constant images": (grey, grey),
        "a constant decoded image": (grey, target),
        "a constant target": (target, grey),
        "black for white": (black, white),
        "white for black": (white, black),
        "black for black": (black, black),
        "white for white": (white, white),
        "the ends of the range": (checker, checker.flip(-1)),
        "an inverted image": (opposite, target),
    }
    for name, (decoded, wanted) in pairs.items():
        value = _value(loss, decoded, wanted, case.context(torch.float32))
        assert value.isfinite().all(), f"{name}: the value is {value.tolist()}"
        gradient = _gradient(loss, decoded, wanted, case.context(torch.float32))
        assert gradient.isfinite().all(), f"{name}: the gradient is not finite"


def the_minimum_is_at_identity(case: Case) -> None:
    """No small change of a perfect reconstruction lowers the loss."""
    loss = case.create().double()
    target = case.images()
    context = _as_distance(loss, case)
    best = _value(loss, target, target, context)
    for amount in (1e-4, 1e-3, *_NOISE):
        worse = _value(loss, case.noisy(target, amount), target, context)
        assert (worse >= best).all(), f"noise of {amount} gives {worse.tolist()}, below {best.tolist()} without noise"


def grows_with_noise(case: Case) -> None:
    """The loss grows with noise."""
    loss = case.create().double()
    target = case.images()
    context = _as_distance(loss, case)
    _assert_growing([_value(loss, case.noisy(target, a), target, context) for a in (0.0, *_NOISE)])


def grows_with_blur(case: Case) -> None:
    """The loss grows with blur."""
    loss = case.create().double()
    target = case.images()
    decoded = [target, *(_blurred(target, deviation) for deviation in _BLUR)]
    _assert_growing([_value(loss, images, target, _as_distance(loss, case)) for images in decoded])


def _blurred(images: Tensor, deviation: float) -> Tensor:
    """Return images with circular Gaussian blur of a standard deviation in pixels."""
    height, width = images.shape[-2:]
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None, :]
    gain = torch.exp(-2 * (torch.pi * deviation) ** 2 * (down.square() + across.square()))
    blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * gain, s=(height, width))
    return blurred


def _assert_growing(values: Sequence[Tensor]) -> None:
    for smaller, larger in itertools.pairwise(values):
        assert (larger > smaller).all(), f"expected the loss to grow, got {smaller.tolist()} and then {larger.tolist()}"


def float32_is_close_to_float64(case: Case) -> None:
    """The loss in float32 differs from float64 by at most 1e-4 of its value."""
    target = case.images()
    decoded = case.noisy(target, 0.03)
    exact = _value(case.create().double(), decoded, target, case.context())
    single = _value(case.create(), decoded.float(), target.float(), case.context(torch.float32))
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-7)


def same_seed_gives_same_result(case: Case) -> None:
    """Two runs with one seed give bitwise equal values and gradients, with deterministic algorithms only."""
    target = case.images(torch.float32)
    decoded = case.noisy(target, 0.03)
    with _deterministic():
        runs = []
        for _ in range(2):
            loss = case.create()
            value = _value(loss, decoded, target, case.context(torch.float32))
            runs.append((value.detach(), _gradient(loss, decoded, target, case.context(torch.float32))))
    assert torch.equal(runs[0][0], runs[1][0]), "two runs with the same seed give different values"
    assert torch.equal(runs[0][1], runs[1][1]), "two runs with the same seed give different gradients"


def memory_layout_does_not_matter(case: Case) -> None:
    """Channels-last and non-contiguous images, as networks return them, give the same values and gradients."""
    target = case.images()
    decoded = case.noisy(target, 0.03)
    loss = case.create().double()
    expected = _gradient(loss, decoded, target, case.context())
    last = _gradient(loss, decoded.contiguous(memory_format=torch.channels_last), target, case.context())
    torch.testing.assert_close(last, expected)
    strided = torch.stack([decoded, decoded], dim=-1)[..., 0]
    other = torch.stack([target, target], dim=-1)[..., 1]
    torch.testing.assert_close(
        _value(loss, strided, other, case.context()), _value(loss, decoded, target, case.context())
    )


def differentiable_twice_or_refused(case: Case) -> None:
    """The second derivative is right or raises an error: it is never silently zero."""
    if case.entry.stops_gradient:
        return
    loss = case.create().double()
    target = case.images()
    decoded = case.noisy(target, 0.03).requires_grad_()
    value = _value(loss, decoded, target, case.context()).sum()
    direction = torch.randn(decoded.shape, generator=torch.Generator().manual_seed(6), dtype=decoded.dtype)
    curved: Tensor | None = None
    try:
        (gradient,) = torch.autograd.grad(value, decoded, create_graph=True)
        if gradient.requires_grad:
            (curved,) = torch.autograd.grad((gradient * direction).sum(), decoded, allow_unused=True)
    except RuntimeError:
        return
    step = 1e-6
    ahead = _gradient(loss, decoded + step * direction, target, case.context())
    behind = _gradient(loss, decoded - step * direction, target, case.context())
    expected = ((ahead - behind) * direction).sum() / (2 * step)
    found = (curved * direction).sum() if curved is not None else torch.zeros_like(expected)
    error, size = abs(found - expected), abs(expected) + 1e-3 * gradient.norm().detach() * direction.norm()
    assert error <= 1e-2 * size, f"second derivative {found:.6g}, finite differences {expected:.6g}"


def auxiliary_objective_trains_its_parameters(case: Case) -> None:
    """Each auxiliary objective returns a value for each image, with a gradient for each of its parameters."""
    loss = case.create()
    for auxiliary in auxiliaries_of(case.entry.name, loss):
        target = case.images(torch.float32)
        decoded = case.noisy(target, 0.03)
        with read_only(case.entry.name, "the auxiliary objective", decoded=decoded, target=target):
            value = auxiliary.objective(decoded, target, case.context(torch.float32))
        check_values(case.entry.name, "the auxiliary objective", value, decoded, connected=True)
        loss.zero_grad(set_to_none=True)
        value.sum().backward()  # type: ignore[no-untyped-call]
        for parameter in filter(lambda each: each.requires_grad, auxiliary.parameters):
            assert parameter.grad is not None, "a parameter of the auxiliary objective gets no gradient from it"
            assert parameter.grad.isfinite().all(), "a gradient of the auxiliary objective is not finite"


def a_likelihood_is_finite_and_best_at_identity(case: Case) -> None:
    """``log_prob``, if there is one, is finite at equal images and lower with noise."""
    loss = case.create().double()
    if not isinstance(loss, Likelihood):
        return
    target = case.images()
    with torch.no_grad():
        best = loss.log_prob(target, target, case.context())
        worse = loss.log_prob(case.noisy(target, 0.05), target, case.context())
    assert best.shape == (BATCH,), f"expected log_prob of each of {BATCH} images, got shape {tuple(best.shape)}"
    assert best.isfinite().all(), f"expected finite log_prob for equal images, got {best.tolist()}"
    assert (worse < best).all(), f"expected log_prob to fall with noise, got {best.tolist()} and then {worse.tolist()}"


def cuda_equals_cpu(case: Case) -> None:
    """The loss on the GPU, if there is one, differs from the CPU by at most 1e-4 of its value."""
    if not torch.cuda.is_available():
        raise unittest.SkipTest("there is no GPU")
    target = case.images()
    decoded = case.noisy(target, 0.03)
    context = case.context()
    assert context.z is not None
    expected = _value(case.create().double(), decoded, target, context)
    there = Context(context.z.cuda(), context.epoch, context.step, context.training)
    found = _value(case.create().double().cuda(), decoded.cuda(), target.cuda(), there)
    if not case.couples:  # whose random draws differ from device to device
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-7)
    assert found.isfinite().all(), f"expected finite values on the GPU, got {found.tolist()}"


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("error")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)


CHECKS = (
    one_value_for_each_image,
    global_state_is_left_alone,
    its_state_can_be_stored,
    traces_have_a_value_for_each_image,
    what_it_logs_is_numbers,
    its_family_is_not_misspelt,
    images_are_independent,
    gradient_is_the_slope,
    gradients_are_finite,
    the_minimum_is_at_identity,
    grows_with_noise,
    grows_with_blur,
    float32_is_close_to_float64,
    same_seed_gives_same_result,
    memory_layout_does_not_matter,
    differentiable_twice_or_refused,
    auxiliary_objective_trains_its_parameters,
    a_likelihood_is_finite_and_best_at_identity,
    cuda_equals_cpu,
)
