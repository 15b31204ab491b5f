"""Health checks: what numbers and images of a finished job say about a training that went wrong though it ended well.

Pure functions of histories, traces and images. docs/health.md gives the reason for each threshold, and what it was
measured on.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from recbench.job.evaluation import Evaluation
from recbench.store.artifacts import ArtifactError, read_history
from recbench.store.record import LARGEST, File, Symptom

PixelValues = NDArray[np.floating[Any] | np.unsignedinteger[Any]]

KERNEL_PIXELS = 2.0
"""A kernel that is spread over fewer pixels, e to the power of its entropy, has collapsed."""
KERNEL_OFFSET = 1.0
"""A kernel whose centre of mass is farther from its middle, in pixels, shifts images instead of blurring them."""
KL_JUMP = 4.0
"""Factor between the means of two epochs: a tenfold jump in the first two thirds of an epoch makes it so high."""
KL_BEGUN = 10.0
"""Nats per image above which a jump is none of the rise from nothing with which training begins."""
KL_COLLAPSED = 3.0
"""Nats per image: a code that carries less tells at most e³ = 20 images apart."""
GREY = 0.5
"""Share of the data's colour that reconstructions should have."""
COLOURED = 2.0
"""Mean distance of channels from their mean, in levels of 8 bits, above which data are coloured."""
CHECKERBOARD = 2.0
"""Factor of the energy of reconstructions over that of the data at the frequencies of strides."""
VISIBLE = 0.5
"""Amplitude of a pattern in levels of 8 bits, below which rounding hides it."""
FALLING = 0.05
"""Share of the whole fall of the objective that the last epoch still has."""
PERIODS = (2, 4)
"""Periods in pixels of the patterns that one or two layers of stride 2 leave."""


def kernel_pixels(kernels: PixelValues) -> NDArray[np.float64]:
    """Return on how many pixels kernels are spread: e to the power of the entropy of their absolute entries.

    Args:
        kernels: (..., h, w).

    Returns:
        (...), from 1 to h · w.

    >>> kernel_pixels(np.ones((2, 2))).round(6), kernel_pixels(np.eye(1, 9).reshape(3, 3))
    (np.float64(4.0), np.float64(1.0))
    """
    share = _shares(kernels)
    logarithms = np.log(np.where(share > 0, share, 1.0))
    return np.asarray(np.exp(-(share * logarithms).sum((-2, -1))))[()]


def kernel_offset(kernels: PixelValues) -> NDArray[np.float64]:
    """Return the distance of the centres of mass of kernels (..., h, w) from their middle, in pixels, (...)."""
    share = _shares(kernels)
    rows, columns = (np.arange(size) - size // 2 for size in share.shape[-2:])
    down, right = (share.sum(-1) * rows).sum(-1), (share.sum(-2) * columns).sum(-1)
    return np.asarray(np.hypot(down, right))[()]


def _shares(kernels: PixelValues) -> NDArray[np.float64]:
    size = np.abs(np.asarray(kernels, dtype=np.float64))
    total = size.sum((-2, -1), keepdims=True)
    even = np.full_like(size, 1 / (size.shape[-2] * size.shape[-1]))
    return np.where(total > 0, size / np.where(total > 0, total, 1.0), even)


def colour(images: PixelValues) -> float:
    """Return the mean distance of the channels of images (N, C, H, W) from their mean, in the images' unit.

    >>> colour(np.full((1, 3, 2, 2), 7.0))
    0.0
    """
    pixels = np.asarray(images, dtype=np.float64)
    return float(np.abs(pixels - pixels.mean(1, keepdims=True)).mean())


def stride_energy(images: PixelValues, period: int) -> float | None:
    """Return the mean energy of images at the frequencies of patterns of a period in pixels, without those of half
    the period; None if the period does not divide their sides.

    Args:
        images: (N, C, H, W).

    Returns:
        Σ |F|² over these frequencies, with F(0) the mean of the image; a checkerboard of amplitude a has a².

    >>> board = np.indices((1, 1, 4, 4))[2:].sum(0) % 2 * 2.0 - 1
    >>> stride_energy(board, 2), stride_energy(board, 4), stride_energy(board[..., :3], 2)
    (1.0, 0.0, None)
    """
    height, width = images.shape[-2:]
    if height % period or width % period:
        return None
    energy = (np.abs(np.fft.fft2(np.asarray(images, dtype=np.float64), norm="forward")) ** 2).mean((0, 1))
    own = energy[:: height // period, :: width // period]
    return max(0.0, float(own.sum() - (own[::2, ::2] if period > 2 else own[:1, :1]).sum()))


def job_symptoms(
    folders: Sequence[Path], files: Mapping[str, File], evaluation: Evaluation, traces: Mapping[str, Tensor]
) -> tuple[Symptom, ...]:
    """Return what is wrong with a job that has just been evaluated.

    Args:
        folders: where its history may be; the first that has it counts.
        files: of the job, as its record describes them.
        evaluation: of its test images.
        traces: of its loss.
    """
    history: list[dict[str, Any]] = []
    for folder in folders:
        try:
            history = read_history(folder, files)
        except ArtifactError:
            continue
        break
    arrays = {name: value.numpy() for name, value in traces.items()}
    return symptoms(history, evaluation.per_image.get("kl", np.empty(0)), **evaluation.looked, traces=arrays)


def symptoms(
    history: Sequence[Mapping[str, float]],
    kl: PixelValues,
    target: PixelValues,
    decoded: PixelValues,
    traces: Mapping[str, PixelValues],
) -> tuple[Symptom, ...]:
    """Return what is wrong with a finished job; empty for a healthy one.

    Args:
        history: the epochs, of which ``objective`` and ``kl`` are used.
        kl: KL divergence of each test image in nats, (N,); empty without one.
        target, decoded: the same test images, as they are and reconstructed, uint8 (N, C, H, W).
        traces: traces of the loss over the epochs; ``kernels``, (epochs, B, h, w), are checked.
    """
    found = [*_kernels(traces["kernels"])] if "kernels" in traces else []
    found += _jump([epoch["kl"] for epoch in history if "kl" in epoch])
    found += _collapse(kl)
    found += _grey(target, decoded)
    found += _checkerboard(target, decoded)
    found += _undertrained([epoch["objective"] for epoch in history if "objective" in epoch])
    return tuple(found)


def _symptom(check: str, value: float, threshold: float, sentence: str) -> Symptom:
    bounded = min(max(float(value), -LARGEST), LARGEST)
    return Symptom(check=check, value=bounded, threshold=threshold, sentence=sentence)


def _kernels(kernels: PixelValues) -> Iterator[Symptom]:
    if kernels.ndim != 4 or not len(kernels) or not kernels[-1].size or not np.isfinite(kernels[-1]).all():
        return
    pixels, offset = float(kernel_pixels(kernels[-1]).mean()), float(kernel_offset(kernels[-1]).mean())
    of = kernels.shape[-2] * kernels.shape[-1]
    if pixels < KERNEL_PIXELS < of:
        text = (
            f"the estimated kernels have collapsed: by their entropy they cover {pixels:.2f} of {of} pixels "
            f"(healthy: at least {KERNEL_PIXELS:g})"
        )
        yield _symptom("kernel_entropy", pixels, KERNEL_PIXELS, text)
    if offset > KERNEL_OFFSET:
        text = (
            f"the estimated kernels shift images: their centre of mass is {offset:.2f} pixels off the middle "
            f"(healthy: at most {KERNEL_OFFSET:g})"
        )
        yield _symptom("kernel_centre", offset, KERNEL_OFFSET, text)


def _jump(rates: Sequence[float]) -> Iterator[Symptom]:
    steps = enumerate(itertools.pairwise(rates), 2)
    pairs = [(after / before, epoch) for epoch, (before, after) in steps if before >= KL_BEGUN]
    if pairs and max(pairs)[0] >= KL_JUMP:
        factor, epoch = max(pairs)
        text = (
            f"KL rose {factor:.2g}-fold from epoch {epoch - 1} ({rates[epoch - 2]:.4g} nats) to epoch {epoch} "
            f"({rates[epoch - 1]:.4g}); {KL_JUMP:g}-fold means of epochs are a tenfold jump within one"
        )
        yield _symptom("kl_jump", factor, KL_JUMP, text)


def _collapse(kl: PixelValues) -> Iterator[Symptom]:
    # A plain autoencoder has no posterior that could collapse: no divergences, or, in older records, zeros.
    if not len(kl) or not kl.any():
        return
    mean = float(kl.mean())
    if mean < KL_COLLAPSED:
        text = (
            f"the posterior has collapsed: KL is {mean:.3g} nats per image (healthy: at least {KL_COLLAPSED:g}); "
            "lower the KL weight"
        )
        yield _symptom("posterior_collapse", mean, KL_COLLAPSED, text)


def _grey(target: PixelValues, decoded: PixelValues) -> Iterator[Symptom]:
    if target.shape[1] < 2 or not len(target):
        return
    real = colour(target)
    if real < COLOURED:
        return
    share = colour(decoded) / real
    if share < GREY:
        text = (
            f"reconstructions are grey where the data are coloured: they have {100 * share:.0f} % of their colour "
            f"(healthy: at least {100 * GREY:.0f} %)"
        )
        yield _symptom("grey", share, GREY, text)


def _checkerboard(target: PixelValues, decoded: PixelValues) -> Iterator[Symptom]:
    found = []
    for period in PERIODS:
        real, made = stride_energy(target, period), stride_energy(decoded, period)
        if real is None or made is None or made < VISIBLE**2:
            continue
        found.append((made / max(real, VISIBLE**2), period))
    if found and max(found)[0] >= CHECKERBOARD:
        factor, period = max(found)
        text = (
            f"reconstructions have a checkerboard: {factor:.3g} times the data's energy at the frequencies of a stride "
            f"(patterns of {period} pixels; healthy: below {CHECKERBOARD:g})"
        )
        yield _symptom("checkerboard", factor, CHECKERBOARD, text)


def _undertrained(objective: Sequence[float]) -> Iterator[Symptom]:
    if len(objective) < 3:
        return  # of two epochs, the last always has all of the fall
    highest = max(objective[:-1])  # after a change of the objective, such as the end of a warm-up
    whole, last = highest - objective[-1], objective[-2] - objective[-1]
    if whole <= 0 or last <= FALLING * whole:
        return
    share = last / whole
    text = (
        f"undertrained: the objective fell in the last epoch by {100 * share:.0f} % of its whole fall "
        f"(healthy: at most {100 * FALLING:.0f} %); train longer"
    )
    yield _symptom("undertrained", share, FALLING, text)
