"""The details that freq_latent_ae is given, against numpy and against images of which the answer is known."""

import numpy as np
import pytest
import torch

from recbench_architectures.spectrum import ideal_high_pass, own_conjugates, phase_spectrum

SIDES = pytest.mark.parametrize("sides", [(8, 8), (8, 12), (9, 8), (7, 9), (64, 64)])


def made_up_images(sides: tuple[int, int]) -> torch.Tensor:
    return torch.rand(2, 3, *sides, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.7


def phase(images: torch.Tensor) -> torch.Tensor:
    height, width = images.shape[-2:]
    return phase_spectrum(torch.fft.rfft2(images), width, own_conjugates(height, width))


def high_passed(images: torch.Tensor, cutoff: float) -> torch.Tensor:
    height, width = images.shape[-2:]
    return torch.fft.irfft2(torch.fft.rfft2(images) * ideal_high_pass(height, width, cutoff), s=(height, width))


@SIDES
@pytest.mark.parametrize("cutoff", [0.0, 2.0, 3.5])
def test_the_filter_is_numpys_on_the_centred_spectrum(sides, cutoff):
    images = made_up_images(sides)
    height, width = sides
    spectrum = np.fft.fftshift(np.fft.fft2(images.numpy()), axes=(-2, -1))
    for row in range(height):
        for column in range(width):
            if ((row - height // 2) ** 2 + (column - width // 2) ** 2) ** 0.5 <= cutoff:
                spectrum[..., row, column] = 0
    expected = np.fft.ifft2(np.fft.ifftshift(spectrum, axes=(-2, -1)))
    assert abs(expected.imag).max() < 1e-12
    np.testing.assert_allclose(high_passed(images, cutoff).numpy(), expected.real, atol=1e-12)


def test_slow_waves_disappear_and_fast_ones_stay():
    """20 pixels of the centred spectrum are 20 cycles per image, in any direction."""
    turns = torch.arange(256, dtype=torch.float64) / 256
    down, across = torch.meshgrid(turns, turns, indexing="ij")

    def wave(rows: int, columns: int) -> torch.Tensor:
        return torch.sin(2 * torch.pi * (rows * down + columns * across))[None, None]

    for rows, columns in [(0, 5), (19, 0), (0, 20), (20, 0), (12, -16), (14, 14)]:
        assert high_passed(wave(rows, columns) + 0.5, 20).abs().max() < 1e-12, (rows, columns)
    for rows, columns in [(0, 21), (21, 0), (15, -14), (1, 20), (100, 3)]:
        torch.testing.assert_close(high_passed(wave(rows, columns) + 0.5, 20), wave(rows, columns))


@SIDES
def test_the_phase_is_numpys(sides):
    images = made_up_images(sides)
    found = phase(images).numpy()
    expected = np.angle(np.fft.fftshift(np.fft.fft2(images.numpy()), axes=(-2, -1)))
    assert found.shape == images.shape
    turned = np.exp(1j * found) - np.exp(1j * expected)  # −π and π are the same phase
    assert abs(turned).max() < 1e-9
    assert abs(found).max() <= np.pi


@SIDES
def test_the_phase_of_a_negative_mean_is_pi_on_every_device(sides):
    """Not −π, which a transform may give: the sign of a zero."""
    images = made_up_images(sides)
    assert (images.mean((-2, -1)) < 0).all()
    centre = phase(images)[..., sides[0] // 2, sides[1] // 2]
    assert torch.equal(centre, torch.full_like(centre, torch.pi))


@pytest.mark.parametrize("value", [0.0, 0.25, -1.0])
def test_without_details_all_is_finite(value):
    images = torch.full((1, 1, 16, 16), value, requires_grad=True)
    found = phase(images)
    assert found.isfinite().all()
    found.sum().backward()
    assert images.grad.isfinite().all()
    if value == 0:
        assert not found.any()


def test_the_gradient_of_the_phase_is_right():
    images = made_up_images((4, 6))[:1, :1].requires_grad_()
    assert torch.autograd.gradcheck(lambda values: torch.sin(phase(values)), images)
