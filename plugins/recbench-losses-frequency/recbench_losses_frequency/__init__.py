"""Losses that compare images by their frequencies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from recbench import ImageShape, LossEntry, Parameter, Requirements, Tunable, Weights, hookimpl
from recbench.contracts.entries import ShapeCheck
from recbench_losses_frequency.watson.pretrained import BLOCK_SIZE, Transform, file, files


def _patches_fit(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    factor = params["patch_factor"]
    if params["alpha"] == math.inf:
        yield "needs a finite alpha"
    if shape.height % factor or shape.width % factor:
        yield f"needs sides that patch_factor divides, not {shape.height}x{shape.width} in {factor}x{factor} patches"


def _blocks_fit(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    size = params["block_size"]
    if shape.height % size or shape.width % size:
        yield f"needs sides that block_size divides, not {shape.height}x{shape.width} in blocks of {size}x{size}"
    if params["weights"] == "pretrained" and size != BLOCK_SIZE:
        yield f"has pretrained weights for a block_size of {BLOCK_SIZE} only, not {size}; choose weights: initial"


def _spectra_fit(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    yield from _blocks_fit(shape, params)
    if params["block_size"] % 2:
        yield f"needs an even block_size, whose highest frequency has no phase, not {params['block_size']}"


def _learned(transform: Transform, shape: ImageShape, params: Mapping[str, Any]) -> tuple[Weights, ...]:
    return (file(transform, shape.channels),) if params["weights"] == "pretrained" else ()


def _levels_fit(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    factor = 2 ** params["levels"]
    if shape.height % factor or shape.width % factor:
        yield f"needs sides that {factor} = 2^levels divides, not {shape.height}x{shape.width}"


_WATSON_NOTES = (
    "Colour images are judged in YCbCr with learned weights of the channels, grey ones as they are; the pretrained "
    "parameters of the two differ. Parameters are never trained here. Luminance masking divides by a mean over the "
    "batch's targets, so the value of an image depends on its batch, a little. With shift, which is also made in "
    "validation and in 'recbench score', as in the authors' code, values are random; 'shift: false' makes them a "
    "function of the images. Sides must be multiples of block_size: the authors' code refuses others as well. "
    "Constants for stability, the authors', make the value at identity slightly more than 0."
)


def _watson(transform: Transform, factory: str, summary: str, check: ShapeCheck, notes: str) -> LossEntry:
    return LossEntry(
        name=f"watson_{transform}",
        factory=f"recbench_losses_frequency.watson.losses:{factory}",
        summary=summary,
        parameters=(
            Parameter(
                "weights",
                str,
                "pretrained",
                "parameters as learned by the authors on the 2AFC data set, or as they initialize them",
                choices=("pretrained", "initial"),
            ),
            Parameter("shift", bool, True, "whether to move each batch, both images alike, by a random -4 to 3 pixels"),
            Parameter("block_size", int, BLOCK_SIZE, "side of the blocks in pixels; divides the image's", minimum=2),
        ),
        requirements=Requirements(channels=(1, 3)),
        check=check,
        weights=files(transform),
        needed=partial(_learned, transform),
        family="watson",
        couples_batch=True,
        citation=(
            "Czolbe et al., A Loss Function for Generative Neural Networks Based on Watson's Perceptual Model, "
            "NeurIPS 2020; as in the authors' code"
        ),
        notes=f"{_WATSON_NOTES} {notes}",
    )


@hookimpl
def recbench_losses() -> Iterator[LossEntry]:
    yield LossEntry(
        name="ffl",
        factory="recbench_losses_frequency.losses:FocalFrequency",
        summary="focal frequency loss: squared differences of spectra, weighted by how large they are",
        parameters=(
            Parameter(
                "alpha",
                float,
                1.0,
                "exponent of the weights; 0 weighs all frequencies alike",
                minimum=0,
                tunable=Tunable(0.25, 2.0),
            ),
            Parameter("patch_factor", int, 1, "spectra of this many patches across and down", minimum=1),
            Parameter("ave_spectrum", bool, False, "whether to compare the mean spectra of the batch"),
            Parameter("log_matrix", bool, False, "whether to take the logarithm, log(1 + w), of the weights"),
            Parameter("batch_matrix", bool, False, "whether to divide the weights by their maximum over the batch"),
        ),
        check=_patches_fit,
        family="frequency",
        couples_batch=lambda params: params["ave_spectrum"] or params["batch_matrix"],
        stops_gradient=True,
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
    yield _watson(
        "dft",
        "WatsonDFT",
        "Watson's perceptual model on Fourier coefficients of blocks: amplitudes and phases",
        _spectra_fit,
        "Values are around 1,000 for a 64x64 image, and grow faster than its area. In float32, values of photographs "
        "agree with float64 to 1e-4 and gradients to 4e-3 (the authors' code: 3e-4 and 9e-2), flat blocks, ramps and "
        "stripes of the target included, whose phases are else those of rounding errors. Where coefficients of a "
        "decoded block are almost zero and those of the target are not, as in exactly flat or blurred synthetic "
        "blocks, phases turn so fast that gradients reach 1e7, and hang on the last digit of a pixel, as they do in "
        "the authors' code. With weights: initial, grey images in RGB have no Cb and Cr; the authors' code has 1e-8 of "
        "them unless its constants are made in float64.",
    )
    yield _watson(
        "dct",
        "WatsonDCT",
        "Watson's perceptual model on cosine coefficients of blocks",
        _blocks_fit,
        "Values are around 1. Block sizes other than 8 start with uniform thresholds.",
    )
    yield LossEntry(
        name="wavelet",
        factory="recbench_losses_frequency.wavelet:Wavelet",
        summary="weighted absolute differences of Haar wavelet coefficients",
        parameters=(
            Parameter(
                "levels",
                int,
                3,
                "how often the approximation is halved; 2^levels divides the sides",
                minimum=1,
                maximum=10,
            ),
            Parameter(
                "approximation",
                float,
                1.0,
                "weight of the coarsest approximation",
                above=0,
                tunable=Tunable(0.1, 10.0, log=True),
            ),
            Parameter(
                "details",
                list[float],
                [1.0],
                "weights of the details, from the finest level; the last one is that of all coarser levels",
                above=0,
            ),
        ),
        check=_levels_fit,
        family="frequency",
        citation=(
            "weighted coefficients: Huang et al., Wavelet-SRNet: A Wavelet-based CNN for Multi-scale Face Super "
            "Resolution, ICCV 2017, there squared; transform: Mallat, A theory for multiresolution signal "
            "decomposition, PAMI 1989"
        ),
        notes=(
            "The transform is orthonormal, so that the sum of squared coefficients would be that of the pixels; the "
            "sum of absolute ones is small where differences are smooth or local. A sum over coefficients and "
            "channels, of the order of l1, and with about its KL weight."
        ),
    )
