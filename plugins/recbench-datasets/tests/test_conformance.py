"""Every data set that needs no download keeps the contract."""

import pytest

import recbench_datasets
from recbench.testing import DatasetCase, dataset_cases

SMALL = {"size": 16, "train": 32, "validation": 8, "test": 8}


@pytest.mark.parametrize("case", dataset_cases(recbench_datasets, {"photos": [SMALL], "shapes": [SMALL]}), ids=str)
def test_conformance(case: DatasetCase) -> None:
    case.run()
