"""Every architecture keeps the contract."""

import pytest

import recbench_architectures
from recbench.testing import ArchitectureCase, architecture_cases

SMALL = {"widths": [8, 16], "latent_size": 8, "hidden": 16}
MAPS = {
    "kl_f4": [{"channels": 8, "multipliers": [1, 2, 2], "blocks": 1}],
    "kl_f8": [{"channels": 8, "multipliers": [1, 1, 2, 2], "blocks": 1}],
    "vq": [{"width": 8, "codes": 16, "dim": 4}],
}


@pytest.mark.parametrize(
    "case",
    architecture_cases(
        recbench_architectures,
        {"vae_bredell": [SMALL], "vae_bredell_small": [{"widths": [8, 16], "latent_size": 8}], **MAPS},
    ),
    ids=str,
)
def test_conformance(case: ArchitectureCase) -> None:
    case.run()
