"""The distance of the mean log-magnitude spectrum of images to that of the data (Bredell et al., 2023, figure 6).

The paper shows means of log |F| over 128 images and reports "the mean difference" to the data's, and no more. Here:
natural logarithm, orthonormal transform of images in 0 to 1, each channel by itself, no window, all test images, and
the mean of absolute differences, so that what is missing at one frequency does not pay for what is too much at another.
Where all frequencies have too little, as in blurred images, that is the mean difference without its sign.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from recbench.contracts.entries import ImageShape
from recbench.contracts.metric import SetMetric

FLOOR = 1 / (255 * math.sqrt(12))
"""The smallest value that |F| counts as: its root mean square for the error of rounding to 8 bits. Nothing below it can
be distinguished from that error, and where |F| is 0, as for images of one colour, its logarithm would not be finite."""


def log_spectrum(images: Tensor) -> Tensor:
    """Return ln max(|F|, FLOOR), F being the orthonormal Fourier transform of images (B, C, H, W) in 0 to 1.

    Images are real, and half of the spectrum holds all of it: (B, C, H, W // 2 + 1), as from ``torch.fft.rfft2``.

    >>> spectrum = log_spectrum(torch.full((1, 1, 4, 4), 0.25))  # only the frequency 0, with |F| = 4 · 0.25
    >>> spectrum.shape, spectrum[0, 0, 0, 0].item(), math.isclose(spectrum[0, 0, 1, 1], math.log(FLOOR), rel_tol=1e-6)
    (torch.Size([1, 1, 4, 3]), 0.0, True)
    """
    spectrum = torch.fft.rfft2(images, norm="ortho")
    power: Tensor = spectrum.real.square() + spectrum.imag.square()
    return power.clamp_(min=FLOOR**2).log_().mul_(0.5)


def full_spectrum(half: Tensor, width: int) -> Tensor:
    """Return the whole magnitude spectrum of real images, (…, H, W), from the half (…, H, W // 2 + 1).

    Frequency 0 is at index (0, 0), as from ``torch.fft.fft2``.

    Args:
        half: magnitudes, or a function of them, of ``torch.fft.rfft2``.
        width: W, of the images.

    >>> image = torch.arange(15.0).reshape(3, 5) ** 2
    >>> torch.allclose(full_spectrum(torch.fft.rfft2(image).abs(), 5), torch.fft.fft2(image).abs())
    True
    """
    opposite = half.flip(-2).roll(1, -2)  # |F(−u, −v)| = |F(u, v)|
    return torch.cat([half, opposite[..., 1 : (width + 1) // 2].flip(-1)], -1)


def radial_profile(spectrum: Tensor) -> tuple[Tensor, Tensor]:
    """Return means over rings of equal frequency of a full spectrum (…, H, W) with frequency 0 at index (0, 0).

    Rings are 1 / max(H, W) wide, and none is empty. Those above 0.5 cycles per pixel lie in the corners.

    Returns:
        The rings' frequencies in cycles per pixel, (R,), and the means, (…, R), both in float64.

    >>> frequencies, means = radial_profile(torch.tensor([[9.0, 1.0], [3.0, 5.0]]))
    >>> frequencies.tolist(), means.tolist()  # a ring of one, one of three
    ([0.0, 0.5], [9.0, 3.0])
    """
    height, width = spectrum.shape[-2:]
    down = torch.fft.fftfreq(height, dtype=torch.float64, device=spectrum.device)
    across = torch.fft.fftfreq(width, dtype=torch.float64, device=spectrum.device)
    ring = (torch.hypot(down[:, None], across) * max(height, width)).round().long().flatten()
    count = torch.zeros(int(ring.max()) + 1, dtype=torch.float64, device=spectrum.device)
    count.index_add_(0, ring, torch.ones_like(ring, dtype=torch.float64))
    total = count.new_zeros(*spectrum.shape[:-2], len(count))
    total.index_add_(-1, ring, spectrum.double().flatten(-2))
    return torch.arange(len(count), dtype=torch.float64, device=spectrum.device) / max(height, width), total / count


class Spectrum(SetMetric):
    """Mean absolute difference, over frequencies and channels, of the mean log spectra of decoded and target images."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()
        self.width = shape.width
        # Sums in float64. No buffers: casting the metric to the images' type would cast them too.
        self.decoded = torch.zeros(shape.channels, shape.height, shape.width // 2 + 1, dtype=torch.float64)
        self.target = torch.zeros_like(self.decoded)
        self.count = 0

    def update(self, decoded: Tensor, target: Tensor) -> None:
        self.decoded = self.decoded.to(decoded.device) + log_spectrum(decoded).sum(0, dtype=torch.float64)
        self.target = self.target.to(target.device) + log_spectrum(target).sum(0, dtype=torch.float64)
        self.count += len(decoded)

    def trace(self) -> dict[str, Tensor]:
        """Return the mean log spectra of the ``decoded`` and ``target`` images so far: float64 (C, H, W) on the CPU.

        Frequency 0 is at index (0, 0).
        """
        sums = {"decoded": self.decoded, "target": self.target}
        return {name: full_spectrum(total.cpu() / self.count, self.width) for name, total in sums.items()}

    def compute(self) -> float:
        spectra = self.trace()
        return float((spectra["decoded"] - spectra["target"]).abs().mean())
