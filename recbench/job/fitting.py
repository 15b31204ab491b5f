"""Fitting of an architecture in closed form, in place of training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from recbench.contracts.architecture import Fitted
from recbench.contracts.checked import respected
from recbench.errors import RecbenchError
from recbench.job.images import take, to_range
from recbench.job.parts import Model
from recbench.store import artifacts
from recbench.store.record import Cost, Trained

BATCH = 1024


class NotFitted(RecbenchError):
    """An architecture cannot be fitted to the training images; the text says why."""


def fit(model: Model, images: Tensor, work: Path) -> Trained:
    """Fit the architecture, and write an empty history.

    Args:
        model: with an architecture that is a :class:`~recbench.contracts.architecture.Fitted`.
        images: all training images, uint8 (N, C, H, W).
        work: the folder to write to.

    Returns:
        What the record says of it: no epochs, no steps.

    Raises:
        NotFitted: it cannot be fitted to these images.
    """
    network = model.architecture
    assert isinstance(network, Fitted), "others are trained"
    device = next(network.parameters()).device

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(images), BATCH):
            chosen = torch.arange(start, min(start + BATCH, len(images)))
            yield to_range(take(images, chosen, device), model.image_range)

    start = time.perf_counter()
    with torch.no_grad(), respected(model.architecture_part, "fit"):
        try:
            network.fit(batches)
        except ValueError as error:
            raise NotFitted(f"{model.architecture_part}: {error}") from error
    seconds = time.perf_counter() - start
    artifacts.start_history(work)
    return Trained(
        epochs=0,
        steps=0,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        loss_parameters=sum(parameter.numel() for parameter in model.loss.parameters()),
        seconds=round(seconds, 3),
        images_per_second=round(len(images) / max(seconds, 1e-9), 2),
        final={},
    )


def fitting_cost(trained: Trained, peak: int) -> Cost:
    """Return the cost of fitting, which has no steps."""
    return Cost(
        images_per_second=trained.images_per_second,
        step_milliseconds=0.0,
        peak_memory_bytes=peak,
        parameters=trained.parameters,
    )
