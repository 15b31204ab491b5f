"""What needs stored models: test images that the jobs did not keep, decoded again, and latent interpolations.

The one place of the report that imports torch, and only when there is a model to load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from recbench.contracts.entries import ImageShape
from recbench.errors import RecbenchError
from recbench.plugin.registry import Registry
from recbench.report.content import BoardView, JobView, Progress
from recbench.store.store import Store

if TYPE_CHECKING:
    import torch

Images = NDArray[np.uint8]

STEPS = 9
"""Points of an interpolation, with both ends."""


@dataclass
class Decoded:
    """What stored models gave.

    Attributes:
        images: by method, uint8 (chosen, C, H, W).
        interpolations: by method, uint8 (pairs × STEPS, C, H, W).
        problems: by method, why its model could not be used.
    """

    images: dict[int, Images] = field(default_factory=dict)
    interpolations: dict[int, Images] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)


def test_images(dataset: str, cache: Path, fingerprint: str) -> Images | None:
    """All test images of a data set, memory-mapped; None where they are not in the cache as jobs saw them."""
    from recbench.data.cache import find_all

    found = (prepared for prepared in find_all(dataset, cache) if prepared.fingerprint == fingerprint)
    prepared = next(found, None)
    return None if prepared is None else prepared.load("test")


def decode(
    view: BoardView,
    store: Store,
    registry: Registry,
    chosen: Images,
    ends: Images,
    pairs: Sequence[tuple[int, int]],
    tell: Progress,
) -> Decoded:
    """Decode test images, and lines between posterior means, with the shown model of every method.

    Args:
        chosen: test images to reconstruct, uint8 (N, C, H, W).
        ends: test images that are the ends of interpolations.
        pairs: which of them.
        tell: told what is going on.
    """
    found = Decoded()
    for method in view.methods:
        job = method.shown
        if job is None or job.record is None:
            continue
        tell(f"loading the model of {method.label}")
        try:
            found.images[method.index], found.interpolations[method.index] = _decode_one(
                job, store, registry, chosen, ends, pairs
            )
        except RecbenchError as error:
            found.problems[method.index] = str(error)
        except Exception as error:  # noqa: BLE001 - an architecture of a plugin may raise anything; one row is missing
            found.problems[method.index] = f"{type(error).__name__}: {error}"
    return found


def _decode_one(
    job: JobView, store: Store, registry: Registry, chosen: Images, ends: Images, pairs: Sequence[tuple[int, int]]
) -> tuple[Images, Images]:
    import torch

    from recbench.job.runner import choose_device
    from recbench.job.stored_model import load_architecture
    from recbench.job.training import autocast, to_range

    record = job.record
    assert record is not None
    code = registry.get("architectures", record.job.architecture.name).code
    if code != record.job.architecture.code:
        raise RecbenchError(f"the code of the architecture {record.job.architecture.name} has changed since it ran")
    device, precision = choose_device("auto"), record.job.training.precision
    architecture, image_range = load_architecture(store, record, registry, ImageShape(*ends.shape[1:]), device)

    def encoded(images: Images) -> torch.Tensor:
        with autocast(device, precision):
            posterior = architecture.encode(to_range(torch.from_numpy(images).to(device), image_range))
        return posterior.float().mean

    def decoded(z: torch.Tensor) -> Images:
        with autocast(device, precision):
            images = architecture.decode(z)
        low, high = image_range
        unit = (images.float() - low) / (high - low)
        pixels: Images = unit.clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
        return pixels

    with torch.no_grad():
        again = decoded(encoded(chosen)) if len(chosen) else chosen
        means = encoded(ends)
        weights = torch.linspace(0, 1, STEPS, device=device)[:, None]
        lines = [torch.lerp(means[first], means[last], weights) for first, last in pairs]
        return again, decoded(torch.cat(lines))


def summary(problems: Mapping[int, str], labels: Mapping[int, str]) -> list[str]:
    """One line for each reason, with the methods that it holds for."""
    by_reason: dict[str, list[str]] = {}
    for index, reason in problems.items():
        by_reason.setdefault(reason, []).append(labels[index])
    return [f"{', '.join(methods)}: {reason}" for reason, methods in by_reason.items()]
