"""Scores of single test images, as the page plots those of one method against those of another."""

from __future__ import annotations

from typing import Any

from recbench.render.text import head
from recbench.report.content import BoardView
from recbench.report.plotly_traces import rounded
from recbench.report.sheets import Sheet, spread

NUMBERS = 1_500_000
"""The most scores to write; with more, the plot has fewer images, evenly spaced, and those that are shown."""


def per_image(view: BoardView, sheet: Sheet) -> dict[str, Any]:
    """Return the scores of test images by metric and method, as data for JSON.

    Args:
        view: the board. Scores are those of the job whose images are shown.
        sheet: that of reconstructions; its heads are the images that can be opened.

    Returns:
        ``images``, indices of test images; ``count``, how many there are in all; ``metrics``, each with its name, its
        title for an axis, its direction, and ``values``: by slug of each method, a score or None for each image.
    """
    pictured = [int(name.removeprefix("#")) for name in sheet.heads]
    jobs = {method.slug: job for method in view.methods if (job := method.shown) is not None}
    count = max((len(values) for job in jobs.values() for values in job.per_image.values()), default=0)
    most = max(1, NUMBERS // max(1, len(jobs) * len(view.board.columns)))
    images = sorted({*spread(count, most), *(index for index in pictured if index < count)})
    metrics = []
    for column in view.board.columns:
        values = {
            slug: [rounded(float(own[index])) for index in images]
            for slug, job in jobs.items()
            if (own := job.per_image.get(column.name)) is not None and len(own) == count
        }
        if len(values) > 1:
            metrics.append(
                {"name": column.name, "title": head(column), "direction": column.direction, "values": values}
            )
    return {"images": images, "count": count, "metrics": metrics}
