"""The KL-regularized autoencoders under latent diffusion (Rombach et al. 2022), for images in −1 to 1.

Layers and their order are those of the authors' published configurations of kl-f4 and kl-f8
(``autoencoder_kl_64x64x3`` and ``autoencoder_kl_32x32x4``): with default sizes, numbers of parameters are equal.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbench.contracts.architecture import Architecture, Gaussian
from recbench.contracts.entries import ImageShape

LOG_VARIANCE = (-30.0, 20.0)
"""Bounds of log σ², as the authors clamp it."""


def norm(channels: int) -> nn.GroupNorm:
    """Return a group norm: 32 groups as published, or as few as leave four channels to each and divide them."""
    return nn.GroupNorm(math.gcd(32, max(1, channels // 4)), channels, eps=1e-6)


class Residual(nn.Module):
    """Twice norm, swish, convolution; the input is added, through a 1 × 1 convolution where channels change."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            norm(inputs),
            nn.SiLU(),
            nn.Conv2d(inputs, outputs, 3, padding=1),
            norm(outputs),
            nn.SiLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
        )
        self.around = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, maps: Tensor) -> Tensor:
        added: Tensor = self.around(maps) + self.layers(maps)
        return added


class Attention(nn.Module):
    """Attention of one head over all positions, (B, C, h, w) to the same; the input is added."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)
        self.queries_keys_values = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, maps: Tensor) -> Tensor:
        queries, keys, values = self.queries_keys_values(self.norm(maps)).flatten(2).chunk(3, dim=1)
        # Not torch's fused attention, whose gradient is not deterministic on every GPU.
        weights = torch.softmax(queries.mT @ keys / math.sqrt(maps.shape[1]), dim=2)
        attended = (values @ weights.mT).reshape(maps.shape)
        added: Tensor = maps + self.out(attended)
        return added


class Halving(nn.Module):
    """A convolution of stride 2, with a row and a column of zeros at the bottom and the right."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, maps: Tensor) -> Tensor:
        halved: Tensor = self.convolution(functional.pad(maps, (0, 1, 0, 1)))
        return halved


def doubling(channels: int) -> nn.Sequential:
    """Nearest neighbours, then a convolution."""
    return nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(channels, channels, 3, padding=1))


def middle(channels: int) -> list[nn.Module]:
    """The layers at the lowest resolution."""
    return [Residual(channels, channels), Attention(channels), Residual(channels, channels)]


def stages(widths: list[int], blocks: int) -> list[nn.Module]:
    """Residual blocks of each width but the first, which is that of the input."""
    return [
        nn.Sequential(Residual(inputs, outputs), *(Residual(outputs, outputs) for _ in range(blocks - 1)))
        for inputs, outputs in pairwise(widths)
    ]


class KLF(Architecture):
    """Encoder and decoder of residual blocks; z is a map at a lower resolution, with Gaussians of diagonal covariance.

    Args:
        shape: of the images; each multiplier but the first halves their sides.
        channels: of the first convolution.
        multipliers: channels of each resolution, from the image's to the lowest, in multiples of ``channels``.
        blocks: residual blocks at each resolution of the encoder; the decoder has one more.
        latent_channels: of z, which is (latent_channels, height / 2ⁿ, width / 2ⁿ) for n halvings.
    """

    def __init__(
        self, shape: ImageShape, *, channels: int, multipliers: list[int], blocks: int, latent_channels: int
    ) -> None:
        super().__init__()
        factor = 2 ** (len(multipliers) - 1)
        self.latent_shape = (latent_channels, shape.height // factor, shape.width // factor)
        widths = [channels * multiplier for multiplier in multipliers]
        lowest = widths[-1]
        down: list[nn.Module] = []
        for stage, width in zip(stages([channels, *widths], blocks), widths, strict=True):
            down += [stage, Halving(width)]
        self.encoder = nn.Sequential(
            nn.Conv2d(shape.channels, channels, 3, padding=1),
            *down[:-1],
            *middle(lowest),
            norm(lowest),
            nn.SiLU(),
            nn.Conv2d(lowest, 2 * latent_channels, 3, padding=1),
            nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1),
        )
        up: list[nn.Module] = []
        for stage, width in zip(stages([lowest, *reversed(widths)], blocks + 1), reversed(widths), strict=True):
            up += [stage, doubling(width)]
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, latent_channels, 1),
            nn.Conv2d(latent_channels, lowest, 3, padding=1),
            *middle(lowest),
            *up[:-1],
            norm(channels * multipliers[0]),
            nn.SiLU(),
            nn.Conv2d(channels * multipliers[0], shape.channels, 3, padding=1),
        )

    def encode(self, images: Tensor) -> Gaussian:
        location, log_variance = self.encoder(images).chunk(2, dim=1)
        return Gaussian(location, log_variance.clamp(*LOG_VARIANCE))

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(z)
        return decoded
