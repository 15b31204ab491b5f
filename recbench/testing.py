"""What every loss must do, as one parametrized test that plugin authors call as well::

    import pytest
    import recbench_losses_mine as plugin
    from recbench.testing import loss_cases

    @pytest.mark.parametrize("case", loss_cases(plugin), ids=str)
    def test_conformance(case):
        case.run()

A case raises AssertionError where a loss breaks the contract of :class:`recbench.contracts.loss.Loss`, and
``unittest.SkipTest`` (which pytest shows as skipped) where pretrained weights or a GPU are missing. Needs no pytest.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import subprocess
import sys
import unittest
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from recbench.contracts.entries import ImageShape, LossEntry
from recbench.contracts.loss import Context, Likelihood, Loss, Setting
from recbench.data.weights import missing

BATCH, LATENT = 3, 8
SIZES = (16, 32, 64, 128, 256)
_NOISE = (0.02, 0.06, 0.18)
_BLUR = (0.6, 1.2, 2.4)


@dataclass(frozen=True)
class Case:
    """One requirement put to one loss with given parameters and images of one shape."""

    entry: LossEntry
    params: Mapping[str, Any]
    shape: ImageShape
    check: Callable[[Case], None] = field(repr=False)

    def __str__(self) -> str:
        chosen = [f"{key}={value}" for key, value in self.params.items()]
        return " ".join([self.entry.name, *chosen, str(self.shape), self.check.__name__.strip("_")])

    @property
    def couples(self) -> bool:
        """Whether the loss couples the images of a batch."""
        return self.entry.couples(self.entry.complete(self.params))

    def run(self) -> None:
        """Put the requirement to the loss.

        Raises:
            AssertionError: the loss does not meet it; the text says how.
            unittest.SkipTest: weights or a device that the case needs are not here.
        """
        self.check(self)

    def create(self) -> Loss:
        """The loss as the core makes it, with fixed initial weights."""
        params = self.entry.complete(self.params)
        reason = missing(self.entry.needed_weights(self.shape, params))
        if reason is not None:
            raise unittest.SkipTest(f"{self.entry.name} {reason}")
        factory = self.entry.factory
        if isinstance(factory, str):
            module, _, name = factory.partition(":")
            factory = getattr(importlib.import_module(module), name)
        assert not isinstance(factory, str)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            loss = factory(Setting(self.shape, LATENT), **params)
        assert isinstance(loss, Loss), f"{self.entry.factory} makes a {type(loss).__name__}, which is no Loss"
        return loss

    def images(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Three pictures inside the loss's value range: smooth shading, an edge, some texture. (B, C, H, W)."""
        generator = torch.Generator().manual_seed(1)
        size = BATCH, self.shape.channels, self.shape.height, self.shape.width
        noise = torch.randn(size, generator=generator, dtype=torch.float64)
        down, across = torch.fft.fftfreq(size[2])[:, None], torch.fft.rfftfreq(size[3])[None, :]
        falloff = 1 / (down.square() + across.square() + 1 / max(size[2:]) ** 2).sqrt()  # as in photographs: 1/f
        smooth = torch.fft.irfft2(torch.fft.rfft2(noise) * falloff, s=size[2:])
        smooth[:, :, size[2] // 3 :, size[3] // 2 :] += 2 * smooth.std()
        low, high = smooth.amin((1, 2, 3), keepdim=True), smooth.amax((1, 2, 3), keepdim=True)
        return self.scale(0.1 + 0.8 * (smooth - low) / (high - low)).to(dtype)

    def scale(self, unit: Tensor) -> Tensor:
        """Images in 0 to 1, brought to the loss's value range."""
        lowest, highest = self.entry.value_range
        return lowest + (highest - lowest) * unit

    def noisy(self, images: Tensor, amount: float) -> Tensor:
        """Images with Gaussian noise of that standard deviation (on a range of 0 to 1), folded back at the ends."""
        lowest, highest = self.entry.value_range
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        moved = images + amount * (highest - lowest) * noise.to(images.dtype)
        moved = lowest + (moved - lowest).abs()
        return highest - (highest - moved).abs()

    def context(self, dtype: torch.dtype = torch.float64, count: int = BATCH) -> Context:
        """A late step of training, when warm-ups are over; the same z for every call."""
        z = torch.randn(BATCH, LATENT, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        return Context(z=z[:count].to(dtype), epoch=1_000, step=100_000, training=True)


def loss_cases(
    plugin: ModuleType | Iterable[LossEntry], variants: Mapping[str, Sequence[Mapping[str, Any]]] | None = None
) -> list[Case]:
    """All requirements for all losses of a plugin.

    Args:
        plugin: the module with the hook ``recbench_losses``, or entries.
        variants: by name of a loss, the parameters to test it with; ``[{}]``, its defaults, for one that is not named.

    Returns:
        Cases for colour and for grey images (those that the loss takes), each of the smallest size from 16 pixels on
        that the loss takes with these parameters.

    Raises:
        ValueError: ``variants`` names no loss of the plugin, or a loss takes no image shape that is tried.
    """
    entries = list(plugin.recbench_losses() if isinstance(plugin, ModuleType) else plugin)
    variants = variants or {}
    strangers = set(variants) - {entry.name for entry in entries}
    if strangers:
        raise ValueError(f"there is no loss {', '.join(sorted(strangers))} in this plugin")
    cases = []
    for entry in entries:
        for params in variants.get(entry.name, [{}]):
            shapes = list(_shapes(entry, entry.complete(params)))
            if not shapes:
                raise ValueError(f"{entry.name} with {dict(params)} takes no square image of {SIZES} pixels")
            cases += [Case(entry, params, shape, check) for shape in shapes for check in CHECKS]
    return cases


def imports_no_torch(plugin: ModuleType) -> None:
    """Raise AssertionError if importing the plugin imports torch: listing what there is must stay quick."""
    code = f"import sys, {plugin.__name__}; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=False)  # noqa: S603 - a module's own name
    assert done.returncode == 0, f"importing {plugin.__name__} imports torch; name factories as text instead"


def _shapes(entry: LossEntry, params: Mapping[str, Any]) -> Iterator[ImageShape]:
    for channels in (3, 1):
        shapes = (ImageShape(channels, size, size) for size in SIZES)
        fitting = next((shape for shape in shapes if not entry.refusals(shape, params)), None)
        if fitting is not None:
            yield fitting


def _value(loss: Loss, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
    """The loss, with what it draws at random fixed."""
    with torch.random.fork_rng(devices=[decoded.device] if decoded.is_cuda else []):
        torch.manual_seed(4)
        return loss(decoded, target, context)  # type: ignore[no-any-return]


def _gradient(loss: Loss, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
    decoded = decoded.detach().clone().requires_grad_()
    _value(loss, decoded, target, context).sum().backward()  # type: ignore[no-untyped-call]
    assert decoded.grad is not None, "no gradient reaches the decoded images"
    return decoded.grad


def one_value_for_each_image(case: Case) -> None:
    """A (B,) of the images' dtype, finite; the images are left as they were."""
    loss = case.create()
    target = case.images(torch.float32)
    decoded = case.noisy(target, 0.03)
    before = decoded.clone(), target.clone()
    value = _value(loss, decoded, target, case.context(torch.float32))
    assert value.shape == (BATCH,), f"gives {tuple(value.shape)}, not one value for each of {BATCH} images"
    assert value.dtype == torch.float32, f"gives {value.dtype} for float32 images"
    assert value.isfinite().all(), f"gives {value.tolist()}"
    assert torch.equal(decoded, before[0]), "changes the decoded images in place"
    assert torch.equal(target, before[1]), "changes the target images in place"


def an_image_is_judged_alone(case: Case) -> None:
    """The others of its batch have no influence, unless the entry says so (``couples_batch``); one image is enough."""
    loss = case.create().double()
    target = case.images()
    decoded = case.noisy(target, 0.03)
    context = case.context()
    assert context.z is not None
    whole = _value(loss, decoded, target, context)
    for index in range(BATCH):
        one = slice(index, index + 1)
        alone = _value(loss, decoded[one], target[one], Context(context.z[one], context.epoch, context.step, True))
        assert alone.shape == (1,), f"gives {tuple(alone.shape)} for a batch of one image"
        assert alone.isfinite().all(), f"gives {alone.tolist()} for a batch of one image"
        if not case.couples:
            torch.testing.assert_close(alone, whole[one], msg=lambda text: f"depends on the rest of the batch: {text}")


def gradient_is_the_slope(case: Case) -> None:
    """In float64, against central differences along a few random directions; unless the entry says that it is not."""
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
        assert error <= 1e-4 * size, f"gradient {expected:.8g}, differences give {[f'{s:.8g}' for s in slopes]}"


@torch.no_grad()
def _slope(loss: Loss, decoded: Tensor, target: Tensor, context: Context, direction: Tensor, step: float) -> Tensor:
    ahead = _value(loss, decoded + step * direction, target, context)
    behind = _value(loss, decoded - step * direction, target, context)
    return (ahead - behind).sum() / (2 * step)


def gradients_are_finite(case: Case) -> None:
    """Where square roots, norms and logarithms have their traps, which is where training wants to go."""
    loss = case.create()
    target = case.images(torch.float32)
    black, grey, white = (case.scale(torch.full_like(target, level)) for level in (0.0, 0.5, 1.0))
    checker = case.scale((torch.arange(target.numel()) % 2).float().reshape(target.shape))
    opposite = case.scale(torch.ones_like(target)) - target + case.scale(torch.zeros_like(target))
    places = {
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
    for place, (decoded, wanted) in places.items():
        value = _value(loss, decoded, wanted, case.context(torch.float32))
        assert value.isfinite().all(), f"{place}: the value is {value.tolist()}"
        gradient = _gradient(loss, decoded, wanted, case.context(torch.float32))
        assert gradient.isfinite().all(), f"{place}: the gradient is not finite"


def the_minimum_is_at_identity(case: Case) -> None:
    """No small change of a perfect reconstruction improves it."""
    loss = case.create().double()
    target = case.images()
    best = _value(loss, target, target, case.context())
    for amount in (1e-4, 1e-3, *_NOISE):
        worse = _value(loss, case.noisy(target, amount), target, case.context())
        assert (worse >= best).all(), f"noise of {amount} gives {worse.tolist()}, no noise {best.tolist()}"


def grows_with_noise(case: Case) -> None:
    """More noise is a higher loss."""
    loss = case.create().double()
    target = case.images()
    _assert_growing([_value(loss, case.noisy(target, a), target, case.context()) for a in (0.0, *_NOISE)])


def grows_with_blur(case: Case) -> None:
    """More blur is a higher loss."""
    loss = case.create().double()
    target = case.images()
    decoded = [target, *(_blurred(target, deviation) for deviation in _BLUR)]
    _assert_growing([_value(loss, images, target, case.context()) for images in decoded])


def _blurred(images: Tensor, deviation: float) -> Tensor:
    """Circular Gaussian blur with that standard deviation in pixels."""
    height, width = images.shape[-2:]
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None, :]
    gain = torch.exp(-2 * (torch.pi * deviation) ** 2 * (down.square() + across.square()))
    blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(images) * gain, s=(height, width))
    return blurred


def _assert_growing(values: Sequence[Tensor]) -> None:
    for smaller, larger in itertools.pairwise(values):
        assert (larger > smaller).all(), f"goes from {smaller.tolist()} to {larger.tolist()}"


def float32_is_close_to_float64(case: Case) -> None:
    """Relative 1e-4, on pictures."""
    target = case.images()
    decoded = case.noisy(target, 0.03)
    exact = _value(case.create().double(), decoded, target, case.context())
    single = _value(case.create(), decoded.float(), target.float(), case.context(torch.float32))
    torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-7)


def the_same_seed_gives_the_same(case: Case) -> None:
    """To the last bit, value and gradient, with deterministic algorithms only."""
    target = case.images(torch.float32)
    decoded = case.noisy(target, 0.03)
    with _deterministic():
        runs = []
        for _ in range(2):
            loss = case.create()
            value = _value(loss, decoded, target, case.context(torch.float32))
            runs.append((value.detach(), _gradient(loss, decoded, target, case.context(torch.float32))))
    assert torch.equal(runs[0][0], runs[1][0]), "two runs give two values"
    assert torch.equal(runs[0][1], runs[1][1]), "two runs give two gradients"


def memory_layout_does_not_matter(case: Case) -> None:
    """Channels-last and non-contiguous images, as networks give them."""
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
    """A second derivative is right, or an error: never silently zero."""
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
    assert error <= 1e-2 * size, f"second derivative {found:.6g}, differences give {expected:.6g}"


def the_auxiliary_objective_trains_its_own(case: Case) -> None:
    """One value per image, with a gradient for each of its parameters."""
    loss = case.create()
    auxiliary = loss.auxiliary()
    if auxiliary is None:
        return
    target = case.images(torch.float32)
    decoded = case.noisy(target, 0.03)
    value = auxiliary.objective(decoded, target, case.context(torch.float32))
    assert value.shape == (BATCH,), f"gives {tuple(value.shape)}, not one value for each of {BATCH} images"
    value.sum().backward()  # type: ignore[no-untyped-call]
    for parameter in auxiliary.parameters:
        assert parameter.grad is not None, "a parameter of the auxiliary objective gets no gradient from it"
        assert parameter.grad.isfinite().all(), "a gradient of the auxiliary objective is not finite"


def a_likelihood_is_finite_and_best_at_identity(case: Case) -> None:
    """``log_prob``, where there is one."""
    loss = case.create().double()
    if not isinstance(loss, Likelihood):
        return
    target = case.images()
    with torch.no_grad():
        best = loss.log_prob(target, target, case.context())
        worse = loss.log_prob(case.noisy(target, 0.05), target, case.context())
    assert best.shape == (BATCH,), f"log_prob gives {tuple(best.shape)}, not one value for each of {BATCH} images"
    assert best.isfinite().all(), f"log_prob gives {best.tolist()} for equal images"
    assert (worse < best).all(), f"log_prob goes from {best.tolist()} up to {worse.tolist()} with noise"


def cuda_equals_cpu(case: Case) -> None:
    """To 1e-4 of the value, where there is a GPU."""
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
    assert found.isfinite().all(), f"gives {found.tolist()} on the GPU"


@contextlib.contextmanager
def _deterministic() -> Iterator[None]:
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


CHECKS = (
    one_value_for_each_image,
    an_image_is_judged_alone,
    gradient_is_the_slope,
    gradients_are_finite,
    the_minimum_is_at_identity,
    grows_with_noise,
    grows_with_blur,
    float32_is_close_to_float64,
    the_same_seed_gives_the_same,
    memory_layout_does_not_matter,
    differentiable_twice_or_refused,
    the_auxiliary_objective_trains_its_own,
    a_likelihood_is_finite_and_best_at_identity,
    cuda_equals_cpu,
)
