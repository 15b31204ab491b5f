"""A vector-quantized autoencoder (van den Oord et al. 2017) whose codebook learns by gradients: `--plugin vq.py`."""

from dataclasses import dataclass

import torch
from torch import nn

from recbench import Architecture, ArchitectureEntry, Deterministic, Parameter, Requirements, hookimpl


@dataclass(frozen=True)
class Quantized(Deterministic):
    """The nearest codes, (B, dim, h, w); as Deterministic, without noise and KL divergence."""

    distance: torch.Tensor

    def penalty(self):
        return self.distance


class SmallVQ(Architecture):
    has_prior = False

    def __init__(self, shape, *, width, codes, dim, beta):
        super().__init__()
        self.latent_shape = dim, shape.height // 4, shape.width // 4
        self.codebook, self.beta = nn.Embedding(codes, dim), beta
        down = nn.Conv2d(shape.channels, width, 4, 2, 1), nn.ReLU(), nn.Conv2d(width, width, 4, 2, 1), nn.ReLU()
        up = nn.ConvTranspose2d(dim, width, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(width, shape.channels, 4, 2, 1)
        self.encoder, self.decoder = nn.Sequential(*down, nn.Conv2d(width, dim, 1)), nn.Sequential(*up, nn.Tanh())

    def encode(self, images):
        maps = self.encoder(images).float()
        nearest = torch.cdist(maps.detach().flatten(2).mT, self.codebook.weight.detach()).argmin(2)
        codes = self.codebook(nearest).mT.unflatten(2, maps.shape[2:])
        pulls = (codes - maps.detach()).square() + self.beta * (maps - codes.detach()).square()
        return Quantized(maps + (codes - maps).detach(), pulls.sum((1, 2, 3)))

    def decode(self, z):
        return self.decoder(z)


@hookimpl
def recbench_architectures():
    numbers = ("width", int, 32), ("codes", int, 64), ("dim", int, 8), ("beta", float, 0.25)
    yield ArchitectureEntry(
        name="small_vq",
        factory=SmallVQ,
        summary="VQ-VAE with a codebook that learns by gradients",
        parameters=tuple(Parameter(*number, "see the paper", above=0) for number in numbers),
        requirements=Requirements(multiple_of=4),
        has_prior=False,
        has_kl=False,
    )
