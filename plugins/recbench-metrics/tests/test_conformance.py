"""Every metric keeps the contract."""

import pytest

import recbench_metrics
from recbench.testing import MetricCase, metric_cases


@pytest.mark.parametrize("case", metric_cases(recbench_metrics), ids=str)
def test_conformance(case: MetricCase) -> None:
    case.run()
