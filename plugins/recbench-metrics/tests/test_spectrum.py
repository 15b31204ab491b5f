"""The spectrum's metric and profile against NumPy's full transform, and images whose spectra are known."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import data, filters

from recbench.contracts.entries import ImageShape
from recbench_metrics import recbench_metrics
from recbench_metrics.spectrum import FLOOR, Spectrum, full_spectrum, log_spectrum, radial_profile

SHAPES = [(3, 16, 16), (1, 7, 9), (2, 9, 8), (1, 8, 7), (3, 1, 6), (1, 6, 1), (1, 1, 1)]
ENTRIES = {entry.name: entry for entry in recbench_metrics()}


def eight_bit(seed: int, *shape: int) -> torch.Tensor:
    levels = torch.randint(256, shape, generator=torch.Generator().manual_seed(seed))
    return levels.float() / 255


def crops(sigma: float = 0) -> torch.Tensor:
    """16 crops of a photograph, blurred: (16, 3, 64, 64), multiples of 1/255."""
    photograph = data.astronaut()[:256, :256] / 255
    if sigma:
        photograph = filters.gaussian(photograph, sigma, channel_axis=-1)
    tiles = torch.from_numpy(photograph.transpose(2, 0, 1)).unfold(1, 64, 64).unfold(2, 64, 64)
    return (tiles.permute(1, 2, 0, 3, 4).reshape(16, 3, 64, 64) * 255).round().div(255).float()


def score(decoded: torch.Tensor, target: torch.Tensor, batch_size: int = 5) -> float:
    metric = Spectrum(ImageShape(*target.shape[1:]))
    for pair in zip(decoded.split(batch_size), target.split(batch_size), strict=True):
        metric.update(*pair)
    return metric.compute()


def mean_spectrum(images: torch.Tensor) -> np.ndarray:
    """As the notes of the entry define it, one image after the other."""
    total = np.zeros(images.shape[1:])
    for image in images.double().numpy():
        for channel, plane in enumerate(image):
            magnitude = np.abs(np.fft.fft2(plane)) / math.sqrt(plane.size)
            total[channel] += np.log(np.maximum(magnitude, 1 / 255 / math.sqrt(12)))
    return total / len(images)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_score_is_the_mean_absolute_difference_of_the_full_mean_spectra(shape):
    decoded, target = eight_bit(0, 12, *shape), eight_bit(1, 12, *shape)
    expected = np.abs(mean_spectrum(decoded) - mean_spectrum(target)).mean()
    assert score(decoded, target) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_kept_spectra_are_whole(shape):
    decoded, target = eight_bit(0, 4, *shape), eight_bit(1, 4, *shape)
    metric = Spectrum(ImageShape(*shape))
    metric.update(decoded, target)
    spectra = metric.trace()
    for name, images in (("decoded", decoded), ("target", target)):
        np.testing.assert_allclose(spectra[name].numpy(), mean_spectrum(images), atol=1e-5)


def test_batches_do_not_matter():
    decoded, target = eight_bit(0, 12, 3, 16, 16), eight_bit(1, 12, 3, 16, 16)
    assert score(decoded, target, batch_size=1) == pytest.approx(score(decoded, target, batch_size=12), rel=1e-12)


def test_casting_the_metric_keeps_its_sums_in_float64():
    metric = Spectrum(ImageShape(3, 16, 16)).to(torch.float32)
    metric.update(eight_bit(0, 2, 3, 16, 16), eight_bit(1, 2, 3, 16, 16))
    assert {spectrum.dtype for spectrum in metric.trace().values()} == {torch.float64}


def test_equal_images_have_no_difference():
    images = crops()
    assert score(images, images.clone()) == 0


def test_half_the_magnitude_is_a_difference_of_ln_2():
    """A single bright pixel has the same magnitude at all frequencies."""
    pixel = torch.zeros(2, 3, 16, 12)
    pixel[..., 5, 7] = 1
    assert score(pixel / 2, pixel) == pytest.approx(math.log(2), rel=1e-5)


@pytest.mark.parametrize("level", [0, 1 / 255, 1 / 3, 1])
def test_images_of_one_colour_have_the_floor_everywhere_but_at_0(level):
    spectrum = log_spectrum(torch.full((1, 1, 64, 60), level))
    spectrum[..., 0, 0] = math.log(FLOOR)
    torch.testing.assert_close(spectrum, torch.full_like(spectrum, math.log(FLOOR)))


def test_the_floor_is_the_size_of_8_bit_rounding():
    images = torch.rand(64, 1, 64, 64, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    error = (images * 255).round() / 255 - images
    assert torch.fft.fft2(error, norm="ortho").abs().square().mean().sqrt().item() == pytest.approx(FLOOR, rel=0.01)


def test_the_more_blur_the_larger_the_difference():
    scores = [score(crops(sigma), crops()) for sigma in (0, 0.3, 0.6, 1, 1.5, 2.5)]
    assert scores == sorted(scores)
    assert scores[0] == 0 < scores[1]


def test_gaussian_blur_shows_in_the_profile_as_its_transfer_function():
    """Around the border, a blur of standard deviation s pixels takes the frequency f down by exp(−2 π² s² f²)."""
    target = crops().double()
    blurred = torch.from_numpy(ndimage.gaussian_filter(target.numpy(), (0, 0, 1, 1), mode="wrap", truncate=8))
    metric = Spectrum(ImageShape(3, 64, 64))
    metric.update(blurred, target)
    spectra = metric.trace()
    frequency, profile = radial_profile(spectra["decoded"] - spectra["target"])
    squared = torch.fft.fftfreq(64, dtype=torch.float64).square()
    _, expected = radial_profile(-2 * math.pi**2 * (squared[:, None] + squared).expand(3, 64, 64))
    seen = frequency <= 0.2  # much higher, what the blur leaves is below the floor
    torch.testing.assert_close(profile[:, seen], expected[:, seen], rtol=0.01, atol=1e-4)


def test_white_noise_has_a_flat_profile():
    """ln|F| of Gaussian noise is ln σ minus half of Euler's constant on average: |F|² / σ² is exponential.

    But for the last ring, which is one frequency only, and that is real.
    """
    noise = 0.1 * torch.randn(256, 1, 48, 48, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    _, profile = radial_profile(full_spectrum(log_spectrum(0.5 + noise), 48).mean((0, 1)))
    expected = math.log(0.1) - np.euler_gamma / 2
    torch.testing.assert_close(profile[1:-1], torch.full_like(profile[1:-1], expected), atol=0.06, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 7), (5, 8), (8, 5), (1, 6), (1, 1), (4, 64), (63, 6)])
def test_rings_are_those_of_a_plain_loop(height, width):
    spectrum = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    rings: dict[int, list[torch.Tensor]] = {}
    for i, j in itertools.product(range(height), range(width)):
        down, across = min(i, height - i) / height, min(j, width - j) / width
        rings.setdefault(round(math.hypot(down, across) * max(height, width)), []).append(spectrum[..., i, j])
    assert set(rings) == set(range(len(rings))), "no ring is empty"
    frequency, profile = radial_profile(spectrum)
    expected = torch.stack([torch.stack(rings[ring]).double().mean(0) for ring in range(len(rings))], -1)
    torch.testing.assert_close(profile, expected)
    torch.testing.assert_close(frequency, torch.arange(len(rings)).double() / max(height, width))


def test_the_two_entries_differ_in_what_they_judge():
    assert not ENTRIES["spectrum_recon"].samples
    assert ENTRIES["spectrum_gen"].samples
    assert {ENTRIES[name].factory for name in ("spectrum_recon", "spectrum_gen")} == {
        "recbench_metrics.spectrum:Spectrum"
    }
