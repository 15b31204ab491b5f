"""The parts of a leaderboard: plain data, which text formats, reports and comparisons show.

They are filled in by :mod:`recbench.analysis.ranking`; docs/statistics.md defines intervals and tiers.
"""

from __future__ import annotations

import string
from typing import Literal

from pydantic import Field

from recbench.analysis.tuning import Tuned
from recbench.plan.model import Column, Frozen, OfFamilies
from recbench.store.record import ComparedSets, Cost, Number

LETTERS = string.ascii_lowercase + string.ascii_uppercase
"""The letters of tiers, best first; after them come ``(53)``, ``(54)``, …"""


class MetricCell(Frozen):
    """A metric of a method.

    Attributes:
        mean: mean over seeds of the mean over test images; infinitely good scores of images count as the best finite
            one of the job.
        std_images: spread over test images within a seed: root of the mean variance over seeds; null for set metrics.
        std_seeds: standard deviation (n − 1) of the seeds' means; null with a single seed.
        rank: place among the ranked methods by this metric (1 is best, ties share the mean place); null if unranked.
        best: whether the method is ranked and no ranked method is better by this metric.
        interval: of the mean at the board's confidence, over all trainings and images; with a single seed over all
            images, for this training; null if neither spread is known.
        rank_interval: best and worst rank that the significant differences leave.
        tier: letters of its tiers among the ranked methods, by this metric; those that share a letter do not differ
            significantly.
        in_family: whether the metric is of the family of the method's loss.
        infinite: number of infinite scores of test images, over all seeds.
    """

    mean: Number
    std_images: Number | None
    std_seeds: Number | None
    rank: float | None = None
    best: bool = False
    interval: tuple[Number, Number] | None = None
    rank_interval: tuple[int, int] | None = None
    tier: str | None = None
    in_family: bool = False
    infinite: int = 0


class Warned(Frozen):
    """A health check that a method did not pass, as :class:`recbench.store.record.Symptom` has it.

    Attributes:
        value: the number that raised it; of several seeds, the one farthest beyond the threshold.
        seeds: those whose jobs did not pass it; empty for checks of the whole method.
    """

    check: str
    value: float
    threshold: float
    sentence: str
    seeds: tuple[int, ...] = ()


class Row(OfFamilies):
    """A method on a board, or a baseline below it.

    Attributes:
        place: by mean rank, from 1; ties share a place; null if the method is not ranked.
        kl_weight: null if tuning has chosen none.
        status: ``"ranked"``, ``"incomplete"`` (seeds missing), ``"failed"`` or ``"diverged"`` (a seed ended so).
        mean_rank: mean of its ranks by the board's ranking metrics.
        out_of_family_rank: mean rank by metrics of neither method's family: two methods are compared only by metrics
            that are in-family for neither; null if there is no such metric.
        out_of_family_place: by out-of-family rank, from 1.
        borda: for each ranking metric one point per worse method, and half a point per equal one.
        pareto: whether no ranked method is at least as good by all ranking metrics and better by one.
        rank_interval: best and worst rank that the significant differences leave; see ``OverallVerdict``.
        tier: letters of its tiers over all ranking metrics: two methods share a letter exactly if they do not differ
            significantly.
        tuned: how its values were chosen, in a suite with tuning.
        training_seconds: of the training steps of a seed, on average.
        time_to: seconds of training until the requested target; infinite if it was not reached.
        trouble: one line per seed that failed or diverged.
        health: health checks that it did not pass (docs/health.md).
        baseline: for a baseline, the name of its architecture; its loss is empty, its status ``"baseline"`` once it has
            scores, and its parameters are those of the architecture.
    """

    place: int | None
    label: str
    loss: str
    params: dict[str, object]
    kl_weight: float | None
    status: Literal["ranked", "incomplete", "failed", "diverged", "baseline"]
    seeds_done: int
    seeds: int
    mean_rank: float | None
    cells: dict[str, MetricCell]
    kl: float | None
    cost: Cost | None = None
    training_seconds: float | None = None
    time_to: Number | None = None
    trouble: tuple[str, ...] = ()
    out_of_family_rank: float | None = None
    out_of_family_place: int | None = None
    borda: float | None = None
    pareto: bool = False
    rank_interval: tuple[int, int] | None = None
    tier: str | None = None
    tuned: Tuned | None = None
    health: tuple[Warned, ...] = ()
    baseline: str = ""


class Verdict(Frozen):
    """The significant differences between ranked methods by one metric.

    Attributes:
        basis: the population that intervals and tests speak about: all trainings and images; with single seeds, all
            images but these trainings only; for a metric of whole sets, all trainings but these images; or nothing.
        by_image: whether methods were compared image by image; otherwise as if each had its own images.
        p: two-sided p-values of all pairs of rows, Holm-corrected over all of them, in the order of
            ``itertools.combinations`` over the board's ranked rows. Two methods differ significantly if their p-value
            is at most 1 − the board's confidence.
        groups: the longest runs of methods, best first, of which no two differ significantly, as indices of rows.
    """

    basis: Literal["seeds and images", "images", "seeds", "nothing"]
    by_image: bool
    p: tuple[float, ...]
    groups: tuple[tuple[int, ...], ...]


class OverallVerdict(Frozen):
    """The significant differences between ranked methods over all ranking metrics.

    Attributes:
        better: for all pairs of rows, in the order of ``itertools.combinations`` over the board's ranked rows, whether
            the first is significantly better: by more metrics than the second, with p-values that are Holm-corrected
            over all pairs and ranking metrics, and by its mean rank.
        groups: as for a metric, in the order of mean ranks.
    """

    better: tuple[bool, ...]
    groups: tuple[tuple[int, ...], ...]


class Board(Frozen):
    """The methods of one setting, best first; then those that cannot be ranked.

    Attributes:
        ranking: labels of the metrics that rank.
        confidence: of intervals, rank intervals and tiers; null without statistics.
        verdicts: by metric that every ranked method has a value for.
        target: the score that ``time_to`` of the rows is the time to.
        baselines: fitted in closed form to the same images, scored by the same metrics, and never ranked.
        compared: by metric that is a distance between two sets of images, what its scores compared; more than one
            entry if those of some methods or seeds compared something else.
    """

    setting: str
    shape: tuple[int, int, int]
    protocol: str | None
    test_images: int | None
    columns: tuple[Column, ...]
    ranking: tuple[str, ...]
    rows: tuple[Row, ...]
    confidence: float | None = None
    verdicts: dict[str, Verdict] = Field(default_factory=dict)
    overall: OverallVerdict | None = None
    target: str = ""
    baselines: tuple[Row, ...] = ()
    compared: dict[str, tuple[ComparedSets, ...]] = Field(default_factory=dict)


class Leaderboard(Frozen):
    """All boards of a suite, with how many of its jobs are done."""

    suite: str
    description: str
    jobs: int
    done: int
    boards: tuple[Board, ...]
    notes: tuple[str, ...] = ()
