"""The wavelet loss against coefficients of PyWavelets."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recbench import ImageShape
from recbench.contracts.loss import Context, Setting
from recbench_losses_frequency import recbench_losses
from recbench_losses_frequency.wavelet import Wavelet, haar

SHAPE = ImageShape(3, 16, 24)


def pair() -> tuple[Tensor, Tensor]:
    """A decoded and a target batch in 0 to 1, float64; those that PyWavelets was given."""
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(2, 3, 16, 24, generator=generator, dtype=torch.float64)
    noise = torch.randn(target.shape, generator=generator, dtype=torch.float64)
    return (target + 0.1 * noise).clamp(0, 1), target


@pytest.mark.parametrize(
    ("levels", "approximation", "details", "expected"),
    [  # weighted sums of the absolute values of pywt.wavedec2(decoded - target, "haar", level=levels)
        (1, 1.0, [1.0], [84.61806132350796, 85.683661765296]),
        (3, 1.0, [1.0], [84.95436895704906, 85.5583186072738]),
        (3, 0.25, [2.0, 0.5], [137.70873786002596, 137.78664097211717]),
    ],
)
def test_value_is_that_of_pywavelets(
    levels: int, approximation: float, details: list[float], expected: list[float]
) -> None:
    loss = Wavelet(Setting(SHAPE, latent_size=2), levels=levels, approximation=approximation, details=details)
    decoded, target = pair()
    assert loss(decoded, target, Context()).tolist() == pytest.approx(expected, rel=1e-12)
    assert loss(decoded.float(), target.float(), Context()).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_gradient_is_that_of_finite_differences_and_can_be_differentiated() -> None:
    decoded, target = (images[:, :1, :8, :8].clone().requires_grad_() for images in pair())
    loss = Wavelet(Setting(ImageShape(1, 8, 8), latent_size=2), levels=3, approximation=0.5, details=[2.0, 0.7])
    assert torch.autograd.gradcheck(lambda *both: loss(*both, Context()), (decoded, target))
    value = loss(decoded, target, Context()).square().sum()
    once, again = (
        torch.autograd.grad(value, decoded, create_graph=graph, retain_graph=True)[0] for graph in (False, True)
    )
    assert torch.allclose(once, again.detach(), rtol=1e-12)
    assert again.requires_grad


def test_the_transform_keeps_the_sum_of_squares() -> None:
    images, _ = pair()
    approximation, details = haar(images)
    assert float(approximation.square().sum() + details.square().sum()) == pytest.approx(float(images.square().sum()))


def test_sides_that_cannot_be_halved_so_often_are_refused() -> None:
    entry = next(entry for entry in recbench_losses() if entry.name == "wavelet")
    assert entry.refusals(SHAPE, entry.complete({"levels": 3})) == []
    assert "8 = 2^levels divides, not 20x24" in "".join(entry.refusals(ImageShape(3, 20, 24), entry.complete({})))
