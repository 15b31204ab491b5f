"""The data of tuning: its rule, and the search of each loss with its trials."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from recbench.plan.model import ComponentSpec, Frozen, OfFamilies, PublishedScore

REFERENCE = "l2"
"""The loss that the scales of all others are relative to."""


class Axis(Frozen):
    """The range of one hyperparameter that tuning chooses.

    Attributes:
        name: ``"kl_weight"``, whose range is multiplied by the scale of the loss, or a parameter of the loss.
        low: lowest value, included.
        high: highest value, included.
        log: spread candidates evenly over the logarithm of the value instead of the value.
        whole: allow whole numbers only.
    """

    name: str
    low: float
    high: float
    log: bool = False
    whole: bool = False


class Tuning(Frozen):
    """The rule by which every method of a suite is tuned, the same for all.

    Attributes:
        strategy: how candidates are proposed.
        budget: number of candidates in each search.
        seed: seed of the strategies that draw candidates.
        candidate_seeds: seeds that each candidate is trained with; its score is the mean over them.
        metric: label of the metric that selects, by its mean over the validation images.
        direction: whether higher or lower values of the metric are better, or the value that is best.
        seeds: seeds that the chosen candidate is trained with, to be scored on the test images.
        calibration_steps: number of steps over which the scale of a loss is measured if the suite does not give it.
    """

    strategy: Literal["grid", "random", "optuna"]
    budget: int = Field(ge=1)
    seed: int = 0
    candidate_seeds: tuple[int, ...]
    metric: str
    direction: Literal["higher", "lower"] | Annotated[float, Field(allow_inf_nan=False)]
    seeds: tuple[int, ...]
    calibration_steps: int = Field(50, ge=1)

    @property
    def calibration_seed(self) -> int:
        """Seed of the network that calibration trains: that of the first candidate."""
        return self.candidate_seeds[0]


class Trial(Frozen):
    """A candidate of a search.

    Attributes:
        method: its index in the plan's methods.
        values: its value on each axis; ``kl_weight`` is already multiplied by the scale of the loss.
        status: ``"open"`` while records are missing, ``"scored"``, or ``"failed"``: a job failed, diverged or has no
            value for the metric that selects.
        score: mean over its seeds of the metric that selects, on the validation images.
    """

    method: int
    values: dict[str, float]
    status: Literal["open", "scored", "failed"] = "open"
    score: float | None = None


class Search(OfFamilies):
    """The search over one loss under one setting: its trials, and the one that was chosen.

    Attributes:
        setting: index in the plan's settings.
        label: label of the loss, and of the method that is chosen.
        loss: the loss with its fixed parameters; tuned parameters have the value that they have without tuning.
        scale: factor on the range of KL weights that makes the loss's gradients as long as those of l2; None until it
            is calibrated.
        axes: the hyperparameters that are tuned, ``kl_weight`` first.
        trials: the candidates so far, in order.
        chosen: index of the best trial; None until all have ended, or if all failed.
        method: index in the plan's methods of what is scored on the test images; None like ``chosen``.
        edge: names of the hyperparameters whose chosen value is the lowest or highest that was tried, so that a better
            one may lie beyond.
        published: published numbers of the method, added to the plan when it is chosen; their ``method`` is not valid
            yet.
    """

    setting: int
    label: str
    loss: ComponentSpec
    scale: float | None
    axes: tuple[Axis, ...]
    trials: tuple[Trial, ...] = ()
    chosen: int | None = None
    method: int | None = None
    edge: tuple[str, ...] = ()
    published: tuple[PublishedScore, ...] = ()
