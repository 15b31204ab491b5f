"""Fast versions of the family's formulas, with gradients in closed form.

Each function equals the one of its name in :mod:`recbench_losses_likelihood.wiener`, or in
:mod:`recbench_losses_likelihood.barron` the sum of ``general_loss`` over each row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recbench_losses_likelihood import wiener
from recbench_losses_likelihood.barron import clamped, general_loss
from recbench_losses_likelihood.wiener import PER_IMAGE, multiplicity, squared_modulus


def summed_loss(x: Tensor, alpha: Tensor, scale: Tensor) -> Tensor:
    """Return Σ ρ(x, α, c) for each row, (B,), of x (B, D) with α and c (D,)."""
    value: Tensor = _SummedLoss.apply(x, alpha, scale)
    return value


def weighted_squared_error(error: Tensor, transfer: Tensor, C: float) -> Tensor:  # noqa: N803 - the paper's name
    """Return ‖F*(k) / (|F(k)|² + C) · F(e)‖², (B,): only |F(k)|² / (|F(k)|² + C)² enters."""
    power = squared_modulus(transfer)
    value: Tensor = _WeightedNorm.apply(error, power / (power + C).square())
    return value


def kernel_fit(target: Tensor, decoded: Tensor, transfer: Tensor) -> Tensor:
    """Return ‖x ∗ k − x̂‖², (B,)."""
    value: Tensor = _KernelFit.apply(target, decoded, transfer)
    return value


class _SummedLoss(torch.autograd.Function):
    """The sum that :func:`summed_loss` returns.

    All gradients are made in the forward pass from one logarithm and one exponential. The one with respect to α is
    written so that nothing of size 1/β or 1/α² cancels, which autograd would leave to float32 near α = 2. A backward
    pass that has to be differentiated itself is left to autograd.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, scale: Tensor) -> Tensor:
        sign, safe, beta = clamped(alpha)
        ratio = (x / scale).square_().div_(beta)
        logarithm = torch.log1p(ratio)
        excess = torch.expm1(logarithm * (0.5 * safe))  # (ratio + 1)^(α/2) − 1
        weight = beta / safe
        value: Tensor = excess @ weight
        to_x = to_alpha = None
        if any(ctx.needs_input_grad):
            power = excess + 1
            slope = power / ratio.add_(1)  # (ratio + 1)^(α/2 − 1)
            if ctx.needs_input_grad[1]:
                to_alpha = logarithm.mul_(power).mul_(0.5 * weight)
                to_alpha.addcmul_(excess, -0.5 * weight * (2 + safe) / safe)
                to_alpha.addcmul_(slope - 1, 0.5 * sign)
            to_x = slope.mul_(x).div_(scale.square())
        ctx.save_for_backward(x, alpha, scale, to_x, to_alpha)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, alpha, scale, to_x, to_alpha = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        if torch.is_grad_enabled():
            value = general_loss(x, alpha, scale).sum(1)
            inputs = [tensor for tensor, want in zip((x, alpha, scale), wanted, strict=True) if want]
            found = iter(torch.autograd.grad(value, inputs, gradient, create_graph=True))
            return tuple(next(found) if want else None for want in wanted)
        return (
            gradient[:, None] * to_x if wanted[0] else None,
            gradient @ to_alpha if wanted[1] else None,
            -(gradient @ (to_x * x)) / scale if wanted[2] else None,
        )


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
            return _by_autograd(wiener.kernel_fit, (target, decoded, transfer), ctx.needs_input_grad, gradient)
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
