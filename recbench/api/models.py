"""Trained networks from a store."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from recbench.contracts.architecture import Architecture, Decoded, Posterior
from recbench.contracts.entries import ImageShape, Range
from recbench.errors import UserError
from recbench.job.images import convert
from recbench.job.stored_model import load_architecture
from recbench.plugin.registry import Registry
from recbench.store.artifacts import MODEL
from recbench.store.store import Store

_UNIT = (0.0, 1.0)


def trained_model(store: Store, job_id: str, registry: Registry, shape: ImageShape, device: str) -> TrainedModel:
    """Return the network of a finished job, in evaluation mode.

    Raises:
        UserError: there is no such device, or the record cannot be used.
        RecbenchError: the model is missing or damaged, or its architecture is not installed.
    """
    try:
        where = torch.device(device)
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError, TypeError) as error:
        first = str(error).partition("\n")[0]
        raise UserError(f"device {device!r} cannot be used: {first}") from None
    try:
        record = store.read(job_id)
    except ValueError as error:
        raise UserError(f"job {job_id}: its record cannot be used: {error}") from None
    if record is None:
        raise UserError(f"job {job_id} has no record any more")
    if record.status == "done" and not (store.folder(job_id) / MODEL).exists():
        raise UserError(
            f"the model of job {job_id} is not in {store.root}: reference boards and exports come without models "
            "(recbench run trains them)"
        )
    return TrainedModel(*load_architecture(store, record, registry, shape, where), shape)


class TrainedModel(nn.Module):
    """A trained autoencoder of images in 0 to 1, in evaluation mode.

    Attributes:
        architecture: the network itself, whose images are in ``value_range``.
        value_range: lowest and highest value of its images.
        shape: of its images.
    """

    def __init__(self, architecture: Architecture, value_range: Range, shape: ImageShape) -> None:
        super().__init__()
        self.architecture = architecture
        self.value_range = value_range
        self.shape = shape
        self.eval()

    @property
    def latent_size(self) -> int:
        """The number of elements of z."""
        return self.architecture.latent_size

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """The shape of z for one image."""
        return self.architecture.latent_shape

    def forward(self, images: Tensor) -> Tensor:
        """Return the reconstructions of images from the mean of their posterior, as test images are scored.

        Args:
            images: (B, C, H, W), floats in 0 to 1 or uint8.

        Returns:
            Floats (B, C, H, W), about in 0 to 1.
        """
        return self.decode(self.encode(images).mean)

    def encode(self, images: Tensor) -> Posterior:
        """Return the posterior of images: ``mean``, ``sample()`` and ``kl()`` in nats; ``images`` as for
        :meth:`forward`.

        Raises:
            UserError: the images have another shape than those that the network was trained on.
        """
        wanted = (self.shape.channels, self.shape.height, self.shape.width)
        if not isinstance(images, Tensor) or tuple(images.shape[1:]) != wanted:
            came = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
            raise UserError(f"images must be a tensor (B, {', '.join(map(str, wanted))}), got {came}")
        unit = images.float() / 255 if images.dtype == torch.uint8 else images.float()
        return self.architecture.encode(convert(unit, _UNIT, self.value_range)).float()

    def decode(self, z: Tensor) -> Tensor:
        """Return the images, (B, C, H, W), about in 0 to 1, of latents z, (B, *latent_shape)."""
        return convert(Decoded.of(self.architecture.decode(z)).images, self.value_range, _UNIT)

    @torch.no_grad()
    def sample(self, count: int) -> Tensor:
        """Return images decoded from the prior, floats (count, C, H, W); drawn from torch's global random state.

        Raises:
            UserError: the architecture has no prior.
        """
        if not self.architecture.has_prior:
            raise UserError(f"{type(self.architecture).__name__} has no prior to draw samples from")
        device = next(self.architecture.parameters()).device
        return self.decode(self.architecture.sample(count, torch.default_generator).to(device))
