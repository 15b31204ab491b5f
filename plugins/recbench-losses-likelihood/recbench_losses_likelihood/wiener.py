"""The Wiener loss of Bredell et al. 2023, for images in 0 to 1. Equation numbers are the paper's.

All convolutions are circular, so in the orthonormal Fourier basis they are products, and norms are sums over
frequencies (Parseval). Images are real: half of the spectrum holds everything, and is what is computed.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from recbench.contracts.loss import Auxiliary, Context, Likelihood, Setting

PER_IMAGE = (1, 2, 3)


def gaussian_kernel(size: int, variance: float) -> Tensor:
    """A Gaussian of that variance (squared pixels) on size × size pixels, centred, unit sum; float64."""
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    profile = torch.exp(-(offset**2) / (2 * variance))
    kernel = torch.outer(profile, profile)
    return kernel / kernel.sum()


def transfer_function(kernel: Tensor, height: int, width: int) -> Tensor:
    """F(k): half-spectrum transform, (B, 1, height, width // 2 + 1), of kernels (B, size, size).

    The kernel's centre is moved to index (0, 0), so that a symmetric kernel shifts nothing.
    """
    size = kernel.shape[-1]
    padded = nn.functional.pad(kernel, (0, width - size, 0, height - size))
    centred = padded.roll((-(size // 2), -(size // 2)), dims=(-2, -1))
    transform: Tensor = torch.fft.rfft2(centred)
    return transform.unsqueeze(1)


def both_halves(values: Tensor, width: int) -> Tensor:
    """Sum real values on a half spectrum, (B, C, H, W // 2 + 1), as over the full one of that width: (B,)."""
    total = 2 * values.sum(PER_IMAGE) - values[..., 0].sum((1, 2))
    return total - values[..., -1].sum((1, 2)) if width % 2 == 0 else total


def squared_modulus(values: Tensor) -> Tensor:
    """|v|² of complex values, without the square root of ``abs``, whose gradient at zero is not a number."""
    return values.real.square() + values.imag.square()


def weighted_squared_error(error: Tensor, transfer: Tensor, C: float) -> Tensor:  # noqa: N803 - the paper's name
    """‖F*(k) / (|F(k)|² + C) · F(e)‖² of images e = x − x̂, (B, C, H, W): the squared norm of equation 7, (B,).

    No factor ½. Only |F(k)|² / (|F(k)|² + C)² enters.
    """
    power = squared_modulus(transfer)
    weight = power / (power + C).square()
    return both_halves(weight * squared_modulus(torch.fft.rfft2(error, norm="ortho")), error.shape[-1])


def log_determinant(transfer: Tensor, epsilon: float, channels: int, width: int) -> Tensor:
    """log|K + εI| from the eigenvalues F(k) + ε of the block-circulant K (section 3.4), over all channels: (B,)."""
    shifted = torch.complex(transfer.real + epsilon, transfer.imag)
    return channels * both_halves(0.5 * torch.log(squared_modulus(shifted)), width)


def kernel_fit(target: Tensor, decoded: Tensor, transfer: Tensor) -> Tensor:
    """‖x ∗ k − x̂‖² (equations 9, 10 and 12), (B,)."""
    difference = torch.fft.rfft2(target, norm="ortho") * transfer - torch.fft.rfft2(decoded, norm="ortho")
    return both_halves(squared_modulus(difference), target.shape[-1])


class KernelGenerator(nn.Module):
    """G: two linear layers from z to a kernel, (B, size, size) (appendix A)."""

    def __init__(self, latent_size: int, size: int, hidden: int, normalise: Literal["softmax", "none"]) -> None:
        super().__init__()
        self.size = size
        self.normalise = normalise
        self.layers = nn.Sequential(nn.Linear(latent_size, hidden), nn.LeakyReLU(), nn.Linear(hidden, size * size))

    def forward(self, z: Tensor) -> Tensor:
        flat: Tensor = self.layers(z)
        if self.normalise == "softmax":
            flat = flat.softmax(dim=1)
        return flat.reshape(-1, self.size, self.size)


class Wiener(Likelihood):
    """½ times the squared norm of equation 7, plus log|K + εI| with ``determinant: exact`` (equation 11).

    G is trained by an optimiser of its own on equation 12. In the warm-up epochs Σ = I, and the value is ½ ‖x − x̂‖².
    """

    kernel: Tensor

    def __init__(
        self,
        setting: Setting,
        *,
        kernel: Literal["generator", "gaussian"],
        variance: float,
        kernel_size: int,
        C: float,  # noqa: N803 - the paper's name
        determinant: Literal["omitted", "exact"],
        epsilon: float,
        warmup_epochs: int,
        normalise: Literal["softmax", "none"],
        hidden: int,
        generator_lr: float,
        latent_gradient: bool,
    ) -> None:
        super().__init__()
        self.C = C
        self.determinant = determinant
        self.epsilon = epsilon
        self.warmup_epochs = warmup_epochs
        self.generator_lr = generator_lr
        self.latent_gradient = latent_gradient
        self.generator: KernelGenerator | None = None
        if kernel == "generator":
            self.generator = KernelGenerator(setting.latent_size, kernel_size, hidden, normalise)
        else:
            self.register_buffer("kernel", gaussian_kernel(kernel_size, variance), persistent=False)

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        if self.warming_up(context):
            return 0.5 * (target - decoded).square().sum(PER_IMAGE)
        transfer = self.transfer(target, context)
        value = 0.5 * weighted_squared_error(target - decoded, transfer, self.C)
        if self.determinant == "exact":
            value = value + log_determinant(transfer, self.epsilon, target.shape[1], target.shape[-1])
        return value

    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        """Equation 8 in nats, with ½ log|Σ| = log|K + εI| (section 3.4) whatever ``determinant`` says."""
        constant = 0.5 * math.log(2 * math.pi) * target[0].numel()
        if self.warming_up(context):
            return -constant - 0.5 * (target - decoded).square().sum(PER_IMAGE)
        transfer = self.transfer(target, context)
        log_det = log_determinant(transfer, self.epsilon, target.shape[1], target.shape[-1])
        return -constant - log_det - 0.5 * weighted_squared_error(target - decoded, transfer, self.C)

    def auxiliary(self) -> Auxiliary | None:
        if self.generator is None:
            return None
        return Auxiliary(tuple(self.generator.parameters()), self.generator_lr, self._fit)

    def warming_up(self, context: Context) -> bool:
        """Whether Σ = I in this epoch. A fixed kernel needs no warm-up to be learned, but the assumption of section
        4.2, that the output is a blurred input, has to come true all the same."""
        return context.epoch is not None and context.epoch <= self.warmup_epochs

    def transfer(self, images: Tensor, context: Context) -> Tensor:
        """F(k) for each image of a batch, or one for all of them, in the images' precision."""
        height, width = images.shape[-2:]
        if self.generator is None:
            return transfer_function(self.kernel.to(images.dtype)[None], height, width)
        if context.z is None:
            raise ValueError("the kernel generator needs the latent z; for given images use kernel=gaussian")
        z = context.z if self.latent_gradient else context.z.detach()
        return transfer_function(self.generator(z), height, width)

    def _fit(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return kernel_fit(target, decoded, self.transfer(target, context))
