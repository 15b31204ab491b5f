"""The conformance tests of recbench for all losses of this plugin. Keep this file when you copy the folder."""

import pytest

import recbench_losses_pixel as plugin
from recbench.testing import imports_no_torch, loss_cases


@pytest.mark.parametrize("case", loss_cases(plugin), ids=str)
def test_conformance(case):
    case.run()


def test_listing_the_losses_imports_no_torch():
    imports_no_torch(plugin)
