"""What a data set is to recbench: decoded images in three fixed splits. Imports no torch."""

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
    """Decodes images once; the core keeps them in a memory-mapped uint8 cache and never asks again.

    The constructor takes the entry's parameters by keyword and must be cheap: it runs while suites are validated.
    All methods must give the same answer each time they are called.

    Attributes:
        duplicates: what becomes of images that are in two splits, pixel by pixel: ``"error"`` (they are counted and
            named), ``"drop"`` (the copy in the training or validation split is left out; test images always stay), or
            ``"keep"``, for a data set that is published like that and is to be used as it is.
    """

    duplicates: Duplicates = "error"

    @property
    @abstractmethod
    def shape(self) -> ImageShape:
        """Shape of every image, known before any of them is decoded."""

    @abstractmethod
    def source(self) -> str:
        """A text that changes whenever the raw data change (versions, or names, sizes and times of the files).

        Decides whether a cache may be used again. Cheap: must not decode anything.

        Raises:
            UserError: the raw data are not there, or are not what they should be.
        """

    @abstractmethod
    def images(self, split: Split) -> Iterator[NDArray[np.uint8]]:
        """Decode the images of one split, one after the other: uint8 arrays (height, width, channels), 0 to 255.

        A dataset without a validation split yields nothing for it.

        Raises:
            UserError: an image cannot be decoded; the text names all that cannot.
        """

    def image_count(self, split: Split) -> int | None:
        """How many images the split has, where that is known without decoding them; for progress bars."""
        return None

    def left_out(self) -> list[str]:
        """What ``duplicates = "drop"`` has kept out of ``images`` already, and why: a line for each image."""
        return []

    def image_label(self, split: Split, index: int) -> str:
        """What to call the image that ``images(split)`` gives as number ``index``, from 0, in messages about it."""
        return f"{split} image {index}"
