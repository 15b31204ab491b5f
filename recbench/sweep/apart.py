"""Runs with overrides that make other jobs than a suite's last run, which are kept apart from it under another name."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from recbench.errors import UserError
from recbench.plan.model import PlannedJob
from recbench.plan.plan import Plan
from recbench.plan.tuning import Search
from recbench.store.store import Store
from recbench.suite.suite import Suite
from recbench.suite.values import UNWEIGHTED

_NAMED = 4


def kept_apart(
    suite: Suite, results: Path, overrides: Sequence[str], again: Callable[[str], Suite], tell: Callable[[str], object]
) -> Suite:
    """Return the suite, under another name if its overrides would drop jobs of its last run that have records.

    Otherwise these jobs would leave the plan and the board, and be removed by ``recbench clean --yes``. Where the suite
    itself has changed, a note says so.

    Args:
        suite: the suite with its overrides.
        results: the folder of all results.
        overrides: what was given with ``--set``.
        again: loads the suite with one more override.
        tell: takes what is to be said to the user.
    """
    store = Store(results / suite.plan.suite)
    dropped = _dropped(suite, store)
    if not dropped:
        return suite
    methods = list(dict.fromkeys(dropped))
    named = ", ".join(methods[:_NAMED]) + (f" and {len(methods) - _NAMED} more" if len(methods) > _NAMED else "")
    jobs = f"{len(dropped)} finished {'job' if len(dropped) == 1 else 'jobs'} of {suite.plan.suite} ({named})"
    if not overrides:
        tell(
            f"{jobs} {'is' if len(dropped) == 1 else 'are'} not in the suite any more: the leaderboard leaves them out "
            "from now on, and 'recbench clean' lists their records"
        )
        return suite
    name = f"{suite.plan.suite[:80]}-{hashlib.sha256(json.dumps(sorted(overrides)).encode()).hexdigest()[:6]}"
    tell(
        f"--set leaves out {jobs}: this run is kept apart from it as {name} (--set name=NAME gives it another name), "
        "and takes over what is done already"
    )
    return again(f"name={name}")


def tell_weights(plan: Plan, overrides: Sequence[str], tell: Callable[[str], object]) -> None:
    """Say which losses that ``--set`` has brought in have the default KL weight, while others have weights of their
    own."""
    default = [method.label for method in plan.methods if method.kl_weight == UNWEIGHTED]
    others = sorted({method.kl_weight for method in plan.methods if method.kl_weight != UNWEIGHTED})
    if plan.tuning is None and default and others and any(text.startswith("losses") for text in overrides):
        weights = f"{others[0]:g}" if len(others) == 1 else f"{others[0]:g} to {others[-1]:g}"
        tell(
            f"{', '.join(default)}: the KL weight is {UNWEIGHTED:g}, the default, and that of the other losses "
            f"{weights}; losses at unequal weights hardly compare (--set losses.{default[0]}.kl_weight=…)"
        )


def _dropped(suite: Suite, store: Store) -> list[str]:
    """Return the method of each job of the last run that has a record, and that the suite does not have any more. A job
    whose code alone has changed is still there."""
    try:
        before = store.read_plan() if os.path.lexists(store.plan_file) else None
    except UserError:  # told by what reads it next
        return []
    plan = suite.plan
    if before is None or {job.id for job in before.jobs} <= {job.id for job in plan.jobs}:
        return []
    gone = _searched(before, plan) if before.tuning is not None else _planned(before, plan)
    return [
        before.methods[planned.method].label for planned in gone if (store.folder(planned.id) / "record.json").is_file()
    ]


def _planned(before: Plan, plan: Plan) -> list[PlannedJob]:
    """Return the jobs of a plan that another lacks."""
    left = {_content(plan.job(planned)) for planned in plan.jobs}
    return [planned for planned in before.jobs if _content(before.job(planned)) not in left]


def _searched(before: Plan, plan: Plan) -> list[PlannedJob]:
    """Return the jobs of searches that another plan lacks, which may not have grown yet."""

    def content(plan: Plan, search: Search) -> str:
        return _content(plan.settings[search.setting]) + _content(search.loss) + repr(search.axes)

    left = {content(plan, search) for search in plan.searches} if _same_trials(before, plan) else set()
    gone = {(s.setting, s.loss.name) for s in before.searches if content(before, s) not in left}
    return [planned for planned in before.jobs if (planned.setting, before.methods[planned.method].loss.name) in gone]


def _same_trials(before: Plan, plan: Plan) -> bool:
    """Return whether two plans with tuning have the same trials, whatever metric selects among them, unless the
    strategy follows it."""
    if before.tuning is None or plan.tuning is None:
        return False
    first, second = before.tuning, plan.tuning
    if first.strategy == "optuna":
        return first == second
    return first == second.model_copy(update={"metric": first.metric, "direction": first.direction})


def _content(of: BaseModel) -> str:
    """Return what defines a job or a part of it but metrics and code, as text."""
    return json.dumps(
        _without_code(of.model_dump(mode="json", exclude={"metrics", "numerics", "label"})), sort_keys=True
    )


def _without_code(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_code(each) for name, each in value.items() if name not in ("code", "locations")}
    return value
