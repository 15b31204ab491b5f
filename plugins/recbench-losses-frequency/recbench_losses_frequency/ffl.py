"""The focal frequency loss of Jiang et al. 2021, for images in 0 to 1. Equation numbers are the paper's.

Images are real: half of the spectrum holds everything, and is what is computed. The weights are constants to the
gradient, which is then the weighted error itself, transformed back: the forward pass has all that it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from recbench.contracts.loss import Context, Loss, Setting

Weigh = Callable[[Tensor], Tensor]


def patches(images: Tensor, factor: int) -> Tensor:
    """Cut images (B, C, H, W) into factor × factor patches: (B, C, factor, factor, H / factor, W / factor)."""
    batch, channels, height, width = images.shape
    return images.reshape(batch, channels, factor, height // factor, factor, width // factor).transpose(-3, -2)


def spectrum_weight(amplitude: Tensor, *, alpha: float, log_matrix: bool, batch_matrix: bool) -> Tensor:
    """w(u, v) of equation 8, in 0 to 1, from |F(u, v) − F̂(u, v)|, (…, h, w): its power alpha by the maximum of these.

    The maximum is that of each spectrum, or with ``batch_matrix`` that of all. Where it is 0, so are the weights.
    """
    matrix = amplitude.pow(alpha)
    if log_matrix:
        matrix = matrix.log1p()
    largest = matrix.amax() if batch_matrix else matrix.amax((-2, -1), keepdim=True)
    return matrix / torch.where(largest > 0, largest, 1)


def weighted(error: Tensor, weigh: Weigh) -> Tensor:
    """Real images (B, …, h, w) whose spectra are those of ``error`` times the weights, which are constants to the
    gradient: half of n times the gradient of the loss, n being the values of an image. Plain operations."""
    spectrum = torch.fft.rfft2(error, norm="ortho")
    weight = weigh(_modulus(spectrum.detach()))
    back: Tensor = torch.fft.irfft2(weight * spectrum, s=error.shape[-2:], norm="ortho")
    return back


class WeightedSpectrum(torch.autograd.Function):
    """Mean of w |F|² over the spectra F of images (B, …, h, w), which equation 9 is for their difference: (B,).

    Differentiable any number of times, with the weights as constants: derivatives after the first are those of
    :func:`weighted`.
    """

    @staticmethod
    def forward(ctx: Any, error: Tensor, weigh: Weigh) -> Tensor:
        spectrum = torch.fft.rfft2(error, norm="ortho")
        amplitude = _modulus(spectrum)
        weight = weigh(amplitude)
        if ctx.needs_input_grad[0]:
            ctx.weigh = weigh
            spectrum *= weight  # as in `weighted`, but in place, and without its norm: scaling here costs a pass
            ctx.save_for_backward(error, torch.fft.irfft2(spectrum, s=error.shape[-2:], norm="forward"))
        return _full_mean(weight.mul_(amplitude).mul_(amplitude), error.shape[-1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        error, direction = ctx.saved_tensors
        norm = math.sqrt(error.shape[-2] * error.shape[-1])
        if torch.is_grad_enabled():  # with create_graph
            direction, norm = weighted(error, ctx.weigh), 1.0
        scale = gradient * (2 / (error[0].numel() * norm))
        return scale.reshape(-1, *[1] * (error.dim() - 1)) * direction, None


def focal_frequency(
    error: Tensor, *, alpha: float, patch_factor: int, ave_spectrum: bool, log_matrix: bool, batch_matrix: bool
) -> Tensor:
    """Equation 9 for the difference of decoded and target images, (B, C, H, W): (B,), whose mean over the batch is
    the authors' value. With ``ave_spectrum`` that value stands for every image."""
    count = len(error)
    if ave_spectrum:  # the transform is linear: the mean image has the mean spectrum
        error = error.mean(0, keepdim=True)
    weigh = partial(spectrum_weight, alpha=alpha, log_matrix=log_matrix, batch_matrix=batch_matrix)
    value: Tensor = WeightedSpectrum.apply(patches(error, patch_factor), weigh)
    return value.expand(count)


def _modulus(values: Tensor) -> Tensor:
    """|v| of complex values, as the authors compute it: ``abs``, which minds overflow, takes twice the time."""
    return (values * values.conj()).real.sqrt()


def _full_mean(values: Tensor, width: int) -> Tensor:
    """Mean over a full spectrum of that width, of real values given on half of it, (B, …, h, w // 2 + 1): (B,)."""
    total = 2 * values.flatten(1).sum(1) - values[..., 0].flatten(1).sum(1)
    if width % 2 == 0:
        total = total - values[..., -1].flatten(1).sum(1)
    return total / (values[0, ..., 0].numel() * width)


class FocalFrequency(Loss):
    """The focal frequency loss (equation 9): a mean over frequencies, channels and patches, for each image.

    The same as the authors' package focal-frequency-loss, whose value is the mean over the batch, without its factor
    ``loss_weight``. No gradient flows through the weights (section 3.3).
    """

    def __init__(
        self,
        setting: Setting,
        *,
        alpha: float,
        patch_factor: int,
        ave_spectrum: bool,
        log_matrix: bool,
        batch_matrix: bool,
    ) -> None:
        super().__init__()
        self.alpha = alpha
        self.patch_factor = patch_factor
        self.ave_spectrum = ave_spectrum
        self.log_matrix = log_matrix
        self.batch_matrix = batch_matrix

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return focal_frequency(
            decoded - target,
            alpha=self.alpha,
            patch_factor=self.patch_factor,
            ave_spectrum=self.ave_spectrum,
            log_matrix=self.log_matrix,
            batch_matrix=self.batch_matrix,
        )
