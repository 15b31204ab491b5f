"""The conformance tests of recbench for all losses of this plugin."""

import pytest

import recbench_losses_structural as plugin
from recbench.testing import imports_no_torch, loss_cases, metric_cases

VARIANTS = {
    "ssim": [{}, {"window": 7, "sigma": 1.0}, {"implementation": "reference"}],
    "ms_ssim": [{}, {"scales": 1}, {"window": 5, "weights": [0.3, 0.7]}, {"implementation": "reference", "window": 3}],
    "gradient": [{}, {"alpha": 2.0, "p": 1}],
    "mix": [{}, {"beta": float("inf")}],
}


@pytest.mark.parametrize("case", loss_cases(plugin, VARIANTS), ids=str)
def test_conformance(case):
    case.run()


GMSD = [entry for entry in plugin.recbench_metrics() if entry.name == "gmsd"]


@pytest.mark.parametrize("case", metric_cases(GMSD), ids=str)
def test_metric_conformance(case):
    case.run()


def test_listing_imports_no_torch():
    imports_no_torch(plugin)
