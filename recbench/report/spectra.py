"""Log-magnitude spectra and their radial profiles (figure 6 of Bredell et al., 2023) with NumPy, without torch.

The definitions are those of the metric ``spectrum``: natural logarithm, orthonormal transform of images in 0 to 1.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FLOOR = 1 / (255 * math.sqrt(12))
"""A lower bound on |F|: the root mean square error of rounding to 8 bits."""


def mean_log_spectrum(images: NDArray[np.uint8]) -> Array:
    """Return the mean over images of ln max(|F|, FLOOR), where F is the orthonormal discrete Fourier transform.

    Args:
        images: shape (N, C, H, W), 0 to 255.

    Returns:
        Shape (C, H, W), with frequency 0 at index (0, 0).
    """
    magnitude = np.abs(np.fft.fft2(images.astype(np.float64) / 255, norm="ortho"))
    mean: Array = np.log(np.maximum(magnitude, FLOOR)).mean(axis=0)
    return mean


def radial_profile(spectrum: Array) -> tuple[Array, Array]:
    """Return the means of a spectrum over rings of equal frequency.

    Rings are 1 / max(H, W) wide, and none is empty. Those above 0.5 cycles per pixel lie in the corners.

    Args:
        spectrum: shape (…, H, W), with frequency 0 at index (0, 0).

    Returns:
        The rings' frequencies in cycles per pixel, of shape (R,), and the means, of shape (…, R).

    Example:
        >>> frequencies, means = radial_profile(np.array([[4.0, 1.0], [3.0, 2.0]]))
        >>> frequencies.tolist(), means.tolist()
        ([0.0, 0.5], [4.0, 2.0])
    """
    height, width = spectrum.shape[-2:]
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    ring = np.rint(radius * max(height, width)).astype(int).ravel()
    count = np.bincount(ring)
    flat = spectrum.reshape(-1, height * width)
    sums = np.stack([np.bincount(ring, weights=row, minlength=len(count)) for row in flat])
    return np.arange(len(count)) / max(height, width), (sums / count).reshape(*spectrum.shape[:-2], len(count))
