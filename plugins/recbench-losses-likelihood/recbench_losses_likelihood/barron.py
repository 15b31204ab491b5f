"""The general and adaptive robust loss of Barron 2019 as a likelihood. Equation numbers are the paper's (version 10).

Its density p(x | α, c) = exp(−ρ(x, α, c)) / (c Z(α)) (equation 16) lies between Cauchy (α = 0) and normal (α = 2), and
beyond. With β = |α − 2|, ρ = β / α · (((x/c)² / β + 1)^(α/2) − 1) (equation 1), and its limits at α = 0 and 2.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbench.contracts.loss import Context, Likelihood, Setting

LARGEST_ALPHA = 4.0
_KNOTS = 1024  # on either side of α = 2; fewer would do but for the bend of log Z near α = 0
_END = (LARGEST_ALPHA - 2) ** 0.25


def general_loss(x: Tensor, alpha: Tensor, scale: Tensor) -> Tensor:
    """ρ(x, α, c) of equation 1, for each element, where α ≥ 0 and c > 0 are broadcast.

    β and α are no smaller than the machine epsilon here, which gives the limits at α = 2 and 0 to rounding.
    """
    _, alpha, beta = _safe(alpha)
    return beta / alpha * torch.expm1(0.5 * alpha * torch.log1p((x / scale).square() / beta))


def summed_loss(x: Tensor, alpha: Tensor, scale: Tensor) -> Tensor:
    """Σ ρ(x, α, c) for each row, (B,), of x (B, D) with α and c (D,)."""
    value: Tensor = _SummedLoss.apply(x, alpha, scale)
    return value


def log_partition(alpha: Tensor, table: Tensor) -> Tensor:
    """The logarithm of Z(α) = ∫ exp(−ρ(x, α, 1)) dx for α from 0 to 4, differentiable, from :func:`partition_table`.

    Interpolated by cubics in ±|α − 2|^¼, because log Z behaves as β log β at α = 2: to 1e-7, the derivative to 1e-4
    of its value. At α = 2 itself, where the derivative is infinite, it is given as 0.
    """
    offset = alpha - 2
    root = offset.abs().clamp(min=torch.finfo(alpha.dtype).tiny) ** 0.25
    place = (torch.where(offset < 0, -root, root) + _END) * (_KNOTS / _END)
    index = place.detach().floor().clamp(0, 2 * _KNOTS - 1)
    coefficients = table.to(alpha.dtype)[index.long()]
    t = place - index
    c0, c1, c2, c3 = coefficients.unbind(-1)
    value: Tensor = c0 + t * (c1 + t * (c2 + t * c3))
    return value


@functools.cache
def partition_table() -> Tensor:
    """Coefficients of cubics that interpolate log Z between equidistant knots in ±|α − 2|^¼: (2048, 4), float64.

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


def _safe(alpha: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The sign of α − 2, and α and |α − 2| kept away from zero."""
    epsilon = torch.finfo(alpha.dtype).eps
    offset = alpha - 2
    return offset.sign(), alpha.clamp(min=epsilon), offset.abs().clamp(min=epsilon)


class _SummedLoss(torch.autograd.Function):
    """What :func:`summed_loss` computes.

    All gradients are made in the forward pass from one logarithm and one exponential. The one with respect to α is
    written so that nothing of size 1/β or 1/α² cancels, which autograd would leave to float32 near α = 2. A backward
    pass that has to be differentiated itself is left to autograd.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, alpha: Tensor, scale: Tensor) -> Tensor:
        sign, safe, beta = _safe(alpha)
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


def dct_matrix(size: int) -> Tensor:
    """The orthonormal DCT-II as a (size, size) matrix; float64."""
    place = torch.arange(size, dtype=torch.float64)
    matrix = torch.cos(math.pi / size * torch.outer(place, place + 0.5)) * math.sqrt(2 / size)
    matrix[0] /= math.sqrt(2)
    return matrix


def wavelet_matrix(size: int) -> Tensor:
    """One level of the CDF 9/7 wavelet transform of ``size`` ≥ 2 samples: low-pass rows, then high-pass; float64.

    By lifting (Daubechies and Sweldens 1998), mirrored at the ends about the last sample. Its determinant is 1 for
    even sizes; odd ones have one more low-pass row, and the determinant 1.1496.
    """
    identity = torch.eye(size, dtype=torch.float64)
    matrix = identity
    steps = (-1.586134342059924, -0.052980118572961, 0.882911075530934, 0.443506852043971)
    for number, factor in enumerate(steps):
        rows = torch.arange(1 - number % 2, size, 2)
        after = torch.where(rows + 1 < size, rows + 1, rows - 1)
        matrix = matrix.index_add(0, rows, factor * (matrix[(rows - 1).abs()] + matrix[after]))
    low = 1.149604398860241
    return torch.cat([matrix[0::2] * low, matrix[1::2] / low])


def yuv_matrix() -> Tensor:
    """RGB to YUV (BT.601), scaled to determinant 1, so that a density of one is a density of the other; float64."""
    y = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    red, _, blue = torch.eye(3, dtype=torch.float64)
    matrix = torch.stack([y, 0.492111 * (blue - y), 0.877283 * (red - y)])
    scaled: Tensor = matrix / torch.linalg.det(matrix).abs() ** (1 / 3)
    return scaled


class Representation(nn.Module):
    """Images (B, C, H, W) in another basis, in the same shape: their DCT, or their wavelet pyramid (coarse top left).

    Images of three channels are taken as RGB and brought to YUV, except as pixels.

    Attributes:
        log_volume: logarithm of the absolute determinant of this linear map of whole images.
    """

    def __init__(self, kind: Literal["pixel", "dct", "wavelet"], levels: int, size: Sequence[int]) -> None:
        super().__init__()
        channels, height, width = size
        self.levels = {"pixel": 0, "dct": 1, "wavelet": levels}[kind]
        self.pyramid = kind == "wavelet"
        self.coloured = kind != "pixel" and channels == 3
        self.register_buffer("colour", yuv_matrix(), persistent=False)
        self.log_volume = 0.0
        matrix = wavelet_matrix if self.pyramid else dct_matrix
        for level in range(self.levels):
            rows, columns = matrix(height), matrix(width)
            self.register_buffer(f"rows{level}", rows, persistent=False)
            self.register_buffer(f"columns{level}", columns, persistent=False)
            volume = width * torch.linalg.slogdet(rows).logabsdet + height * torch.linalg.slogdet(columns).logabsdet
            self.log_volume += channels * volume.item()
            height, width = (height + 1) // 2, (width + 1) // 2

    def forward(self, images: Tensor) -> Tensor:
        if self.coloured:
            colour = self.get_buffer("colour").to(images.dtype)
            images = (colour @ images.flatten(2)).reshape(images.shape)
        bands = []
        for level in range(self.levels):
            rows, columns = (self.get_buffer(f"{name}{level}").to(images.dtype) for name in ("rows", "columns"))
            images = rows @ images @ columns.T
            if self.pyramid:
                bands.append(images)
                images = images[..., : (images.shape[-2] + 1) // 2, : (images.shape[-1] + 1) // 2]
        for band in reversed(bands):
            height, width = images.shape[-2:]
            images = torch.cat([torch.cat([images, band[..., :height, width:]], -1), band[..., height:, :]], -2)
        return images


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
        """Shapes of all coefficients of images (B, C, H, W), flat: (C · H · W,)."""
        if self.latent_alpha is None:
            return torch.full_like(like[0], self.alpha_lo).flatten()
        share = torch.sigmoid(self.latent_alpha.to(like.dtype)).flatten()
        return self.alpha_lo + (self.alpha_hi - self.alpha_lo) * share

    def scale(self, like: Tensor) -> Tensor:
        """Scales of all coefficients of images (B, C, H, W), flat: (C · H · W,)."""
        if self.latent_scale is None:
            return torch.full_like(like[0], self.scale_init).flatten()
        shift = math.log(math.e - 1)  # softplus is 1 there
        latent = self.latent_scale.to(like.dtype).flatten()
        return self.scale_lo + (self.scale_init - self.scale_lo) * functional.softplus(latent + shift)

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        error = self.represent(target - decoded).flatten(1)
        alpha, scale = self.alpha(target), self.scale(target)
        value: Tensor = _SummedLoss.apply(error, alpha, scale)
        return (
            value + (scale.log() + log_partition(alpha, self.get_buffer("partition"))).sum() - self.represent.log_volume
        )

    def log_prob(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        return -self.forward(decoded, target, context)
