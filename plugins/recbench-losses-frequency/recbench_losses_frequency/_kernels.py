"""The fast focal frequency loss.

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

from recbench_losses_frequency.ffl import modulus, patches, spectrum_weight

Weigh = Callable[[Tensor], Tensor]


def focal_frequency(
    error: Tensor, *, alpha: float, patch_factor: int, ave_spectrum: bool, log_matrix: bool, batch_matrix: bool
) -> Tensor:
    """Return what :func:`recbench_losses_frequency.ffl.focal_frequency` returns, (B,)."""
    count = len(error)
    if ave_spectrum:  # the transform is linear: the mean image has the mean spectrum
        error = error.mean(0, keepdim=True)
    weigh = partial(spectrum_weight, alpha=alpha, log_matrix=log_matrix, batch_matrix=batch_matrix)
    value: Tensor = _WeightedSpectrum.apply(patches(error, patch_factor), weigh)
    return value.expand(count)


class _WeightedSpectrum(torch.autograd.Function):
    """The mean of w |F|² over the spectra F of images (B, …, h, w), which equation 9 is for their difference: (B,).

    Differentiable any number of times, with the weights as constants: derivatives after the first are those of
    :func:`_weighted`.
    """

    @staticmethod
    def forward(ctx: Any, error: Tensor, weigh: Weigh) -> Tensor:
        spectrum = torch.fft.rfft2(error, norm="ortho")
        amplitude = modulus(spectrum)
        weight = weigh(amplitude)
        if ctx.needs_input_grad[0]:
            ctx.weigh = weigh
            spectrum *= weight  # as in `_weighted`, but in place, and without its norm: scaling here costs a pass
            ctx.save_for_backward(error, torch.fft.irfft2(spectrum, s=error.shape[-2:], norm="forward"))
        return _full_mean(weight.mul_(amplitude).mul_(amplitude), error.shape[-1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        error, direction = ctx.saved_tensors
        norm = math.sqrt(error.shape[-2] * error.shape[-1])
        if torch.is_grad_enabled():  # with create_graph
            direction, norm = _weighted(error, ctx.weigh), 1.0
        scale = gradient * (2 / (error[0].numel() * norm))
        return scale.reshape(-1, *[1] * (error.dim() - 1)) * direction, None


def _weighted(error: Tensor, weigh: Weigh) -> Tensor:
    """Return real images (B, …, h, w) whose spectra are those of ``error`` times the weights, by plain operations.

    The weights are constants to the gradient. For images of n values, this is n / 2 times the gradient of the loss.
    """
    spectrum = torch.fft.rfft2(error, norm="ortho")
    weight = weigh(modulus(spectrum.detach()))
    back: Tensor = torch.fft.irfft2(weight * spectrum, s=error.shape[-2:], norm="ortho")
    return back


def _full_mean(values: Tensor, width: int) -> Tensor:
    """Return the mean over a full spectrum of that width, (B,), of values on half of it, (B, …, h, w // 2 + 1)."""
    total = 2 * values.flatten(1).sum(1) - values[..., 0].flatten(1).sum(1)
    if width % 2 == 0:
        total = total - values[..., -1].flatten(1).sum(1)
    return total / (values[0, ..., 0].numel() * width)
