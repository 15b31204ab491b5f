"""Looking at a model after each epoch: scores on a few validation images, and some reconstructions.

Nothing is learned from it, and nothing is drawn: the model is the same with and without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from recbench.job.images import to_8_bits, to_range
from recbench.store.epochs import EpochPictures, write_epochs

MEASURED_IMAGES = 64
"""The first validation images, whose mean scores go into the history."""
PICTURED_IMAGES = 4
"""As many of them, whose reconstructions are kept."""
PICTURED_EPOCHS = 10
"""The most epochs whose reconstructions are kept."""
_WINDOW = 11
"""The side of SSIM's window; smaller images have no SSIM."""

Reconstruct = Callable[[Tensor], Tensor]
"""Gives the reconstructions of uint8 images, (N, C, H, W) in 0 to 1."""


class EpochWatch:
    """Looks at a model after each epoch.

    Attributes:
        images: uint8 (N, C, H, W), of which the reconstructions are kept; none if there are no images at all.
        pictures: their reconstructions by epoch, uint8 (N, C, H, W) on the CPU.

    Args:
        validation: uint8 (N, C, H, W).
        other: images whose reconstructions are kept where there are no validation images; they are not scored.
        epochs: of the whole training.
        batch_size: the most images that are reconstructed at once.
        pictures: of earlier epochs, when training is resumed; later ones are added.
    """

    def __init__(
        self, validation: Tensor, other: Tensor, epochs: int, batch_size: int, pictures: dict[int, Tensor]
    ) -> None:
        self.scored = bool(len(validation))
        self.looked = validation[:MEASURED_IMAGES] if self.scored else other[:PICTURED_IMAGES]
        self.images = self.looked[:PICTURED_IMAGES]
        self.pictured = pictured_epochs(epochs)
        self.batch_size = batch_size
        self.pictures = pictures

    def look(self, epoch: int, reconstruct: Reconstruct) -> dict[str, float]:
        """Return what the history gets of an epoch, and keep its reconstructions if it is one of those.

        Args:
            epoch: from 1.
            reconstruct: called with batches of images.

        Returns:
            ``validation_psnr`` in dB and ``validation_ssim``, means over images. What is not finite is left out, and
            all of it where a reconstruction is not.
        """
        wanted = self.looked if self.scored else self.images if epoch in self.pictured else self.images[:0]
        if not len(wanted):
            return {}
        decoded = torch.cat([reconstruct(images) for images in torch.split(wanted, self.batch_size)])
        if not decoded.isfinite().all():
            return {}
        rounded = to_8_bits(decoded)
        if epoch in self.pictured:
            self.pictures[epoch] = rounded[:PICTURED_IMAGES].cpu()
        return likeness(rounded, wanted.to(rounded.device)) if self.scored else {}

    def write(self, folder: Path) -> None:
        """Write the images and their reconstructions as the job's ``epochs.npz``, if there are any."""
        if self.pictures:
            epochs = sorted(self.pictures)
            decoded = torch.stack([self.pictures[epoch] for epoch in epochs]).numpy()
            write_epochs(folder, EpochPictures(self.images.cpu().numpy(), decoded, tuple(epochs)))


def likeness(decoded: Tensor, target: Tensor) -> dict[str, float]:
    """Return means over images of PSNR and SSIM (Wang et al. 2004), of uint8 images (N, C, H, W), where finite."""
    from pytorch_msssim import ssim

    first, second = (to_range(images, (0.0, 1.0)) for images in (decoded, target))
    psnr = -10 * (first - second).double().square().mean((1, 2, 3)).log10()
    values = {"validation_psnr": float(psnr.mean())}
    if min(target.shape[2:]) >= _WINDOW:
        values["validation_ssim"] = float(ssim(first, second, data_range=1.0, size_average=True))
    return {name: value for name, value in values.items() if math.isfinite(value)}


def pictured_epochs(epochs: int) -> tuple[int, ...]:
    """Return the epochs whose reconstructions are kept: the first, the last, and some between, evenly on a logarithmic
    scale.

    >>> pictured_epochs(8)
    (1, 2, 3, 4, 5, 6, 7, 8)
    >>> pictured_epochs(200)
    (1, 2, 3, 6, 11, 19, 34, 62, 111, 200)
    """
    if epochs <= PICTURED_EPOCHS:
        return tuple(range(1, epochs + 1))
    return tuple(sorted({round(float(epoch)) for epoch in np.geomspace(1, epochs, PICTURED_EPOCHS)}))
