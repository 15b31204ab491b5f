"""The Watson losses of Czolbe et al. 2020 written as their authors compute them, one operation for each of theirs.

The other side of the benchmarks, and of the tests of conditioning in float32; recbench's own code is in the family
recbench-losses-frequency. Each channel is judged by itself: blocks by unfolding, complex spectra, phases by atan2, the
angle between them by acos, powers with ``**``, and the gradient by autograd.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad, softmax, unfold

EPS = 1e-10
BLOCK = 8
TO_YCBCR = ((0.299, 0.587, 0.114), (-0.1687, -0.3313, 0.5), (0.5, -0.4187, -0.0813))
CENTRE = (0.0, 0.5, 0.5)
# Watson 1993, where t of the DCT starts
SENSITIVITY = (
    (1.40, 1.01, 1.16, 1.66, 2.40, 3.43, 4.79, 6.56),
    (1.01, 1.45, 1.32, 1.52, 2.00, 2.71, 3.67, 4.93),
    (1.16, 1.32, 2.24, 2.59, 2.98, 3.64, 4.60, 5.88),
    (1.66, 1.52, 2.59, 3.77, 4.55, 5.30, 6.28, 7.60),
    (2.40, 2.00, 2.98, 4.55, 6.15, 7.46, 8.71, 10.17),
    (3.43, 2.71, 3.64, 5.30, 7.46, 9.62, 11.58, 13.51),
    (4.79, 3.67, 4.60, 6.28, 8.71, 11.58, 14.50, 17.29),
    (6.56, 4.93, 5.88, 7.60, 10.17, 13.51, 17.29, 21.15),
)

State = Mapping[str, Tensor]


def initial(transform: Literal["dft", "dct"], channels: int) -> dict[str, Tensor]:
    """The parameters before any learning, under the names of the authors' files; float64.

    They are those of the authors' constructors with float64 as torch's default, as the golden values are.
    """
    if transform == "dft":
        own = {
            "t_tild": torch.zeros(BLOCK, BLOCK // 2 + 1, dtype=torch.float64),
            "alpha": torch.tensor(0.1, dtype=torch.float64),
            "w_tild": torch.tensor(math.log(0.2 / 0.8), dtype=torch.float64),
            "beta": torch.tensor(1.0, dtype=torch.float64),
            "w_phase_tild": torch.full((BLOCK, BLOCK // 2 + 1), -2.0, dtype=torch.float64),
        }
    else:
        own = {
            "t_tild": torch.tensor(SENSITIVITY, dtype=torch.float64).log(),
            "alpha": torch.tensor(0.649, dtype=torch.float64),
            "w_tild": torch.tensor(math.log(0.7 / 0.3), dtype=torch.float64),
            "beta": torch.tensor(4.0, dtype=torch.float64),
        }
    if channels == 1:
        return own
    every = {f"{channel}.{name}": value for channel in ("ly", "lcb", "lcr") for name, value in own.items()}
    matrix = torch.tensor(TO_YCBCR, dtype=torch.float64)
    return {"w_tild": torch.zeros(3, dtype=torch.float64), "to_YCbCr.transform": matrix.T, **every}


def watson(
    transform: Literal["dft", "dct"],
    decoded: Tensor,
    target: Tensor,
    state: State,
    shift: tuple[int, int] | None = None,
) -> Tensor:
    """Values (B,) of images (B, 3, H, W) or (B, 1, H, W) in 0 to 1, with parameters named as in the authors' files.

    The authors draw ``shift`` from 0 to 7; 4 moves nothing.
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
    for index, channel in enumerate(("ly", "lcb", "lcr")):
        own = {name.removeprefix(f"{channel}."): v for name, v in state.items() if name.startswith(f"{channel}.")}
        total = total + weights[index] * distance(decoded[:, [index]], target[:, [index]], own)
    return total


def shifted(images: Tensor, down: int, across: int) -> Tensor:
    padded = pad(images, (4, 4, 4, 4), mode="replicate")
    return padded[:, :, down : down - 8, across : across - 8]


def to_ycbcr(images: Tensor, transform: Tensor) -> Tensor:
    last = torch.matmul(images.transpose(1, 3), transform) + torch.tensor(CENTRE, dtype=images.dtype)
    return last.transpose(1, 3)


def blocks(images: Tensor) -> Tensor:
    """(B, K, 8, 8) of (B, 1, H, W)."""
    columns = unfold(images, BLOCK, stride=BLOCK)
    return columns.view(len(images), BLOCK, BLOCK, -1).permute(0, 3, 1, 2)


def softmax_mean(a: Tensor, b: Tensor) -> Tensor:
    """The smooth maximum of two tensors: their mean, weighted by their softmax."""
    both = torch.stack([a, b], dim=-1)
    weights = softmax(both, dim=-1)
    return a * weights[..., 0] + b * weights[..., 1]


def masking(coefficients: Tensor, mean_luminance: Tensor, state: State) -> Tensor:
    """What is overlooked, from the target's coefficients or amplitudes (B, K, 8, …)."""
    luminance = ((coefficients[:, :, :1, :1] + EPS) / (mean_luminance + EPS)) ** state["alpha"]
    threshold = state["t_tild"].exp() * luminance
    w = torch.sigmoid(state["w_tild"])
    return softmax_mean(threshold, (coefficients.abs() + EPS) ** w * threshold ** (1 - w))


def pooled(error: Tensor, beta: Tensor) -> Tensor:
    powers = (error.abs() + EPS) ** beta + EPS
    return powers.sum((1, 2, 3)) ** (1 / beta)


def dft_distance(decoded: Tensor, target: Tensor, state: State) -> Tensor:
    c0 = torch.view_as_real(torch.fft.rfft2(blocks(target))) / BLOCK**2
    c1 = torch.view_as_real(torch.fft.rfft2(blocks(decoded))) / BLOCK**2
    amplitude0 = torch.linalg.vector_norm(c0 + EPS, dim=4)
    amplitude1 = torch.linalg.vector_norm(c1 + EPS, dim=4)
    slack = masking(amplitude0, amplitude0[:, :, 0, 0].mean(), state)
    distance = pooled((amplitude0 - amplitude1) / slack, state["beta"])

    weights = state["w_phase_tild"].exp()
    middle = BLOCK // 2
    for row, column in ((0, 0), (0, middle), (middle, 0), (middle, middle)):  # real, so without a phase
        weights[row, column] = 0
    phase0 = torch.atan2(c0[..., 1], c0[..., 0] + EPS)
    phase1 = torch.atan2(c1[..., 1], c1[..., 0] + EPS)
    angle = torch.acos(torch.cos(phase0 - phase1) * (1 - EPS * 10**3)) * weights
    return distance + angle.sum((1, 2, 3))


def dct_distance(decoded: Tensor, target: Tensor, state: State) -> Tensor:
    place = torch.arange(BLOCK, dtype=torch.float64)
    matrix = math.sqrt(2 / BLOCK) * torch.cos(math.pi / BLOCK * place[:, None] * (place + 0.5))
    matrix[0] /= math.sqrt(2)
    matrix = matrix.float().to(decoded.dtype)  # float32 in their files, whatever the images are
    c0 = matrix.matmul(blocks(target)).matmul(matrix.T)
    c1 = matrix.matmul(blocks(decoded)).matmul(matrix.T)
    slack = masking(c0, c0[:, :, 0, 0].mean(), state)
    return pooled((c0 - c1) / slack, state["beta"])
