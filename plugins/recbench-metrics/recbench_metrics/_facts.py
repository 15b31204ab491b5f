"""Facts that the entries of several metrics share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recbench import Convention, MetricEntry, Parameter, Requirements

COLOUR_OR_GREY = Requirements(channels=(1, 3))
PRECISION = Parameter(
    "precision",
    str,
    "float32",
    "of the network; bf16 is faster where the processor has it, but features are off by about 1%, as a warning says",
    choices=("float32", "bf16"),
)
IMAGES = Parameter(
    "images",
    int,
    0,
    "number of images of the data and of the evaluated ones, the first of each; 0: all. Values of different numbers "
    "are not comparable",
    minimum=0,
)
RANK = (
    "With no more images than features the covariance is rank deficient and the value biased upward, as a warning "
    "says; it is biased, though less, with any number, so compare values of equal numbers of images only."
)
FEATURES = (
    "Grey images are repeated to three channels. What is computed from the data is kept in the cache: once for each "
    "data set, network and precision."
)


INCEPTION_SIZE = Convention(reference="test", resize="bilinearly, not antialiased, to 299x299", limit="images")
EFFICIENTNET_SIZE = Convention(
    reference="test", resize="bilinearly, antialiased where they shrink, to 224x224", limit="images"
)


def of_sets(name: str, factory: str, summary: str, **facts: Any) -> Iterator[MetricEntry]:
    """Yield a set metric of reconstructions and the same of samples; ``summary`` has a place for the word."""
    for suffix, judged in (("recon", "reconstructions"), ("gen", "samples")):
        yield MetricEntry(
            name=f"{name}_{suffix}",
            factory=factory,
            summary=summary.format(judged),
            samples=judged == "samples",
            **facts,
        )
