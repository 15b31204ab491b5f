"""Preparation of a sweep: data sets are decoded, and the scales of losses measured by a job. Imports no torch."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

from recbench.contracts.executor import Ended, Executor, Task
from recbench.data.cache import Prepared, prepare
from recbench.data.progress import DecodingProgress
from recbench.errors import OutOfSpaceError, UserError
from recbench.files import write_atomically
from recbench.plan.model import ComponentSpec, digest
from recbench.plan.plan import Plan
from recbench.plugin.registry import Registry
from recbench.store import scales

_CALIBRATION = "calibration"
"""The folder, in that of a suite, of jobs that measure scales: not among those that have records."""
_POLL = 0.5
"""Seconds between two looks at a calibration that another coordinator has started."""

Note = Callable[[str], None]
Preparing = Callable[[str], AbstractContextManager[Callable[[int, int | None], None]]]


def decoded(plan: Plan, registry: Registry, cache: Path, preparing: Preparing, note: Note) -> dict[int, Prepared]:
    """Decode every data set of a plan once, so that jobs only read; return them by setting.

    Args:
        preparing: gives the callback of progress for a data set's name.
        note: told which copy was damaged, and made again.

    Raises:
        UserError: a data set cannot be decoded, or its code was edited meanwhile.
    """
    done: dict[str, Prepared] = {}
    found = {}
    for index, setting in enumerate(plan.settings):
        key = setting.dataset.model_dump_json()
        if key not in done:
            with preparing(setting.dataset.name) as progress:
                done[key] = _prepared(setting.dataset, registry, cache, progress)
            if done[key].replaced:
                note(done[key].replaced)
        found[index] = done[key]
    return found


def _prepared(spec: ComponentSpec, registry: Registry, cache: Path, progress: DecodingProgress) -> Prepared:
    found = prepare(spec, registry, cache, progress)
    if Registry(registry.plugins).get("datasets", spec.name).code != spec.code:  # a new registry digests anew
        shutil.rmtree(found.folder, ignore_errors=True)
        raise UserError(f"the code of the dataset {spec.name} was edited while it was decoded; run the suite again")
    return found


def calibrated(
    plan: Plan,
    root: Path,
    registry: Registry,
    executor: Executor,
    task: Task,
    *,
    note: Note,
    interrupted: Callable[[], bool],
) -> Plan | None:
    """Return the plan of a suite with the scales of all losses; None if the user interrupts.

    Unknown ones are measured by a job of the executor's, where other jobs run too, and stored in ``root``.

    Args:
        task: with what all jobs of the sweep share.

    Raises:
        UserError: a scale cannot be measured.
    """
    plan = scales.filled_in(plan, root, registry)
    missing = scales.lacking(plan)
    if plan.tuning is None or not missing:
        return plan
    names = ", ".join(dict.fromkeys(loss.label for loss in missing))
    note(f"calibrating the scale of {names}, over {plan.tuning.calibration_steps} steps of training")
    request = {
        "plan": json.loads(plan.model_dump_json()),
        "seed": plan.tuning.calibration_seed,
        "steps": plan.tuning.calibration_steps,
    }
    job_id = digest(request)
    folder = root.resolve() / _CALIBRATION / "jobs" / job_id
    task = replace(task, job_id=job_id, folder=str(folder), title="calibration", calibrates=True)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / "job.json", json.dumps(request).encode())
    executor.check([task])
    while scales.lacking(plan := scales.filled_in(plan, root, registry)):
        ended = Ended(job_id, "interrupted")
        for event in executor.map([task]):
            ended = event if isinstance(event, Ended) else ended
        if interrupted():
            return None
        failure = folder / "failure.txt"
        why = failure.read_text(encoding="utf-8", errors="replace") if failure.is_file() else ended.detail
        if ended.outcome == "full":
            raise OutOfSpaceError(ended.detail)
        if ended.outcome == "interrupted":
            note(f"the calibration is not done: {ended.detail or 'it was interrupted'}; the same command continues")
            return None
        if ended.outcome == "busy":  # another coordinator's job measures the same
            time.sleep(_POLL)
        elif scales.lacking(scales.filled_in(plan, root, registry)):
            shutil.rmtree(folder.parents[1], ignore_errors=True)
            raise UserError(f"the losses could not be calibrated: {why or 'its job left no scales'}")
    shutil.rmtree(root / _CALIBRATION, ignore_errors=True)
    return plan
