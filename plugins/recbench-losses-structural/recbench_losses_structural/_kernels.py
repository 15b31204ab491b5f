"""The fast SSIM and MS-SSIM: the functions of :mod:`recbench_losses_structural.ssim`, with gradients in closed form.

Everything here is 1 − similarity, computed as such, so that small values keep their digits. With s = x + y and
d = x − y, whose windowed means are μ and whose windowed variances are σ², the two factors of SSIM (Wang et al. 2004,
equation 13) are

    1 − l  = 2 μ_d² / (μ_s² + μ_d² + 2 C1)        luminance
    1 − cs = 2 σ_d² / (σ_s² + σ_d² + 2 C2)        contrast and structure

which takes four filters where x, y, x², y² and xy take five.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from recbench_losses_structural.ssim import Constants

# Below this side, the copies into another memory layout cost more than depthwise filters save.
_DEPTHWISE_SIDE = 48


def ssim_error(decoded: Tensor, target: Tensor, window: Tensor, constants: Constants) -> Tensor:
    """Return 1 − :func:`recbench_losses_structural.ssim.ssim` of each image, (B,), between 0 and 2.

    Twice differentiable.
    """
    return _error(decoded, target, window, constants, None)


def ms_ssim_error(decoded: Tensor, target: Tensor, window: Tensor, constants: Constants, weights: Tensor) -> Tensor:
    """Return 1 − :func:`recbench_losses_structural.ssim.ms_ssim` of each image, (B,), between 0 and 1.

    Twice differentiable.
    """
    return _error(decoded, target, window, constants, weights)


def _error(decoded: Tensor, target: Tensor, window: Tensor, constants: Constants, weights: Tensor | None) -> Tensor:
    window = window.to(decoded)
    weights = None if weights is None else weights.to(decoded)
    if torch.is_grad_enabled() and decoded.requires_grad and not target.requires_grad:
        value: Tensor = _ClosedForm.apply(decoded, target, window, constants, weights)
        return value
    return _by_autograd(decoded, target, window, constants, weights)


class Filter:
    """Means over a window, of planes (1, P, H, W): all channels of all images in one dimension.

    They are products with banded matrices; or, in float32 on the CPU, depthwise convolutions with the planes innermost
    in memory, which for 256 pixels take a tenth of the time. Elsewhere products are better: on CUDA convolutions
    default to TF32, which has too few digits for variances, and in float64 the CPU has no fast convolution.
    """

    def __init__(self, window: Tensor, *, depthwise: bool) -> None:
        self.window = window
        self.depthwise = depthwise

    @classmethod
    def fastest(cls, window: Tensor, images: Tensor) -> Filter:
        """Return the faster kind for images (B, C, H, W), as measured on two cores."""
        fast = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        suits = fast and images.device.type == "cpu" and images.dtype == torch.float32
        return cls(window, depthwise=suits and min(images.shape[-2:]) >= _DEPTHWISE_SIDE)

    def planes(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) as (1, B·C, H, W), in the memory layout that this filter wants."""
        batch, channels, height, width = images.shape
        if not self.depthwise:
            return images.reshape(1, batch * channels, height, width)
        innermost = images.reshape(batch * channels, height * width).t().contiguous()
        return innermost.view(1, height, width, batch * channels).permute(0, 3, 1, 2)

    def means(self, planes: Tensor) -> Tensor:
        """(1, P, H − k + 1, W − k + 1) for a window of k: only where it lies inside the plane."""
        if self.depthwise:
            down, across = self._kernels(planes)
            half = functional.conv2d(planes, down, groups=len(down))
            return functional.conv2d(half, across, groups=len(across))
        height, width = planes.shape[-2:]
        return banded(self.window, height) @ (planes @ banded(self.window, width).t())

    def adjoint(self, means: Tensor) -> Tensor:
        """The transposed linear map, which takes gradients of means back to (1, P, H, W)."""
        margin = len(self.window) - 1
        if self.depthwise:
            down, across = self._kernels(means)
            half = functional.conv2d(means, across, padding=(0, margin), groups=len(across))
            return functional.conv2d(half, down, padding=(margin, 0), groups=len(down))
        height, width = (side + margin for side in means.shape[-2:])
        return banded(self.window, height).t() @ (means @ banded(self.window, width))

    def _kernels(self, planes: Tensor) -> tuple[Tensor, Tensor]:
        down = self.window.view(1, 1, -1, 1).repeat(planes.shape[1], 1, 1, 1)
        return down, down.transpose(2, 3).contiguous()


def banded(window: Tensor, side: int) -> Tensor:
    """The matrix (side − k + 1, side) whose product with a column of pixels is its means over a window of k."""
    rows = side - len(window) + 1
    band = window.new_zeros(rows, side + 1)  # read as rows of `side`, each begins one place further to the right
    band[:, : len(window)] = window
    return band.flatten()[: rows * side].view(rows, side)


class _Quotients(NamedTuple):
    """1 − l and 1 − cs at every pixel, and what their gradients need: means of s and d, and both denominators."""

    luminance: Tensor
    structure: Tensor
    mean_s: Tensor
    mean_d: Tensor
    over_luminance: Tensor
    over_structure: Tensor


def _quotients(s: Tensor, d: Tensor, means: Filter, constants: Constants) -> _Quotients:
    # What is changed in place here is kept by no backward step. New memory costs as much as the arithmetic.
    mean_s, mean_d = means.means(s), means.means(d)
    square_s, square_d = mean_s.square(), mean_d.square()
    variance_s = means.means(s.square()).sub_(square_s)
    variance_d = means.means(d.square()).sub_(square_d)
    over_luminance = square_s.add_(square_d).add_(2 * constants.c1)
    over_structure = variance_s.add_(variance_d).add_(2 * constants.c2)
    luminance, structure = square_d.mul_(2) / over_luminance, variance_d.mul_(2) / over_structure
    return _Quotients(luminance, structure, mean_s, mean_d, over_luminance, over_structure)


def _map(quotients: _Quotients, *, with_luminance: bool) -> Tensor:
    """1 − SSIM of every pixel; without the luminance, 1 − cs."""
    luminance, structure = quotients.luminance, quotients.structure
    return torch.addcmul(structure, structure, luminance, value=-1).add_(luminance) if with_luminance else structure


def _map_gradient(s: Tensor, d: Tensor, quotients: _Quotients, means: Filter, *, with_luminance: bool) -> Tensor:
    """Gradient of the sum of :func:`_map` with respect to x, which is that to s plus that to d; (1, P, H, W)."""
    luminance, structure, mean_s, mean_d, over_luminance, over_structure = quotients
    weight = (1 - luminance).div_(over_structure) if with_luminance else over_structure.reciprocal()
    to_square_s = (weight * structure).neg_()  # to the windowed mean of s², and below of d²
    to_square_d = torch.add(to_square_s, weight, alpha=2)
    to_mean_s, to_mean_d = -to_square_s, -to_square_d  # to the squares of the means
    if with_luminance:
        weight = (1 - structure).div_(over_luminance)
        to_mean_s.addcmul_(weight, luminance, value=-1)
        to_mean_d.addcmul_(weight, 2 - luminance)
    gradient = means.adjoint(to_mean_s.mul_(mean_s).addcmul_(to_mean_d, mean_d))
    gradient.addcmul_(s, means.adjoint(to_square_s)).addcmul_(d, means.adjoint(to_square_d))
    return gradient.mul_(2)


def _halved(planes: Tensor) -> Tensor:
    """Means of 2 × 2 pixels. An odd side gets a zero at either end first, as in pytorch-msssim."""
    return functional.avg_pool2d(planes, 2, padding=[side % 2 for side in planes.shape[-2:]])


def _halved_adjoint(gradient: Tensor, height: int, width: int) -> Tensor:
    """The transposed linear map of :func:`_halved`, back to planes of that height and width."""
    spread = functional.interpolate(gradient / 4, scale_factor=2, mode="nearest")
    return spread[..., height % 2 :, width % 2 :]


def _product(errors: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """1 − Π (1 − e_j)ʷʲ of the errors (scales, P) of each plane, (P,), and its gradient to them, (scales, P).

    Where a factor is not positive the value is 1 and the gradient 0; where one is NaN, both are. The gradient is itself
    not differentiable.
    """
    positive = ~(errors.detach().amax(dim=0) >= 1)  # the largest of numbers and NaN is NaN
    errors = errors.where(positive, 0)
    logarithm = (weights[:, None] * torch.log1p(-errors)).sum(dim=0)
    gradient = (weights[:, None] * logarithm.exp() / (1 - errors)).where(positive, 0)
    return (-torch.expm1(logarithm)).where(positive, 1), gradient.detach()


def _per_image(planes: Tensor, batch: int) -> Tensor:
    return planes.view(batch, -1).mean(dim=1)


def _by_autograd(
    decoded: Tensor, target: Tensor, window: Tensor, constants: Constants, weights: Tensor | None
) -> Tensor:
    means = Filter.fastest(window, decoded)
    x, y = means.planes(decoded), means.planes(target)
    s, d = x + y, x - y
    errors = []
    scales = 1 if weights is None else len(weights)
    for scale in range(1, scales + 1):
        quotients = _quotients(s, d, means, constants)
        errors.append(_map(quotients, with_luminance=scale == scales).mean((0, 2, 3)))
        if scale < scales:
            s, d = _halved(s), _halved(d)
    planes = errors[0] if weights is None else _product(torch.stack(errors), weights)[0]
    return _per_image(planes, len(decoded))


class _ClosedForm(torch.autograd.Function):
    """The same value, with the gradient to ``decoded`` computed in the forward pass, from the same intermediates."""

    @staticmethod
    def forward(
        ctx: Any, decoded: Tensor, target: Tensor, window: Tensor, constants: Constants, weights: Tensor | None
    ) -> Tensor:
        means = Filter.fastest(window, decoded)
        x, y = means.planes(decoded), means.planes(target)
        s, d = x + y, x - y
        errors, gradients = [], []
        scales = 1 if weights is None else len(weights)
        for scale in range(1, scales + 1):
            last = scale == scales
            quotients = _quotients(s, d, means, constants)
            values = _map(quotients, with_luminance=last)
            errors.append(values.mean((0, 2, 3)))
            gradients.append(_map_gradient(s, d, quotients, means, with_luminance=last).div_(values[0, 0].numel()))
            if not last:
                s, d = _halved(s), _halved(d)
        gradient = gradients.pop()
        if weights is None:
            value = errors[0]
        else:
            value, factors = _product(torch.stack(errors), weights)
            factors = factors[:, None, :, None, None]
            gradient.mul_(factors[-1])
            while gradients:
                finer = gradients.pop().mul_(factors[len(gradients)])
                gradient = finer.add_(_halved_adjoint(gradient, *finer.shape[-2:]))
        gradient = gradient[0].flatten(1) if not means.depthwise else gradient.permute(0, 2, 3, 1).flatten(0, 2).t()
        gradient = gradient.contiguous().view(decoded.shape).div_(decoded.shape[1])
        ctx.save_for_backward(decoded, target, window, weights, gradient)
        ctx.constants = constants
        return _per_image(value, len(decoded))

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        decoded, target, window, weights, gradient = ctx.saved_tensors
        if not torch.is_grad_enabled():
            return outer[0][:, None, None, None] * gradient, None, None, None, None
        # create_graph: the gradient must itself be differentiable, which what was saved is not
        value = _by_autograd(decoded, target, window, ctx.constants, weights)
        (differentiable,) = torch.autograd.grad(value, decoded, outer[0], create_graph=True)
        return differentiable, None, None, None, None
