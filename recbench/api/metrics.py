"""Metrics for evaluation loops of one's own."""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from recbench.api.entries import PluginFiles, check_accepted, chosen, image_shape
from recbench.contracts.checked_scores import check_score, check_scores
from recbench.contracts.entries import ImageShape, MetricEntry
from recbench.contracts.metric import BoundMetric, ImageMetric, Metric, Reference, SetMetric
from recbench.data.cache import default_cache
from recbench.errors import UserError
from recbench.job.images import to_8_bits
from recbench.job.parts import create_metric, own_random_states
from recbench.plugin.registry import Registered

_CPU = torch.device("cpu")
_BATCH = 64

MetricOutput = Tensor | float | dict[str, Tensor] | dict[str, float]
"""What a metric gives: scores of images, or of their set; several of them by name."""
_One = TypeVar("_One", Tensor, float)


def metric(
    name: str, *, shape: tuple[int, int, int] | None = None, plugins: PluginFiles = (), **params: Any
) -> StandaloneMetric:
    """Return a metric for an evaluation loop of one's own::

        ssim = recbench.metric("ssim")
        ssim(decoded, target)  # a score for each image; of a metric of whole sets, its score

    or, batch by batch, ``ssim.update(decoded, target)`` and then ``ssim.compute()``. A metric with several scores, such
    as precision and recall, gives them by name.

    Args:
        name: of the metric, as ``recbench list metrics`` prints it.
        shape: (channels, height, width) of the images; by default that of the first ones.
        plugins: single-file plugins that may offer it.
        params: its parameters, as ``recbench show metric NAME`` lists them; the others have their defaults.

    Raises:
        UserError: there is no such metric or parameter, it scores models rather than images, it cannot take such
            images, or its pretrained weights are not on this machine.
    """
    registered, complete = chosen("metrics", name, params, plugins)
    return StandaloneMetric(registered, complete, image_shape(shape) if shape is not None else None)


def _unnamed(scores: dict[str, _One]) -> _One | dict[str, _One]:
    """Return the score of a metric that has one; those of others by name."""
    return scores.get("", scores)


class StandaloneMetric:
    """A metric of images in 0 to 1, as in evaluation: for most metrics, they are rounded to 8 bits first.

    Attributes:
        warning: what a reader of the last score must know; empty for most.
    """

    def __init__(self, registered: Registered, params: dict[str, Any], shape: ImageShape | None) -> None:
        self.registered = registered
        self.params = params
        self.warning = ""
        self.shape = shape
        self._metric: Metric | None = None
        self._scores: list[dict[str, Tensor]] = []
        self._images: list[tuple[Tensor, Tensor]] = []
        if shape is not None:
            self._made(shape)

    @property
    def entry(self) -> MetricEntry:
        """The metric's entry: direction, range, family, citation, notes."""
        return cast(MetricEntry, self.registered.entry)

    @torch.no_grad()
    def __call__(self, decoded: Tensor, target: Tensor) -> MetricOutput:
        """Return the score of each image, (B,), or that of the whole set for a metric of sets; of a metric with several
        scores, each by its name.

        Args:
            decoded: decoded images, or samples, floats (B, C, H, W) in 0 to 1 or uint8.
            target: test images of the same shape.

        Raises:
            UserError: the images have another shape.
        """
        both = self._checked(decoded, target)
        found = self._made(self._shape_of(decoded)).to(decoded.device)
        if isinstance(found, ImageMetric):
            return _unnamed(self._per_image(found, *both))
        assert isinstance(found, SetMetric)
        return _unnamed(self._of_set(found, *both))

    @torch.no_grad()
    def update(self, decoded: Tensor, target: Tensor) -> None:
        """Add a batch; see :meth:`__call__`. A metric of whole sets keeps the images until :meth:`compute`."""
        both = self._checked(decoded, target)
        found = self._made(self._shape_of(decoded)).to(decoded.device)
        if isinstance(found, ImageMetric):
            scores = self._per_image(found, *both)
            self._scores.append({name: values.double().cpu() for name, values in scores.items()})
        else:
            self._images.append(both)

    @torch.no_grad()
    def compute(self) -> float | dict[str, float]:
        """Return the mean score of all images since the last :meth:`reset`, or the score of their set; of a metric with
        several scores, each by its name.

        Raises:
            UserError: there were none.
        """
        if self._scores:
            names = self._scores[0]
            return _unnamed({name: float(torch.cat([one[name] for one in self._scores]).mean()) for name in names})
        if not self._images:
            raise UserError(f"{self.entry.name}: no images yet; give it some with update(decoded, target)")
        assert isinstance(self._metric, SetMetric)
        decoded, target = (torch.cat(images) for images in zip(*self._images, strict=True))
        return _unnamed(self._of_set(self._metric, decoded, target))

    def reset(self) -> None:
        """Forget all images."""
        self._scores, self._images = [], []

    def _made(self, shape: ImageShape) -> Metric:
        """Return the metric for images of a shape."""
        if self._metric is None or shape != self.shape:
            check_accepted(self.entry, shape, self.params)
            with own_random_states(_CPU):
                self._metric = create_metric(self.registered, self.params, shape).eval()
            self.shape = shape
            if isinstance(self._metric, BoundMetric):
                raise UserError(
                    f"{self.entry.name} scores a model, not images: it needs the posterior of a trained one"
                )
        return self._metric

    def _per_image(self, found: ImageMetric, decoded: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the scores of each image by name."""
        names = self.entry.score_names
        return check_scores(str(self.registered), "forward", found(decoded, target), len(decoded), names)

    def _of_set(self, found: SetMetric, decoded: Tensor, target: Tensor) -> dict[str, float]:
        """Return the scores of a set by name, by a metric that has seen no other images."""
        assert self.shape is not None
        with own_random_states(_CPU):
            fresh = create_metric(self.registered, self.params, self.shape).to(decoded.device).eval()
        assert isinstance(fresh, SetMetric)
        pixels = to_8_bits(target)
        content = hashlib.sha256(pixels.cpu().numpy().tobytes()).hexdigest()
        folder = default_cache() / "references"
        try:
            fresh.prepare(Reference(pixels, f"{content} {tuple(pixels.shape)}", folder, decoded.device))
        except UserError as error:
            raise UserError(f"{self.entry.name} {error}") from error
        for one, other in zip(torch.split(decoded, _BATCH), torch.split(target, _BATCH), strict=True):
            fresh.update(one, other)
        scores = check_score(str(self.registered), fresh.compute(), self.entry.score_names)
        self.warning = fresh.warning
        return scores

    def _shape_of(self, images: Tensor) -> ImageShape:
        shape = ImageShape(*images.shape[1:])
        if self.shape is not None and shape != self.shape and (self._scores or self._images):
            raise UserError(f"{self.entry.name}: images are {self.shape} until reset(), got {shape}")
        return shape

    def _checked(self, decoded: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return images as the metric takes them, float32 in 0 to 1."""
        name = self.entry.name
        for what, images in (("decoded", decoded), ("target", target)):
            fits = isinstance(images, Tensor) and (images.is_floating_point() or images.dtype == torch.uint8)
            if not fits or images.ndim != 4 or not images.numel():
                came = f"{images.dtype} {tuple(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
                raise UserError(f"{name}: {what} must be floats in 0 to 1 or uint8, (B, C, H, W), got {came}")
        if decoded.shape != target.shape or decoded.device != target.device:
            came = f"{tuple(decoded.shape)} on {decoded.device} and {tuple(target.shape)} on {target.device}"
            raise UserError(f"{name}: decoded and target must have one shape and device, got {came}")
        return self._as_shown(decoded), self._as_shown(target)

    def _as_shown(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            return images.float() / 255
        return to_8_bits(images.float()).float() / 255 if self.entry.rounded else images.float()
