"""The VAE of Bredell et al. 2023, appendix A, first architecture."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from recbench.contracts.architecture import Architecture, Gaussian
from recbench.entries import ImageShape


def down(inputs: int, outputs: int) -> nn.Sequential:
    """Halve the sides: convolution (3, stride 2), batch norm, Leaky-ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel_size=3, stride=2, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU())


def up(inputs: int, outputs: int) -> nn.Sequential:
    """Double the sides: transposed convolution (4, stride 2), batch norm, Leaky-ReLU."""
    convolution = nn.ConvTranspose2d(inputs, outputs, kernel_size=4, stride=2, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.LeakyReLU())


class VAEBredell(Architecture):
    """Encoder blocks, two linear layers to mean and log-variance, two linear layers back, decoder blocks, tanh."""

    def __init__(
        self,
        shape: ImageShape,
        *,
        widths: list[int],
        latent_size: int,
        hidden: int,
        decoder_widths: Literal["outputs", "inputs"],
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        factor = 2 ** len(widths)
        self.code_shape = (widths[-1], shape.height // factor, shape.width // factor)
        code = self.code_shape[0] * self.code_shape[1] * self.code_shape[2]
        self.encoder = nn.Sequential(
            *(down(a, b) for a, b in zip([shape.channels, *widths], widths, strict=False)),
            nn.Flatten(),
            nn.Linear(code, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, 2 * latent_size),
        )
        reverse = widths[::-1]
        outputs = reverse if decoder_widths == "outputs" else [*reverse[1:], reverse[-1]]
        self.decoder_mlp = nn.Sequential(
            nn.Linear(latent_size, hidden), nn.LeakyReLU(), nn.Linear(hidden, code), nn.LeakyReLU()
        )
        self.decoder = nn.Sequential(
            *(up(a, b) for a, b in zip([widths[-1], *outputs], outputs, strict=False)),
            nn.Conv2d(outputs[-1], shape.channels, kernel_size=3, padding=1),
            nn.Tanh(),
        )

    def encode(self, images: Tensor) -> Gaussian:
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return Gaussian(mean, log_variance)

    def decode(self, z: Tensor) -> Tensor:
        code = self.decoder_mlp(z).reshape(-1, *self.code_shape)
        decoded: Tensor = self.decoder(code)
        return decoded
