"""Widths and places of blur kernels, as a loss estimates them for images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class KernelShapes:
    """Numbers of kernels (…, H, W), each of shape (…); entries count by their magnitudes. NaN for a kernel of zeros.

    Attributes:
        width: standard deviation around the centroid along one axis, averaged over both, in pixels; 0 for one pixel.
        offset: distance of the centroid from the kernel's middle, in pixels: by so much it shifts an image.
        pixels: exponential of the entropy in nats: the number of pixels of a flat kernel of the same entropy, from 1.
    """

    width: NDArray[np.float64]
    offset: NDArray[np.float64]
    pixels: NDArray[np.float64]


def kernels_of(traces: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64] | None:
    """Return the kernels among the traces of a loss, or of the first part of a sum that has some; None if there are
    none."""
    return next((values for name, values in traces.items() if name.rpartition(".")[2] == "kernels"), None)


def kernel_shapes(kernels: NDArray[np.floating]) -> KernelShapes:
    """Return widths, offsets and numbers of pixels of kernels (…, H, W).

    >>> flat = kernel_shapes(np.ones((3, 3)))
    >>> round(float(flat.width), 3), float(flat.offset), round(float(flat.pixels), 3)
    (0.816, 0.0, 9.0)
    """
    weights = np.abs(kernels.astype(np.float64))
    sums = weights.sum((-2, -1), keepdims=True)
    shares = np.divide(weights, sums, out=np.full_like(weights, np.nan), where=sums > 0)
    height, width = shares.shape[-2:]
    down, across = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    rows, columns = shares.sum(-1), shares.sum(-2)
    y, x = rows @ down, columns @ across
    variance = rows @ down**2 - y**2 + columns @ across**2 - x**2
    entropy = -(shares * np.log(shares, out=np.zeros_like(shares), where=shares > 0)).sum((-2, -1))
    return KernelShapes(np.sqrt(np.maximum(variance, 0) / 2), np.hypot(y, x), np.exp(entropy))
