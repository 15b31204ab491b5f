"""Expansion of a validated suite into a plan, and into its resolved text."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast

from recbench.contracts.entries import LossEntry, MetricEntry
from recbench.contracts.sums import SumEntry
from recbench.plan.model import BoardSetting, Column, ComponentSpec, Method, PlannedJob, Training
from recbench.plan.plan import Plan
from recbench.plan.tuning import Axis
from recbench.suite.baselines import with_baselines
from recbench.suite.document import dump
from recbench.suite.grid import GridCell, setting_loss_pairs
from recbench.suite.sums import resolved_sum
from recbench.suite.tuning import resolved_tuning, with_searches
from recbench.suite.validation import ValidSuite


def plan_of(suite: ValidSuite) -> Plan:
    """Return the plan of a validated suite, with all jobs or, if it is tuned, with searches that have not begun."""
    cells = suite.cells
    settings = []
    for (dataset, spec), shape in zip(_datasets(cells["datasets"]), suite.shapes, strict=True):
        for architecture, (varying, training) in itertools.product(cells["architectures"], suite.trainings):
            settings.append(
                BoardSetting(
                    label=" · ".join(filter(None, [dataset.label, architecture.label, varying])),
                    dataset=spec,
                    architecture=architecture.spec,
                    training=training,
                    shape=(shape.channels, shape.height, shape.width),
                )
            )
    plan = Plan(
        suite=suite.name,
        description=suite.file.description,
        metrics={cell.label: cell.spec for cell in cells["metrics"]},
        columns=tuple(_column(cell) for cell in cells["metrics"]),
        ranking=suite.ranking,
        settings=tuple(settings),
        methods=() if suite.tuning else tuple(_method(cell) for cell in cells["losses"]),
        jobs=(),
    )
    sizes = len(cells["architectures"]), len(suite.trainings)
    pairs = setting_loss_pairs(cells, len(suite.trainings))
    if suite.tuning is not None:
        plan = with_searches(plan, *suite.tuning, cells["losses"], pairs, suite.published)
        return with_baselines(plan, suite.baselines, *sizes)
    jobs = []
    for (setting, method), seed in itertools.product(pairs, suite.file.seeds):
        planned = PlannedJob(id="", setting=setting, method=method, seed=seed)
        jobs.append(planned.model_copy(update={"id": plan.job(planned).id}))
    plan = plan.model_copy(update={"jobs": tuple(jobs), "published": suite.published})
    return with_baselines(plan, suite.baselines, *sizes)


def _datasets(cells: Sequence[GridCell]) -> Iterator[tuple[GridCell, ComponentSpec]]:
    """Yield the data sets; the labels of those that differ only in where they are tell their jobs apart."""
    specs = [cell.spec for cell in cells]
    often = Counter(spec.identity for spec in specs)
    for cell, spec in zip(cells, specs, strict=True):
        yield cell, spec.model_copy(update={"variant": cell.label}) if often[spec.identity] > 1 else spec


def _method(cell: GridCell) -> Method:
    families = tuple(sorted(cast(LossEntry, cell.registered.entry).families))
    return Method(label=cell.label, loss=cell.spec, kl_weight=cell.extra["kl_weight"], families=families)


def _column(cell: GridCell) -> Column:
    entry = cast(MetricEntry, cell.registered.entry)
    score = entry.score(cell.score)
    facts = {key: getattr(score, key) for key in ("direction", "unit", "digits", "score_range")}
    return Column(name=cell.label, family=entry.family, rounded=entry.rounded, **facts)


def resolved_text(suite: ValidSuite) -> str:
    """Return the suite file with every default filled in and grids over parameters written out.

    Loading it gives the same jobs.
    """
    cells = suite.cells

    def item(cell: GridCell, tuned: Sequence[Axis] = ()) -> dict[str, Any]:
        names = {axis.name for axis in tuned}
        params = {name: value for name, value in cell.params.items() if name not in names}
        entry = cell.registered.entry
        named = {"sum": resolved_sum(entry, params)} if isinstance(entry, SumEntry) else {"name": entry.name}
        own = {} if isinstance(entry, SumEntry) else {"params": params}
        facts = {**named, "label": cell.whole, **own, **cell.extra}
        if cell.only is not None:
            facts["architectures"] = [other.label for other in cells["architectures"] if cell.goes_with(other)]
        return facts

    def axis(key: str) -> Any:
        values = list(dict.fromkeys(getattr(training, key) for _, training in suite.trainings))
        return values[0] if len(values) == 1 else {"grid": values}

    items = {kind: [item(cell) for cell in cells[kind]] for kind in cells}
    items["metrics"] = list({repr(one): one for one in items["metrics"]}.values())  # one for all scores of a metric
    if suite.tuning is not None:
        items["losses"] = [item(cell, axes) for cell, axes in zip(cells["losses"], suite.tuning[1], strict=True)]
    data = {
        "name": suite.name,
        "description": suite.file.description,
        **items,
        "seeds": suite.file.seeds,
        "training": {key: axis(key) for key in Training.model_fields},
        "ranking": {"metrics": list(suite.ranking)},
    }
    if suite.file.baselines:
        data["baselines"] = [choice.model_dump(exclude_none=True) for choice in suite.file.baselines]
    if suite.file.published:
        data["published"] = [spec.model_dump(exclude_none=True) for spec in suite.file.published]
    if suite.file.executors:
        data["executors"] = suite.file.executors
    if suite.file.tuning is not None and suite.tuning is not None:
        data["tuning"] = resolved_tuning(suite.file.tuning, *suite.tuning, cells["losses"])
    return dump(data)
