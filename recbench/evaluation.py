"""Evaluation: one pass over the test images feeds all metrics.

Metrics see images rounded to 8 bits, as if they had been saved and read again, because that is what published tables
are computed on. Reconstructions are decoded posterior means.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbench.contracts.metric import ImageMetric, Metric, SetMetric
from recbench.errors import RecbenchError
from recbench.store import Score
from recbench.training import Model, autocast, convert, reconstruct, take, to_range

KEPT_IMAGES = 16
_UNIT = (0.0, 1.0)


class NotFinite(RecbenchError):
    """The model gives reconstructions, or a metric gives scores, that are not numbers."""


@dataclass(frozen=True)
class Evaluation:
    """What evaluation found.

    Attributes:
        scores: by metric.
        per_image: by metric with values per image, and ``kl``: float64 (N,), in the order of the test images.
        kl: mean KL divergence in nats per image.
        pictures: uint8 (N, C, H, W): ``target`` and ``decoded`` for the first test images, and ``samples``, decoded
            draws from the prior.
    """

    scores: dict[str, Score]
    per_image: dict[str, NDArray[np.float64]]
    kl: float
    pictures: dict[str, NDArray[np.uint8]]


def to_8_bits(images: Tensor) -> Tensor:
    """Images in 0 to 1 as they would be saved: clamped and rounded to uint8."""
    return images.clamp(0, 1).mul(255).round().to(torch.uint8)


@torch.no_grad()
def evaluate(
    model: Model, metrics: Mapping[str, Metric], images: Tensor, *, batch_size: int, precision: str
) -> Evaluation:
    """Reconstruct all test images and score them.

    Args:
        images: uint8 (N, C, H, W), on the model's device or on the CPU.

    Raises:
        NotFinite: a reconstruction or a KL term is NaN or infinite, or a score is NaN.
    """
    device = next(model.architecture.parameters()).device
    model.architecture.eval()
    model.loss.eval()
    per_image: dict[str, list[Tensor]] = {}
    kept: dict[str, list[Tensor]] = {"target": [], "decoded": []}
    for start in range(0, len(images), batch_size):
        target = take(images, torch.arange(start, min(start + batch_size, len(images))), device)
        posterior, decoded, _ = reconstruct(model, target, precision)
        decoded = convert(decoded, model.image_range, _UNIT)
        kl = posterior.kl()
        if not (decoded.isfinite().all() and kl.isfinite().all()):
            raise NotFinite(f"the trained model gives NaN or infinity for test images {start} to {start + len(kl) - 1}")
        rounded = to_8_bits(decoded)
        if start < KEPT_IMAGES:
            kept["target"].append(target[: KEPT_IMAGES - start])
            kept["decoded"].append(rounded[: KEPT_IMAGES - start])
        per_image.setdefault("kl", []).append(kl.double())
        pair = to_range(rounded, _UNIT), to_range(target, _UNIT)
        for name, metric in metrics.items():
            if isinstance(metric, ImageMetric):
                per_image.setdefault(name, []).append(metric(*pair).double())
            elif isinstance(metric, SetMetric):
                metric.update(*pair)
    values = {name: torch.cat(parts).cpu().numpy() for name, parts in per_image.items()}
    scores = {name: _score(name, metric, values.get(name)) for name, metric in metrics.items()}
    pictures = {name: torch.cat(parts).cpu().numpy() for name, parts in kept.items()}
    pictures["samples"] = _samples(model, device, precision)
    return Evaluation(scores, values, float(values["kl"].mean()), pictures)


def _score(name: str, metric: Metric, values: NDArray[np.float64] | None) -> Score:
    if values is None:
        assert isinstance(metric, SetMetric)
        score = Score(mean=metric.compute(), std=None, n=0)
    else:
        with np.errstate(invalid="ignore"):  # the spread of infinite scores (PSNR of equal images) is not a number
            spread = float(values.std())
        score = Score(mean=float(values.mean()), std=None if math.isnan(spread) else spread, n=len(values))
    if math.isnan(score.mean):
        raise NotFinite(f"the metric {name} gave NaN on the test images")
    return score


def _samples(model: Model, device: torch.device, precision: str) -> NDArray[np.uint8]:
    """Decoded draws from the standard normal prior, the same draws for every method."""
    noise = torch.randn(KEPT_IMAGES, model.architecture.latent_size, generator=torch.Generator().manual_seed(0))
    with autocast(device, precision):
        decoded = model.architecture.decode(noise.to(device))
    rounded: NDArray[np.uint8] = to_8_bits(convert(decoded.float(), model.image_range, _UNIT)).cpu().numpy()
    return rounded
