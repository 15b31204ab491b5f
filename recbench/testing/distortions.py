"""Distortions of images, by which a loss or metric is characterized. Images are floats (N, C, H, W) in 0 to 1."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad

BANDS = 6
"""Bands of spatial frequency, of equal width from 0 to the Nyquist frequency."""


@dataclass(frozen=True)
class Distortion:
    """A distortion at one strength.

    Attributes:
        kind: what is done, in a word.
        strength: how much of it, as people read it.
        apply: returns the distorted images.
    """

    kind: str
    strength: str
    apply: Callable[[Tensor], Tensor]


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Return images after a Gaussian blur with this standard deviation in pixels, mirrored at the edges."""
    radius = min(max(1, round(3 * sigma)), min(images.shape[-2:]) - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum())[None, None, :]
    for axis in (-1, -2):
        turned = images.transpose(axis, -1)
        rows = pad(turned.reshape(-1, 1, turned.shape[-1]), (radius, radius), mode="reflect")
        turned = torch.nn.functional.conv1d(rows, kernel).reshape(turned.shape)
        images = turned.transpose(axis, -1)
    return images.contiguous()


def noisy(images: Tensor, deviation: float) -> Tensor:
    """Return images with the same Gaussian noise of this standard deviation in every call, cut to 0 to 1."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(6), dtype=images.dtype)
    return (images + deviation * noise).clamp(0, 1)


def shifted(images: Tensor, pixels: int) -> Tensor:
    """Return images moved to the right by whole pixels, with the first column repeated."""
    return pad(images, (pixels, 0, 0, 0), mode="replicate")[..., : images.shape[-1]]


def less_contrast(images: Tensor, kept: float) -> Tensor:
    """Return images with this part of their contrast around each channel's mean."""
    mean = images.mean((2, 3), keepdim=True)
    return mean + kept * (images - mean)


def as_jpeg(images: Tensor, quality: int) -> Tensor:
    """Return images of 1 or 3 channels as JPEG of this quality keeps them."""
    pixels = images.mul(255).round().to(torch.uint8).numpy().transpose(0, 2, 3, 1)
    found = []
    for picture in pixels:
        stream = io.BytesIO()
        Image.fromarray(picture[:, :, 0] if picture.shape[2] == 1 else picture).save(stream, "JPEG", quality=quality)
        back = np.asarray(Image.open(stream))
        found.append(np.atleast_3d(back).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(found)).to(images.dtype) / 255


def distortions(channels: int) -> list[Distortion]:
    """Return the distortions of a card, for images of so many channels, from weak to strong by kind."""

    def three(kind: str, apply: Callable[[Tensor, float], Tensor], strengths: Mapping[str, float]) -> list[Distortion]:
        return [
            Distortion(kind, text, lambda images, strength=strength: apply(images, strength))  # type: ignore[misc]
            for text, strength in strengths.items()
        ]

    found = [
        *three("blur", blurred, {"0.5 px": 0.5, "1 px": 1.0, "2 px": 2.0}),
        *three("noise", noisy, {"0.02": 0.02, "0.05": 0.05, "0.1": 0.1}),
        *three("shift", lambda images, by: shifted(images, int(by)), {"1 px": 1, "2 px": 2, "4 px": 4}),
        *three("contrast", less_contrast, {"90 %": 0.9, "70 %": 0.7, "50 %": 0.5}),
    ]
    if channels in (1, 3):
        found += three("JPEG", lambda images, q: as_jpeg(images, int(q)), {"q 75": 75, "q 40": 40, "q 10": 10})
    return found


def band_noise(images: Tensor, band: int, deviation: float) -> Tensor:
    """Return noise of this standard deviation, (N, C, H, W), with spatial frequencies of one of :data:`BANDS` only."""
    shape = images.shape
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    down, across = torch.fft.fftfreq(shape[-2])[:, None], torch.fft.rfftfreq(shape[-1])[None, :]
    radius = 2 * torch.hypot(down, across)  # 1 is the Nyquist frequency along an axis
    low, high = band / BANDS, (band + 1) / BANDS
    kept = (radius > low) & ((radius <= high) | (band == BANDS - 1))
    found = torch.fft.irfft2(torch.fft.rfft2(noise) * kept, s=shape[-2:])
    scaled: Tensor = found * (deviation / found.std((1, 2, 3), keepdim=True))
    return scaled.to(images.dtype)
