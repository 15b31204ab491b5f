"""Scores of any loss or metric on two given sets of images, outside of training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from recbench.contracts.checked_scores import check_score, check_scores
from recbench.contracts.entries import ImageShape, LossEntry, MetricEntry, Range
from recbench.contracts.loss import Context, Setting
from recbench.contracts.metric import BoundMetric, ImageMetric, Reference, SetMetric
from recbench.data.weights import lacking
from recbench.errors import UserError
from recbench.job.evaluation import compared
from recbench.job.image_sets import check_order, few, image_names, read_images
from recbench.job.images import convert, to_8_bits
from recbench.job.parts import MetricSpec, create_loss, create_metric
from recbench.job.training import seed_everything
from recbench.plugin.registry import Registered
from recbench.store.record import ComparedSets

BATCH = 64
_UNIT = (0.0, 1.0)


@dataclass(frozen=True)
class ImagePair:
    """Decoded and target images, (N, C, H, W), and the value range that they are in."""

    decoded: Tensor
    target: Tensor
    value_range: Range

    @property
    def shape(self) -> ImageShape:
        _, channels, height, width = self.decoded.shape
        return ImageShape(channels, height, width)


@dataclass(frozen=True)
class StandaloneScore:
    """The values of a loss, or of one score of a metric, on given images.

    Attributes:
        name: of the loss or metric; of a metric with several scores, that of the score.
        params: all parameters that it was computed with.
        per_image: one value for each image; None for a metric of the whole set.
        mean: over the images, or the value of the set.
        grad_norm: Euclidean norm of the gradient, by the decoded image in its given range, for each image.
        warning: what a reader of the value must know.
        compared: what a distance between sets of images compared.
    """

    name: str
    params: dict[str, Any]
    per_image: list[float] | None
    mean: float
    grad_norm: list[float] | None = None
    warning: str = ""
    compared: ComparedSets | None = None


def read_pair(decoded: Path, target: Path, value_range: Range | None, dtype: torch.dtype) -> ImagePair:
    """Read two .npy arrays, (N, C, H, W), or two folders of images with the same file names.

    Args:
        value_range: of floating-point arrays, by default 0 to 1. Whole numbers of 8 bits are brought to 0 to 1.

    Raises:
        UserError: a file cannot be read or is not a set of images, or the two sets differ in shape or names.
    """
    ours, ours_range = _read(decoded, value_range, dtype)
    theirs, theirs_range = _read(target, value_range, dtype)
    if decoded.is_dir() and target.is_dir() and image_names(decoded) != image_names(target):
        odd = sorted(set(image_names(decoded)) ^ set(image_names(target)))
        raise UserError(f"{decoded} and {target} hold different files: {few(odd)} in one of them only")
    check_order(decoded, target)
    if ours.shape != theirs.shape:
        raise UserError(f"{decoded} is {_dimensions(ours)}, {target} is {_dimensions(theirs)}; they must be equal")
    return ImagePair(convert(ours, ours_range, theirs_range), theirs, theirs_range)


def score_loss(
    registered: Registered, params: Mapping[str, Any], pair: ImagePair, *, epoch: int | None, gradient: bool, seed: int
) -> StandaloneScore:
    """Compute a loss for each image; see :class:`StandaloneScore`.

    Losses that couple the images of a batch see all of them as one batch.

    Raises:
        UserError: the loss cannot take such images, lacks its weights, or needs a latent z.
    """
    entry = cast(LossEntry, registered.entry)
    params = _complete(registered, params, pair.shape)
    seed_everything(seed, deterministic=True)
    loss = create_loss(registered, params, Setting(pair.shape, latent_size=1))
    loss.to(pair.decoded.dtype).eval()
    size = len(pair.decoded) if entry.couples(params) else BATCH
    values, norms = [], []
    for decoded, target in _batches(pair, size):
        images = decoded.clone().requires_grad_(gradient)
        both = (convert(each, pair.value_range, entry.value_range) for each in (images, target))
        try:
            value = _per_image(registered, loss(*both, Context(epoch=epoch)), len(decoded))
        except (ValueError, RuntimeError) as error:
            raise UserError(f"{entry.name} cannot be computed for these images: {error}") from error
        values.append(value.detach())
        if gradient:
            value.sum().backward()  # type: ignore[no-untyped-call]
            assert images.grad is not None
            norms.append(images.grad.flatten(1).norm(dim=1))
    found = torch.cat(values).double()
    norm = torch.cat(norms).tolist() if gradient else None
    return StandaloneScore(entry.name, params, found.tolist(), float(found.mean()), norm)


@torch.no_grad()
def score_metric(
    registered: Registered, params: Mapping[str, Any], pair: ImagePair, *, seed: int, cache: Path
) -> tuple[StandaloneScore, ...]:
    """Compute a metric on images as in evaluation (for most metrics rounded to 8 bits); see :class:`StandaloneScore`.

    Args:
        cache: folder where what a metric computes from the targets may be kept.

    Returns:
        Each of its scores; of most metrics there is one.

    Raises:
        UserError: the metric cannot take such images, or lacks its weights.
        ContractError: it returns something other than its entry declares.
    """
    entry = cast(MetricEntry, registered.entry)
    params = _complete(registered, params, pair.shape)
    seed_everything(seed, deterministic=True)
    metric = create_metric(registered, params, pair.shape)
    metric.to(pair.decoded.dtype).eval()
    if isinstance(metric, BoundMetric):
        raise UserError(f"{entry.name} scores a model, not images: it needs the posterior of a trained one")
    values: list[dict[str, Tensor]] = []
    part, names = str(registered), entry.score_names
    if isinstance(metric, SetMetric):
        images = to_8_bits(convert(pair.target, pair.value_range, _UNIT))
        content = hashlib.sha256(images.numpy().tobytes()).hexdigest()
        reference = Reference(images, f"{content} {tuple(images.shape)}", cache / "references", images.device)
        try:
            metric.prepare(reference)
        except UserError as error:
            raise UserError(f"{entry.name} {error}") from error
    for both in _batches(pair, BATCH):
        shown = [convert(each, pair.value_range, _UNIT) for each in both]
        if entry.rounded:
            shown = [to_8_bits(each).to(each.dtype) / 255 for each in shown]
        if isinstance(metric, ImageMetric):
            values.append(check_scores(part, "forward", metric(*shown), len(shown[0]), names))
        elif isinstance(metric, SetMetric):
            metric.update(*shown)
    if isinstance(metric, SetMetric):
        scores = check_score(part, metric.compute(), names)
        spec = MetricSpec(metric, convention=entry.convention, params=params)
        of = compared(spec, reference)
        return tuple(
            StandaloneScore(name or entry.name, params, None, score, warning=metric.warning, compared=of)
            for name, score in scores.items()
        )
    found = {name: torch.cat([batch[name] for batch in values]).double() for name in names}
    return tuple(
        StandaloneScore(name or entry.name, params, each.tolist(), float(each.mean()), warning=metric.warning)
        for name, each in found.items()
    )


def _per_image(registered: Registered, value: object, count: int) -> Tensor:
    """Return the value of a loss, if it is one number for each image."""
    if isinstance(value, Tensor) and value.shape == (count,) and not value.is_complex():
        return value
    culprit = f"{registered.entry.name} of {registered.plugin.provider}"
    raise UserError(f"{culprit} must return one value per image, a tensor of shape ({count},), got {_kind(value)}")


def _kind(value: object) -> str:
    shape = getattr(value, "shape", None)
    return type(value).__name__ if shape is None else f"a {type(value).__name__} of shape {tuple(shape)}"


def _complete(registered: Registered, params: Mapping[str, Any], shape: ImageShape) -> dict[str, Any]:
    entry = registered.entry
    complete = entry.complete(params)
    reasons = entry.refusals(shape, complete)
    if not reasons:
        reasons = list(filter(None, [lacking(entry, shape, complete)]))
    if reasons:
        raise UserError("\n".join(f"{entry.name} cannot take the {shape} images: it {reason}" for reason in reasons))
    return complete


def _batches(pair: ImagePair, size: int) -> list[tuple[Tensor, Tensor]]:
    return list(zip(torch.split(pair.decoded, size), torch.split(pair.target, size), strict=True))


def _read(path: Path, value_range: Range | None, dtype: torch.dtype) -> tuple[Tensor, Range]:
    return as_images(read_images(path), path, value_range, dtype)


def as_images(
    array: np.ndarray[Any, Any], path: Path, value_range: Range | None, dtype: torch.dtype
) -> tuple[Tensor, Range]:
    """Return images (N, C, H, W) as read from a path, and their value range; bytes are brought to 0 to 1.

    Raises:
        UserError: the values do not go with the range, or are not finite.
    """
    if array.dtype == np.uint8:
        if value_range is not None:
            raise UserError(f"{path} holds whole numbers of 8 bits, whose range is 0 to 255; leave out --range")
        return torch.from_numpy(array).to(dtype) / 255, _UNIT
    images = torch.from_numpy(array).to(dtype)
    if not images.isfinite().all():
        raise UserError(f"{path} holds NaN or infinity")
    return images, value_range or _UNIT


def _dimensions(images: Tensor) -> str:
    return "x".join(map(str, images.shape))
