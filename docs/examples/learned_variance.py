"""A decoder that also says how sure it is of each pixel, and the likelihood that takes it at its word."""

import math

import torch
from torch import nn

from recbench import Architecture, ArchitectureEntry, Decoded, Gaussian, Likelihood, LossEntry, Parameter, hookimpl


class TwoHeads(Architecture):
    """Linear layers; the decoder gives a mean and a log-variance for each pixel."""

    def __init__(self, shape, *, latent_size):
        super().__init__()
        self.latent_size = latent_size
        self.image = 2, shape.channels, shape.height, shape.width
        pixels = shape.channels * shape.height * shape.width
        self.encoder, self.decoder = nn.Linear(pixels, 2 * latent_size), nn.Linear(latent_size, 2 * pixels)

    def encode(self, images):
        return Gaussian(*self.encoder(images.flatten(1)).chunk(2, dim=1))

    def decode(self, z):
        mean, log_variance = self.decoder(z).unflatten(1, self.image).unbind(1)
        return Decoded(torch.tanh(mean), {"log_variance": log_variance})


class LearnedVariance(Likelihood):
    """-log N(x; decoded, exp(log_variance)) in nats; variances are of images in the entry's value range."""

    def __init__(self, setting):
        super().__init__()

    def forward(self, decoded, target, context):
        return -self.log_prob(decoded, target, context)

    def log_prob(self, decoded, target, context):
        log_variance = context.extras.get("log_variance", torch.zeros_like(decoded))  # of other decoders: variance 1
        squared = (target - decoded).square() * torch.exp(-log_variance)
        return -0.5 * (squared + log_variance + math.log(2 * math.pi)).sum((1, 2, 3))


@hookimpl
def recbench_architectures():
    size = Parameter("latent_size", int, 16, "entries of z", minimum=1)
    yield ArchitectureEntry(name="two_heads", factory=TwoHeads, summary="linear, with variances", parameters=(size,))


@hookimpl
def recbench_losses():
    yield LossEntry(
        name="learned_variance", factory=LearnedVariance, summary="Gaussian of learned variances", value_range=(-1, 1)
    )
