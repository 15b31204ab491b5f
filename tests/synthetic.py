"""Synthetic leaderboards whose truth is known, for tests of statistics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Tails = Literal["normal", "heavy", "skewed"]


@dataclass(frozen=True)
class World:
    """A random model of scores: a mean for each method, and effects around it with these standard deviations.

    Attributes:
        means: of the methods; the truth that intervals are to cover.
        seeds: trainings of each method.
        training: of a training's effect on all of its scores; one for all methods, or one for each.
        image: of an image's effect on the scores of all methods.
        both: of an image's effect on one method.
        rest: of the residual.
        tails: of the effects of images and of the rest: ``"heavy"`` is Student's t with 3 degrees of freedom,
            ``"skewed"`` log-normal with a skewness of 3.3.
        training_tails: of the effects of trainings.
        shared: the correlation between the effects of two methods' trainings with the same seed, from 0 to 1.
    """

    means: Sequence[float]
    seeds: int
    images: int
    training: float | Sequence[float] = 1.0
    image: float = 20.0
    both: float = 5.0
    rest: float = 3.0
    tails: Tails = "normal"
    training_tails: Tails = "normal"
    shared: float = 0.0

    def scores(self, generator: np.random.Generator) -> list[NDArray[np.float64]]:
        """Return the scores of each method, (S, N)."""
        methods = len(self.means)
        training = np.broadcast_to(np.asarray(self.training, dtype=np.float64), methods)
        image = self.image * draw(generator, self.tails, (1, 1, self.images))
        both = self.both * draw(generator, self.tails, (methods, 1, self.images))
        rest = self.rest * draw(generator, self.tails, (methods, self.seeds, self.images))
        effects = draw(generator, self.training_tails, (methods, self.seeds, 1))
        if self.shared:
            seed = draw(generator, self.training_tails, (1, self.seeds, 1))
            effects = math.sqrt(self.shared) * seed + math.sqrt(1 - self.shared) * effects
        effects = training[:, None, None] * effects
        return list(np.asarray(self.means)[:, None, None] + effects + image + both + rest)


def draw(generator: np.random.Generator, tails: Tails, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return numbers with mean 0 and standard deviation 1."""
    if tails == "heavy":
        return generator.standard_t(3, shape) / np.sqrt(3)
    if tails == "skewed":
        spread = 0.75
        values = np.exp(spread * generator.standard_normal(shape) - spread**2 / 2)
        return np.asarray((values - 1) / np.sqrt(np.exp(spread**2) - 1))
    return generator.standard_normal(shape)


ODD = ("outliers", "nearly constant", "cut", "ties", "heavy", "skewed")
"""Kinds of scores that are far from normal, and the same for all methods."""


def odd_scores(
    kind: str, methods: int, seeds: int, images: int, generator: np.random.Generator
) -> list[NDArray[np.float64]]:
    """Return scores of equal methods, (seeds, images) each, as metrics may give them; they share the images.

    Args:
        kind: ``outliers``: 0 for all but 5% of the images; ``nearly constant``: 1 for all but 5%, which are 0;
            ``cut``: a similarity that is cut off at 0, as it is for two thirds of the images; ``ties``: few different
            values; ``heavy``: Student's t with 3 degrees of freedom; ``skewed``: log-normal.
    """
    image = generator.standard_normal(images)
    own = (0.8 * image + 0.6 * generator.standard_normal((seeds, images)) for _ in range(methods))
    rare = generator.random(images) < 0.05
    if kind == "outliers":
        return [np.where(rare, 0.3 + 0.05 * each, 0) for each in own]
    if kind == "nearly constant":
        return [np.where(rare, 0, 1 + 1e-4 * each) for each in own]
    if kind == "cut":
        return [np.maximum(0.2 * each - 0.1, 0) for each in own]
    if kind == "ties":
        return [np.round(0.6 * each) for each in own]
    if kind == "heavy":
        common = np.sqrt(generator.chisquare(3, images) / 3)
        return [each / common for each in own]
    return [np.exp(each) for each in own]


def odd_mean(kind: str) -> float:
    """Return the mean of :func:`odd_scores` over all images."""
    cut = 0.2 * (math.exp(-(0.5**2) / 2) / math.sqrt(2 * math.pi) - 0.5 * math.erfc(0.5 / math.sqrt(2)) / 2)
    means = {"outliers": 0.015, "nearly constant": 0.95, "cut": cut, "ties": 0.0, "heavy": 0.0}
    return means.get(kind, math.exp(0.5))
