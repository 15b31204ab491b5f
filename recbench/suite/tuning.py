"""The section ``tuning`` of a suite: its rule, the axes of each loss, and the searches of the plan."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from recbench.contracts.direction import Direction
from recbench.contracts.entries import ArchitectureEntry, MetricEntry
from recbench.contracts.sums import PartParameter
from recbench.errors import did_you_mean, quoted
from recbench.plan.model import PublishedScore, brief
from recbench.plan.plan import Plan
from recbench.plan.strategies import KL_WEIGHT, NEEDS_OPTUNA, grid_shape, has_optuna
from recbench.plan.tuning import Axis, Search, Tuning
from recbench.suite.document import KeyPath
from recbench.suite.grid import GridCell, GridCells, unknown_metric
from recbench.suite.schema import TuningChoice
from recbench.suite.values import AddProblem, check_seeds

TuningAxes = tuple[Tuning, list[tuple[Axis, ...]]]
"""The rule of tuning, and the axes of each loss."""

SELECTION_METRICS = ("fid_gen", "fd_enet_gen", "st_lpips")
"""The metrics that select by default: the first of these that the suite has. Bredell et al. 2023 select by the FID of
samples; the others do not need Inception's weights, and none is the objective of a common loss."""


def tuning_rule(
    chosen: TuningChoice, cells: GridCells, seeds: Sequence[int], add_problem: AddProblem, *, all_valid: bool
) -> Tuning | None:
    """Return the rule by which every method is tuned; None, with problems, if it is invalid.

    Args:
        chosen: the section.
        cells: the valid metrics and architectures of the suite, by section.
        seeds: seeds of the suite.
        add_problem: records a problem.
        all_valid: whether these are all metrics of the suite.
    """
    check_seeds(("tuning", "seeds"), chosen.seeds or (), add_problem)
    if chosen.strategy == "optuna" and not has_optuna():
        add_problem(("tuning", "strategy"), NEEDS_OPTUNA)
    low, high = chosen.kl_weight.low, chosen.kl_weight.high
    if not 0 < low < high < math.inf:
        add_problem(
            ("tuning", "kl_weight"), f"expected two finite numbers above 0, the lower first, got {low:g} and {high:g}"
        )
    metrics = cells["metrics"]
    labels = [cell.label for cell in metrics]
    label = chosen.select.metric if chosen.select else _selection_metric(metrics)
    selected = next((cell for cell in metrics if cell.label == label), None)
    if label is None and all_valid:
        what = f"name the metric that selects, as in select: {{metric: {labels[0] if labels else 'psnr'}}}"
        add_problem(("tuning",), f"select is missing: {what}")
    elif selected is None and all_valid:
        add_problem(("tuning", "select", "metric"), unknown_metric(str(label), metrics))
    elif selected is not None:
        _check_selection(selected, cells, ("tuning", "select") if chosen.select else ("tuning",), add_problem)
    if selected is None or not seeds:
        return None
    return Tuning(
        strategy=chosen.strategy,
        budget=chosen.budget,
        seed=chosen.seed,
        candidate_seeds=tuple(chosen.seeds or seeds[:1]),
        metric=selected.label,
        direction=cast(Direction, cast(MetricEntry, selected.registered.entry).score(selected.score).direction),
        seeds=tuple(seeds),
        calibration_steps=chosen.calibration_steps,
    )


def _check_selection(selected: GridCell, cells: GridCells, path: KeyPath, add_problem: AddProblem) -> None:
    """Check that every architecture of the suite has a score of the metric that selects."""
    metric = cast(MetricEntry, selected.registered.entry)
    others = ((cell.label, cast(MetricEntry, cell.registered.entry)) for cell in cells["metrics"])
    fit = next((label for label, entry in others if not (entry.samples or entry.needs_kl)), "psnr")
    for cell in cells["architectures"]:
        architecture, lack = cast(ArchitectureEntry, cell.registered.entry), ""
        if metric.samples and not architecture.has_prior:
            lack = "prior to draw samples from"
        elif metric.needs_kl and not architecture.has_kl:
            lack = "KL divergence"
        if lack:
            what = f"{selected.label} cannot select among trials of {cell.label}, which has no {lack}"
            add_problem(path, f"{what}; name a metric of reconstructions, as in select: {{metric: {fit}}}")


def _selection_metric(metrics: Sequence[GridCell]) -> str | None:
    names = {cell.registered.entry.name: cell.label for cell in reversed(metrics)}
    return next((names[name] for name in SELECTION_METRICS if name in names), None)


def loss_axes(chosen: TuningChoice, losses: Sequence[GridCell], add_problem: AddProblem) -> list[tuple[Axis, ...]]:
    """Return the axes of each loss: the KL weight, followed by its tuned parameters."""
    for label in chosen.params or {}:
        if not any(cell.matches(label) for cell in losses):
            what = f"the suite has no loss {quoted(label)}; {did_you_mean(label, [cell.item for cell in losses])}"
            add_problem(("tuning", "params", label), what)
    ladder = Axis(name=KL_WEIGHT, low=chosen.kl_weight.low, high=chosen.kl_weight.high, log=True)
    found = []
    for cell in losses:
        tuned = (ladder, *_parameters(chosen, cell, add_problem))
        found.append(tuned)
        if chosen.strategy == "grid":
            try:
                grid_shape(chosen.budget, tuned)
            except ValueError as error:
                add_problem(("tuning", "budget"), f"{cell.label}: {error}")
    return found


def corners(tuned: Sequence[Axis]) -> Iterator[dict[str, Any]]:
    """Yield the tuned parameters of a loss at all combinations of the ends of their ranges, if there are any."""
    if len(tuned) > 1:
        ends = ([(axis.name, int(end) if axis.whole else end) for end in (axis.low, axis.high)] for axis in tuned[1:])
        yield from map(dict, itertools.product(*ends))


def corner_text(corner: Mapping[str, Any]) -> str:
    """Return ``C=0.1 epsilon=1``."""
    return " ".join(f"{name}={brief(value)}" for name, value in corner.items())


def _parameters(chosen: TuningChoice, cell: GridCell, add_problem: AddProblem) -> Iterator[Axis]:
    """Yield the parameters that the section names for a loss; by default, the tunable ones that are not set."""
    declared = {p.name: p for p in cell.registered.entry.parameters if p.tunable is not None}
    weights = {name for name, p in declared.items() if isinstance(p, PartParameter) and p.is_weight}
    wanted: Mapping[str, Any] = dict.fromkeys(n for n in declared if n not in cell.given and n not in weights)
    path: KeyPath = ("tuning", "params")
    if chosen.params is not None:
        label = next((label for label in chosen.params if cell.matches(label)), None)
        named = chosen.params[label] if label is not None else {}
        path = (*path, label or "")
        if not isinstance(named, dict | list) or not all(isinstance(name, str) for name in named):
            what = "expected a list of names or a mapping of names to ranges, as in {C: {low: 0.01, high: 1}}"
            add_problem(path, f"{what}, got {quoted(named)}")
            return
        wanted = named if isinstance(named, dict) else dict.fromkeys(named)
    for name, span in wanted.items():
        parameter = declared.get(name)
        if parameter is None or parameter.tunable is None:
            known = f"it declares {', '.join(declared)}" if declared else "it declares none"
            add_problem((*path, name), f"{cell.registered.entry.name} has no such tunable parameter; {known}")
            continue
        if name in cell.given:
            where = "in its sum" if isinstance(parameter, PartParameter) else "under params"
            add_problem((*path, name), f"{cell.item} also sets it {where}; remove one of the two")
        low, high = parameter.tunable.low, parameter.tunable.high
        try:
            low, high = (low, high) if span is None else _span(span, low, high, anywhere=name in weights)
        except ValueError as error:
            add_problem((*path, name), str(error))
            continue
        yield Axis(name=name, low=low, high=high, log=parameter.tunable.log, whole=parameter.type is int)


def _span(value: Any, low: float, high: float, *, anywhere: bool) -> tuple[float, float]:
    """Return a range within the declared one, or anywhere above 0; the ends of the declared one are the defaults."""
    if not isinstance(value, dict) or not set(value) <= {"low", "high"}:
        raise ValueError(f"expected a range, as in {{low: {low:g}, high: {high:g}}}, got {quoted(value)}")
    ends = value.get("low", low), value.get("high", high)
    if not all(isinstance(end, int | float) and not isinstance(end, bool) for end in ends):
        raise ValueError(f"expected numbers as ends of the range, got {quoted(value)}")
    if anywhere and not 0 < ends[0] < ends[1] < math.inf:
        raise ValueError(f"expected two finite numbers above 0, the lower first, got {ends[0]:g} and {ends[1]:g}")
    if not anywhere and not low <= ends[0] < ends[1] <= high:
        raise ValueError(
            f"expected a range within {low:g} to {high:g}, as the loss declares, got {ends[0]:g} to {ends[1]:g}"
        )
    return float(ends[0]), float(ends[1])


def with_searches(
    plan: Plan,
    tuning: Tuning,
    tuned: Sequence[tuple[Axis, ...]],
    losses: Sequence[GridCell],
    pairs: Sequence[tuple[int, int]],
    published: Sequence[PublishedScore],
) -> Plan:
    """Return the plan with a search for each pair of a setting and a loss; none has begun.

    Args:
        plan: the plan without methods and jobs.
        tuning: the rule.
        tuned: the axes of each loss.
        losses: the losses.
        pairs: indices of the settings and losses that are trained together.
        published: published numbers; ``method`` is the index of the loss.
    """
    numbers: dict[tuple[int, int], list[PublishedScore]] = {}
    for number in published:
        numbers.setdefault((number.setting, number.method), []).append(number)
    searches = [
        Search(
            setting=setting,
            label=losses[loss].label,
            loss=losses[loss].spec,
            families=tuple(sorted(getattr(losses[loss].registered.entry, "families", ()))),
            scale=losses[loss].extra.get("scale"),
            axes=tuned[loss],
            published=tuple(numbers.get((setting, loss), ())),
        )
        for setting, loss in pairs
    ]
    return plan.model_copy(update={"tuning": tuning, "searches": tuple(searches)})


def resolved_tuning(
    chosen: TuningChoice, tuning: Tuning, tuned: Sequence[tuple[Axis, ...]], losses: Sequence[GridCell]
) -> Any:
    """Return the section with all defaults filled in."""
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
