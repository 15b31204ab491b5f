"""The VAE that Czolbe et al. 2020 train on CelebA, for images in 0 to 1.

Its layers are those of the code that they published with the paper: github.com/SteffenCzolbe/PerceptualSimilarity,
src/vae/celebA/celebA_vae.py.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from recbench.contracts.architecture import Architecture, Gaussian
from recbench.contracts.entries import ImageShape
from recbench_architectures.blocks import code_shape
from recbench_architectures.upsampling import BilinearUpsampling


def convolution(inputs: int, outputs: int) -> list[nn.Module]:
    """Convolution (3) that keeps the sides, Leaky-ReLU."""
    return [nn.Conv2d(inputs, outputs, kernel_size=3, padding=1), nn.LeakyReLU()]


class VAECzolbe(Architecture):
    """Convolutions and max pooling, one wide hidden layer around z, convolutions and bilinear upsampling, sigmoid.

    Each stage of the encoder is a convolution, Leaky-ReLU, max pooling and batch norm; one more convolution follows.
    Each stage of the decoder is a convolution, Leaky-ReLU and bilinear upsampling with aligned corners, without batch
    norm; three more convolutions follow.
    """

    def __init__(self, shape: ImageShape, *, widths: list[int], latent_size: int, hidden: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.code_shape = code_shape(shape, widths)
        code = prod(self.code_shape)
        self.encoder = nn.Sequential(
            *(self._encoder_stage(inputs, outputs) for inputs, outputs in pairwise([shape.channels, *widths])),
            *convolution(widths[-1], widths[-1]),
            nn.Flatten(),
            nn.Linear(code, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 2 * latent_size),
        )
        self.decoder_mlp = nn.Sequential(nn.Linear(latent_size, hidden), nn.ReLU(), nn.Linear(hidden, code), nn.ReLU())
        _, height, width = self.code_shape
        self.decoder = nn.Sequential(
            *(
                self._decoder_stage(inputs, outputs, height * 2**index, width * 2**index)
                for index, (inputs, outputs) in enumerate(pairwise([widths[-1], *widths[::-1]]))
            ),
            *convolution(widths[0], widths[0]),
            *convolution(widths[0], widths[0]),
            nn.Conv2d(widths[0], shape.channels, kernel_size=3, padding=1),
            nn.Sigmoid(),
        )

    @staticmethod
    def _encoder_stage(inputs: int, outputs: int) -> nn.Sequential:
        return nn.Sequential(*convolution(inputs, outputs), nn.MaxPool2d(2), nn.BatchNorm2d(outputs))

    @staticmethod
    def _decoder_stage(inputs: int, outputs: int, height: int, width: int) -> nn.Sequential:
        return nn.Sequential(*convolution(inputs, outputs), BilinearUpsampling(height, width, align_corners=True))

    def encode(self, images: Tensor) -> Gaussian:
        mean, log_variance = self.encoder(images).chunk(2, dim=1)
        return Gaussian(mean, log_variance)

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.decoder_mlp(z).reshape(-1, *self.code_shape))
        return decoded
