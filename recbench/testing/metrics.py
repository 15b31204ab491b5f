"""The conformance test of metrics."""

from __future__ import annotations

import math
import tempfile
import unittest
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from recbench.contracts.checked import (
    check_independent,
    check_module,
    check_range,
    check_trace,
    check_unseeded,
    expanded,
    read_only,
    respected,
)
from recbench.contracts.checked_scores import check_score, check_scores
from recbench.contracts.entries import ImageShape, MetricEntry
from recbench.contracts.metric import BoundMetric, ImageMetric, Metric, Reference, SetMetric
from recbench.errors import UserError
from recbench.testing.case import BATCH, EntryCase
from recbench.testing.families import wrong_family

_COUNT = 24


@dataclass(frozen=True)
class MetricCase(EntryCase):
    """One check of one metric, with given parameters and images of one shape."""

    entry: MetricEntry
    shape: ImageShape

    def create(self) -> Metric:
        """Return the metric as the core creates it.

        Raises:
            AssertionError: the factory returns none of the three kinds of metric.
        """
        made = self.make(self.shape)
        kinds = ImageMetric | BoundMetric | SetMetric
        assert isinstance(made, kinds), f"expected an ImageMetric, BoundMetric or SetMetric, got {type(made).__name__}"
        takes = isinstance(made, SetMetric) or not self.entry.samples
        assert takes, f"samples=True is for a SetMetric; {type(made).__name__} scores single images"
        return made.eval()

    def range_of(self, name: str) -> tuple[float, float]:
        """Return the lowest and highest value of one of the metric's scores."""
        return self.entry.score(name).score_range or self.entry.score_range

    def images(self, count: int = BATCH) -> tuple[Tensor, Tensor]:
        """Return disturbed images and the images, as multiples of 1/255, float32 (count, C, H, W) in 0 to 1."""
        target = self.pixels(count, torch.float32)
        noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(2))
        return rounded(0.9 * target + 0.05 + 0.03 * noise), rounded(target)


def rounded(images: Tensor) -> Tensor:
    """Return images in 0 to 1 rounded to 8 bits."""
    return images.clamp(0, 1).mul(255).round().div(255)


@torch.no_grad()
def scores_are_numbers_in_range(case: MetricCase) -> None:
    """The metric gives a number for each image, or one for the set, in the declared range; its inputs stay the same."""
    metric, name = case.create(), case.entry.name
    if isinstance(metric, SetMetric):
        for of, score in _scores(case, metric, [BATCH] * (_COUNT // BATCH)).items():
            assert not math.isnan(score), f"expected a number{of and f' as {of}'}, got NaN"
            check_range(name, "compute()", torch.tensor([score]), case.range_of(of))
        return
    if isinstance(metric, BoundMetric):
        first = torch.full((BATCH,), -1000.0, dtype=torch.float64), torch.arange(1.0, BATCH + 1).double()
        with read_only(name, "forward", log_prob=first[0], kl=first[1]):
            returned = metric(*first)
    else:
        decoded, target = case.images()
        with read_only(name, "forward", decoded=decoded, target=target):
            returned = metric(decoded, target)
    for of, values in check_scores(name, "forward", returned, BATCH, case.entry.score_names).items():
        assert not values.isnan().any(), f"expected numbers{of and f' as {of}'}, got {values.tolist()}"
        check_range(name, "forward", values, case.range_of(of))


def _scores(case: MetricCase, metric: SetMetric, batches: Sequence[int]) -> dict[str, float]:
    """Return the scores of a set of images that is passed in batches of these sizes, by name."""
    decoded, target = case.images(sum(batches))
    with tempfile.TemporaryDirectory() as cache:
        pixels = target.mul(255).round().to(torch.uint8)
        metric.prepare(Reference(pixels, "conformance", Path(cache), torch.device("cpu"), "test", pixels))
        for one, other in zip(torch.split(decoded, list(batches)), torch.split(target, list(batches)), strict=True):
            with read_only(case.entry.name, "update", decoded=one, target=other):
                metric.update(one, other)
    try:
        returned = metric.compute()
    except UserError as error:
        raise unittest.SkipTest(f"{case.entry.name} has no score of made-up images: {error}") from error
    scores = check_score(case.entry.name, returned, case.entry.score_names)
    check_trace(case.entry.name, "trace", metric.trace(), None)
    return scores


@torch.no_grad()
def batches_do_not_matter(case: MetricCase) -> None:
    """Other images of a batch have no influence on an image's score; nor has the size of batches on a set's."""
    metric, name, names = case.create(), case.entry.name, case.entry.score_names
    if isinstance(metric, SetMetric):
        once = _scores(case, metric, [_COUNT])
        twice = _scores(case, case.create(), [_COUNT // 2 + 1, _COUNT // 2 - 1])  # type: ignore[arg-type]
        for of, one in once.items():
            near = abs(one - twice[of]) <= 1e-3 * max(abs(one), 1e-3)
            assert near, f"{one:g} for one batch, {twice[of]:g} for two{of and f', as {of}'}"
    elif isinstance(metric, ImageMetric):
        decoded, target = case.images()
        for of in names:

            def of_name(one: Tensor, other: Tensor, of: str = of) -> Tensor:
                return check_scores(name, "forward", metric(one, other), len(one), names)[of]

            check_independent(name, "forward", of_name, decoded, target, "")
            of_name(decoded[:1], target[:1])


@torch.no_grad()
def equal_images_score_best(case: MetricCase) -> None:
    """Noise does not make the score of a perfect reconstruction better."""
    metric = case.create()
    if not isinstance(metric, ImageMetric):
        return
    _, target = case.images()
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(3))
    names = case.entry.score_names
    equal, disturbed = (
        check_scores(case.entry.name, "forward", metric(images, target), len(target), names)
        for images in (target, rounded(target + 0.2 * noise))
    )
    for of in names:
        best, worse, direction = equal[of], disturbed[of], case.entry.score(of).direction
        if direction not in ("higher", "lower"):
            continue
        assert not best.isnan().any(), f"expected numbers for equal images, got {best.tolist()}"
        ordered = (best >= worse - 1e-6) if direction == "higher" else (best <= worse + 1e-6)
        assert ordered.all(), f"{direction} is better, but noise takes {best.tolist()} to {worse.tolist()}"


@torch.no_grad()
def a_metric_leaves_global_state_alone(case: MetricCase) -> None:
    """No global random generator is reseeded, and no global setting of torch changed; its state can be stored."""
    name = case.entry.name
    with respected(name, "its constructor"):
        metric = case.create()
    check_module(name, metric)
    shared = expanded(metric)
    assert not shared, f"expected buffers with memory of their own, but {', '.join(shared)} is expanded: .clone() it"
    decoded, target = case.images()
    if isinstance(metric, ImageMetric):
        single = metric
        with respected(name, "forward"):
            single(decoded, target)
        check_unseeded(name, "forward", lambda: single(decoded, target))
    elif isinstance(metric, SetMetric):
        with respected(name, "update and compute"):
            _scores(case, metric, [_COUNT])


def the_family_of_a_metric_is_not_misspelt(case: MetricCase) -> None:
    """The entry's family is not nearly, but not quite, that of another loss or metric."""
    wrong_family(case.entry)


METRIC_CHECKS = (
    scores_are_numbers_in_range,
    batches_do_not_matter,
    equal_images_score_best,
    a_metric_leaves_global_state_alone,
    the_family_of_a_metric_is_not_misspelt,
)
