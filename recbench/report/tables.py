"""Everything that a report shows as CSV, with every number at full precision."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator

import numpy as np

from recbench.analysis.kernels import kernel_shapes
from recbench.analysis.rate_distortion import RateDistortion
from recbench.analysis.tables import history_cells
from recbench.render.columns import Excerpt
from recbench.render.leaderboard import to_csv
from recbench.render.spreadsheet import csv_text
from recbench.report import series
from recbench.report.content import BoardView, Content
from recbench.report.series import KERNEL_SHAPES
from recbench.report.sheets import traced_kernels
from recbench.store.costs import COST_COLUMNS

LARGEST = 4_000_000
"""CSV files with more bytes than this are compressed with gzip."""
HISTORY = (
    "step", "objective", "reconstruction", "kl", "penalty", "auxiliary", "validation", "validation_psnr",
    "validation_ssim", "learning_rate", "images_per_second",
)  # fmt: skip


def packed(name: str, content: bytes) -> tuple[str, bytes]:
    """Return the name and content of a file, compressed if it is large; the same content gives the same bytes."""
    return (name, content) if len(content) <= LARGEST else (f"{name}.gz", gzip.compress(content, mtime=0))


def leaderboard(content: Content) -> bytes:
    """Return one line per method of each board."""
    return to_csv(content.leaderboard, Excerpt(cost=True)).encode()


def jobs(content: Content) -> bytes:
    """Return one line per job of the plan."""
    plan = content.plan
    metrics = [column.name for column in plan.columns]
    head = ["job", "setting", "method", "seed", "split", "status", "protocol", "kl_weight", "kl"]
    head += [
        *metrics,
        *(column.field for column in COST_COLUMNS),
        "training_seconds",
        "device",
        "started",
        "finished",
        "failure",
        "message",
    ]

    def rows() -> Iterator[list[object]]:
        for job in content.jobs:
            planned, record = job.planned, job.record
            method = plan.methods[planned.method]
            line: list[object] = [planned.id, plan.settings[planned.setting].label, method.label, planned.seed]
            line += [planned.split, job.status, record and record.protocol, method.kl_weight, series.rate(job)]
            line += [record.scores[name].mean if record and name in record.scores else None for name in metrics]
            line += [column.value(record.cost) if record and record.cost else None for column in COST_COLUMNS]
            line += [record.trained.seconds if record and record.trained else None]
            where = record.provenance if record else None
            line += [where.device, where.started, where.finished] if where else [None, None, None]
            failure = record.failure if record else None
            line += [failure.type, failure.message] if failure else [None, job.why or None]
            yield line

    return csv_text(head, rows()).encode()


def histories(content: Content) -> bytes:
    """Return one line per epoch of each job."""
    histories = {job.planned.id: job.history for job in content.jobs}
    return csv_text(*history_cells(content.plan, histories, [*HISTORY, *series.logged(content.jobs)])).encode()


def per_image(view: BoardView) -> Iterator[tuple[str, str, bytes]]:
    """Yield the name, the file name and a CSV file of each metric with scores per image.

    A file has one line per test image and one column per method, with the mean over its completed seeds.
    """
    names = [column.name for column in view.board.columns]
    for name in [*names, *([] if "kl" in names else ["kl"])]:
        columns, labels = [], []
        for method in view.methods:
            values = [job.per_image[name] for job in method.done if name in job.per_image]
            if values and len(values) == len(method.done) and len({len(each) for each in values}) == 1:
                columns.append(np.mean(values, axis=0))
                labels.append(method.label)
        if columns and len({len(column) for column in columns}) == 1:
            table = np.stack(columns, axis=1)
            lines = ([index, *(f"{value:.7g}" for value in row)] for index, row in enumerate(table.tolist()))
            safe = re.sub(r"[^a-z0-9_]+", "-", name.lower())[:40]
            yield (
                name,
                f"{view.files}-per-image-{names.index(name) + 1 if name in names else 0}-{safe}.csv",
                csv_text(["image", *labels], lines).encode(),
            )


def spectra(view: BoardView) -> bytes:
    """Return the radial profiles of the data and of every method."""
    lines, _ = series.profiles(view)
    frequencies = lines[0].frequencies.tolist()
    names = [line.method.label if line.method else "test images" for line in lines]
    rows = ([f, *(float(line.values[i]) for line in lines)] for i, f in enumerate(frequencies))
    return csv_text(["cycles_per_pixel", *names], rows).encode()


def tuning(view: BoardView) -> bytes:
    """Return one line per trial of each search."""
    names = series.axes(view)

    def rows() -> Iterator[list[object]]:
        for search in view.searches:
            for place, trial in enumerate(search.trials):
                values = [trial.values.get(name) for name in names]
                yield [search.label, place + 1, *values, trial.status, trial.score, int(place == search.chosen)]

    return csv_text(["loss", "candidate", *names, "status", "score", "chosen"], rows()).encode()


def rate_distortion(rate: RateDistortion) -> bytes:
    """Return one line per point of each curve."""
    names = [column.name for column in rate.columns]

    def rows() -> Iterator[list[object]]:
        for curve in rate.curves:
            for point in curve.points:
                scores = [point.scores.get(name) for name in names]
                yield [curve.label, point.label, point.kl_weight, point.seeds, point.rate, *scores]

    return csv_text(["loss", "point", "kl_weight", "seeds", "kl", *names], rows()).encode()


def kernels(view: BoardView) -> bytes:
    """Return one line per row of pixels of each kernel of the shown jobs, after each epoch, with its numbers."""
    found = [(method.label, job.planned.seed, values) for method, job, values in traced_kernels(view)]
    widest = max((values.shape[3] for _, _, values in found), default=0)

    def rows() -> Iterator[list[object]]:
        for label, seed, values in found:
            shapes = kernel_shapes(values)
            for epoch, image, down in np.ndindex(*values.shape[:3]):
                numbers = (f"{getattr(shapes, name)[epoch, image]:.7g}" for name in KERNEL_SHAPES)
                entries = (f"{value:.7g}" for value in values[epoch, image, down].tolist())
                yield [label, seed, epoch + 1, image, *numbers, down, *entries]

    head = ["method", "seed", "epoch", "image", *KERNEL_SHAPES, "row", *(f"column {i}" for i in range(widest))]
    return csv_text(head, rows()).encode()
