"""Scales of losses: what calibration found, as it is kept beside a suite's results. Imports no torch.

A weight of the KL term means something beside a loss's scale only. The same ladder of KL weights fits all losses once
it is multiplied by what makes each loss's gradients as long as those of ``l2``, which :mod:`recbench.job.calibration`
measures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from recbench.errors import UserError
from recbench.files import write_atomically
from recbench.plan.model import NUMERICS, BoardSetting, ComponentSpec, Frozen, digest
from recbench.plan.plan import Plan
from recbench.plan.search import with_scales
from recbench.plugin.registry import Registry

FILE = "calibration.json"
REFERENCE = "l2"
STEPS = 50


class Scale(Frozen):
    """What was measured of a loss.

    Attributes:
        loss: name of the entry.
        scale: geometric mean over the steps of ``norm`` over ``reference``, to two significant digits, so that another
            machine finds the same one.
        norm: mean over the images of a step of the Euclidean norm of the loss's gradient with respect to the decoded
            image, in the network's value range; geometric mean over the steps.
        reference: the same of ``l2``.
    """

    loss: str
    scale: float = Field(gt=0, allow_inf_nan=False)
    norm: float
    reference: float


class Calibration(Frozen):
    """The file: scales by the digest of what was measured under (see :func:`setting_key`), then by that of the loss."""

    schema_version: Literal[1] = 1
    scales: dict[str, dict[str, Scale]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """A loss whose scale is wanted under one of the plan's settings."""

    setting: int
    label: str
    loss: ComponentSpec
    given: float | None = None


def wanted(plan: Plan) -> list[Wanted]:
    """All losses of a plan under each setting, once each, whether the suite gives their scales or not."""
    if plan.tuning is not None:
        return [Wanted(search.setting, search.label, search.loss, search.scale) for search in plan.searches]
    found: dict[tuple[int, str], Wanted] = {}
    for planned in plan.jobs:
        method = plan.methods[planned.method]
        label = method.label.partition(" kl_weight=")[0]
        found.setdefault((planned.setting, loss_key(method.loss)), Wanted(planned.setting, label, method.loss))
    return list(found.values())


def setting_key(setting: BoardSetting, reference: ComponentSpec, seed: int, steps: int) -> str:
    """Digest of all that a scale depends on besides its loss. The number of epochs is not: only the first steps are
    looked at."""
    training = setting.training.model_dump(mode="json", exclude={"epochs"})
    parts = [part.model_dump(mode="json") for part in (setting.dataset, setting.architecture, reference)]
    return digest({"numerics": NUMERICS, "parts": parts, "training": training, "seed": seed, "steps": steps})


def loss_key(loss: ComponentSpec) -> str:
    """Digest of a loss with its parameters and its code."""
    return digest(json.loads(loss.model_dump_json()))


def read(root: Path) -> Calibration:
    """What was measured for the suite whose results are in ``root``; empty where nothing was.

    Raises:
        UserError: the file is there and cannot be used.
    """
    file = root / FILE
    try:
        return Calibration.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return Calibration()
    except (OSError, ValidationError) as error:
        why = getattr(error, "strerror", None) or "it is damaged, or not of recbench"
        raise UserError(f"{file} cannot be used ({why}); remove it, and the scales are measured again") from None


def add(root: Path, key: str, found: Mapping[str, Scale]) -> None:
    """Keep scales by the digest of their loss, beside those that are there."""
    known = read(root).scales
    merged = Calibration(scales={**known, key: {**known.get(key, {}), **found}})
    write_atomically(root / FILE, (merged.model_dump_json(indent=1) + "\n").encode())


def known(
    plan: Plan, losses: Iterable[Wanted], reference: ComponentSpec, root: Path, seed: int, steps: int
) -> dict[tuple[int, str], Scale]:
    """Those scales that were measured before, by setting and label."""
    kept = read(root).scales
    keys = [setting_key(setting, reference, seed, steps) for setting in plan.settings]
    found = {}
    for loss in losses:
        scale = kept.get(keys[loss.setting], {}).get(loss_key(loss.loss))
        if scale is not None:
            found[loss.setting, loss.label] = scale
    return found


def reference(registry: Registry) -> ComponentSpec:
    """``l2`` as it is without any parameters given.

    Raises:
        UserError: nobody offers it.
    """
    registered = registry.get("losses", REFERENCE)
    return ComponentSpec(name=REFERENCE, params=registered.entry.complete({}), code=registered.code)


def lacking(plan: Plan) -> list[Wanted]:
    """The losses of a plan with tuning whose scales are neither given nor filled in."""
    return [loss for loss in wanted(plan) if loss.given is None] if plan.tuning is not None else []


def filled_in(plan: Plan, root: Path, registry: Registry) -> Plan:
    """The plan with the scales that were measured for it before; those that were not stay open."""
    losses = lacking(plan)
    if plan.tuning is None or not losses:
        return plan
    kept = known(plan, losses, reference(registry), root, plan.tuning.calibration_seed, plan.tuning.calibration_steps)
    return with_scales(plan, {place: scale.scale for place, scale in kept.items()})


def by_setting(losses: Sequence[Wanted]) -> dict[int, list[Wanted]]:
    """Losses grouped by their setting."""
    groups: dict[int, list[Wanted]] = {}
    for loss in losses:
        groups.setdefault(loss.setting, []).append(loss)
    return groups
