"""The conformance test of data sets."""

from __future__ import annotations

import itertools
import unittest
from dataclasses import dataclass

import numpy as np

from recbench.contracts.dataset import SPLITS, Dataset
from recbench.contracts.entries import DatasetEntry, ImageShape
from recbench.errors import UserError
from recbench.testing.case import EntryCase

_LOOKED_AT = 16


@dataclass(frozen=True)
class DatasetCase(EntryCase):
    """One check of one data set, with given parameters."""

    entry: DatasetEntry

    def create(self) -> Dataset:
        """Return the data set as the core creates it.

        Raises:
            AssertionError: the factory returns something other than a data set.
            unittest.SkipTest: its raw data are not there.
        """
        try:
            made = self.make()
            assert isinstance(made, Dataset), f"expected a Dataset, got {type(made).__name__}"
            made.source()
        except UserError as error:
            raise unittest.SkipTest(f"{self.entry.name}: {error}") from error
        return made


def it_says_what_it_is(case: DatasetCase) -> None:
    """The shape, the source and the treatment of duplicates are known without decoding, and stay the same."""
    dataset = case.create()
    assert isinstance(dataset.shape, ImageShape), f"expected shape to be an ImageShape, got {dataset.shape!r}"
    source = dataset.source()
    assert isinstance(source, str) and source, f"expected source() to return text, got {source!r}"
    assert case.create().source() == source, "source() gives another text the second time"
    assert dataset.duplicates in ("error", "drop", "keep"), f"duplicates is {dataset.duplicates!r}"
    lines = dataset.left_out()
    assert isinstance(lines, list) and all(isinstance(line, str) for line in lines), "left_out() must return lines"


def images_have_the_shape(case: DatasetCase) -> None:
    """Images are uint8 (H, W, C) of the declared shape; there are some to train on and some to test on."""
    dataset = case.create()
    wanted = dataset.shape.height, dataset.shape.width, dataset.shape.channels
    for split in SPLITS:
        found = list(itertools.islice(dataset.images(split), _LOOKED_AT))
        assert found or split == "validation", f"the {split} split has no images"
        for index, image in enumerate(found):
            assert isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.shape == wanted, (
                f"expected uint8 {wanted}, but {dataset.image_label(split, index)} is "
                f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
            )


def images_come_in_the_same_order(case: DatasetCase) -> None:
    """A second pass over a split, by another instance, gives the same images; random state is left alone."""
    before = np.random.get_state()  # noqa: NPY002 - the global state that it might change
    first, second = case.create(), case.create()
    for split in SPLITS:
        pairs = zip(*(itertools.islice(each.images(split), _LOOKED_AT) for each in (first, second)), strict=True)
        for index, (one, other) in enumerate(pairs):
            assert np.array_equal(one, other), f"{first.image_label(split, index)} differs in a second pass"
    after = np.random.get_state()  # noqa: NPY002
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True)), (
        "the data set draws from, or seeds, NumPy's global generator; use numpy.random.default_rng(seed)"
    )


def counts_are_true(case: DatasetCase) -> None:
    """``image_count``, where it is known beforehand, is the number of images that a split yields."""
    dataset = case.create()
    for split in SPLITS:
        count = dataset.image_count(split)
        if count is not None:
            found = sum(1 for _ in dataset.images(split))
            assert found == count, f"image_count says {count} for {split}, and images yields {found}"


DATASET_CHECKS = (it_says_what_it_is, images_have_the_shape, images_come_in_the_same_order, counts_are_true)
