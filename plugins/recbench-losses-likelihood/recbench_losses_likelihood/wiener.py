"""The Wiener loss of Bredell et al. 2023, for images in 0 to 1. Equation numbers are the paper's.

All convolutions are circular, so in the orthonormal Fourier basis they are products, and norms are sums over
frequencies (Parseval). Images are real: half of the spectrum holds everything, and is what is computed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

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


def multiplicity(width: int, like: Tensor) -> Tensor:
    """How often each column of a half spectrum occurs in the full one of that width: (W // 2 + 1,)."""
    counts = torch.full((width // 2 + 1,), 2, dtype=like.dtype, device=like.device)
    counts[0] = 1
    if width % 2 == 0:
        counts[-1] = 1
    return counts


def squared_modulus(values: Tensor) -> Tensor:
    """|v|² of complex values, without the square root of ``abs``, whose gradient at zero is not a number."""
    return values.real.square() + values.imag.square()


def weighted_squared_error(error: Tensor, transfer: Tensor, C: float) -> Tensor:  # noqa: N803 - the paper's name
    """‖F*(k) / (|F(k)|² + C) · F(e)‖² of images e = x − x̂, (B, C, H, W): the squared norm of equation 7, (B,).

    No factor ½. Only |F(k)|² / (|F(k)|² + C)² enters. ``transfer`` is (B, 1, H, W // 2 + 1), or one for all images.
    """
    power = squared_modulus(transfer)
    value: Tensor = _WeightedNorm.apply(error, power / (power + C).square())
    return value


def log_determinant(transfer: Tensor, epsilon: float, channels: int, width: int) -> Tensor:
    """log|K + εI| from the eigenvalues F(k) + ε of the block-circulant K (section 3.4), over all channels: (B,)."""
    shifted = torch.complex(transfer.real + epsilon, transfer.imag)
    logarithms = 0.5 * torch.log(squared_modulus(shifted))
    return channels * (logarithms * multiplicity(width, logarithms)).sum(PER_IMAGE)


def kernel_fit(target: Tensor, decoded: Tensor, transfer: Tensor) -> Tensor:
    """‖x ∗ k − x̂‖² of images (B, C, H, W) (equations 9, 10 and 12), (B,)."""
    value: Tensor = _KernelFit.apply(target, decoded, transfer)
    return value


class _WeightedNorm(torch.autograd.Function):
    """Σ w |F(e)|² over the full spectrum, (B,), of images e (B, C, H, W).

    The weights w are real, (B, 1, H, W // 2 + 1), or one for all images. The gradient is made in the forward pass,
    where the spectrum is at hand: autograd's own goes through full complex spectra and takes twice the time. A backward
    pass that has to be differentiated itself is left to autograd.
    """

    @staticmethod
    def plain(error: Tensor, weight: Tensor) -> Tensor:
        power = squared_modulus(torch.fft.rfft2(error, norm="ortho"))
        return (weight * multiplicity(error.shape[-1], weight) * power).sum(PER_IMAGE)

    @staticmethod
    def forward(ctx: Any, error: Tensor, weight: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(error, norm="ortho")
        power = squared_modulus(spectrum).sum(1, keepdim=True) * multiplicity(error.shape[-1], weight)
        slope = None
        if ctx.needs_input_grad[0]:
            # The norm and the factor 2 in one pass; irfft2 would take another for the norm.
            height, width = error.shape[-2:]
            slope = torch.fft.irfft2(spectrum.mul_(weight), s=(height, width), norm="forward")
            slope.mul_(2 / math.sqrt(height * width))
        ctx.save_for_backward(error, weight, slope, power if ctx.needs_input_grad[1] else None)
        return (weight * power).sum(PER_IMAGE)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        error, weight, slope, power = ctx.saved_tensors
        if torch.is_grad_enabled():
            return _by_autograd(_WeightedNorm.plain, (error, weight), ctx.needs_input_grad, gradient)
        gradient = gradient[:, None, None, None]
        to_weight = None if power is None else (gradient * power).sum_to_size(weight.shape)
        return None if slope is None else gradient * slope, to_weight


class _KernelFit(torch.autograd.Function):
    """‖x ∗ k − x̂‖², (B,), of x, x̂ (B, C, H, W) and F(k), (B or 1, 1, H, W // 2 + 1).

    The gradient with respect to F(k), the only one that training needs, is made in the forward pass. The others, and
    a backward pass that has to be differentiated itself, are left to autograd.
    """

    @staticmethod
    def plain(target: Tensor, decoded: Tensor, transfer: Tensor) -> Tensor:
        residual = torch.fft.rfft2(target, norm="ortho") * transfer - torch.fft.rfft2(decoded, norm="ortho")
        return (squared_modulus(residual) * multiplicity(target.shape[-1], target)).sum(PER_IMAGE)

    @staticmethod
    def forward(ctx: Any, target: Tensor, decoded: Tensor, transfer: Tensor) -> Tensor:
        spectrum = torch.fft.rfft2(target, norm="ortho")
        residual = (spectrum * transfer).sub_(torch.fft.rfft2(decoded, norm="ortho"))
        counts = multiplicity(target.shape[-1], target)
        value = (squared_modulus(residual).sum(1) * counts).sum((1, 2))
        slope = None
        if ctx.needs_input_grad[2]:
            slope = residual.mul_(spectrum.conj_physical_()).sum(1, keepdim=True).mul_(2 * counts)
        ctx.save_for_backward(target, decoded, transfer, slope)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        target, decoded, transfer, slope = ctx.saved_tensors
        if torch.is_grad_enabled() or ctx.needs_input_grad[0] or ctx.needs_input_grad[1]:
            return _by_autograd(_KernelFit.plain, (target, decoded, transfer), ctx.needs_input_grad, gradient)
        return None, None, (gradient[:, None, None, None] * slope).sum_to_size(transfer.shape)


def _by_autograd(
    function: Callable[..., Tensor], inputs: tuple[Tensor, ...], wanted: tuple[bool, ...], gradient: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of a plain function, differentiable again if grad mode is on."""
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        value = function(*inputs)
    chosen = [tensor for tensor, want in zip(inputs, wanted, strict=True) if want]
    found = iter(torch.autograd.grad(value, chosen, gradient, create_graph=differentiable))
    return tuple(next(found) if want else None for want in wanted)


class KernelGenerator(nn.Module):
    """G: two linear layers from z to a kernel, (B, size, size) (appendix A)."""

    def __init__(self, latent_size: int, size: int, hidden: int, normalize: Literal["softmax", "none"]) -> None:
        super().__init__()
        self.size = size
        self.normalize = normalize
        self.layers = nn.Sequential(nn.Linear(latent_size, hidden), nn.LeakyReLU(), nn.Linear(hidden, size * size))

    def forward(self, z: Tensor) -> Tensor:
        flat: Tensor = self.layers(z)
        if self.normalize == "softmax":
            flat = flat.softmax(dim=1)
        return flat.reshape(-1, self.size, self.size)


class Wiener(Likelihood):
    """½ times the squared norm of equation 7, plus log|K + εI| with ``determinant: exact`` (equation 11).

    G is trained by an optimizer of its own on equation 12. In the warm-up epochs Σ = I, and the value is ½ ‖x − x̂‖².
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
        normalize: Literal["softmax", "none"],
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
            self.generator = KernelGenerator(setting.latent_size, kernel_size, hidden, normalize)
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

    def trace(self, decoded: Tensor, target: Tensor, context: Context) -> Mapping[str, Tensor]:
        """``kernels``, (B, size, size): k as G estimates it for each image (figure 2), in the warm-up too.

        A fixed kernel leaves nothing to see.

        Raises:
            ValueError: the context has no z.
        """
        return {} if self.generator is None else {"kernels": self.generator(self.latent(context))}

    def warming_up(self, context: Context) -> bool:
        """Whether Σ = I in this epoch. A fixed kernel needs no warm-up to be learned, but the assumption of section
        4.2, that the output is a blurred input, has to come true all the same."""
        return context.epoch is not None and context.epoch <= self.warmup_epochs

    def transfer(self, images: Tensor, context: Context) -> Tensor:
        """F(k) for each image of a batch, or one for all of them, in the images' precision."""
        height, width = images.shape[-2:]
        if self.generator is None:
            return transfer_function(self.kernel.to(images.dtype)[None], height, width)
        return transfer_function(self.generator(self.latent(context)), height, width)

    def latent(self, context: Context) -> Tensor:
        """z, cut from the graph where ``latent_gradient`` is off."""
        if context.z is None:
            raise ValueError("wiener with kernel=generator needs the latent z; for given images use kernel=gaussian")
        return context.z if self.latent_gradient else context.z.detach()

    def _fit(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return kernel_fit(target, decoded, self.transfer(target, context))
