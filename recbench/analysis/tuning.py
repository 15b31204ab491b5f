"""The results of tuning, as leaderboards show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from recbench.plan.model import Frozen, brief
from recbench.plan.plan import Plan
from recbench.plan.selection import best_of
from recbench.plan.strategies import KL_WEIGHT
from recbench.plan.tuning import Search, Tuning
from recbench.store.record import Number, Result

Undecided = Literal["incomplete", "failed", "diverged"]


class Tuned(Frozen):
    """The result of tuning one method.

    Attributes:
        values: what was chosen, by name; empty until something is.
        scale: factor of the ladder of KL weights.
        trials: how many candidates have ended, of the ``budget`` that every method has.
        failed: how many of them failed, diverged or had no value for the metric.
        metric: label of the metric that chose.
        score: of what was chosen, on the validation images.
        edge: names of the values that were chosen at the edge of their range.
        best_of: best score of k candidates, for k = 1, 2, …: expected over all draws of k, or, for the strategy optuna,
            of the first k; null as long as all of them may have failed.
    """

    strategy: str
    values: dict[str, float]
    scale: float | None
    budget: int
    trials: int
    failed: int
    metric: str
    score: Number | None
    edge: tuple[str, ...]
    best_of: tuple[Number | None, ...]


def tuned(search: Search, tuning: Tuning) -> Tuned:
    """Return the result of a search, so far."""
    ended = [trial for trial in search.trials if trial.status != "open"]
    best = None if search.chosen is None else search.trials[search.chosen]
    return Tuned(
        strategy=tuning.strategy,
        values=best.values if best else {},
        scale=search.scale,
        budget=tuning.budget,
        trials=len(ended),
        failed=sum(trial.status == "failed" for trial in ended),
        metric=tuning.metric,
        score=best.score if best else None,
        edge=search.edge,
        best_of=best_of(search, tuning),
    )


def remarks(plan: Plan, setting: int) -> Iterator[str]:
    """Yield what a reader of a setting's board must know about its tuning."""
    if plan.tuning is None:
        return
    label = plan.settings[setting].label
    searches = [search for search in plan.searches if search.setting == setting]
    for search in searches:
        names = [name for name in search.edge if name != KL_WEIGHT]  # of that, a health warning says so
        if names and search.chosen is not None:
            values = search.trials[search.chosen].values
            what = ", ".join(f"{name}={brief(values[name])}" for name in names)
            yield (
                f"{label}: the best {what} of {search.label} lies at the edge of its range, and a better value may lie "
                "beyond; widen the range in the section tuning"
            )
    column = next(column for column in plan.columns if column.name == plan.tuning.metric)
    in_family = [search.label for search in searches if column.family in search.families]
    if in_family and len(in_family) < len(searches):
        yield f"{label}: candidates were chosen by {column.name}, a metric of the family of {', '.join(in_family)}"


def undecided(plan: Plan, search: Search, records: Mapping[str, Result]) -> tuple[Undecided, tuple[str, ...]]:
    """Return the status of a search that has chosen nothing, and what became of its candidates."""
    assert plan.tuning is not None, "the plan has a search"
    places = {trial.method for trial in search.trials}
    ended = [
        (planned, records[planned.id])
        for planned in plan.jobs
        if planned.setting == search.setting and planned.method in places and planned.id in records
    ]
    trouble = []
    for planned, record in ended:
        if record.failure is not None:
            message = record.failure.message.strip().partition("\n")[0] or record.failure.type
            trouble.append(f"candidate {plan.methods[planned.method].label} {record.status}: {message}")
    over = len(search.trials) == plan.tuning.budget and all(trial.status == "failed" for trial in search.trials)
    if not over:
        return "incomplete", tuple(trouble)
    diverged = all(record.status != "failed" for _, record in ended)
    return "diverged" if diverged and trouble else "failed", tuple(trouble)


def chosen(tuned: Tuned) -> str:
    """Return the chosen values as text: ``kl_weight=0.01 (edge) C=0.1``."""
    values = (f"{name}={brief(value)}{' (edge)' * (name in tuned.edge)}" for name, value in tuned.values.items())
    return " ".join(values) or "–"


def trials(tuned: Tuned) -> str:
    """Return the number of trials as text: ``6``, or ``4 of 6, 1 failed``."""
    of = "" if tuned.trials == tuned.budget else f" of {tuned.budget}"
    return f"{tuned.trials}{of}{f', {tuned.failed} failed' if tuned.failed else ''}"
