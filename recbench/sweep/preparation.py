"""Preparation of a sweep: data sets are decoded, and the scales of losses measured. Imports no torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from recbench.data.cache import Prepared, prepare
from recbench.data.progress import DecodingProgress
from recbench.errors import UserError
from recbench.plan.model import ComponentSpec
from recbench.plan.plan import Plan
from recbench.plugin.registry import Registry
from recbench.store import scales

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
    *,
    cache: Path,
    plugin_files: Sequence[str],
    blocked: Sequence[str],
    device: str,
    note: Note,
) -> Plan:
    """Return the plan of a suite with the scales of all losses.

    Unknown ones are measured in a separate process, since this one imports no torch, and stored in ``root``.

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
        "root": str(root),
        "cache": str(cache),
        "plugin_files": plugin_files,
        "blocked": blocked,
        "device": device,
        "seed": plan.tuning.calibration_seed,
        "steps": plan.tuning.calibration_steps,
    }
    command = [sys.executable, "-P", "-m", "recbench.job.calibration"]
    done = subprocess.run(command, input=json.dumps(request).encode(), capture_output=True, check=False)  # noqa: S603
    if done.returncode:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it left no word"]
        raise UserError(f"the losses could not be calibrated: {last[0]}")
    plan = scales.filled_in(plan, root, registry)
    if scales.lacking(plan):  # a plugin can end a process with exit code 0
        raise UserError("the losses could not be calibrated: the process ended before it was done (exit code 0)")
    return plan
