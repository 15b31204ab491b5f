"""Images worth looking at, chosen by their pixels alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

SHOWN = 8
"""The number of interesting images that reports and pictures of a run show."""
CANDIDATES = 2000
"""The most images that :func:`interesting` looks at, evenly spaced."""
_EDGE = 12
"""Grey levels between neighbouring blocks of 2 × 2 pixels from which there is an edge."""


def interesting(images: NDArray[np.uint8], count: int) -> list[int]:
    """Return indices of images with texture and edges rather than flat areas, from their pixels alone.

    Images are ranked by the strength of their edges, by the share of their area that has any, and by their contrast, in
    greys averaged over 2 × 2 pixels, so that noise of single pixels counts for little. Of images that are nearly
    alike, such as crops of one wall, the first is taken.

    Args:
        images: uint8, shape (N, C, H, W).
        count: the most indices to return.

    Returns:
        Indices, the most interesting first.
    """
    looked = np.unique(np.linspace(0, len(images) - 1, min(len(images), CANDIDATES)).round().astype(int))
    if not len(looked) or min(images.shape[2:]) < 4:
        return [int(index) for index in looked[:count]]
    grey = np.stack([images[index].mean(axis=0) for index in looked])
    height, width = (side // 2 for side in grey.shape[1:])
    coarse = grey[:, : 2 * height, : 2 * width].reshape(-1, height, 2, width, 2).mean(axis=(2, 4))
    slope = np.hypot(np.diff(coarse, axis=1)[:, :, 1:], np.diff(coarse, axis=2)[:, 1:])
    measures = (np.sqrt(slope).mean(axis=(1, 2)), (slope > _EDGE).mean(axis=(1, 2)), coarse.std(axis=(1, 2)))
    order = np.argsort(-np.sum([rankdata(values) for values in measures], axis=0), kind="stable")
    pool = order[: 6 * count]
    apart = np.abs(coarse[pool][:, None] - coarse[pool][None]).mean(axis=(2, 3))
    near = float(apart.mean()) / 2
    taken: list[int] = []
    for place in range(len(pool)):
        if len(taken) < count and all(apart[place, other] >= near for other in taken):
            taken.append(place)
    taken += [place for place in range(len(pool)) if place not in taken][: count - len(taken)]
    return [int(looked[pool[place]]) for place in taken]
