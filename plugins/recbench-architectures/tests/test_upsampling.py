"""Bilinear upsampling: values and gradients of torch's own."""

import pytest
import torch
from torch import nn

from recbench_architectures._kernels import Upsample, separable_product
from recbench_architectures.upsampling import BilinearUpsampling, interpolation_matrix, upsampled

CORNERS = pytest.mark.parametrize("align_corners", [False, True])
SIDES = pytest.mark.parametrize("sides", [(1, 1), (2, 3), (8, 8), (5, 16)])


def images(sides: tuple[int, int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, *sides, dtype=torch.float64, generator=generator, requires_grad=True)


def interpolated(given: torch.Tensor, align_corners: bool) -> torch.Tensor:
    return nn.functional.interpolate(given, scale_factor=2, mode="bilinear", align_corners=align_corners)


@CORNERS
@SIDES
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_torchs(sides, align_corners, memory_format):
    given = images(sides).detach().to(memory_format=memory_format).requires_grad_()
    doubled = BilinearUpsampling(*sides, align_corners=align_corners).double()(given)
    expected = interpolated(given, align_corners)
    assert torch.equal(doubled, expected)
    weight = torch.randn(doubled.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad((doubled * weight).sum(), given)
    (native,) = torch.autograd.grad((expected * weight).sum(), given)
    torch.testing.assert_close(gradient, native, atol=1e-6, rtol=1e-6)  # the matrices are float32


@CORNERS
@SIDES
def test_the_matrices_interpolate(sides, align_corners):
    rows, columns = (interpolation_matrix(side, 2 * side, align_corners=align_corners).double() for side in sides)
    given = images(sides)
    torch.testing.assert_close(
        separable_product(given, rows, columns), interpolated(given, align_corners), atol=1e-6, rtol=1e-6
    )


@CORNERS
@SIDES
def test_the_kernel_is_the_formula(sides, align_corners):
    """Values and gradients, of matrices in float64."""
    rows, columns = (interpolation_matrix(side, 2 * side, align_corners=align_corners).double() for side in sides)
    given = images(sides)
    fast, plain = Upsample.apply(given, rows, columns, align_corners), upsampled(given, rows, columns)
    torch.testing.assert_close(fast, plain, atol=1e-6, rtol=1e-6)  # the matrices were rounded to float32
    weight = torch.randn(plain.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((each * weight).sum(), given)[0] for each in (fast, plain)]
    torch.testing.assert_close(*gradients, atol=1e-12, rtol=1e-12)


@CORNERS
def test_gradients_are_right_twice(align_corners):
    upsampling = BilinearUpsampling(2, 3, align_corners=align_corners).double()
    given = images((2, 3))
    assert torch.autograd.gradcheck(lambda values: upsampling(values).square(), given)
    assert torch.autograd.gradgradcheck(lambda values: upsampling(values).square(), given)


def test_bf16_goes_through():
    given = images((4, 4)).detach().bfloat16().requires_grad_()
    doubled = BilinearUpsampling(4, 4, align_corners=True)(given)
    assert doubled.dtype == torch.bfloat16
    doubled.sum().backward()
    assert given.grad.dtype == torch.bfloat16
    assert float(given.grad.sum()) == pytest.approx(2 * 3 * 8 * 8, rel=0.01)


def test_no_operation_is_recorded_that_has_no_deterministic_gradient_on_a_gpu():
    """Torch's own, upsample_bilinear2d_backward, which it refuses there."""
    doubled = BilinearUpsampling(4, 4, align_corners=False)(images((4, 4)).float())
    seen, waiting = set(), [doubled.grad_fn]
    while waiting:
        node = waiting.pop()
        seen.add(node.name())
        waiting.extend(parent for parent, _ in node.next_functions if parent)
    assert not [name for name in seen if "Bilinear2D" in name]


def test_its_matrices_are_no_part_of_a_checkpoint():
    assert not BilinearUpsampling(4, 4, align_corners=False).state_dict()
