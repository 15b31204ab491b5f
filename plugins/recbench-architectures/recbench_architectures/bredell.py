"""The two VAEs of Bredell et al. 2023, appendix A, for images in −1 to 1."""

from __future__ import annotations

from math import prod

from torch import Tensor, nn

from recbench.contracts.architecture import Architecture, Gaussian
from recbench.contracts.entries import ImageShape
from recbench_architectures.blocks import Reading, code_shape, downscaling, up_bilinear, up_transposed, upscaling
from recbench_architectures.layout import block_widths


class VAEBredell(Architecture):
    """Encoder blocks, two linear layers to mean and log-variance, two linear layers back, decoder blocks, tanh.

    The decoder's blocks are transposed convolutions. Main architecture of the paper.
    """

    def __init__(
        self,
        shape: ImageShape,
        *,
        widths: list[int],
        blocks: int,
        latent_size: int,
        hidden: int,
        decoder_widths: Reading,
    ) -> None:
        super().__init__()
        self.latent_size = latent_size
        widths = block_widths(widths, blocks, shape)
        self.code_shape = code_shape(shape, widths)
        code = prod(self.code_shape)
        self.encoder = nn.Sequential(
            *downscaling(shape.channels, widths),
            nn.Flatten(),
            nn.Linear(code, hidden),
            nn.LeakyReLU(),
            nn.Linear(hidden, 2 * latent_size),
        )
        self.decoder_mlp = nn.Sequential(
            nn.Linear(latent_size, hidden), nn.LeakyReLU(), nn.Linear(hidden, code), nn.LeakyReLU()
        )
        self.decoder = upscaling(shape, widths, up_transposed, decoder_widths)

    def encode(self, images: Tensor) -> Gaussian:
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return Gaussian(mean, log_variance)

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.decoder_mlp(z).reshape(-1, *self.code_shape))
        return decoded


class VAEBredellSmall(Architecture):
    """Encoder blocks, one linear layer to mean and log-variance, one linear layer back, decoder blocks, tanh.

    The decoder's blocks upsample bilinearly. The paper's second architecture (its Table 4).
    """

    def __init__(self, shape: ImageShape, *, widths: list[int], latent_size: int, decoder_widths: Reading) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.code_shape = code_shape(shape, widths)
        code = prod(self.code_shape)
        self.encoder = nn.Sequential(
            *downscaling(shape.channels, widths), nn.Flatten(), nn.Linear(code, 2 * latent_size)
        )
        self.decoder_linear = nn.Linear(latent_size, code)
        self.decoder = upscaling(shape, widths, up_bilinear, decoder_widths)

    def encode(self, images: Tensor) -> Gaussian:
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return Gaussian(mean, log_variance)

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.decoder_linear(z).reshape(-1, *self.code_shape))
        return decoded
