"""The two autoencoders of Kim & Jo, for images in −1 to 1: a plain one, and one that also gets details of the image.

The paper describes them in words and two figures without sizes; blocks, widths and sizes are ours.
"""

from __future__ import annotations

from math import pi, prod

import torch
from torch import Tensor, nn

from recbench.contracts.architecture import Architecture, Deterministic
from recbench.contracts.entries import ImageShape
from recbench_architectures.blocks import code_shape, downscaling, up_transposed, upscaling
from recbench_architectures.layout import block_widths
from recbench_architectures.spectrum import ideal_high_pass, own_conjugates, phase_spectrum


def image_to_vector(shape: ImageShape, widths: list[int], latent_size: int) -> nn.Sequential:
    """Encoder blocks and one linear layer: images (B, C, H, W) to vectors (B, latent_size)."""
    code = prod(code_shape(shape, widths))
    return nn.Sequential(*downscaling(shape.channels, widths), nn.Flatten(), nn.Linear(code, latent_size))


class StandardAE(Architecture):
    """Encoder blocks, one linear layer to the latent vector, one linear layer back, decoder blocks, tanh (figure 7).

    The decoder mirrors the encoder, with transposed convolutions.
    """

    def __init__(self, shape: ImageShape, *, widths: list[int], blocks: int, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        widths = block_widths(widths, blocks, shape)
        self.code_shape = code_shape(shape, widths)
        self.encoder = image_to_vector(shape, widths, latent_size)
        self.decoder_linear = nn.Linear(latent_size, prod(self.code_shape))
        self.decoder = upscaling(shape, widths, up_transposed, "inputs")

    def encode(self, images: Tensor) -> Deterministic:
        return Deterministic(self.encoder(images))

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.decoder_linear(z).reshape(-1, *self.code_shape))
        return decoded


class FrequencyDetails(nn.Module):
    """Phase spectrum and high-passed image of images (B, C, H, W), one after the other: (B, 2C, H, W).

    Each channel has its own. The phase is centred and divided by π, so that both lie in about −1 to 1. Computed in
    float32 or better whatever autocast says: rounding to bf16 would be amplified to random phases of weak frequencies.
    """

    high_pass: Tensor
    real: Tensor

    def __init__(self, shape: ImageShape, cutoff: float) -> None:
        super().__init__()
        self.sides = (shape.height, shape.width)
        self.register_buffer("high_pass", ideal_high_pass(*self.sides, cutoff), persistent=False)
        self.register_buffer("real", own_conjugates(*self.sides), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        # No operation here is one that autocast runs in a lower precision.
        spectrum = torch.fft.rfft2(images.to(torch.promote_types(images.dtype, torch.float32)))
        phase = phase_spectrum(spectrum, self.sides[1], self.real) / pi
        details = torch.fft.irfft2(spectrum * self.high_pass, s=self.sides)
        return torch.cat([phase, details], dim=1)


class FreqLatentAE(Architecture):
    """The plain autoencoder, to whose latent vector that of an information-mapping network is added (figure 6).

    That network gets the image's :class:`FrequencyDetails`, and is built like the encoder.
    """

    def __init__(
        self,
        shape: ImageShape,
        *,
        widths: list[int],
        mapping_widths: list[int],
        blocks: int,
        latent_size: int,
        cutoff: float,
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.autoencoder = StandardAE(shape, widths=widths, blocks=blocks, latent_size=latent_size)
        self.details = FrequencyDetails(shape, cutoff)
        stacked = ImageShape(2 * shape.channels, shape.height, shape.width)
        self.mapping = image_to_vector(stacked, block_widths(mapping_widths, blocks, shape), latent_size)

    def encode(self, images: Tensor) -> Deterministic:
        return Deterministic(self.autoencoder.encode(images).code + self.mapping(self.details(images)))

    def decode(self, z: Tensor) -> Tensor:
        return self.autoencoder.decode(z)
