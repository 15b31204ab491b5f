"""Evaluation: one pass over the test images feeds all metrics.

Metrics see images rounded to 8 bits, as if they had been saved and read again, because that is what published tables
are computed on; but for those whose entry says otherwise. Reconstructions are decoded posterior means.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbench.contracts.architecture import Decoded, Posterior
from recbench.contracts.checked import check_latent, check_trace, respected
from recbench.contracts.checked_scores import check_score, check_scores
from recbench.contracts.loss import Context, Likelihood
from recbench.contracts.metric import BoundMetric, ImageMetric, Reference, SetMetric
from recbench.errors import RecbenchError
from recbench.job.device import autocast
from recbench.job.images import convert, take, to_8_bits, to_range
from recbench.job.parts import MetricSpec, Model, own_random_states, passes
from recbench.job.training import reconstruct
from recbench.plan.model import Training
from recbench.store.record import ComparedSets, Score

KEPT_IMAGES = 16
LOOKED_IMAGES = 256
"""As many reconstructions health checks look at."""
NO_PRIOR = "the architecture has no prior to draw samples from"
NO_KL = "the architecture has no KL divergence"
NO_LIKELIHOOD = "the loss is not a likelihood"
_UNIT = (0.0, 1.0)


class MetricError(RecbenchError):
    """A metric raised an error. The text names it; the model is trained, and only its scores are missing."""


class NotFinite(RecbenchError):
    """Reconstructions of the model, or scores of a metric, are NaN."""


@dataclass(frozen=True)
class Evaluation:
    """The result of evaluation.

    Attributes:
        scores: by metric.
        reasons: why there is no score, by metric that has none.
        per_image: by metric with values per image, and ``kl`` if there is one: float64 (N,), in the order of the test
            images.
        kl: mean KL divergence in nats per image; None of a posterior without one.
        pictures: uint8 (N, C, H, W): ``target`` and ``decoded`` for the first test images, and ``samples``, decoded
            draws from the prior if there is one.
        traces: traces of metrics of whole sets, as ``<label of the metric>_<name>``.
        looked: uint8 (N, C, H, W): ``target`` and ``decoded`` for the test images that health checks look at.
    """

    scores: dict[str, Score]
    reasons: dict[str, str]
    per_image: dict[str, NDArray[np.float64]]
    kl: float | None
    pictures: dict[str, NDArray[np.uint8]]
    traces: dict[str, Tensor]
    looked: dict[str, NDArray[np.uint8]]


@torch.no_grad()
def evaluate(
    model: Model, metrics: Mapping[str, MetricSpec], reference: Reference, *, batch_size: int, config: Training
) -> Evaluation:
    """Reconstruct all test images and score them.

    Args:
        metrics: metric and input by label; those that share a metric have one pass.
        reference: the test images.
        config: with the precision of the network, and the last epoch.

    Raises:
        NotFinite: a reconstruction or a KL term is NaN or infinite, or a score is NaN.
    """
    # Metrics that draw give the same scores after training and later, from the stored model.
    with own_random_states(reference.device):
        return _evaluate(model, metrics, reference, batch_size, config)


def _evaluate(
    model: Model, metrics: Mapping[str, MetricSpec], reference: Reference, batch_size: int, config: Training
) -> Evaluation:
    device, images, precision = reference.device, reference.images, config.precision
    model.architecture.eval()
    model.loss.eval()
    reasons = _refusals(model, metrics)
    metrics = {name: spec for name, spec in metrics.items() if name not in reasons}
    shared = passes(metrics)
    leaders = {name: metrics[name].metric for name in shared}
    singles = {name: metric for name, metric in leaders.items() if isinstance(metric, ImageMetric)}
    bounds = {name: metric for name, metric in leaders.items() if isinstance(metric, BoundMetric)}
    sets = {name: metric for name, metric in leaders.items() if isinstance(metric, SetMetric)}
    recon = {name: metric for name, metric in sets.items() if not metrics[name].samples}
    generative = {name: metric for name, metric in sets.items() if metrics[name].samples}
    for name, metric in sets.items():
        with _named(name, metrics[name].part, "prepare", images=reference.images):
            metric.prepare(reference)
    per_image: dict[str, list[Tensor]] = {}
    rates: list[Tensor] = []
    kept: dict[str, list[Tensor]] = {"target": [], "decoded": []}
    for start in range(0, len(images), batch_size):
        target = take(images, torch.arange(start, min(start + batch_size, len(images))), device)
        posterior, output, seen = reconstruct(model, target, precision)
        decoded = convert(output.images, model.image_range, _UNIT)
        if bounds and not posterior.has_kl:
            reasons |= {label: NO_KL for name in bounds for label in shared[name]}
            bounds = {}
        kl = posterior.kl()
        if not (decoded.isfinite().all() and kl.isfinite().all()):
            raise NotFinite(
                f"the trained model returned NaN or infinity for test images {start} to {start + len(kl) - 1}"
            )
        rounded = to_8_bits(decoded)
        if start < LOOKED_IMAGES:
            kept["target"].append(target[: LOOKED_IMAGES - start].cpu())
            kept["decoded"].append(rounded[: LOOKED_IMAGES - start].cpu())
        if posterior.has_kl:
            rates.append(kl.double())
        real = to_range(target, _UNIT)
        saved = to_range(rounded, _UNIT)
        for name, single in singles.items():
            shown = saved if metrics[name].rounded else decoded
            with _named(name, metrics[name].part, "forward", decoded=shown, target=real):
                returned = single(shown, real)
                values = check_scores(metrics[name].part, "forward", returned, len(shown), metrics[name].names)
            for label, spec in shared[name].items():
                per_image.setdefault(label, []).append(values[spec.score].double())
        for name, metric in recon.items():
            shown = saved if metrics[name].rounded else decoded
            with _named(name, metrics[name].part, "update", decoded=shown, target=real):
                metric.update(shown, real)
        if bounds:
            log_prob = torch.full_like(kl, math.nan)
            if any(bound.needs_log_prob for bound in bounds.values()):
                log_prob = _log_prob(model, posterior, seen, config, batch=start // batch_size)
            for name, bound in bounds.items():
                with _named(name, metrics[name].part, "forward", log_prob=log_prob, kl=kl):
                    returned = bound(log_prob.double(), kl.double())
                    values = check_scores(metrics[name].part, "forward", returned, len(kl), metrics[name].names)
                for label, spec in shared[name].items():
                    per_image.setdefault(label, []).append(values[spec.score].double())
    start = 0
    for samples in _samples(model, len(images), batch_size, precision) if generative else ():
        real = to_range(take(images, torch.arange(start, start + len(samples)), device), _UNIT)
        saved = to_range(to_8_bits(samples), _UNIT)
        start += len(samples)
        for name, metric in generative.items():
            shown = saved if metrics[name].rounded else samples
            with _named(name, metrics[name].part, "update", decoded=shown, target=real):
                metric.update(shown, real)
    rate = {"kl": torch.cat(rates).cpu().numpy()} if rates else {}
    found = {name: torch.cat(parts).cpu().numpy() for name, parts in per_image.items()}
    scores = {name: _of_images(name, metrics[name], values) for name, values in found.items()}
    for name, metric in sets.items():
        scores |= _of_set(shared[name], metric, reference)
    scores = {name: scores[name] for name in metrics if name in scores}
    looked = {name: torch.cat(parts).numpy() for name, parts in kept.items()}
    pictures = {name: images[:KEPT_IMAGES] for name, images in looked.items()}
    if model.architecture.has_prior:
        pictures["samples"] = to_8_bits(next(_samples(model, KEPT_IMAGES, KEPT_IMAGES, precision))).cpu().numpy()
    traces = {}
    for name, metric in sets.items():
        with _named(name, metrics[name].part, "trace"):
            traced = metric.trace()
            check_trace(metrics[name].part, "trace", traced, None)
        traces.update({f"{name}_{key}": value.cpu() for key, value in traced.items()})
    mean = float(rate["kl"].mean()) if rate else None
    return Evaluation(scores, reasons, {**rate, **found}, mean, pictures, traces, looked)


def _refusals(model: Model, metrics: Mapping[str, MetricSpec]) -> dict[str, str]:
    """Return why metrics have no score of the model, as far as that is known before an image is encoded."""
    found = {}
    for name, spec in metrics.items():
        if spec.samples and not model.architecture.has_prior:
            found[name] = NO_PRIOR
        density = isinstance(spec.metric, BoundMetric) and spec.metric.needs_log_prob
        if density and not isinstance(model.loss, Likelihood):
            found[name] = NO_LIKELIHOOD
    return found


@contextmanager
def _named(label: str, part: str, call: str, **inputs: Tensor) -> Iterator[None]:
    """Name the metric in whatever goes wrong in a block of its code, and see that it leaves its inputs alone."""
    try:
        with respected(part, call, **inputs):
            yield
    except RecbenchError as error:
        error.metric = label
        raise
    except Exception as error:
        named = MetricError(f"{part}: {call} raised {type(error).__name__}: {error}")
        named.metric = label
        raise named from error


def _log_prob(model: Model, posterior: Posterior, images: Tensor, config: Training, batch: int) -> Tensor:
    """Return log p(x|z), (B,), as a density of images in 0 to 1, with one z for each image."""
    assert isinstance(model.loss, Likelihood)
    with torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        torch.manual_seed(batch)
        z = posterior.sample()
    with autocast(images.device, config.precision):
        output = Decoded.of(model.architecture.decode(z))
    decoded = convert(output.images, model.image_range, model.loss_range)
    target = convert(images, model.image_range, model.loss_range)
    context = Context(z=z.flatten(1), epoch=config.epochs, extras=output.extras)
    log_prob = model.loss.log_prob(decoded, target, context)
    low, high = model.loss_range
    return log_prob + target[0].numel() * math.log(high - low)


def _of_images(name: str, spec: MetricSpec, values: NDArray[np.float64]) -> Score:
    with np.errstate(invalid="ignore"):  # the spread of infinite scores (PSNR of equal images) is not a number
        mean, spread, count = float(values.mean()), float(values.std()), len(values)
    if math.isnan(mean):
        raise _nan(name, f" for {int(np.isnan(values).sum())} of the {count}")
    return Score(
        mean=mean,
        std=None if math.isnan(spread) else spread,
        n=count,
        warning=spec.metric.warning,
        infinite=int(np.isinf(values).sum()),
        finite=_finite_mean(values),
    )


def _of_set(specs: Mapping[str, MetricSpec], metric: SetMetric, reference: Reference) -> dict[str, Score]:
    """Return the scores of a metric of whole sets, by label."""
    leader, spec = next(iter(specs.items()))
    with _named(leader, spec.part, "compute"):
        values = check_score(spec.part, metric.compute(), spec.names)
    found = {}
    for label, each in specs.items():
        mean = values[each.score]
        if math.isnan(mean):
            raise _nan(label, " on the")
        found[label] = Score(mean=mean, std=None, n=0, warning=metric.warning, compared=compared(each, reference))
    return found


def _nan(name: str, which: str) -> NotFinite:
    error = NotFinite(f"the metric {name} gave NaN{which} test images")
    error.metric = name
    return error


def compared(spec: MetricSpec, reference: Reference) -> ComparedSets | None:
    """Return what a distance between sets of images compares, to be recorded with its score; None for other metrics."""
    convention = spec.convention
    if convention is None:
        return None
    chosen = str(spec.params.get(convention.reference, convention.reference))
    images = reference.train if chosen == "train" and reference.train is not None else reference.images
    most = int(spec.params.get(convention.limit, 0)) or math.inf
    return ComparedSets(
        reference="train" if chosen == "train" else reference.split or "given",
        references=int(min(len(images), most)),
        images=int(min(len(reference.images), most)),
        resize=convention.resize,
    )


def _finite_mean(values: NDArray[np.float64]) -> float | None:
    """Return the mean with infinite scores counted as the nearest finite one; None if none is infinite, or all are."""
    finite = values[np.isfinite(values)]
    if len(finite) in (0, len(values)):
        return None
    return float(np.clip(values, finite.min(), finite.max()).mean())


def _samples(model: Model, count: int, batch_size: int, precision: str) -> Iterator[Tensor]:
    """Yield decoded samples from the prior in batches, in 0 to 1; the same z for every method."""
    network, part = model.architecture, model.architecture_part
    device = next(network.parameters()).device
    generator = torch.Generator().manual_seed(0)
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        z = network.sample(size, generator)
        check_latent(part, z, size, network.latent_shape, "sample(n, generator)")
        with autocast(device, precision):
            output = Decoded.of(network.decode(z.to(device)))
        yield convert(output.images, model.image_range, _UNIT)
