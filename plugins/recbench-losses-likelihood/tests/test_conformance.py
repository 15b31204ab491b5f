"""The conformance tests of recbench for all losses of this plugin."""

from __future__ import annotations

import pytest

import recbench_losses_likelihood as plugin
from recbench.testing import Case, imports_no_torch, loss_cases

VARIANTS = {
    "sigma_gaussian": [{}],
    "barron": [{}, {"representation": "dct"}, {"representation": "pixel", "alpha_hi": 2.0}, {"alpha_lo": 3.0}],
    "wiener": [
        {},
        {"kernel": "gaussian"},
        {"kernel": "gaussian", "variance": 4.0, "determinant": "exact"},
        {"determinant": "exact", "normalize": "none"},
    ],
}


@pytest.mark.parametrize("case", loss_cases(plugin, VARIANTS), ids=str)
def test_conformance(case: Case) -> None:
    case.run()


def test_listing_the_losses_imports_no_torch() -> None:
    imports_no_torch(plugin)
