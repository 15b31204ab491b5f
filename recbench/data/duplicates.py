"""Duplicates: images that are in two splits of a dataset, pixel by pixel."""

from __future__ import annotations

import hashlib
import itertools
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from recbench.contracts.dataset import SPLITS, Dataset, Split
from recbench.data.arrays import mapped

_NAMED = 10
"""A message names at most this many duplicates."""


@dataclass(frozen=True)
class DuplicateImage:
    """An image that is also in a split that has precedence over its own: test over validation over train."""

    split: Split
    index: int
    other_split: Split
    other_index: int


def content_hash(raw: bytes) -> int:
    """Return 64 bits of a hash of an image's pixels."""
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest())


def duplicates(hashes: Mapping[Split, array[int]], folder: Path) -> list[DuplicateImage]:
    """Return the images that are also in a split with precedence, in the order of splits and images.

    Args:
        hashes: the :func:`content_hash` of every image. Equal hashes only say where to look; pixels decide.
        folder: holds the images as ``<split>.npy``.
    """
    import numpy as np

    images = {split: mapped(folder, split) for split in SPLITS}
    found: dict[tuple[Split, int], DuplicateImage] = {}
    by_precedence = list(reversed(SPLITS))
    for other, split in itertools.combinations(by_precedence, 2):
        shared = np.intersect1d(np.asarray(hashes[other]), np.asarray(hashes[split]))
        if not len(shared):
            continue
        wanted = set(shared.tolist())
        indices: dict[int, list[int]] = {}
        for index, value in enumerate(hashes[other]):
            if value in wanted:
                indices.setdefault(value, []).append(index)
        for index, value in enumerate(hashes[split]):
            if (split, index) in found:
                continue
            for other_index in indices.get(value, []):
                if np.array_equal(images[split][index], images[other][other_index]):
                    found[split, index] = DuplicateImage(split, index, other, other_index)
                    break
    return [found[key] for key in sorted(found, key=lambda key: (SPLITS.index(key[0]), key[1]))]


def summary(found: Sequence[DuplicateImage], dataset: Dataset, name: str) -> str:
    """Return how many and which images of a dataset are in two splits; empty if there are none.

    Args:
        found: what :func:`duplicates` gave.
        dataset: names its images, and those that it has left out itself.
        name: of the dataset.
    """
    lines = [*dataset.left_out(), *(_described(duplicate, dataset) for duplicate in found)]
    if not lines:
        return ""
    more = [f"… and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
    head = f"{len(lines)} of the images of {name} are in two splits, pixel by pixel:"
    return "\n  ".join([head, *lines[:_NAMED], *more])


def _described(duplicate: DuplicateImage, dataset: Dataset) -> str:
    image = dataset.image_label(duplicate.split, duplicate.index)
    other = dataset.image_label(duplicate.other_split, duplicate.other_index)
    return f"{image} is the same as {other}"
