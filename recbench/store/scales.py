"""Scales of losses: the results of calibration, stored with a suite's results. Imports no torch.

A KL weight is only meaningful relative to the scale of the loss. The same range of KL weights suits all losses once it
is multiplied by each loss's scale: the norm of its gradient relative to that of ``l2``, which
:mod:`recbench.job.calibration` measures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from recbench.errors import UserError
from recbench.files import read_regular, write_atomically
from recbench.plan.model import NUMERICS, BoardSetting, ComponentSpec, Frozen, digest, with_checksum, without_checksum
from recbench.plan.plan import Plan
from recbench.plan.search import with_scales
from recbench.plan.tuning import REFERENCE
from recbench.plugin.registry import Registry

FILE = "calibration.json"
STEPS = 50


class Scale(Frozen):
    """The measured scale of a loss.

    Attributes:
        loss: name of the entry.
        scale: geometric mean over the steps of ``norm / reference``, rounded to two significant digits, so that it is
            the same on every machine.
        norm: Euclidean norm of the loss's gradient with respect to the decoded image, in the network's value range;
            mean over the images of a step, geometric mean over the steps.
        reference: the same of ``l2``.
    """

    loss: str
    scale: float = Field(gt=0, allow_inf_nan=False)
    norm: float
    reference: float


class Calibration(Frozen):
    """The file ``calibration.json``: scales by :func:`setting_key`, then by :func:`loss_key`."""

    schema_version: Literal[1] = 1
    scales: dict[str, dict[str, Scale]] = Field(default_factory=dict)


@dataclass(frozen=True)
class Wanted:
    """A loss whose scale is wanted under one of the plan's settings.

    Attributes:
        given: the scale that the suite sets, if any.
    """

    setting: int
    label: str
    loss: ComponentSpec
    given: float | None = None


def wanted(plan: Plan) -> list[Wanted]:
    """Return the losses of a plan under each setting, once each, including those whose scales the suite sets."""
    if plan.tuning is not None:
        return [Wanted(search.setting, search.label, search.loss, search.scale) for search in plan.searches]
    found: dict[tuple[int, str], Wanted] = {}
    for planned in plan.jobs:
        method = plan.methods[planned.method]
        label = method.label.partition(" kl_weight=")[0]
        found.setdefault((planned.setting, loss_key(method.loss)), Wanted(planned.setting, label, method.loss))
    return list(found.values())


def setting_key(setting: BoardSetting, reference: ComponentSpec, seed: int, steps: int) -> str:
    """Return a digest of everything that a scale depends on except the loss.

    The number of epochs is not part of it, since calibration uses the first steps only.
    """
    training = setting.training.model_dump(mode="json", exclude={"epochs"})
    parts = [json.loads(part.identity) for part in (setting.dataset, setting.architecture, reference)]
    return digest({"numerics": NUMERICS, "parts": parts, "training": training, "seed": seed, "steps": steps})


def loss_key(loss: ComponentSpec) -> str:
    """Return a digest of a loss with its parameters and its code."""
    return digest(json.loads(loss.identity))


def read(root: Path) -> Calibration:
    """Return the scales measured for the suite whose results are in ``root``; empty if there are none.

    Raises:
        UserError: the file cannot be used.
    """
    file = root / FILE
    try:
        return Calibration.model_validate_json(without_checksum(read_regular(file, 1 << 24).rstrip())[0])
    except (FileNotFoundError, NotADirectoryError):
        return Calibration()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "it is damaged or was not written by recbench"
        raise UserError(f"{file} cannot be used ({why}); remove it to measure the scales again") from None


def add(root: Path, key: str, found: Mapping[str, Scale]) -> None:
    """Add scales, by :func:`loss_key`, to those that are stored under a :func:`setting_key`."""
    known = read(root).scales
    merged = Calibration(scales={**known, key: {**known.get(key, {}), **found}})
    write_atomically(root / FILE, with_checksum(merged.model_dump_json().encode()) + b"\n")


def known(
    plan: Plan, losses: Iterable[Wanted], reference: ComponentSpec, root: Path, seed: int, steps: int
) -> dict[tuple[int, str], Scale]:
    """Return the scales that were measured before, by setting and label."""
    kept = read(root).scales
    keys = [setting_key(setting, reference, seed, steps) for setting in plan.settings]
    found = {}
    for loss in losses:
        scale = kept.get(keys[loss.setting], {}).get(loss_key(loss.loss))
        if scale is not None:
            found[loss.setting, loss.label] = scale
    return found


def reference(registry: Registry) -> ComponentSpec:
    """Return ``l2`` with its default parameters.

    Raises:
        UserError: no plugin provides it.
    """
    registered = registry.get("losses", REFERENCE)
    return ComponentSpec(name=REFERENCE, params=registered.entry.complete({}), code=registered.code)


def lacking(plan: Plan) -> list[Wanted]:
    """Return the losses of a plan with tuning whose scales are neither set by the suite nor filled in."""
    return [loss for loss in wanted(plan) if loss.given is None] if plan.tuning is not None else []


def filled_in(plan: Plan, root: Path, registry: Registry) -> Plan:
    """Return the plan with the scales that were measured for it before; others stay open."""
    losses = lacking(plan)
    if plan.tuning is None or not losses:
        return plan
    kept = known(plan, losses, reference(registry), root, plan.tuning.calibration_seed, plan.tuning.calibration_steps)
    return with_scales(plan, {key: scale.scale for key, scale in kept.items()})


def by_setting(losses: Sequence[Wanted]) -> dict[int, list[Wanted]]:
    """Group losses by their setting."""
    groups: dict[int, list[Wanted]] = {}
    for loss in losses:
        groups.setdefault(loss.setting, []).append(loss)
    return groups
