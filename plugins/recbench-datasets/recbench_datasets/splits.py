"""Division of items into training, validation and test splits: reproducible, and each item in one split only."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from recbench.contracts.dataset import Split

SplitItem = TypeVar("SplitItem")

_NUMBER = re.compile(r"([0-9]+)")


def drawn(items: Sequence[SplitItem], validation: float, test: float, seed: int) -> dict[Split, list[SplitItem]]:
    """Divide items at random by ``seed``; ``validation`` and ``test`` are fractions. Each split keeps their order.

    At least one item is for testing, unless ``test`` is 0.
    """
    order = list(range(len(items)))
    random.Random(seed).shuffle(order)  # noqa: S311
    tested, validated = _counts(len(items), validation, test)
    chosen: dict[Split, list[int]] = {
        "train": order[tested + validated :],
        "validation": order[tested : tested + validated],
        "test": order[:tested],
    }
    return {split: [items[index] for index in sorted(indices)] for split, indices in chosen.items()}


def in_order(items: Sequence[SplitItem], validation: float, test: float) -> dict[Split, list[SplitItem]]:
    """Divide items in order: first those for training, then those for validation, then those for testing."""
    tested, validated = _counts(len(items), validation, test)
    trained = len(items) - tested - validated
    return {
        "train": list(items[:trained]),
        "validation": list(items[trained : trained + validated]),
        "test": list(items[trained + validated :]),
    }


def _counts(count: int, validation: float, test: float) -> tuple[int, int]:
    """Return the numbers of items for testing and for validation."""
    return max(1, round(test * count)) if test else 0, round(validation * count)


def by_number(path: Path) -> tuple[str, tuple[str | int, ...], str]:
    """Return a key that sorts ``2.jpg`` before ``10.jpg`` in a folder; numbers count by value."""
    parts = _NUMBER.split(path.name)  # text and numbers in turn
    return str(path.parent), tuple(int(part) if index % 2 else part for index, part in enumerate(parts)), path.name
