"""Sheets: the same images with every method. Each row is one file, a strip of tiles of equal size."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from recbench.analysis.kernels import kernel_shapes, kernels_of
from recbench.report.content import BoardView, JobView, MethodView

Images = NDArray[np.uint8]

LOSSLESS_BYTES = 60_000_000
"""Sheets with more bytes of pixels than this are stored as WebP with quality 90 instead of PNG."""
WIDEST = 16_000
"""The widest strip in pixels; WebP files are at most 16,383 wide."""
EPOCHS_SHOWN = 10


@dataclass(frozen=True)
class Group:
    """Columns that are shown together, and the reason why they were selected."""

    name: str
    title: str
    why: str
    columns: tuple[int, ...]


@dataclass(frozen=True)
class SheetRow:
    """A strip of tiles.

    Attributes:
        images: uint8, shape (columns, C, H, W).
        captions: a caption per tile, such as its scores; may be empty.
        method: name of the method; empty for a reference (the test images, the data's spectrum).
        page: the method's page, if any.
        slug: the method's name in addresses, if any.
        scores: for each metric, the score of each tile as text.
    """

    label: str
    images: Images
    captions: tuple[str, ...]
    method: str = ""
    page: str = ""
    slug: str = ""
    scores: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Sheet:
    """Rows of tiles, their columns in groups.

    Attributes:
        name: for files.
        noun: what a tile is, for screen readers (``"reconstruction"``).
        heads: the head of each column.
        against: whether the first row is the target of all others, so that errors can be shown.
        notes: notes below the sheet.
    """

    name: str
    noun: str
    heads: tuple[str, ...]
    groups: tuple[Group, ...]
    rows: tuple[SheetRow, ...]
    against: bool = False
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a tile in pixels."""
        return self.rows[0].images.shape[2], self.rows[0].images.shape[3]

    @property
    def lossless(self) -> bool:
        return sum(row.images.nbytes for row in self.rows) <= LOSSLESS_BYTES

    @property
    def suffix(self) -> str:
        return ".png" if self.lossless else ".webp"


def strip(images: Images, *, lossless: bool) -> bytes:
    """Return images side by side as one file: PNG, or WebP with quality 90.

    Args:
        images: shape (N, C, H, W). Of two channels the first is shown, of more than three the first three.
        lossless: whether to write PNG.
    """
    from PIL import Image

    count, channels, height, width = images.shape
    shown = images[:, : 3 if channels >= 3 else 1]
    pixels = shown.transpose(2, 0, 3, 1).reshape(height, count * width, -1)
    picture = Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))
    stream = io.BytesIO()
    if lossless:
        picture.save(stream, format="PNG", compress_level=3)  # 1% larger than the default, in a third of the time
    else:
        picture.convert("RGB").save(stream, format="WEBP", quality=90)
    return stream.getvalue()


WHY = {
    "interesting": ("Interesting", "the images with the most texture and edges, chosen by their pixels alone"),
    "disagreement": ("Methods disagree", "the images on which the methods' scores disagree most"),
    "best": ("Best", "the images with the best scores over all methods"),
    "worst": ("Worst", "the images with the worst scores over all methods"),
    "random": ("Random", "images drawn at random, the same in every report"),
}


def reconstructions(
    view: BoardView,
    chosen: Mapping[str, Sequence[int]],
    indices: Sequence[int],
    target: Images,
    decoded: Mapping[int, Images],
) -> Sheet | None:
    """Return the sheet with reconstructions of the same test images by every method, if there are any.

    Args:
        view: the board.
        chosen: indices of test images, by the reason to show them.
        indices: indices of the images in ``target`` and ``decoded``, in their order.
        target: the test images.
        decoded: their reconstructions, by index of the method.
    """
    if not decoded:
        return None
    column = {index: place for place, index in enumerate(indices)}
    groups = [Group(name, *WHY[name], tuple(column[index] for index in own)) for name, own in chosen.items()]
    heads = tuple(f"#{index}" for index in indices)
    rows = [SheetRow("test image", target, heads)]
    for method in view.methods:
        if method.index in decoded:
            scores = _scores(view, method, indices)
            captions = tuple(
                " · ".join(f"{name} {own[place]}" for name, own in scores.items()) for place in column.values()
            )
            images, label = decoded[method.index], method.label
            rows.append(SheetRow(label, images, captions, label, method.page, method.slug, scores))
    return Sheet("images", "reconstruction", heads, tuple(groups), tuple(rows), against=True)


def _scores(view: BoardView, method: MethodView, indices: Sequence[int]) -> dict[str, tuple[str, ...]]:
    """Return the scores of some test images by metric, as text."""
    job = method.shown
    found = {}
    for metric in view.board.columns:
        values = job.per_image.get(metric.name) if job else None
        if values is not None and (not indices or max(indices) < len(values)):
            unit = f" {metric.unit}" if metric.unit else ""
            found[metric.name] = tuple(f"{_number(float(values[index]), metric.digits)}{unit}" for index in indices)
    return found


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else str(value).replace("inf", "∞")


def samples(view: BoardView) -> Sheet | None:
    """Return the sheet with decoded draws from the prior, the same draws for every method, if there are any."""
    rows = [
        SheetRow(method.label, images, ("",) * len(images), method.label, method.page)
        for method in view.methods
        if (job := method.shown) is not None and "samples" in job.pictures and len(images := job.pictures["samples"])
    ]
    rows = [row for row in rows if row.images.shape[1:] == rows[0].images.shape[1:]]
    if not rows:
        return None
    count = min(len(row.images) for row in rows)
    rows = [replace(row, images=row.images[:count], captions=row.captions[:count]) for row in rows]
    group = Group("all", "All", "decoded draws from the prior, the same for every method", tuple(range(count)))
    return Sheet("samples", "sample", tuple(f"{i + 1}" for i in range(count)), (group,), tuple(rows))


def interpolations(
    view: BoardView,
    decoded: Mapping[int, Images],
    ends: Images,
    pairs: Sequence[tuple[int, int]],
    steps: int,
    notes: Sequence[str],
) -> Sheet | None:
    """Return the sheet with latent interpolations between test images, below blends of their pixels, if there are any.

    Args:
        view: the board.
        decoded: by index of the method, shape (pairs × steps, C, H, W).
        ends: the test images.
        pairs: indices into ``ends`` of the first and the last image.
        steps: images per interpolation, including both ends.
        notes: notes below the sheet.
    """
    if not decoded:
        return None
    groups = tuple(
        Group(
            f"pair-{number}",
            f"#{first} → #{last}",
            f"points on the line between the posterior means of test images {first} and {last}",
            tuple(range(number * steps, (number + 1) * steps)),
        )
        for number, (first, last) in enumerate(pairs)
    )
    heads = tuple(f"{step / (steps - 1):.3g}" for _ in pairs for step in range(steps))
    weights = np.linspace(0, 1, steps)[:, None, None, None]
    blends = [(1 - weights) * ends[first] + weights * ends[last] for first, last in pairs]
    rows = [SheetRow("pixels blended", np.rint(np.concatenate(blends)).astype(np.uint8), ("",) * len(heads))]
    rows += [
        SheetRow(method.label, decoded[method.index], ("",) * len(heads), method.label, method.page)
        for method in view.methods
        if method.index in decoded
    ]
    return Sheet("interpolations", "interpolation", heads, groups, tuple(rows), notes=tuple(notes))


def kernels(view: BoardView) -> Sheet | None:
    """Return the sheet with estimated kernels, if there are any (figure 2 of Bredell et al., 2023).

    Rows are methods and test images, columns the image itself and epochs. Every kernel is scaled to its own largest
    magnitude, and enlarged to the images' size by whole numbers.
    """
    found = traced_kernels(view)
    if not found:
        return None
    epochs = max(len(values) for _, _, values in found)
    size = max(values.shape[-1] for _, _, values in found)
    channels, height, width = found[0][1].pictures["target"].shape[1:]
    side = (max(height, size), max(width, size))
    shown = spread(epochs, EPOCHS_SHOWN)
    rows = []
    for method, job, values in found:
        shapes = kernel_shapes(values)
        for image, target in zip(range(values.shape[1]), job.pictures["target"], strict=False):
            last = [min(epoch, len(values) - 1) for epoch in shown]
            tiles = [_fitted(values[epoch, image], side, size, channels) for epoch in last]
            captions = tuple(
                f"width {shapes.width[epoch, image]:.3g} pixels, centre off by {shapes.offset[epoch, image]:.2f}, "
                f"largest entry {np.abs(values[epoch, image]).max():.3g}"
                for epoch in last
            )
            label = f"#{image} · {method.label}"
            strip = np.stack([_centred(target, side), *tiles])
            rows.append(SheetRow(label, strip, (f"test image {image}", *captions), method.label, method.page))
    heads = ("image", *(f"epoch {epoch + 1}" for epoch in shown))
    why = "the test image, and the kernel that the loss estimates for it"
    group = Group("all", "All", why, tuple(range(len(heads))))
    return Sheet("kernels", "kernel", heads, (group,), tuple(rows))


def traced_kernels(view: BoardView) -> list[tuple[MethodView, JobView, NDArray[np.float64]]]:
    """Return the methods whose loss traced finite kernels, with the job that is shown, and (epochs, images, H, W)."""
    found = []
    for method in view.methods:
        job = method.shown
        values = kernels_of(job.traces) if job else None
        if job is not None and values is not None and values.ndim == 4 and values.size and np.isfinite(values).all():
            found.append((method, job, values))
    return found


def spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` evenly spaced indices from 0 to count − 1, including both ends."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def _fitted(kernel: NDArray[np.float64], side: tuple[int, int], size: int, channels: int) -> Images:
    """Return a kernel in a tile (channels, *side), enlarged as kernels of ``size`` are; negative: 0 is mid grey."""
    largest = float(np.abs(kernel).max()) or 1.0
    signed = bool((kernel < 0).any())
    scaled = (kernel / largest * 127 + 128) if signed else kernel / largest * 255
    zoom = min(side) // size
    pixels = np.rint(scaled).astype(np.uint8).repeat(zoom, axis=0).repeat(zoom, axis=1)
    return _centred(pixels[None].repeat(channels, axis=0), side, 128 if signed else 0)


def _centred(image: Images, side: tuple[int, int], ground: int = 0) -> Images:
    """Return an image (C, H, W) in the middle of a tile (C, *side) of one grey."""
    channels, height, width = image.shape
    tile = np.full((channels, *side), ground, dtype=np.uint8)
    top, left = (side[0] - height) // 2, (side[1] - width) // 2
    tile[:, top : top + height, left : left + width] = image
    return tile


def spectra(view: BoardView) -> Sheet | None:
    """Return the sheet with mean log spectra and their differences from the data, on common grey scales."""
    found, what = view.spectra
    if not found:
        return None
    pairs = {index: (np.mean(a, axis=0), np.mean(b, axis=0)) for index, (a, b) in found.items()}
    data = next(iter(pairs.values()))[1]
    low, high = float(data.min()), float(data.max())
    span = max((float(np.abs(a - b).max()) for a, b in pairs.values()), default=1.0) or 1.0
    heads = ("spectrum", "difference")
    level = _grey(data, low, high)
    rows = [SheetRow("test images", np.stack([level, np.full_like(level, 128)]), ("", ""))]
    for method in view.methods:
        if method.index in pairs:
            own, theirs = pairs[method.index]
            tiles = np.stack([_grey(own, low, high), _grey(own - theirs, -span, span)])
            mean = float((own - theirs).mean())
            captions = (f"from {low:.2f} (black) to {high:.2f} (white)", f"mean {mean:+.3f}; black is −{span:.2f}")
            rows.append(SheetRow(method.label, tiles, captions, method.label, method.page))
    group = Group("all", "All", f"frequency 0 in the middle; means over {what}", (0, 1))
    return Sheet("spectra", "spectrum", heads, (group,), tuple(rows))


def _grey(values: NDArray[np.float64], low: float, high: float) -> Images:
    """Return a spectrum as a grey tile of shape (1, H, W) with frequency 0 in the middle."""
    scaled = (np.fft.fftshift(values) - low) / ((high - low) or 1.0)
    tile: Images = np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)[None]
    return tile
