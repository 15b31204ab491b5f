"""The sheet of reconstructions over the epochs: the same images under every method, as training went on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from recbench.report.content import BoardView, JobView, MethodView
from recbench.report.sheets import Group, Sheet, SheetRow
from recbench.store.epochs import EpochPictures

EpochsKey = tuple[bytes, tuple[int, ...]]
"""The images and epochs of a job, which must be equal for two to stand in one sheet."""


def over_epochs(view: BoardView) -> Sheet | None:
    """Return the sheet with reconstructions after some epochs, each image at the end of its own; None if no job kept
    any.

    Each method is shown with its first seed that kept those of the same images after the same epochs as most others.
    """
    first = [next((_shown(kept) for _, kept in _kept(method)), None) for method in view.methods]
    counts = Counter(shown for shown in first if shown is not None)
    if not counts:
        return None
    common = counts.most_common(1)[0][0]
    rows, left_out, epochs, images = [], [], common[1], 0
    for method, any_kept in zip(view.methods, first, strict=True):
        pair = next(((job, kept) for job, kept in _kept(method) if _shown(kept) == common), None)
        if pair is not None:
            images = len(pair[1].target)
            rows.append(_row(method, *pair))
        elif any_kept is not None:
            left_out.append(method.label)
    width = len(epochs) + 1
    groups = tuple(
        Group(
            f"image-{number + 1}",
            f"#{number}",
            f"image {number} after some epochs, and the image itself",
            tuple(range(number * width, (number + 1) * width)),
        )
        for number in range(images)
    )
    heads = (*(f"epoch {epoch}" for epoch in epochs), "image") * images
    notes = (f"Not shown, since of other images or epochs: {', '.join(left_out)}.",) if left_out else ()
    return Sheet("epochs", "reconstruction", heads, groups, tuple(rows), notes=notes)


def _kept(method: MethodView) -> Iterator[tuple[JobView, EpochPictures]]:
    return ((job, job.epochs) for job in method.done if job.epochs is not None)


def _shown(kept: EpochPictures) -> EpochsKey:
    return kept.target.tobytes(), kept.epochs


def _row(method: MethodView, job: JobView, kept: EpochPictures) -> SheetRow:
    strips, captions, scores = [], [], []
    for number, target in enumerate(kept.target):
        own = kept.decoded[:, number]
        strips += [own, target[None]]
        told = [f"{value:.2f} dB" for value in _psnr(own, target)]
        scores += [*told, ""]
        captions += [*(f"seed {job.planned.seed}, PSNR {text}" for text in told), f"image {number}"]
    found = {"PSNR": tuple(scores)}
    label = method.label
    return SheetRow(label, np.concatenate(strips), tuple(captions), label, method.page, method.slug, found)


def _psnr(decoded: NDArray[np.uint8], target: NDArray[np.uint8]) -> list[float]:
    """Return the PSNR of reconstructions (N, C, H, W) of one image in dB; infinite where they are equal."""
    error = np.square(decoded.astype(np.float64) - target).mean(axis=(1, 2, 3))
    with np.errstate(divide="ignore"):
        return [float(value) for value in 10 * np.log10(255**2 / error)]
