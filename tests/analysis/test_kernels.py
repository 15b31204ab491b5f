"""Numbers of kernels against cases that can be said in words."""

from __future__ import annotations

import math

import numpy as np
import pytest

from recbench.analysis.kernels import kernel_shapes


def test_one_pixel_has_no_width_and_is_one_pixel() -> None:
    kernel = np.zeros((5, 5))
    kernel[1, 4] = 0.3
    shapes = kernel_shapes(kernel)
    assert shapes.width == 0
    assert shapes.pixels == pytest.approx(1)
    assert shapes.offset == pytest.approx(math.hypot(1, 2))


@pytest.mark.parametrize("scale", [1, -3])
def test_a_gaussian_has_its_own_width_whatever_its_sum_and_sign(scale: int) -> None:
    offset = np.arange(41) - 20
    profile = np.exp(-(offset**2) / (2 * 2.5**2))
    shapes = kernel_shapes(scale * np.outer(profile, profile))
    assert shapes.width == pytest.approx(2.5, rel=1e-6)
    assert shapes.offset == pytest.approx(0, abs=1e-9)
    assert shapes.pixels == pytest.approx(2 * math.pi * math.e * 2.5**2, rel=1e-3)  # e to the entropy of a normal law


def test_each_kernel_of_a_batch_has_its_own_numbers() -> None:
    kernels = np.stack([np.ones((4, 6)), np.eye(4, 6)])[None].repeat(3, axis=0).astype(np.float32)
    shapes = kernel_shapes(kernels)
    assert shapes.width.shape == shapes.offset.shape == shapes.pixels.shape == (3, 2)
    assert shapes.pixels[0] == pytest.approx([24, 4])
    assert shapes.width[0, 0] == pytest.approx(math.sqrt(((16 - 1) / 12 + (36 - 1) / 12) / 2))


def test_a_kernel_of_zeros_has_no_numbers() -> None:
    shapes = kernel_shapes(np.zeros((2, 3, 3)))
    assert np.isnan([shapes.width, shapes.offset, shapes.pixels]).all()
