"""The Watson losses as Czolbe et al. 2020 compute them, one operation for each of theirs, for images in 0 to 1.

Each channel is judged by itself: blocks of 8 × 8 pixels by unfolding, complex spectra, phases by atan2, the angle
between them by acos, powers with ``**``, and the gradient by autograd. The losses compute the same, with fewer rounding
errors in float32 (see blocks and dft).
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import pad, softmax, unfold

from recbench_losses_frequency.watson.colour import CENTRE
from recbench_losses_frequency.watson.masking import EPSILON
from recbench_losses_frequency.watson.parameters import CHANNELS
from recbench_losses_frequency.watson.pretrained import BLOCK_SIZE, Transform


def watson(
    transform: Transform,
    decoded: Tensor,
    target: Tensor,
    state: Mapping[str, Tensor],
    shift: tuple[int, int] | None = None,
) -> Tensor:
    """Return the Watson distance of images.

    Args:
        transform: ``dft`` or ``dct``.
        decoded: images (B, 3, H, W) or (B, 1, H, W) in 0 to 1, with sides that are multiples of 8.
        target: images of the same shape.
        state: the parameters, named as in the authors' files; see ``parameters.initial``.
        shift: rows and columns, 0 to 7, that images are moved by; the authors draw it. 4 moves nothing.

    Returns:
        Values (B,), at least 0.

    >>> from recbench_losses_frequency.watson.parameters import initial
    >>> image = torch.linspace(0, 1, 64).view(1, 1, 8, 8)
    >>> bool(watson("dct", 0.5 * image, image, initial("dct", 1)) > watson("dct", image, image, initial("dct", 1)))
    True
    """
    if shift is not None:
        decoded, target = (shifted(images, *shift) for images in (decoded, target))
    distance = dft_distance if transform == "dft" else dct_distance
    state = {name: value.to(decoded.dtype) for name, value in state.items() if value.is_floating_point()}
    if decoded.shape[1] == 1:
        return distance(decoded, target, state)
    decoded, target = (to_ycbcr(images, state["to_YCbCr.transform"]) for images in (decoded, target))
    weights = softmax(state["w_tild"], dim=0)
    total = torch.zeros((), dtype=decoded.dtype)
    for index, channel in enumerate(CHANNELS):
        own = {name.removeprefix(f"{channel}."): v for name, v in state.items() if name.startswith(f"{channel}.")}
        total = total + weights[index] * distance(decoded[:, [index]], target[:, [index]], own)
    return total


def shifted(images: Tensor, down: int, across: int) -> Tensor:
    """Return a window on images (B, C, H, W) whose edges are repeated by 4 pixels."""
    padded = pad(images, (4, 4, 4, 4), mode="replicate")
    return padded[:, :, down : down - 8, across : across - 8]


def to_ycbcr(images: Tensor, transform: Tensor) -> Tensor:
    """Return RGB images (B, 3, H, W) in YCbCr, with 0.5 added to Cb and Cr."""
    last = torch.matmul(images.transpose(1, 3), transform) + torch.tensor(CENTRE, dtype=images.dtype)
    return last.transpose(1, 3)


def blocks(images: Tensor) -> Tensor:
    """Cut images (B, 1, H, W) into blocks (B, K, 8, 8)."""
    columns = unfold(images, BLOCK_SIZE, stride=BLOCK_SIZE)
    return columns.view(len(images), BLOCK_SIZE, BLOCK_SIZE, -1).permute(0, 3, 1, 2)


def softmax_mean(a: Tensor, b: Tensor) -> Tensor:
    """Return the smooth maximum of two tensors: their mean, weighted by their softmax."""
    both = torch.stack([a, b], dim=-1)
    weights = softmax(both, dim=-1)
    return a * weights[..., 0] + b * weights[..., 1]


def masking(coefficients: Tensor, mean_luminance: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Return the slack S by luminance and contrast masking, from the target's coefficients (B, K, 8, …)."""
    luminance = ((coefficients[:, :, :1, :1] + EPSILON) / (mean_luminance + EPSILON)) ** state["alpha"]
    threshold = state["t_tild"].exp() * luminance
    w = torch.sigmoid(state["w_tild"])
    return softmax_mean(threshold, (coefficients.abs() + EPSILON) ** w * threshold ** (1 - w))


def pooled(error: Tensor, beta: Tensor) -> Tensor:
    """Return (Σ |error|^β)^(1/β), (B,), of errors (B, K, 8, …)."""
    powers = (error.abs() + EPSILON) ** beta + EPSILON
    return powers.sum((1, 2, 3)) ** (1 / beta)


def dft_distance(decoded: Tensor, target: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Return the distance of amplitudes plus that of phases, (B,), of one channel (B, 1, H, W)."""
    c0 = torch.view_as_real(torch.fft.rfft2(blocks(target))) / BLOCK_SIZE**2
    c1 = torch.view_as_real(torch.fft.rfft2(blocks(decoded))) / BLOCK_SIZE**2
    amplitude0 = torch.linalg.vector_norm(c0 + EPSILON, dim=4)
    amplitude1 = torch.linalg.vector_norm(c1 + EPSILON, dim=4)
    slack = masking(amplitude0, amplitude0[:, :, 0, 0].mean(), state)
    distance = pooled((amplitude0 - amplitude1) / slack, state["beta"])

    weights = state["w_phase_tild"].exp()
    middle = BLOCK_SIZE // 2
    for row, column in ((0, 0), (0, middle), (middle, 0), (middle, middle)):  # real, so without a phase
        weights[row, column] = 0
    phase0 = torch.atan2(c0[..., 1], c0[..., 0] + EPSILON)
    phase1 = torch.atan2(c1[..., 1], c1[..., 0] + EPSILON)
    angle = torch.acos(torch.cos(phase0 - phase1) * (1 - EPSILON * 10**3)) * weights
    return distance + angle.sum((1, 2, 3))


def dct_distance(decoded: Tensor, target: Tensor, state: Mapping[str, Tensor]) -> Tensor:
    """Return the distance of cosine coefficients, (B,), of one channel (B, 1, H, W)."""
    place = torch.arange(BLOCK_SIZE, dtype=torch.float64)
    matrix = math.sqrt(2 / BLOCK_SIZE) * torch.cos(math.pi / BLOCK_SIZE * place[:, None] * (place + 0.5))
    matrix[0] /= math.sqrt(2)
    matrix = matrix.float().to(decoded.dtype)  # float32 in their files, whatever the images are
    c0 = matrix.matmul(blocks(target)).matmul(matrix.T)
    c1 = matrix.matmul(blocks(decoded)).matmul(matrix.T)
    slack = masking(c0, c0[:, :, 0, 0].mean(), state)
    return pooled((c0 - c1) / slack, state["beta"])
