"""Synthetic leaderboards whose truth is known, for tests of statistics."""

from __future__ import annotations

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

    def scores(self, generator: np.random.Generator) -> list[NDArray[np.float64]]:
        """Return the scores of each method, (S, N)."""
        methods = len(self.means)
        training = np.broadcast_to(np.asarray(self.training, dtype=np.float64), methods)
        image = self.image * draw(generator, self.tails, (1, 1, self.images))
        both = self.both * draw(generator, self.tails, (methods, 1, self.images))
        rest = self.rest * draw(generator, self.tails, (methods, self.seeds, self.images))
        effects = training[:, None, None] * draw(generator, self.training_tails, (methods, self.seeds, 1))
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
