"""Improved precision and recall (Kynkäänniemi et al., NeurIPS 2019, equations 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from recbench_metrics.distances import squared_distances

_ROWS = 512
"""Rows of a matrix of distances that are there at once: 0.2 GiB of them for 50,000 images."""
_ROUNDING = 1e-12
"""Share of the largest squared norm by which rounding moves squared distances in float64, generously."""


def precision_and_recall(real: Tensor, judged: Tensor, neighbours: int) -> tuple[float, float]:
    """Return the share of judged features that lie in the manifold of the real ones, and the reverse.

    The manifold of a set is the union of balls around its members, each up to the member's k-th nearest neighbour in
    the set, which is not counted as its own neighbour.

    Args:
        real: features (M, D), M above ``neighbours``.
        judged: features (N, D), N above ``neighbours``.
        neighbours: k.

    Returns:
        Precision and recall, both in 0 to 1.

    >>> line = torch.arange(4.0)[:, None]
    >>> precision_and_recall(line, torch.cat([line[:2], line[:2] + 10]), 1)  # half of it far off, and 3 not reached
    (0.5, 0.75)
    """
    real, judged = real.double(), judged.double()
    centre = real.mean(0)
    real, judged = real - centre, judged - centre  # smaller numbers, of which less is lost in differences
    norms = torch.cat([real, judged]).square().sum(1)
    slack = _ROUNDING * float(norms.max())
    precision = _share_inside(judged, real, _radii(real, neighbours) + slack)
    recall = _share_inside(real, judged, _radii(judged, neighbours) + slack)
    return precision, recall


def _radii(points: Tensor, neighbours: int) -> Tensor:
    """Return the squared distance of each point (N, D) to its k-th nearest neighbour among the others, (N,)."""
    found = []
    for start, rows in _batches(points):
        distances = squared_distances(rows, points)
        distances.diagonal(start).fill_(torch.inf)
        found.append(distances.topk(neighbours, dim=1, largest=False).values[:, -1])
    return torch.cat(found)


def _share_inside(points: Tensor, centres: Tensor, squared_radii: Tensor) -> float:
    """Return the share of points (M, D) that lie in at least one ball around the centres (N, D)."""
    inside = [(squared_distances(rows, centres) <= squared_radii).any(1) for _, rows in _batches(points)]
    return float(torch.cat(inside).double().mean())


def _batches(points: Tensor) -> Iterator[tuple[int, Tensor]]:
    return ((start, points[start : start + _ROWS]) for start in range(0, len(points), _ROWS))
