"""Losses that compare images by their frequencies."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recbench import ImageShape, LossEntry, Parameter, hookimpl


def _patches_fit(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    factor = params["patch_factor"]
    if shape.height % factor or shape.width % factor:
        yield f"needs sides that patch_factor divides, not {shape.height}x{shape.width} in {factor}x{factor} patches"


@hookimpl
def recbench_losses() -> Iterator[LossEntry]:
    yield LossEntry(
        name="ffl",
        factory="recbench_losses_frequency.ffl:FocalFrequency",
        summary="focal frequency loss: squared differences of spectra, weighted by how large they are",
        parameters=(
            Parameter("alpha", float, 1.0, "exponent of the weights; 0 weighs all frequencies alike", minimum=0),
            Parameter("patch_factor", int, 1, "spectra of this many patches across and down", minimum=1),
            Parameter("ave_spectrum", bool, False, "whether to compare the mean spectra of the batch"),
            Parameter("log_matrix", bool, False, "whether to take the logarithm, log(1 + w), of the weights"),
            Parameter("batch_matrix", bool, False, "whether to divide the weights by their maximum over the batch"),
        ),
        check=_patches_fit,
        family="frequency",
        citation=(
            "Jiang et al., Focal Frequency Loss for Image Reconstruction and Synthesis, ICCV 2021, equations 6-9; "
            "parameters as in the authors' package focal-frequency-loss"
        ),
        notes=(
            "The weights depend on the decoded image, and no gradient flows through them, as the authors have it: the "
            "gradient is not the slope of the value, but for alpha 0. A value is a mean over frequencies and channels, "
            "10,000 times smaller than a sum over pixels, so the KL weight must be smaller by as much; it also takes "
            "the place of the authors' loss_weight. With batch_matrix or ave_spectrum, and only then, an image's value "
            "depends on its batch; with ave_spectrum all images of a batch have the same."
        ),
    )
