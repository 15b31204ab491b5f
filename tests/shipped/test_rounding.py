"""Rounded scores per image: nearly the same, with exactly the mean of their record."""

from __future__ import annotations

import numpy as np
import pytest

from recbench.shipped.rounding import rounded, rounded_content
from recbench.store.artifacts import read_scores

RANDOM = np.random.default_rng(3)


@pytest.mark.parametrize("steps", [16, 64, 1024])
@pytest.mark.parametrize(
    "values",
    [
        RANDOM.normal(20, 3, 5000),
        RANDOM.lognormal(-3, 1, 997),
        RANDOM.normal(0.7, 0.1, 8).astype(np.float32).astype(np.float64),
        -RANDOM.exponential(1e-6, 300),
    ],
)
def test_scores_move_by_a_step_at_most_and_their_mean_stays(values, steps):
    found = rounded(values, steps)
    assert np.abs(found - values).max() <= values.std() / steps * 1.0001
    assert found.mean() == pytest.approx(values.mean(), rel=1e-10)
    step = 2.0 ** np.floor(np.log2(values.std() / steps))
    assert np.all(np.round(found[:-1] / step) * step == found[:-1])


def test_a_column_that_cannot_be_rounded_is_left_alone():
    for values in (np.array([1.0, np.inf, 3.0]), np.full(5, 2.5), np.array([7.0]), np.zeros(0)):
        assert np.array_equal(rounded(values, 64), values)


def test_coarser_scores_make_a_smaller_file_with_the_same_means():
    columns = {"psnr": RANDOM.normal(20, 3, 10_000), "ssim": RANDOM.beta(8, 3, 10_000)}
    sizes = []
    for steps in (1024, 128, 32):
        content = rounded_content(columns, steps)
        sizes.append(len(content))
        for name, values in read_scores(content).items():
            assert values.mean() == pytest.approx(columns[name].mean(), rel=1e-9)
    assert sizes == sorted(sizes, reverse=True) and sizes[-1] < 0.75 * sizes[0]
