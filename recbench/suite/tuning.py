"""The section ``tuning`` of a suite: what it says of each loss, and what is wrong with it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, cast

from recbench.contracts.entries import MetricEntry
from recbench.errors import did_you_mean, quoted
from recbench.plan.model import ComponentSpec, PublishedScore, brief
from recbench.plan.plan import Plan
from recbench.plan.strategies import KL_WEIGHT, NEEDS_OPTUNA, grid_shape, has_optuna
from recbench.plan.tuning import Axis, Search, Tuning
from recbench.plugin.registry import Registered
from recbench.suite.document import Path_
from recbench.suite.schema import TuningChoice

Blame = Callable[[Path_, str], None]

USUAL_JUDGES = ("fid_gen", "fd_enet_gen", "st_lpips")
"""By which metric tuning chooses where a suite does not say: the first of these that it has. FID of samples is the rule
of Bredell et al. 2023; the others are there without Inception's weights, and none is what a usual loss is made of."""


class Cell(Protocol):
    """A loss or a metric of the suite, with one combination of its grid."""

    @property
    def label(self) -> str: ...
    @property
    def item(self) -> str: ...
    @property
    def registered(self) -> Registered: ...
    @property
    def params(self) -> dict[str, Any]: ...
    @property
    def extra(self) -> dict[str, Any]: ...
    @property
    def given(self) -> frozenset[str]: ...
    @property
    def part(self) -> ComponentSpec: ...
    def answers_to(self, label: str | None) -> bool: ...


def rule(
    chosen: TuningChoice, metrics: Sequence[Cell], seeds: Sequence[int], blame: Blame, *, all_sound: bool
) -> Tuning | None:
    """How every method is tuned; None, and problems, where that cannot be said.

    Args:
        seeds: of the suite.
        all_sound: whether ``metrics`` are all that the suite names.
    """
    for index, seed in enumerate(chosen.seeds or ()):
        if seed in (chosen.seeds or ())[:index]:
            blame(("tuning", "seeds", index), f"the seed {quoted(seed)} is given twice")
        if not 0 <= seed < 2**32:
            blame(("tuning", "seeds", index), f"{quoted(seed)} is not between 0 and {2**32 - 1}")
    if chosen.strategy == "optuna" and not has_optuna():
        blame(("tuning", "strategy"), NEEDS_OPTUNA)
    low, high = chosen.kl_weight.low, chosen.kl_weight.high
    if not 0 < low < high < math.inf:
        blame(("tuning", "kl_weight"), f"{low:g} to {high:g} is no ladder: two numbers above 0, the lower first")
    labels = [cell.label for cell in metrics]
    label = chosen.select.metric if chosen.select else _usual_judge(metrics)
    judge = next((cell for cell in metrics if cell.label == label), None)
    if label is None and all_sound:
        what = f"says by which metric to choose, as in select: {{metric: {labels[0] if labels else 'psnr'}}}"
        blame(("tuning",), f"select is missing: it {what}")
    elif judge is None and all_sound:
        what = f"the suite has no metric {quoted(label)}; {did_you_mean(str(label), labels)}"
        blame(("tuning", "select", "metric"), what)
    if judge is None or not seeds:
        return None
    return Tuning(
        strategy=chosen.strategy,
        budget=chosen.budget,
        seed=chosen.seed,
        candidate_seeds=tuple(chosen.seeds or seeds[:1]),
        metric=judge.label,
        direction=cast(MetricEntry, judge.registered.entry).direction,
        seeds=tuple(seeds),
        calibration_steps=chosen.calibration_steps,
    )


def _usual_judge(metrics: Sequence[Cell]) -> str | None:
    names = {cell.registered.entry.name: cell.label for cell in reversed(metrics)}
    return next((names[name] for name in USUAL_JUDGES if name in names), None)


def axes(chosen: TuningChoice, losses: Sequence[Cell], blame: Blame) -> list[tuple[Axis, ...]]:
    """What is tuned of each loss: the KL weight, and then its parameters."""
    for label in chosen.params or {}:
        if not any(cell.answers_to(label) for cell in losses):
            what = f"the suite has no loss {quoted(label)}; {did_you_mean(label, [cell.item for cell in losses])}"
            blame(("tuning", "params", label), what)
    ladder = Axis(name=KL_WEIGHT, low=chosen.kl_weight.low, high=chosen.kl_weight.high, log=True)
    found = []
    for cell in losses:
        tuned = (ladder, *_parameters(chosen, cell, blame))
        found.append(tuned)
        if chosen.strategy == "grid":
            try:
                grid_shape(chosen.budget, tuned)
            except ValueError as error:
                blame(("tuning", "budget"), f"{cell.label}: {error}")
    return found


def corners(tuned: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """The parameters of a loss at all combinations of the ends of their ranges; nothing where none is tuned."""
    if len(tuned) > 1:
        ends = ([(axis.name, int(end) if axis.whole else end) for end in (axis.low, axis.high)] for axis in tuned[1:])
        yield from map(dict, itertools.product(*ends))


def in_words(corner: Mapping[str, Any]) -> str:
    """``C=0.1 epsilon=1``."""
    return " ".join(f"{name}={brief(value)}" for name, value in corner.items())


def _parameters(chosen: TuningChoice, cell: Cell, blame: Blame) -> Iterator[Axis]:
    """Those that the section names for the loss; without it, all that it declares and that the suite does not set."""
    declared = {p.name: p for p in cell.registered.entry.parameters if p.tunable is not None}
    wanted: Mapping[str, Any] = dict.fromkeys(name for name in declared if name not in cell.given)
    place: Path_ = ("tuning", "params")
    if chosen.params is not None:
        label = next((label for label in chosen.params if cell.answers_to(label)), None)
        named = chosen.params[label] if label is not None else {}
        place = (*place, label or "")
        if not isinstance(named, dict | list) or not all(isinstance(name, str) for name in named):
            what = "is neither a list of names nor a mapping of names to ranges, as in {C: {low: 0.01, high: 1}}"
            blame(place, f"{quoted(named)} {what}")
            return
        wanted = named if isinstance(named, dict) else dict.fromkeys(named)
    for name, span in wanted.items():
        parameter = declared.get(name)
        if parameter is None or parameter.tunable is None:
            known = f"it declares {', '.join(declared)}" if declared else "it declares none"
            blame((*place, name), f"{cell.registered.entry.name} has no such parameter to tune; {known}")
            continue
        if name in cell.given:
            blame((*place, name), f"{cell.item} sets it under params; take it away in one of the two places")
        low, high = parameter.tunable.low, parameter.tunable.high
        try:
            low, high = (low, high) if span is None else _span(span, low, high)
        except ValueError as error:
            blame((*place, name), str(error))
            continue
        yield Axis(name=name, low=low, high=high, log=parameter.tunable.log, whole=parameter.type is int)


def _span(value: Any, low: float, high: float) -> tuple[float, float]:
    """A range within the declared one; an end that is not given is that of the declared one."""
    if not isinstance(value, dict) or not set(value) <= {"low", "high"}:
        raise ValueError(f"{quoted(value)} is no range, as in {{low: {low:g}, high: {high:g}}}")
    ends = value.get("low", low), value.get("high", high)
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        raise ValueError(f"{quoted(value)} is no range of numbers")
    if not low <= ends[0] < ends[1] <= high:
        raise ValueError(f"{ends[0]:g} to {ends[1]:g} is no range within {low:g} to {high:g}, which the loss declares")
    return float(ends[0]), float(ends[1])


def with_searches(
    plan: Plan,
    tuning: Tuning,
    tuned: Sequence[tuple[Axis, ...]],
    losses: Sequence[Cell],
    pairs: Sequence[tuple[int, int]],
    published: Sequence[PublishedScore],
) -> Plan:
    """The plan with a search for each pair of a setting and a loss; none has begun."""
    printed: dict[tuple[int, int], list[PublishedScore]] = {}
    for number in published:
        printed.setdefault((number.setting, number.method), []).append(number)
    searches = [
        Search(
            setting=setting,
            label=losses[place].label,
            loss=losses[place].part,
            family=getattr(losses[place].registered.entry, "family", ""),
            scale=losses[place].extra.get("scale"),
            axes=tuned[place],
            published=tuple(printed.get((setting, place), ())),
        )
        for setting, place in pairs
    ]
    return plan.model_copy(update={"tuning": tuning, "searches": tuple(searches)})


def resolved(chosen: TuningChoice, tuning: Tuning, tuned: Sequence[tuple[Axis, ...]], losses: Sequence[Cell]) -> Any:
    """The section with all defaults filled in."""
    params = {
        cell.label: {axis.name: {"low": axis.low, "high": axis.high} for axis in axes[1:]}
        for cell, axes in zip(losses, tuned, strict=True)
        if len(axes) > 1
    }
    return {
        "strategy": tuning.strategy,
        "budget": tuning.budget,
        "kl_weight": {"low": chosen.kl_weight.low, "high": chosen.kl_weight.high},
        "params": params,
        "seeds": list(tuning.candidate_seeds),
        "select": {"metric": tuning.metric},
        "seed": tuning.seed,
        "calibration_steps": tuning.calibration_steps,
    }
