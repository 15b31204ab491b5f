"""The conformance tests of recbench for all losses of this plugin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import recbench_losses_perceptual as plugin
from recbench import LossEntry
from recbench.testing import Case, imports_no_torch, loss_cases

LOSSES: dict[str, LossEntry] = {entry.name: entry for entry in plugin.recbench_losses()}


def cases(name: str, params: dict[str, Any], but: tuple[str, ...]) -> list[Case]:
    return [case for case in loss_cases([LOSSES[name]], {name: [params]}) if case.check.__name__ not in but]


ST_LPIPS_CASES = cases("st_lpips", {"net": "alex"}, but=())
# Central differences of a gradient that jumps at every kink of a deep network say nothing of its second derivative.
# The shallower network above, made of the same parts, has so few kinks that it is put to that test.
VGG_CASES = cases("vgg", {"trunk": "st"}, but=("differentiable_twice_or_refused",))
# What random weights make of more blur and noise has no meaning, and with biases of zero they have so many
# kinks, and vectors of almost no length, that differences miss even the first derivative: the package's stands for it.
LPIPS_CASES = cases(
    "lpips",
    {"net": "squeeze"},
    but=("differentiable_twice_or_refused", "gradient_is_the_slope", "grows_with_noise", "grows_with_blur"),
)


@pytest.mark.usefixtures("shift_tolerant")
@pytest.mark.parametrize(
    "case", [*ST_LPIPS_CASES, *(pytest.param(case, marks=pytest.mark.slow) for case in VGG_CASES)], ids=str
)
def test_conformance(case: Case) -> None:
    case.run()


@pytest.mark.parametrize("case", LPIPS_CASES, ids=str)
def test_conformance_with_a_random_trunk(case: Case, random_trunk: Callable[[str], Any]) -> None:
    random_trunk("squeeze")
    case.run()


def test_listing_the_plugin_imports_no_torch() -> None:
    imports_no_torch(plugin)
