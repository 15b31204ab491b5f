"""The general and adaptive robust loss of Barron 2019 as a likelihood. Equation numbers are the paper's (version 10).

Its density p(x | α, c) = exp(−ρ(x, α, c)) / (c Z(α)) (equation 16) lies between Cauchy (α = 0) and normal (α = 2), and
beyond. With β = |α − 2|, ρ = β / α · (((x/c)² / β + 1)^(α/2) − 1) (equation 1), and its limits at α = 0 and 2.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

LARGEST_ALPHA = 4.0
_KNOTS = 1024  # on either side of α = 2; fewer would do but for the bend of log Z near α = 0
_END = (LARGEST_ALPHA - 2) ** 0.25


def general_loss(x: Tensor, alpha: Tensor, scale: Tensor) -> Tensor:
    """Return ρ(x, α, c) of equation 1 for each element.

    β and α are no smaller than the machine epsilon here, which gives the limits at α = 2 and 0 to rounding.

    Args:
        x: errors, of any shape.
        alpha: shapes α, at least 0, broadcast.
        scale: scales c, above 0, broadcast.

    Returns:
        Values of at least 0, in the shape of all three.

    >>> x, c = torch.tensor(3.0), torch.tensor(1.0)
    >>> general_loss(x, torch.tensor([0.0, 1.0, 2.0]), c)  # log(x²/2 + 1), √(x² + 1) − 1, x²/2
    tensor([1.7047, 2.1623, 4.5000])
    """
    _, alpha, beta = clamped(alpha)
    return beta / alpha * torch.expm1(0.5 * alpha * torch.log1p((x / scale).square() / beta))


def negative_log_density(x: Tensor, alpha: Tensor, scale: Tensor, table: Tensor) -> Tensor:
    """Return −log p(x | α, c) = Σ ρ(x, α, c) + log c + log Z(α) (equation 16) in nats for each row.

    Args:
        x: errors (B, D).
        alpha: shapes (D,) in 0 to 4.
        scale: scales (D,), above 0.
        table: the result of :func:`partition_table`.

    Returns:
        Values (B,).

    >>> one = torch.ones(1)
    >>> negative_log_density(torch.zeros(1, 1), 2 * one, one, partition_table())  # ½ log 2π
    tensor([0.9189])
    """
    return (general_loss(x, alpha, scale) + scale.log() + log_partition(alpha, table)).sum(1)


def log_partition(alpha: Tensor, table: Tensor) -> Tensor:
    """Return the logarithm of Z(α) = ∫ exp(−ρ(x, α, 1)) dx for α from 0 to 4, differentiable.

    Interpolated by cubics in ±|α − 2|^¼, because log Z behaves as β log β at α = 2: to 1e-7, the derivative to 1e-4
    of its value. At α = 2 itself, where the derivative is infinite, it is given as 0.

    Args:
        alpha: shapes α in 0 to 4, of any shape.
        table: the result of :func:`partition_table`.

    >>> log_partition(torch.tensor([0.0, 2.0]), partition_table())  # log(π √2), ½ log 2π
    tensor([1.4913, 0.9189])
    """
    offset = alpha - 2
    root = offset.abs().clamp(min=torch.finfo(alpha.dtype).tiny) ** 0.25
    place = (torch.where(offset < 0, -root, root) + _END) * (_KNOTS / _END)
    index = place.detach().floor().clamp(0, 2 * _KNOTS - 1).nan_to_num()  # NaN is no index; t brings it back
    coefficients = table.to(alpha.dtype)[index.long()]
    t = place - index
    c0, c1, c2, c3 = coefficients.unbind(-1)
    value: Tensor = c0 + t * (c1 + t * (c2 + t * c3))
    return value


@functools.cache
def partition_table() -> Tensor:
    """Return coefficients of cubics that interpolate log Z between equidistant knots in ±|α − 2|^¼: (2048, 4), float64.

    With x = √β sinh w, ρ becomes β / α · (cosh(w)^α − 1), without the singularities at x = ±i √β, and the trapezoidal
    rule integrates over all w to rounding. Beyond α = 2 the integrand is steeper, and shorter.
    """
    root = torch.linspace(0, _END, _KNOTS + 1, dtype=torch.float64)[1:, None]
    beta = root**4
    values, tangents = [], []
    for sign, step in ((-1, 0.125), (1, 0.0625)):
        w = step * torch.arange(352, dtype=torch.float64)
        cosh = w + torch.log1p(torch.exp(-2 * w)) - math.log(2)  # its logarithm
        alpha = (2 + sign * beta).clamp(min=0)  # rounding alone goes below
        power = alpha * cosh
        small = power < 1e-2
        first = torch.where(small, 1 + power * (1 / 2 + power * (1 / 6 + power / 24)), torch.expm1(power) / power)
        second = torch.where(  # (t exp t − exp t + 1) / t²
            small,
            1 / 2 + power * (1 / 3 + power * (1 / 8 + power / 30)),
            (power * power.exp() - torch.expm1(power)) / power**2,
        )
        logarithm = cosh - beta * cosh * first
        logarithm[:, 0] -= math.log(2)  # w from −∞ to ∞ is twice this half, with w = 0 once
        total = logarithm.logsumexp(dim=1, keepdim=True)
        slope = sign * cosh * first + beta * cosh**2 * second  # of ρ with α at fixed w
        slope = torch.where(logarithm > total - 100, slope, 0)  # far out the slope is infinite, and its weight zero
        slope = sign / (2 * beta) - ((logarithm - total).exp() * slope).sum(dim=1, keepdim=True)
        values.append((0.5 * beta.log() + total + math.log(2 * step)).flatten())
        tangents.append((4 * root**3 * slope).flatten())
    normal = torch.tensor([0.5 * math.log(2 * math.pi)], dtype=torch.float64)
    value = torch.cat([values[0].flip(0), normal, values[1]])
    tangent = torch.cat([tangents[0].flip(0), torch.zeros_like(normal), tangents[1]]) * (_END / _KNOTS)
    rise, left, right = value.diff(), tangent[:-1], tangent[1:]
    return torch.stack([value[:-1], left, 3 * rise - 2 * left - right, left + right - 2 * rise], dim=1)


def clamped(alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the sign of α − 2, and α and |α − 2| kept away from zero."""
    epsilon = torch.finfo(alpha.dtype).eps
    offset = alpha - 2
    return offset.sign(), alpha.clamp(min=epsilon), offset.abs().clamp(min=epsilon)
