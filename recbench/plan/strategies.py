"""Strategies of tuning: the candidates that a search tries."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from recbench.contracts.direction import target
from recbench.errors import UserError
from recbench.plan.tuning import Axis, Tuning

Values = dict[str, float]
KL_WEIGHT = "kl_weight"
NEEDS_OPTUNA = "strategy optuna needs a package that is not installed: pip install 'recbench[optuna]'"


def candidates(tuning: Tuning, axes: Sequence[Axis]) -> list[Values]:
    """Return all candidates of ``grid`` or ``random``, the strategies that do not depend on scores.

    ``grid`` is every combination of evenly spaced values. ``random`` draws each axis from its own generator, seeded by
    the seed and the axis's name, so that all methods get the same KL weights, whatever else they tune.

    Args:
        tuning: the rule.
        axes: the ranges of the hyperparameters.

    Returns:
        ``tuning.budget`` candidates, with the KL weight in units of the loss's scale.

    Raises:
        ValueError: no grid over these axes has exactly ``tuning.budget`` points.
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
    """Return the number of values along each axis of a grid of exactly ``budget`` points.

    There are at least two along each axis, as equal in number as possible, with more along earlier axes.

    Args:
        budget: number of points, from 1.
        axes: the ranges of the hyperparameters.

    Raises:
        ValueError: no such grid exists.

    >>> kl, alpha = Axis(name="kl_weight", low=0.001, high=1, log=True), Axis(name="alpha", low=0, high=1)
    >>> grid_shape(6, [kl, alpha])
    (3, 2)
    """
    if len(axes) == 1 or budget == 1:
        shapes = [(budget,) + (1,) * (len(axes) - 1)]
    else:
        shapes = list(_factorizations(budget, len(axes)))
    fitting = [
        shape for shape in shapes if all(len(ladder(a, n)) == n for a, n in zip(axes, shape, strict=True))
    ]  # fmt: skip
    if not fitting:
        names = ", ".join(axis.name for axis in axes)
        raise ValueError(
            f"no grid of {budget} points has two or more values of each of {names}; choose a budget that is a product "
            f"of {len(axes)} integers from 2, tune fewer parameters, or use strategy: random"
        )
    return min(fitting, key=lambda shape: (max(shape) / min(shape), [-steps for steps in shape]))


def _factorizations(number: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Yield all ways to write a number as an ordered product of ``parts`` factors from 2."""
    if parts == 1:
        if number >= 2:
            yield (number,)
        return
    for factor in range(2, number // 2 + 1):
        if number % factor == 0:
            for rest in _factorizations(number // factor, parts - 1):
                yield (factor, *rest)


def ladder(axis: Axis, steps: int) -> list[float]:
    """Return evenly spaced values of an axis, both ends included; for a single step, the middle.

    An axis of whole numbers gives fewer values than ``steps`` if its range does not contain as many.

    >>> ladder(Axis(name="kl_weight", low=0.001, high=1, log=True), 4)
    [0.001, 0.01, 0.1, 1.0]
    """
    fractions = [0.5] if steps == 1 else [step / (steps - 1) for step in range(steps)]
    return list(dict.fromkeys(_at(axis, fraction) for fraction in fractions))


def _at(axis: Axis, fraction: float) -> float:
    """Return the value at a fraction from 0 (low) to 1 (high) of the range."""
    if fraction in (0, 1):  # exactly the suite's value, which exp(log()) would change
        return axis.high if fraction else axis.low
    if axis.log:
        value = math.exp(math.log(axis.low) + fraction * (math.log(axis.high) - math.log(axis.low)))
    else:
        value = axis.low + fraction * (axis.high - axis.low)
    return float(round(value)) if axis.whole else _between(axis, value)


def _drawn(axis: Axis, uniform: float) -> float:
    """Return the value for a uniform draw from 0 to 1; every whole number has its share of the range."""
    if not axis.whole:
        return _at(axis, uniform)
    low, high = axis.low - 0.5, axis.high + 0.5
    value = math.exp(math.log(low) + uniform * math.log(high / low)) if axis.log else low + uniform * (high - low)
    return float(min(math.floor(value + 0.5), axis.high))


def rounded(value: float) -> float:
    """Return a value to six significant digits: labels stay short, and ids do not depend on the last bits of libm."""
    return float(f"{value:.6g}")


def _between(axis: Axis, value: float) -> float:
    return rounded(value) if axis.low <= rounded(value) <= axis.high else value


def has_optuna() -> bool:
    """Return whether the extra ``optuna`` is installed."""
    return find_spec("optuna") is not None


class OptunaStudy:
    """Optuna's tree-structured Parzen estimator with a seed, through its ask-and-tell interface.

    The same seed and the same scores give the same candidates, the ones that ``study.optimize`` would give.

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
            direction="maximize" if tuning.direction == "higher" else "minimize",  # a target: the distance from it
            sampler=optuna.samplers.TPESampler(seed=tuning.seed),
        )
        self.target = target(tuning.direction)
        self.axes = {axis.name: axis for axis in axes}
        self.space: dict[str, Any] = {
            axis.name: optuna.distributions.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
            if axis.whole
            else optuna.distributions.FloatDistribution(axis.low, axis.high, log=axis.log)
            for axis in axes
        }
        self.trial: Any = None

    def ask(self) -> Values:
        """Return the next candidate, with the KL weight in units of the loss's scale."""
        self.trial = self.study.ask(self.space)
        return {name: _between(self.axes[name], float(value)) for name, value in self.trial.params.items()}

    def tell(self, score: float | None) -> None:
        """Report the score of the candidate that was asked for last; None if it failed."""
        if score is None:
            self.study.tell(self.trial, state=self.failed)
        else:
            self.study.tell(self.trial, score if self.target is None else abs(score - self.target))
