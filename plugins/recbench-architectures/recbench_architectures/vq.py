"""The vector-quantized autoencoder of van den Oord et al. 2017, with the codebook of its appendix A.1."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbench.contracts.architecture import Architecture, Deterministic
from recbench.contracts.entries import ImageShape

SMOOTHING = 1e-5
"""What the authors' code adds to each count of a code, so that an unused one is not divided by zero."""


@dataclass(frozen=True)
class Quantized(Deterministic):
    """The codes that are nearest to an encoder's output. Their gradient is passed on to it as it is (section 3.2).

    Attributes:
        code: the codes, float (B, D, h, w).
        commitment: the penalty, float (B,).
    """

    commitment: Tensor

    def penalty(self) -> Tensor:
        """Return β ‖z_e(x) − sg[e]‖² summed over positions and channels, (B,): the third term of equation 3."""
        return self.commitment


class Codebook(nn.Module):
    """K codes of D entries, each a moving average of the vectors that were nearest to it (appendix A.1).

    They begin uniform with variance 1/D, as in the authors' code. All state are buffers: a codebook learns without
    gradients, in training alone.
    """

    codes: Tensor
    counts: Tensor
    sums: Tensor
    used: Tensor

    def __init__(self, codes: int, dim: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        book = (2 * torch.rand(codes, dim) - 1) * math.sqrt(3 / dim)
        self.register_buffer("codes", book)
        self.register_buffer("counts", torch.ones(codes))
        self.register_buffer("sums", book.clone())
        self.register_buffer("used", torch.zeros(codes, dtype=torch.float64))

    @torch.no_grad()
    def forward(self, vectors: Tensor) -> Tensor:
        """Return the nearest code of each of the vectors (N, D), (N, D); in training, learn from them afterwards."""
        nearest = torch.cdist(vectors, self.codes).argmin(1)
        found = functional.embedding(nearest, self.codes)
        if self.training:
            self._learn(vectors, nearest)
        return found

    def _learn(self, vectors: Tensor, nearest: Tensor) -> None:
        """Take in vectors (N, D) and the index of the code that each has chosen, (N,)."""
        now = torch.zeros_like(self.counts).index_add_(0, nearest, torch.ones_like(vectors[:, 0]))
        sums = torch.zeros_like(self.sums).index_add_(0, nearest, vectors)
        self.used += now
        self.counts.mul_(self.decay).add_(now, alpha=1 - self.decay)
        self.sums.mul_(self.decay).add_(sums, alpha=1 - self.decay)
        total = self.counts.sum()
        smooth = (self.counts + SMOOTHING) / (total + len(self.counts) * SMOOTHING) * total
        self.codes.copy_(self.sums / smooth[:, None])

    def log(self) -> dict[str, float]:
        """Return usage and perplexity of the codes in the epoch that ends, and begin to count anew."""
        share = self.used / self.used.sum().clamp(min=1)
        entropy = -torch.special.xlogy(share, share).sum()
        found = {"usage": float((share > 0).double().mean()), "perplexity": float(entropy.exp())}
        self.used.zero_()
        return found


def residual(width: int) -> Skipped:
    """ReLU, 3 × 3 convolution, ReLU, 1 × 1 convolution, and the input added (section 4.1)."""
    return Skipped(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1))


class Skipped(nn.Sequential):
    """Layers whose input is added to their output."""

    def forward(self, maps: Tensor) -> Tensor:
        added: Tensor = maps + super().forward(maps)  # type: ignore[no-untyped-call]
        return added


class VQ(Architecture):
    """Strided convolutions and residual blocks, the nearest codes, and the way back (section 4.1), for −1 to 1.

    Args:
        shape: of the images.
        width: channels of all layers.
        halvings: strided convolutions; z is (dim, height / 2ⁿ, width / 2ⁿ).
        blocks: residual blocks of encoder and decoder each.
        codes: K, the number of codes.
        dim: D, the entries of a code.
        beta: β, the weight of the commitment.
        decay: γ, by which the moving averages forget.
    """

    has_prior = False

    def __init__(
        self,
        shape: ImageShape,
        *,
        width: int,
        halvings: int,
        blocks: int,
        codes: int,
        dim: int,
        beta: float,
        decay: float,
    ) -> None:
        super().__init__()
        self.beta = beta
        self.latent_shape = (dim, shape.height // 2**halvings, shape.width // 2**halvings)
        down: list[nn.Module] = []
        for inputs in (shape.channels, *[width] * (halvings - 1)):
            down += [nn.Conv2d(inputs, width, 4, stride=2, padding=1), nn.ReLU()]
        residuals = ([residual(width) for _ in range(blocks)] for _ in range(2))
        self.encoder = nn.Sequential(*down[:-1], *next(residuals), nn.ReLU(), nn.Conv2d(width, dim, 1))
        self.codebook = Codebook(codes, dim, decay)
        up: list[nn.Module] = []
        for outputs in (*[width] * (halvings - 1), shape.channels):
            up += [nn.ReLU(), nn.ConvTranspose2d(width, outputs, 4, stride=2, padding=1)]
        self.decoder = nn.Sequential(nn.Conv2d(dim, width, 3, padding=1), *next(residuals), *up)

    def encode(self, images: Tensor) -> Quantized:
        maps: Tensor = self.encoder(images)
        maps = maps.to(torch.promote_types(maps.dtype, torch.float32))  # nothing below is run in bf16 by autocast
        rows = maps.permute(0, 2, 3, 1)
        nearest = self.codebook(rows.reshape(-1, rows.shape[-1])).reshape(rows.shape).permute(0, 3, 1, 2)
        commitment = self.beta * (maps - nearest).square().flatten(1).sum(1)
        return Quantized(maps + (nearest - maps).detach(), commitment)

    def decode(self, z: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(z)
        return decoded

    def log(self) -> Mapping[str, float]:
        """Return ``usage``, the share of codes that an image chose in the epoch, and ``perplexity``, e to the power of
        the entropy of the choices: K if all are chosen equally often."""
        return self.codebook.log()
