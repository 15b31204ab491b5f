"""Cards: what a loss or metric does with distortions of a few images, what it costs, and which frequencies it sees.

Seconds, no training. A loss is held beside ``l2``, ½ Σ d²: a ratio of 1 means as much as l2 does, after both were
brought to the same level over all distortions.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from recbench.api.losses import StandaloneLoss
from recbench.api.metrics import MetricOutput, StandaloneMetric
from recbench.contracts.direction import Direction, cost
from recbench.errors import UserError
from recbench.testing.distortions import BANDS, band_noise, distortions

SIZE = 64
"""Side of the images of a card in pixels, for entries that take them."""
COUNT = 8
_BAND_DEVIATION = 0.02
_REPEATS = 5
_SEED = 11


@dataclass(frozen=True)
class Response:
    """The effect of one distortion on a loss or metric, means over the images.

    Attributes:
        value: of the distorted images.
        change: from the value of equal images.
        l2: the value of l2.
        ratio: of the change to l2's, relative to the geometric mean over all distortions; NaN if there is none.
        gradient: norm of the gradient by an image; None for metrics.
        gradient_ratio: of that to l2's, as ``ratio``.
        cosine: between the gradient and l2's.
        better: whether it is rated better than equal images.
    """

    kind: str
    strength: str
    value: float
    change: float
    l2: float
    ratio: float = math.nan
    gradient: float | None = None
    gradient_ratio: float = math.nan
    cosine: float = math.nan
    better: bool = False


@dataclass(frozen=True)
class Card:
    """The card of a loss, or of one score of a metric.

    Attributes:
        shape: of the images, (C, H, W).
        at_identity: the value of equal images.
        slope_at_identity: norm of the gradient there; None for metrics.
        lowest: whether no distortion is rated better than equal images.
        deterministic: whether two calls from the same random state agree in every bit.
        seeded: whether a call from another random state gives the same.
        responses: by distortion and strength.
        spectrum: sensitivity to each of :data:`BANDS` bands of frequency, relative to their mean; l2's are 1.
        seconds: of the processor, of one call for an image on one thread, with its gradient for losses.
        l2_seconds: the same of l2.
        saved_bytes: kept for the gradient of an image; None for metrics.
        parameters: number of its own trained values and buffers.
        direction: which values of the metric are better; None for losses, of which lower ones are.
    """

    shape: tuple[int, int, int]
    at_identity: float
    slope_at_identity: float | None
    lowest: bool
    deterministic: bool
    seeded: bool
    responses: tuple[Response, ...]
    spectrum: tuple[float, ...]
    seconds: float
    l2_seconds: float
    saved_bytes: float | None
    parameters: int
    direction: Direction | None = None

    @property
    def kinds(self) -> dict[str, float]:
        """The change of the value relative to l2's for each kind of distortion, the geometric mean over strengths."""
        found: dict[str, list[float]] = {}
        for one in self.responses:
            found.setdefault(one.kind, []).append(one.ratio)
        return {kind: _level(ratios) for kind, ratios in found.items()}


def loss_card(loss: StandaloneLoss, images: Tensor) -> Card:
    """Return the card of a loss.

    Args:
        loss: in evaluation mode, of images in 0 to 1; it gets the same random z in every call.
        images: (N, C, H, W) in 0 to 1, float32.
    """
    z = torch.randn(len(images), loss.setting.latent_size, generator=torch.Generator().manual_seed(5))

    def called(decoded: Tensor) -> tuple[Tensor, Tensor]:
        return _graded(lambda: loss(decoded, images, z=z), decoded)

    same = called(images.clone().requires_grad_())
    base = float(same[0].mean())
    found = []
    for distortion in distortions(images.shape[1]):
        distorted = distortion.apply(images)
        value, gradient = called(distorted.clone().requires_grad_())
        difference = distorted - images
        norms, plain = _norms(gradient), _norms(difference)
        alike = (gradient * difference).flatten(1).sum(1) / (norms * plain).clamp_min(1e-30)
        mean = float(value.mean())
        l2 = float(0.5 * plain.square().mean())
        steepness = float(norms.mean() / plain.mean().clamp_min(1e-30))
        better = mean < base - 1e-6 * max(1.0, abs(base))
        response = Response(distortion.kind, distortion.strength, mean, mean - base, l2, better=better)
        cosine = float(alike.mean())
        found.append(replace(response, gradient=float(norms.mean()), gradient_ratio=steepness, cosine=cosine))
    seconds, saved = _cost(lambda decoded: loss(decoded, images, z=z), images)
    l2_seconds, _ = _cost(lambda decoded: 0.5 * (decoded - images).square().sum((1, 2, 3)), images)
    probe = distortions(images.shape[1])[3].apply(images)
    again = [called(probe.clone().requires_grad_()) for _ in range(2)]
    other = _graded(lambda: loss(probe, images, z=z), None, seed=_SEED + 1)[0]
    with torch.no_grad():
        bands = [_banded(lambda decoded: loss(decoded, images, z=z), images, band, base) for band in range(BANDS)]
    tensors = (*loss.loss.parameters(), *loss.loss.buffers())
    return Card(
        shape=(images.shape[1], images.shape[2], images.shape[3]),
        at_identity=base,
        slope_at_identity=float(_norms(same[1]).mean()),
        lowest=not any(one.better for one in found),
        deterministic=all(torch.equal(one, other) for one, other in zip(*again, strict=True)),
        seeded=torch.equal(again[0][0], other),
        responses=_compared(found),
        spectrum=_relative(bands),
        seconds=seconds,
        l2_seconds=l2_seconds,
        saved_bytes=saved,
        parameters=sum(tensor.numel() for tensor in tensors),
    )


@torch.no_grad()
def metric_cards(metric: StandaloneMetric, images: Tensor) -> dict[str, Card]:
    """Return a card for each score of a metric, by its name; of a metric of one score, by an empty name.

    All scores come from the same calls. Images are rounded as in evaluation.

    Args:
        metric: of images, or of sets of them.
        images: (N, C, H, W) in 0 to 1, float32.
    """

    def called(decoded: Tensor, seed: int = _SEED) -> dict[str, Tensor]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            given = metric(decoded, images)
        return {name: torch.as_tensor(value) for name, value in _named(given).items()}

    same = called(images)
    found = []
    for distortion in distortions(images.shape[1]):
        distorted = distortion.apply(images)
        l2 = float(0.5 * _norms(distorted - images).square().mean())
        found.append((distortion, l2, called(distorted)))
    probe = distortions(images.shape[1])[3].apply(images)
    again, other = (called(probe), called(probe)), called(probe, _SEED + 1)
    noisy = [called(images + band_noise(images, band, _BAND_DEVIATION)) for band in range(BANDS)]
    seconds = _timed(lambda: called(images)) / len(images)
    l2_seconds = _timed(lambda: (images - probe).square().sum((1, 2, 3))) / len(images)

    def card(name: str) -> Card:
        direction = metric.entry.score(name).direction
        assert direction is not None, "filled in by the entry"
        base = _mean(same[name])
        slack = 1e-6 * max(1.0, abs(base))
        responses = []
        for distortion, l2, scores in found:
            value = _mean(scores[name])
            better = cost(value, direction) < cost(base, direction) - slack
            responses.append(Response(distortion.kind, distortion.strength, value, value - base, l2, better=better))
        return Card(
            shape=(images.shape[1], images.shape[2], images.shape[3]),
            at_identity=base,
            slope_at_identity=None,
            lowest=not any(one.better for one in responses),
            deterministic=torch.equal(again[0][name], again[1][name]),
            seeded=torch.equal(again[0][name], other[name]),
            responses=_compared(responses),
            spectrum=_relative([abs(_mean(scores[name]) - base) for scores in noisy]),
            seconds=seconds,
            l2_seconds=l2_seconds,
            saved_bytes=None,
            parameters=0,
            direction=direction,
        )

    return {name: card(name) for name in same}


def _named(given: MetricOutput) -> Mapping[str, Tensor | float]:
    return given if isinstance(given, dict) else {"": given}


def _mean(scores: Tensor) -> float:
    return float(scores.double().mean())


def _graded(call: Callable[[], Tensor], decoded: Tensor | None, seed: int = _SEED) -> tuple[Tensor, Tensor]:
    """Return values (N,) and the gradient by the decoded images, from a fixed random state."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        value = call()
    if decoded is None:
        return value.detach(), value.new_zeros(0)
    if not value.requires_grad:
        raise UserError("the loss has no gradient: it detaches the decoded images, or does not use them")
    (gradient,) = torch.autograd.grad(value.sum(), decoded)
    return value.detach(), gradient


def _norms(images: Tensor) -> Tensor:
    norms: Tensor = images.flatten(1).norm(dim=1)
    return norms


def _banded(call: Callable[[Tensor], Tensor], images: Tensor, band: int, base: float) -> float:
    """Return how much noise of one band changes the value, for l2 always the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        # Around mid-grey, so that neither l2 nor rounding cuts anything off.
        return abs(float(call(images + band_noise(images, band, _BAND_DEVIATION)).double().mean()) - base)


def _level(values: Sequence[float]) -> float:
    """Return the geometric mean of those that are above 0; NaN if there are none."""
    known = [value for value in values if value > 0 and math.isfinite(value)]
    return math.exp(statistics.fmean(map(math.log, known))) if known else math.nan


def _compared(found: Sequence[Response]) -> tuple[Response, ...]:
    """Return responses with their ratios to l2 brought to a geometric mean of 1."""
    ratios = [abs(one.change) / one.l2 if one.l2 > 0 else math.nan for one in found]
    level, steepness = _level(ratios), _level([one.gradient_ratio for one in found])
    return tuple(
        replace(one, ratio=ratio / level, gradient_ratio=one.gradient_ratio / steepness)
        for one, ratio in zip(found, ratios, strict=True)
    )


def _relative(bands: Sequence[float]) -> tuple[float, ...]:
    mean = statistics.fmean(bands)
    return tuple(band / mean if mean > 0 else math.nan for band in bands)


def _cost(call: Callable[[Tensor], Tensor], images: Tensor) -> tuple[float, float]:
    """Return seconds of value and gradient, and bytes kept in between, both for one image."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        decoded = images.clone().requires_grad_()
        value = call(decoded)
    saved = sum(kept.values())
    del value

    def step() -> None:
        decoded = images.clone().requires_grad_()
        call(decoded).sum().backward()  # type: ignore[no-untyped-call]

    return _timed(step) / len(images), saved / len(images)


def _timed(action: Callable[[], object]) -> float:
    """Return the shortest time of a few calls on one thread, in seconds of the processor: no other process counts."""
    threads, times = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        action()
        for _ in range(_REPEATS):
            begun = time.process_time()
            action()
            times.append(time.process_time() - begun)
    finally:
        torch.set_num_threads(threads)
    return min(times)
