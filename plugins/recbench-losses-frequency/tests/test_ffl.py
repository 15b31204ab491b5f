"""The focal frequency loss against the authors' package and golden values."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from focal_frequency_loss import FocalFrequencyLoss
from torch import Tensor

import recbench_losses_frequency
from recbench import ImageShape
from recbench.contracts.loss import Context, Setting
from recbench_losses_frequency import ffl
from recbench_losses_frequency._kernels import focal_frequency
from recbench_losses_frequency.losses import FocalFrequency

ENTRY = next(entry for entry in recbench_losses_frequency.recbench_losses() if entry.name == "ffl")
FLAGS = ("ave_spectrum", "log_matrix", "batch_matrix")
COMBINATIONS = [
    {"alpha": alpha, "patch_factor": factor, **dict(zip(FLAGS, flags, strict=True))}
    for alpha, factor, flags in product((0.0, 0.5, 1.0, 2.3), (1, 2, 4), product((False, True), repeat=3))
]


def make(**params: Any) -> FocalFrequency:
    return FocalFrequency(Setting(ImageShape(3, 24, 20), latent_size=8), **ENTRY.complete(params))


def images(*shape: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Decoded and target."""
    decoded, target = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    return decoded.requires_grad_(), target


def gradient(value: Tensor, decoded: Tensor, *, again: bool = False) -> Tensor:
    (found,) = torch.autograd.grad(value, decoded, create_graph=again)
    return found


@pytest.mark.parametrize("params", COMBINATIONS, ids=str)
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=str)
def test_values_and_gradients_are_those_of_the_authors_package(
    params: dict[str, Any], dtype: torch.dtype, relative: float
) -> None:
    decoded, target = images(3, 2, 24, 20, dtype=dtype)
    value = make(**params)(decoded, target, Context()).mean()
    expected = FocalFrequencyLoss(**params)(decoded, target)
    assert value.item() == pytest.approx(expected.item(), rel=relative)
    found, wanted = gradient(value, decoded), gradient(expected, decoded)
    assert (found - wanted).norm() < relative * wanted.norm()


@pytest.mark.parametrize("params", COMBINATIONS, ids=str)
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-10), (torch.float32, 1e-5)], ids=str)
def test_the_kernel_equals_the_formula_in_value_and_gradient(
    params: dict[str, Any], dtype: torch.dtype, relative: float
) -> None:
    decoded, target = images(3, 2, 24, 20, dtype=dtype)
    value, expected = (function(decoded - target, **params) for function in (focal_frequency, ffl.focal_frequency))
    torch.testing.assert_close(value, expected, rtol=relative, atol=0)
    found, wanted = gradient(value.sum(), decoded), gradient(expected.sum(), decoded)
    assert (found - wanted).norm() < relative * wanted.norm()


@pytest.mark.parametrize("shape", [(1, 1, 7, 9), (2, 5, 9, 8), (1, 3, 8, 7), (2, 1, 1, 6), (2, 1, 6, 1)])
def test_sides_may_be_odd_and_channels_any_number(shape: tuple[int, ...]) -> None:
    decoded, target = images(*shape)
    value = make()(decoded, target, Context()).mean()
    expected = FocalFrequencyLoss()(decoded, target)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(gradient(value, decoded), gradient(expected, decoded))


@pytest.mark.parametrize("params", [{}, {"alpha": 0.5, "patch_factor": 2}, {"log_matrix": True}], ids=str)
def test_an_image_has_the_value_that_the_package_gives_it_alone(params: dict[str, Any]) -> None:
    decoded, target = images(3, 2, 24, 20)
    package = FocalFrequencyLoss(**params)
    alone = [package(decoded[i : i + 1], target[i : i + 1]).item() for i in range(3)]
    assert make(**params)(decoded, target, Context()).tolist() == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_golden_values(alpha: float, golden: dict[str, Any]) -> None:
    want = golden[f"ffl_alpha{alpha}"]
    target, pred = (torch.from_numpy(golden[name]) for name in ("target", "pred"))
    options = ENTRY.complete({"alpha": alpha})
    plain = ffl.focal_frequency((pred - target).double(), **options).mean()
    assert plain.item() == pytest.approx(want["value"], rel=1e-6)
    for dtype, relative in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        decoded = pred.to(dtype).requires_grad_()
        value = make(alpha=alpha)(decoded, target.to(dtype), Context()).mean()
        assert value.item() == pytest.approx(want["value"], rel=relative)
        assert gradient(value, decoded).norm().item() == pytest.approx(want["grad_l2"], rel=relative)


def test_without_weights_the_derivatives_are_those_of_differences() -> None:
    """alpha = 0 makes all weights 1; elsewhere the gradient is not that of the value, by definition."""
    decoded, target = images(2, 2, 6, 5)
    assert torch.autograd.gradcheck(lambda d, t: make(alpha=0.0)(d, t, Context()), (decoded, target.requires_grad_()))
    assert torch.autograd.gradgradcheck(lambda d: make(alpha=0.0)(d, target, Context()), decoded)


@pytest.mark.parametrize("params", [{}, {"alpha": 0.5, "patch_factor": 2}, *({flag: True} for flag in FLAGS)], ids=str)
def test_second_derivatives_are_those_of_the_authors_package(params: dict[str, Any]) -> None:
    decoded, target = images(2, 2, 8, 6)
    found, expected = (
        gradient(gradient(loss, decoded, again=True).pow(3).sum(), decoded)
        for loss in (make(**params)(decoded, target, Context()).mean(), FocalFrequencyLoss(**params)(decoded, target))
    )
    assert expected.norm() > 0
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_the_graph_can_be_walked_twice() -> None:
    decoded, target = images(2, 2, 8, 6)
    value = make()(decoded, target, Context()).sum()
    first, second = (torch.autograd.grad(value, decoded, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_evaluation_gives_the_same_values_as_training() -> None:
    decoded, target = images(2, 3, 24, 20, dtype=torch.float32)
    value = make()(decoded, target, Context())
    with torch.no_grad():
        assert torch.equal(make()(decoded, target, Context()), value)


def test_what_is_not_finite_shows() -> None:
    decoded, target = images(2, 3, 24, 20)
    with torch.no_grad():
        decoded[0, 0, 0, 0] = torch.nan
    value = make()(decoded, target, Context())
    assert value.isnan().tolist() == [True, False]


def test_patches_that_do_not_fit_are_refused_before_anything_runs() -> None:
    assert not ENTRY.refusals(ImageShape(3, 64, 96), ENTRY.complete({"patch_factor": 4}))
    (reason,) = ENTRY.refusals(ImageShape(3, 64, 96), ENTRY.complete({"patch_factor": 3}))
    assert "patch_factor" in reason
