"""Masking and pooling of differences by Watson's model, as modified by Czolbe et al.

Shapes: images B, channels C, frequencies F, blocks K. ε keeps powers and roots differentiable at zero; it is where
the authors' code has it, because values of nearly flat blocks depend on it.

Operations are in place where nothing, autograd included, needs what was there: memory is what these losses cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

EPSILON = 1e-10


@dataclass(frozen=True)
class Learned:
    """Parameters of the model, in the images' precision.

    Attributes:
        log_t: logarithm of the sensitivity thresholds t, (C, F, 1).
        alpha: exponent of luminance masking, (C, 1, 1).
        w: exponent of contrast masking, in 0 to 1, (C, 1, 1).
        beta: exponent of pooling, (C, 1, 1).
        channel: weights of the channels, (C,), with sum 1.
        phase: weights of the phases, (C, F, 1); only for the DFT.
    """

    log_t: Tensor
    alpha: Tensor
    w: Tensor
    beta: Tensor
    channel: Tensor
    phase: Tensor | None = None


def slack(amplitude: Tensor, learned: Learned) -> Tensor:
    """Return the slack S, (B, C, F, K), the largest difference overlooked, from the target's amplitudes (row 0: mean).

    The larger of the luminance threshold t_L = t (c₀₀ / c̄₀₀)^α and the contrast threshold |c|^w t_L^(1−w), where larger
    means the mean of both, weighted by their softmax. c̄₀₀ is the mean over all blocks of the **batch**, so the value of
    an image depends on the others.
    """
    level = amplitude[:, :, :1]
    log_ratio = learned.alpha * torch.log((level + EPSILON) / (level.mean((0, 2, 3), keepdim=True) + EPSILON))
    luminance = learned.log_t.exp() * log_ratio.exp()
    contrast = (amplitude + EPSILON).log_().mul_(learned.w)
    contrast = contrast.add_((1 - learned.w) * learned.log_t).add_((1 - learned.w) * log_ratio).exp_()
    return torch.lerp(contrast, luminance, (luminance - contrast).sigmoid_())


def pooled(ratio: Tensor, beta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the norm (Σ ((r + ε)^β + ε))^(1/β) over frequencies and blocks; r = |difference| / S, (B, C, F, K).

    ``ratio`` is overwritten.

    Returns:
        The norm, (B, C, 1, 1), and its derivative by r as two factors: (B, C, 1, 1) and (B, C, F, K).
    """
    shifted = ratio.add_(EPSILON)
    power = shifted.log().mul_(beta - 1).exp_()  # at half the cost of pow
    total = (shifted * power).sum((2, 3), keepdim=True) + EPSILON * ratio.shape[2] * ratio.shape[3]
    return total ** (1 / beta), total ** (1 / beta - 1), power
