"""``epochs.npz``: reconstructions of a few images after some epochs of a job's training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from recbench.files import write_atomically
from recbench.store import artifacts
from recbench.store.artifacts import EPOCHS, MOST_EPOCHS, MOST_PICTURES, ArtifactError, Files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_MOST_BYTES = 1 << 28


class EpochPictures(NamedTuple):
    """Images and their reconstructions.

    Attributes:
        target: the images, uint8 (N, C, H, W).
        decoded: their reconstructions after each of the epochs, uint8 (epochs, N, C, H, W).
        epochs: from 1, ascending.
    """

    target: NDArray[np.uint8]
    decoded: NDArray[np.uint8]
    epochs: tuple[int, ...]


def write_epochs(folder: Path, pictures: EpochPictures) -> None:
    """Write the file into the folder of a job."""
    import numpy as np

    arrays: dict[str, NDArray[Any]] = {
        "target": pictures.target,
        "decoded": pictures.decoded,
        "epochs": np.asarray(pictures.epochs, np.int64),
    }
    write_atomically(folder / EPOCHS, artifacts.arrays_content(arrays))


def read_epochs(folder: Path, files: Files | None = None, shape: tuple[int, int, int] | None = None) -> EpochPictures:
    """Return what the file in the folder of a job holds.

    Args:
        folder: of the job.
        files: those that the job's record describes.
        shape: (C, H, W) of the data set's images, if it is known.

    Raises:
        ArtifactError: the file is missing, as of jobs of earlier versions, damaged, not the one that the record
            describes, or holds other things.
    """
    found = artifacts.read_arrays(folder, EPOCHS, files, EpochPictures._fields, _MOST_BYTES)
    if found.keys() != set(EpochPictures._fields):
        raise ArtifactError(f"it has no array {', '.join(sorted(set(EpochPictures._fields) - found.keys()))}")
    target, decoded, epochs = (found[name] for name in EpochPictures._fields)
    fits = target.ndim == 4 and 0 < len(target) <= MOST_PICTURES and min(target.shape) > 0
    if target.dtype != "uint8" or not fits or (shape is not None and target.shape[1:] != shape):
        wanted = "(N, C, H, W)" if shape is None else "(N, {}, {}, {})".format(*shape)
        raise ArtifactError(f"target is {target.dtype} of shape {target.shape}, expected uint8 {wanted}")
    if decoded.dtype != "uint8" or decoded.shape != (epochs.size, *target.shape) or epochs.ndim != 1:
        raise ArtifactError("it does not have as many reconstructions as images and epochs")
    numbers = [int(epoch) for epoch in epochs] if epochs.dtype.kind in "iu" else []
    rising = all(a < b for a, b in zip([0, *numbers], numbers, strict=False))
    if not numbers or not rising or numbers[-1] > MOST_EPOCHS:
        raise ArtifactError("its epochs are not ascending numbers from 1")
    return EpochPictures(target, decoded, tuple(numbers))
