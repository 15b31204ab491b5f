"""Images from stored models: reconstructions of test images that the jobs did not store, and latent interpolations.

The only module of the report that imports torch, and only when there is a model to load.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.contracts.entries import ImageShape
from recbench.errors import RecbenchError
from recbench.plugin.registry import Registry
from recbench.report.content import BoardView, JobView, StatusCallback
from recbench.report.sheets import Images
from recbench.store.artifacts import has_model
from recbench.store.store import Store

if TYPE_CHECKING:
    import torch

STEPS = 9
"""The number of images in an interpolation, including both ends."""


@dataclass
class DecodedImages:
    """Images decoded by stored models, by index of the method.

    Attributes:
        images: uint8, shape (chosen, C, H, W).
        interpolations: uint8, shape (pairs × STEPS, C, H, W).
        problems: why a model could not be used.
    """

    images: dict[int, Images] = field(default_factory=dict)
    interpolations: dict[int, Images] = field(default_factory=dict)
    problems: dict[int, str] = field(default_factory=dict)


def test_images(dataset: str, cache: Path, fingerprint: str) -> Images | None:
    """Return all test images of a dataset, memory-mapped; None if the cache does not hold those that the jobs used."""
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
    tell: StatusCallback,
) -> DecodedImages:
    """Reconstruct test images and decode latent interpolations with the stored model of every method.

    Args:
        view: the board.
        store: the store with the models.
        registry: the architectures.
        chosen: test images to reconstruct, uint8 of shape (N, C, H, W).
        ends: test images to interpolate between.
        pairs: indices into ``ends`` of the first and last image of each interpolation.
        tell: called with a line of text for each model.
    """
    found = DecodedImages()
    for method in view.methods:
        job = method.shown
        if job is None or job.record is None:
            continue
        if not has_model(job.folder):
            found.problems[method.index] = "its model is not there; boards that are shipped have none"
            continue
        tell(f"loading the model of {method.label}")
        try:
            found.images[method.index], found.interpolations[method.index] = _decode_one(
                job, store, registry, chosen, ends, pairs
            )
        except RecbenchError as error:
            found.problems[method.index] = str(error)
        except Exception as error:  # noqa: BLE001 - a plugin's architecture may raise anything; it only costs one row
            found.problems[method.index] = f"{type(error).__name__}: {error}"
    return found


def _decode_one(
    job: JobView, store: Store, registry: Registry, chosen: Images, ends: Images, pairs: Sequence[tuple[int, int]]
) -> tuple[Images, Images]:
    import torch

    from recbench.contracts.architecture import Decoded
    from recbench.job.device import autocast, choose_device
    from recbench.job.images import to_range
    from recbench.job.stored_model import load_architecture, training_of

    record = job.record
    assert record is not None
    code = registry.get("architectures", record.job.architecture.name).code
    if code != record.job.architecture.code:
        raise RecbenchError(f"the code of the architecture {record.job.architecture.name} has changed since it ran")
    device, precision = choose_device("auto"), training_of(record).precision
    architecture, image_range = load_architecture(store, record, registry, ImageShape(*ends.shape[1:]), device)

    def encoded(images: Images) -> torch.Tensor:
        with autocast(device, precision):
            posterior = architecture.encode(to_range(torch.from_numpy(images).to(device), image_range))
        return posterior.float().mean

    def decoded(z: torch.Tensor) -> Images:
        with autocast(device, precision):
            images = Decoded.of(architecture.decode(z)).images
        low, high = image_range
        unit = (images - low) / (high - low)
        pixels: Images = unit.clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
        return pixels

    with torch.no_grad():
        again = decoded(encoded(chosen)) if len(chosen) else chosen
        means = encoded(ends)
        weights = torch.linspace(0, 1, STEPS, device=device).reshape(-1, *[1] * (means.ndim - 1))
        lines = [torch.lerp(means[first], means[last], weights) for first, last in pairs]
        return again, decoded(torch.cat(lines))


def summary(problems: Mapping[int, str], labels: Mapping[int, str]) -> list[str]:
    """Return one line per reason, with the methods that it applies to."""
    by_reason: dict[str, list[str]] = {}
    for index, reason in problems.items():
        by_reason.setdefault(reason, []).append(labels[index])
    return [f"{', '.join(methods)}: {reason}" for reason, methods in by_reason.items()]
