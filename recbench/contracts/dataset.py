"""The contract of data sets: decoded images in three fixed splits. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from recbench.contracts.entries import ImageShape

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Split = Literal["train", "validation", "test"]
Duplicates = Literal["error", "drop", "keep"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Dataset(ABC):
    """A data set: base class of those that plugins offer.

    Images are decoded once; the core keeps them in a memory-mapped uint8 cache. The constructor takes the entry's
    parameters by keyword and must be cheap: it runs whenever a suite is validated. All methods must be deterministic.

    Attributes:
        duplicates: treatment of images that are in two splits with equal pixels: ``"error"`` (refused, with their
            number and names), ``"drop"`` (the copy in the training or validation split is left out; test images always
            stay) or ``"keep"`` (for a data set that was published with duplicates).
    """

    duplicates: Duplicates = "error"

    @property
    @abstractmethod
    def shape(self) -> ImageShape:
        """The shape of every image, known without decoding any."""

    @abstractmethod
    def source(self) -> str:
        """Return a text that changes whenever the raw data change, which decides whether a cache may be reused.

        Versions, or names, sizes and modification times of the files, are suitable. Must not decode images. Nothing in
        it may depend on where the files are (``DatasetEntry.locations``), but other files in another place must give
        another text.

        Raises:
            UserError: the raw data are missing or damaged; the text says how to obtain them.
        """

    @abstractmethod
    def images(self, split: Split) -> Iterator[NDArray[np.uint8]]:
        """Decode the images of one split, one at a time.

        Args:
            split: ``"train"``, ``"validation"`` or ``"test"``.

        Yields:
            uint8 arrays (height, width, channels) with values from 0 to 255, always in the same order. A data set
            without a validation split yields nothing for it.

        Raises:
            UserError: images cannot be decoded; the text names all of them.
        """

    def image_count(self, split: Split) -> int | None:
        """Return the number of images of a split if it is known without decoding them, for progress bars; else None."""
        return None

    def left_out(self) -> list[str]:
        """Return a line for each image that ``images`` already leaves out as a duplicate, with the reason."""
        return []

    def image_label(self, split: Split, index: int) -> str:
        """Return the name of an image in messages.

        Args:
            split: its split.
            index: its position in ``images(split)``, from 0.
        """
        return f"{split} image {index}"
