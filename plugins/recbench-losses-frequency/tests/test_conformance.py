"""The conformance tests of recbench for all losses of this plugin."""

from __future__ import annotations

from dataclasses import replace

import pytest

import recbench_losses_frequency as plugin
from recbench.testing import Case, imports_no_torch, loss_cases

VARIANTS = {
    "ffl": [
        {},
        {"alpha": 0.5, "patch_factor": 4},
        {"log_matrix": True},
        {"batch_matrix": True},
        {"ave_spectrum": True},
    ],
    "wavelet": [{}, {"levels": 2, "details": [2.0, 0.5], "approximation": 0.1}],
    "watson_dft": [{"weights": "initial"}],
    "watson_dct": [{"weights": "initial"}],
}
FFL = next(entry for entry in plugin.recbench_losses() if entry.name == "ffl")
# With alpha 0 the weights are constants, and the gradient is the slope.
CONSTANT_WEIGHTS = loss_cases([replace(FFL, stops_gradient=False)], {"ffl": [{"alpha": 0.0}]})
LEARNED = loss_cases([entry for entry in plugin.recbench_losses() if entry.family == "watson"])


@pytest.mark.parametrize("case", [*CONSTANT_WEIGHTS, *loss_cases(plugin, VARIANTS)], ids=str)
def test_conformance(case: Case) -> None:
    case.run()


@pytest.mark.usefixtures("learned_weights")
@pytest.mark.parametrize("case", LEARNED, ids=str)
def test_conformance_with_learned_weights(case: Case) -> None:
    case.run()


def test_listing_the_losses_imports_no_torch() -> None:
    imports_no_torch(plugin)
