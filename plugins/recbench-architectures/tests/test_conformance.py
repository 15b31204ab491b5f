"""Every architecture keeps the contract."""

import pytest

import recbench_architectures
from recbench.testing import ArchitectureCase, architecture_cases

SMALL = {"widths": [8, 16], "latent_size": 8, "hidden": 16}


@pytest.mark.parametrize(
    "case",
    architecture_cases(
        recbench_architectures,
        {"vae_bredell": [SMALL], "vae_bredell_small": [{"widths": [8, 16], "latent_size": 8}]},
    ),
    ids=str,
)
def test_conformance(case: ArchitectureCase) -> None:
    case.run()
