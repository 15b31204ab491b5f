"""Tuning: every method gets the same number of candidates, and the validation images choose among them.

Everything here is a pure function of the plan and of the records that there are. A suite's plan grows with
:func:`grow`: strategies are replayed from the records, so that nothing has to be remembered between two runs.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal, Protocol

from recbench.errors import UserError
from recbench.plan.model import (
    Axis,
    EvaluationSplit,
    Method,
    Plan,
    PlannedJob,
    PublishedScore,
    Search,
    Trial,
    Tuning,
    brief,
    digest,
    job_of,
)

Values = dict[str, float]
Direction = Literal["higher", "lower"]
KL_WEIGHT = "kl_weight"
NEEDS_OPTUNA = "strategy optuna needs a package that is not installed: pip install 'recbench[optuna]'"


class _Score(Protocol):
    @property
    def mean(self) -> float: ...


class Judged(Protocol):
    """What tuning reads of a record (:class:`recbench.store.record.Result`)."""

    @property
    def status(self) -> str: ...
    @property
    def scores(self) -> Mapping[str, _Score]: ...


def grow(plan: Plan, records: Mapping[str, Judged]) -> Plan:
    """The plan with all jobs that can be known by now.

    Candidates come first, to be scored on the validation images; once all of a search have a record, the chosen one
    follows with all seeds, to be scored on the test images. Growing a plan again with the same records changes nothing.

    Args:
        plan: of a suite with tuning; any other is given back as it is. What it has grown before is laid out anew.
        records: by job id. A candidate with a record of a failure counts as tried, and loses.

    Raises:
        UserError: the strategy needs a package that is not installed.
    """
    if plan.tuning is None:
        return plan
    growth = _Growth(plan, plan.tuning, records)
    searches = tuple(growth.search(search) for search in plan.searches)
    return plan.model_copy(
        update={
            "methods": tuple(growth.methods),
            "jobs": (*growth.candidates.values(), *growth.finals.values()),
            "published": tuple(growth.published),
            "searches": searches,
        }
    )


def with_scales(plan: Plan, scales: Mapping[tuple[int, str], float]) -> Plan:
    """The plan with the scales that calibration found, by setting and label, where the suite gives none."""
    searches = (
        search
        if search.scale is not None
        else search.model_copy(update={"scale": scales.get((search.setting, search.label))})
        for search in plan.searches
    )
    return plan.model_copy(update={"searches": tuple(searches)})


class _Growth:
    """Collects the methods and jobs of a plan while it grows."""

    def __init__(self, plan: Plan, tuning: Tuning, records: Mapping[str, Judged]) -> None:
        self.plan = plan
        self.tuning = tuning
        self.records = records
        self.methods: list[Method] = []
        self.places: dict[tuple[object, ...], int] = {}
        self.candidates: dict[str, PlannedJob] = {}
        self.finals: dict[str, PlannedJob] = {}
        self.published: list[PublishedScore] = []

    def search(self, search: Search) -> Search:
        """A search as the records have it, from the start."""
        tried = [] if search.scale is None else list(self.tries(search, search.scale))
        chosen = None
        if len(tried) == self.tuning.budget and all(attempt.status != "open" for attempt in tried):
            chosen = select([attempt.score for attempt in tried], self.tuning.direction)
        method = None
        if chosen is not None:
            best = self.methods[tried[chosen].method]
            method = self.method(best.model_copy(update={"label": search.label}))
            self.finals.update(self.jobs(search.setting, method, self.tuning.seeds, "test"))
            self.published += [printed.model_copy(update={"method": method}) for printed in search.published]
        edge = () if chosen is None else at_edge([attempt.values for attempt in tried], chosen)
        return search.model_copy(update={"tried": tuple(tried), "chosen": chosen, "method": method, "edge": edge})

    def tries(self, search: Search, scale: float) -> Iterator[Trial]:
        """The candidates so far."""
        if self.tuning.strategy != "optuna":
            for values in candidates(self.tuning, search.axes):
                yield self.attempt(search, values, scale)
            return
        study = OptunaStudy(self.tuning, search.axes)
        for _ in range(self.tuning.budget):
            attempt = self.attempt(search, study.ask(), scale)
            yield attempt
            if attempt.status == "open":
                return  # what comes next depends on how it does
            study.tell(attempt.score)

    def attempt(self, search: Search, values: Values, scale: float) -> Trial:
        """One candidate, with its jobs in the plan and its score where its records are there."""
        axes = {axis.name: axis for axis in search.axes}
        scaled = {**values, KL_WEIGHT: _rounded(scale * values[KL_WEIGHT])}
        params = {name: int(v) if axes[name].whole else v for name, v in scaled.items() if name != KL_WEIGHT}
        label = " ".join([search.label, *(f"{name}={brief(value)}" for name, value in {**scaled, **params}.items())])
        loss = search.loss.model_copy(update={"params": {**search.loss.params, **params}})
        method = self.method(Method(label=label, loss=loss, kl_weight=scaled[KL_WEIGHT], family=search.family))
        jobs = self.jobs(search.setting, method, self.tuning.candidate_seeds, "validation")
        self.candidates.update(jobs)
        found = [self.records.get(job_id) for job_id in jobs]
        judged = [record for record in found if record is not None]
        if len(judged) < len(found):
            return Trial(method=method, values=scaled)
        metric = self.tuning.metric
        scores = [r.scores[metric].mean for r in judged if r.status == "done" and metric in r.scores]
        mean = statistics.fmean(scores) if len(scores) == len(judged) else math.nan
        if math.isnan(mean):
            return Trial(method=method, values=scaled, status="lost")
        return Trial(method=method, values=scaled, status="scored", score=mean)

    def method(self, method: Method) -> int:
        """Its place in the plan; settings share what is the same."""
        key = (method.label, method.kl_weight, json.dumps(method.loss.model_dump(mode="json")))
        if key not in self.places:
            self.places[key] = len(self.methods)
            self.methods.append(method)
        return self.places[key]

    def jobs(self, setting: int, method: int, seeds: Iterable[int], split: EvaluationSplit) -> dict[str, PlannedJob]:
        job = job_of(self.plan.settings[setting], self.methods[method], self.plan.metrics, 0, split)
        form = json.loads(job.model_dump_json())
        planned = {}
        for seed in seeds:
            job_id = digest({**form, "seed": seed})
            planned[job_id] = PlannedJob(id=job_id, setting=setting, method=method, seed=seed, split=split)
        return planned


# Strategies


def candidates(tuning: Tuning, axes: Sequence[Axis]) -> list[Values]:
    """All candidates of a strategy that looks at no scores, with the KL weight in units of the loss's scale.

    ``grid`` is every combination of evenly spaced values. ``random`` draws each axis from a generator of its own, made
    from the seed and the axis's name, so that all methods get the same KL weights, whatever else they tune.

    Raises:
        ValueError: no grid over these axes has as many points as the budget.
    """
    if tuning.strategy == "grid":
        shape = grid_shape(tuning.budget, axes)
        ladders = [ladder(axis, steps) for axis, steps in zip(axes, shape, strict=True)]
        return [dict(zip([axis.name for axis in axes], point, strict=True)) for point in itertools.product(*ladders)]
    generators = {axis.name: random.Random(f"{tuning.seed} {axis.name}") for axis in axes}  # noqa: S311
    return [
        {axis.name: _drawn(axis, generators[axis.name].random()) for axis in axes} for _ in range(tuning.budget)
    ]  # fmt: skip


def grid_shape(budget: int, axes: Sequence[Axis]) -> tuple[int, ...]:
    """How many values a grid of exactly ``budget`` points has along each axis: at least two along each, as equal in
    number as can be, and where they cannot, more along the earlier axes.

    Raises:
        ValueError: there is no such grid; the text says so.
    """
    if len(axes) == 1 or budget == 1:
        shapes = [(budget,) + (1,) * (len(axes) - 1)]
    else:
        shapes = list(_factorisations(budget, len(axes)))
    fitting = [
        shape for shape in shapes if all(len(ladder(a, n)) == n for a, n in zip(axes, shape, strict=True))
    ]  # fmt: skip
    if not fitting:
        names = ", ".join(axis.name for axis in axes)
        raise ValueError(
            f"no grid of {budget} points has two or more values of each of {names}; choose a budget that is a product "
            f"of {len(axes)} numbers from 2, tune less, or take strategy: random"
        )
    return min(fitting, key=lambda shape: (max(shape) / min(shape), [-steps for steps in shape]))


def _factorisations(number: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a number as an ordered product of so many factors from 2."""
    if parts == 1:
        if number >= 2:
            yield (number,)
        return
    for factor in range(2, number // 2 + 1):
        if number % factor == 0:
            for rest in _factorisations(number // factor, parts - 1):
                yield (factor, *rest)


def ladder(axis: Axis, steps: int) -> list[float]:
    """Evenly spaced values of an axis, both ends included; the middle for a single step. Fewer where whole numbers
    are wanted and there are not so many."""
    places = [0.5] if steps == 1 else [step / (steps - 1) for step in range(steps)]
    return list(dict.fromkeys(_at(axis, place) for place in places))


def _at(axis: Axis, place: float) -> float:
    """The value at a place from 0 (low) to 1 (high)."""
    if place in (0, 1):  # exactly what the suite says, not what is left of it after exp(log())
        return axis.high if place else axis.low
    if axis.log:
        value = math.exp(math.log(axis.low) + place * (math.log(axis.high) - math.log(axis.low)))
    else:
        value = axis.low + place * (axis.high - axis.low)
    return float(round(value)) if axis.whole else _between(axis, value)


def _drawn(axis: Axis, place: float) -> float:
    """The value for a uniform draw from 0 to 1; every whole number has its share of the range."""
    if not axis.whole:
        return _at(axis, place)
    low, high = axis.low - 0.5, axis.high + 0.5
    value = math.exp(math.log(low) + place * math.log(high / low)) if axis.log else low + place * (high - low)
    return float(min(math.floor(value + 0.5), axis.high))


def _rounded(value: float) -> float:
    """To six significant digits, so that labels are short, and ids survive the last bits of another libm."""
    return float(f"{value:.6g}")


def _between(axis: Axis, value: float) -> float:
    return _rounded(value) if axis.low <= _rounded(value) <= axis.high else value


def has_optuna() -> bool:
    """Whether the extra is installed."""
    return find_spec("optuna") is not None


class OptunaStudy:
    """Optuna's tree-structured Parzen estimator with a seed, asked and told one candidate after the other.

    With the same seed and the same scores it asks for the same candidates, as ``study.optimize`` does.

    Raises:
        UserError: optuna is not installed.
    """

    def __init__(self, tuning: Tuning, axes: Sequence[Axis]) -> None:
        try:
            import optuna
        except ImportError:
            raise UserError(NEEDS_OPTUNA) from None

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.failed = optuna.trial.TrialState.FAIL
        self.study = optuna.create_study(
            direction="maximize" if tuning.direction == "higher" else "minimize",
            sampler=optuna.samplers.TPESampler(seed=tuning.seed),
        )
        self.axes = {axis.name: axis for axis in axes}
        self.space: dict[str, Any] = {
            axis.name: optuna.distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
            if axis.whole
            else optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)
            for axis in axes
        }
        self.trial: Any = None

    def ask(self) -> Values:
        """The next candidate, with the KL weight in units of the loss's scale."""
        self.trial = self.study.ask(self.space)
        return {name: _between(self.axes[name], float(value)) for name, value in self.trial.params.items()}

    def tell(self, score: float | None) -> None:
        """How the candidate that was asked for last did; None if it lost."""
        if score is None:
            self.study.tell(self.trial, state=self.failed)
        else:
            self.study.tell(self.trial, score)


# What came of it


def select(scores: Sequence[float | None], direction: Direction) -> int | None:
    """The place of the best score; the first of equal ones; None where all are lost (None)."""
    sign = 1 if direction == "lower" else -1
    places = [(sign * score, place) for place, score in enumerate(scores) if score is not None]
    return min(places)[1] if places else None


def at_edge(tried: Sequence[Mapping[str, float]], chosen: int) -> tuple[str, ...]:
    """Names of the values of which nothing lower, or nothing higher, was tried than what was chosen."""
    found = []
    for name, value in tried[chosen].items():
        values = {other[name] for other in tried}
        if len(values) > 1 and value in (min(values), max(values)):
            found.append(name)
    return tuple(found)


def expected_best(scores: Sequence[float | None], direction: Direction) -> tuple[float | None, ...]:
    """Expected best score of k candidates drawn without replacement from those that were tried, for k = 1, 2, …

    The expected validation performance of Dodge et al. 2019 (Show Your Work, EMNLP), with the unbiased estimator of
    Tang et al. 2020 (Showing Your Work Doesn't Always Work, ACL, equation 5): over all subsets of k. It speaks of
    candidates that do not depend on each other's scores.

    Args:
        scores: None for a candidate that lost, which is worse than any score.

    Returns:
        One value for each k; None as long as a draw of k might hold none but lost candidates.
    """
    sign = 1 if direction == "higher" else -1
    lost = sum(score is None for score in scores)
    ordered = sorted((score for score in scores if score is not None), key=lambda score: sign * score)
    count = len(scores)
    values: list[float | None] = []
    for k in range(1, count + 1):
        if lost >= k:
            values.append(None)
            continue
        # The i-th from the worst is the best of C(i - 1, k - 1) subsets of k.
        terms = (
            math.comb(rank - 1, k - 1) / math.comb(count, k) * score
            for rank, score in enumerate(ordered, start=lost + 1)
            if rank >= k
        )
        values.append(math.fsum(terms))
    return tuple(values)


def running_best(scores: Sequence[float | None], direction: Direction) -> tuple[float | None, ...]:
    """Best score of the first k candidates, for k = 1, 2, …, for strategies that learn from earlier ones; None as long
    as all are lost."""
    best = max if direction == "higher" else min
    values: list[float | None] = []
    for score in scores:
        known = [value for value in (values[-1] if values else None, score) if value is not None]
        values.append(best(known) if known else None)
    return tuple(values)


def best_of(search: Search, tuning: Tuning) -> tuple[float | None, ...]:
    """The best-of-k curve of a search over the candidates that have ended: see :func:`expected_best`, and for optuna
    :func:`running_best`."""
    scores = [attempt.score for attempt in search.tried if attempt.status != "open"]
    curve = running_best if tuning.strategy == "optuna" else expected_best
    return curve(scores, tuning.direction)
