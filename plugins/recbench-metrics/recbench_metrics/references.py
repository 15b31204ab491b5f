"""The images that a distance compares with, where that is a choice: the test images, or those of training."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from recbench.contracts.metric import Reference
from recbench.errors import UserError
from recbench_metrics.features import FID, FDEfficientNet

ReferenceChoice = Literal["test", "train"]


def of_training(reference: Reference) -> Reference:
    """Return the training images as a reference.

    Raises:
        UserError: there are none, as for images that were given.
    """
    if reference.train is None:
        raise UserError("compares with the training images, and there are none: only the targets are known here")
    return replace(reference, images=reference.train, fingerprint=f"{reference.fingerprint} train")


def chosen_reference(reference: Reference, choice: ReferenceChoice) -> Reference:
    """Return the images that a metric compares with; errors as of :func:`of_training`."""
    return of_training(reference) if choice == "train" else reference


class FIDToTraining(FID):
    """Fréchet Inception distance to the training images."""

    def prepare(self, reference: Reference) -> None:
        super().prepare(of_training(reference))


class FDEfficientNetToTraining(FDEfficientNet):
    """The same distance of EfficientNet-Lite0's features."""

    def prepare(self, reference: Reference) -> None:
        super().prepare(of_training(reference))
