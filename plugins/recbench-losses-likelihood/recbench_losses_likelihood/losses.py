"""The likelihoods as losses. Their formulas are in sigma_gaussian, barron and wiener, in the papers' notation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbench.contracts.loss import Auxiliary, Context, Likelihood, Setting
from recbench_losses_likelihood import _kernels
from recbench_losses_likelihood.barron import log_partition, partition_table
from recbench_losses_likelihood.representation import Representation
from recbench_losses_likelihood.sigma_gaussian import negative_log_density, optimal_sigma, soft_lower_bound
from recbench_losses_likelihood.wiener import gaussian_kernel, log_determinant, starting_kernel, transfer_function

PER_IMAGE = (1, 2, 3)
START_FLOOR = 0.01  # of a kernel's sum, spread evenly where G starts: the softmax cannot give zeros, nor leave them
DECAY = 0.99  # of the running estimate of σ: it remembers about the last hundred batches


class SigmaGaussian(Likelihood):
    """−log N(x; x̂, σ²I), σ² the mean squared error of the training batch, softly bounded from below.

    In training the gradient reaches the images through σ as well. A running mean of the training batches' mean squared
    errors, saved with the model, gives the σ of every other call of a training run, so that no σ is ever fitted to test
    images. Outside of any training (``context.epoch`` None), and where nothing has been trained yet, there is no such
    estimate, and σ is the best one for the images at hand.

    Attributes:
        mean_square: exponentially decaying sum of the training batches' mean squared errors, times (1 − DECAY).
        weight: the same sum of ones; ``mean_square / weight`` is the unbiased running mean.
    """

    mean_square: Tensor
    weight: Tensor

    def __init__(self, setting: Setting, *, log_sigma_min: float) -> None:
        super().__init__()
        self.log_sigma_min = log_sigma_min
        self.register_buffer("mean_square", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        sigma = self.sigma(decoded, target, context)
        if context.training:
            self._remember(sigma)
        return negative_log_density(decoded, target, soft_lower_bound(sigma, self.log_sigma_min))

    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        sigma = self.sigma(decoded, target, context)
        return -negative_log_density(decoded, target, soft_lower_bound(sigma, self.log_sigma_min))

    def sigma(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        """Return σ before its bound, a scalar: of these images, or of the training batches."""
        here = optimal_sigma(decoded, target)
        if context.training or context.epoch is None:
            return here
        trained = self.weight > 0  # chosen by `where`: asking would make a GPU wait
        running = torch.where(trained, self.mean_square / self.weight, 0).sqrt()
        return torch.where(trained, running.to(here.dtype), here)

    @torch.no_grad()
    def _remember(self, sigma: Tensor) -> None:
        self.mean_square.lerp_(sigma.square().to(self.mean_square.dtype), 1 - DECAY)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - DECAY)


class Barron(Likelihood):
    """Σ ρ(x_i, α_i, c_i) + log c_i + log Z(α_i) over all coefficients i of the error x in a representation of images.

    The negative log-density of the target in nats per image, with all constants, in pixel space. Every coefficient has
    a shape α = lo + (hi − lo) sigmoid(a) and a scale c = lo + (init − lo) softplus(s + log(e − 1)) of its own, where a
    and s are learned by the model's optimizer. They are fixed where alpha_lo = alpha_hi, or scale_lo = scale_init.
    """

    def __init__(
        self,
        setting: Setting,
        *,
        representation: Literal["pixel", "dct", "wavelet"],
        levels: int,
        alpha_lo: float,
        alpha_hi: float,
        alpha_init: float,
        scale_lo: float,
        scale_init: float,
    ) -> None:
        super().__init__()
        size = (setting.shape.channels, setting.shape.height, setting.shape.width)
        self.represent = Representation(representation, levels, size)
        self.alpha_lo, self.alpha_hi = alpha_lo, alpha_hi
        self.scale_lo, self.scale_init = scale_lo, scale_init
        self.register_buffer("partition", partition_table(), persistent=False)
        self.latent_alpha: nn.Parameter | None = None
        self.latent_scale: nn.Parameter | None = None
        if alpha_lo < alpha_hi:
            share = (alpha_init - alpha_lo) / (alpha_hi - alpha_lo)
            self.latent_alpha = nn.Parameter(torch.full(size, math.log(share / (1 - share))))
        if scale_lo < scale_init:
            self.latent_scale = nn.Parameter(torch.zeros(size))

    def alpha(self, like: Tensor) -> Tensor:
        """Return the shapes of all coefficients of images (B, C, H, W), flat: (C · H · W,)."""
        if self.latent_alpha is None:
            return torch.full_like(like[0], self.alpha_lo).flatten()
        share = torch.sigmoid(self.latent_alpha.to(like.dtype)).flatten()
        return self.alpha_lo + (self.alpha_hi - self.alpha_lo) * share

    def scale(self, like: Tensor) -> Tensor:
        """Return the scales of all coefficients of images (B, C, H, W), flat: (C · H · W,)."""
        if self.latent_scale is None:
            return torch.full_like(like[0], self.scale_init).flatten()
        shift = math.log(math.e - 1)  # softplus is 1 there
        latent = self.latent_scale.to(like.dtype).flatten()
        return self.scale_lo + (self.scale_init - self.scale_lo) * functional.softplus(latent + shift)

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        error = self.represent(target - decoded).flatten(1)
        alpha, scale = self.alpha(target), self.scale(target)
        value = _kernels.summed_loss(error, alpha, scale)
        return (
            value + (scale.log() + log_partition(alpha, self.get_buffer("partition"))).sum() - self.represent.log_volume
        )

    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return -self.forward(decoded, target, context)


class KernelGenerator(nn.Module):
    """G: two linear layers from z to a kernel, (B, size, size) (appendix A).

    Other than at random, it starts with one kernel for all z: the second layer has that in its bias, and no weights.
    """

    def __init__(
        self,
        latent_size: int,
        size: int,
        hidden: int,
        normalize: Literal["softmax", "none"],
        start: Literal["random", "flat", "delta", "gaussian"] = "random",
        variance: float = 2.0,
    ) -> None:
        super().__init__()
        self.size = size
        self.normalize = normalize
        last = nn.Linear(hidden, size * size)
        self.layers = nn.Sequential(nn.Linear(latent_size, hidden), nn.LeakyReLU(), last)
        if start != "random":
            kernel = starting_kernel(start, size, variance).flatten()
            if normalize == "softmax":
                kernel = torch.log((1 - START_FLOOR) * kernel + START_FLOOR / size**2)
            nn.init.zeros_(last.weight)
            with torch.no_grad():
                last.bias.copy_(kernel)

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
        start: Literal["random", "flat", "delta", "gaussian"],
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
            self.generator = KernelGenerator(setting.latent_size, kernel_size, hidden, normalize, start, variance)
        else:
            self.register_buffer("kernel", gaussian_kernel(kernel_size, variance), persistent=False)

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        if self.warming_up(context):
            return 0.5 * (target - decoded).square().sum(PER_IMAGE)
        transfer = self.transfer(target, context)
        value = 0.5 * _kernels.weighted_squared_error(target - decoded, transfer, self.C)
        if self.determinant == "exact":
            value = value + log_determinant(transfer, self.epsilon, target.shape[1], target.shape[-1])
        return value

    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        """Return equation 8 in nats, with ½ log|Σ| = log|K + εI| (section 3.4) whatever ``determinant`` says."""
        constant = 0.5 * math.log(2 * math.pi) * target[0].numel()
        if self.warming_up(context):
            return -constant - 0.5 * (target - decoded).square().sum(PER_IMAGE)
        transfer = self.transfer(target, context)
        log_det = log_determinant(transfer, self.epsilon, target.shape[1], target.shape[-1])
        return -constant - log_det - 0.5 * _kernels.weighted_squared_error(target - decoded, transfer, self.C)

    def auxiliary(self) -> Auxiliary | None:
        if self.generator is None:
            return None
        return Auxiliary(tuple(self.generator.parameters()), self.generator_lr, self._fit)

    def trace(self, decoded: Tensor, target: Tensor, context: Context) -> Mapping[str, Tensor]:
        """Return ``kernels``, (B, size, size): k as G estimates it for each image (figure 2), in the warm-up too.

        Empty for a fixed kernel.

        Raises:
            ValueError: the context has no z.
        """
        return {} if self.generator is None else {"kernels": self.generator(self.latent(context))}

    def warming_up(self, context: Context) -> bool:
        """Return whether Σ = I in this epoch.

        A fixed kernel is not learned, but it needs the warm-up for the assumption of section 4.2 to come true: that the
        output is a blurred input.
        """
        return context.epoch is not None and context.epoch <= self.warmup_epochs

    def transfer(self, images: Tensor, context: Context) -> Tensor:
        """Return F(k) for each image of a batch, or one for all of them, in the images' precision."""
        height, width = images.shape[-2:]
        if self.generator is None:
            return transfer_function(self.kernel.to(images.dtype)[None], height, width)
        return transfer_function(self.generator(self.latent(context)), height, width)

    def latent(self, context: Context) -> Tensor:
        """Return z, cut from the graph where ``latent_gradient`` is off."""
        if context.z is None:
            raise ValueError("wiener with kernel=generator needs the latent z; for given images use kernel=gaussian")
        return context.z if self.latent_gradient else context.z.detach()

    def _fit(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return _kernels.kernel_fit(target, decoded, self.transfer(target, context))
