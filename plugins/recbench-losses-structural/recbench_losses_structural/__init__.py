"""Losses and metrics that compare local structure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from recbench import ImageShape, LossEntry, MetricEntry, Parameter, Requirements, Tunable, hookimpl

_SSIM = (
    Parameter("sigma", float, 1.5, "standard deviation of the Gaussian window, in pixels", minimum=0.1),
    Parameter("window", int, 11, "side of the window, in pixels; odd", minimum=3),
    Parameter("K1", float, 0.01, "C1 = K1² keeps the luminance of black regions a number", above=0),
    Parameter("K2", float, 0.03, "C2 = K2² keeps the structure of flat regions a number", above=0),
)
_MS_SSIM = (
    *_SSIM,
    Parameter("scales", int, 0, "number of scales; 0: as many as the image has room for, up to all weights", minimum=0),
    Parameter(
        "weights",
        list[float],
        [0.0448, 0.2856, 0.3001, 0.2363, 0.1333],
        "exponents of the scales, from the finest; with fewer scales, the first ones divided by their sum",
        above=0,
    ),
)
_IMPLEMENTATION = Parameter(
    "implementation",
    str,
    "fast",
    "fast: recbench's own; reference: the package pytorch-msssim, equal to rounding and about three times slower",
    choices=("fast", "reference"),
)
_CITATION = "Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, TIP 2004"
_MS_CITATION = "Wang et al., Multiscale structural similarity for image quality assessment, ACSSC 2003"
_SCALES = (
    "Five scales need more than 160 pixels, s scales more than (window - 1) * 2^(s-1). Smaller images use as many "
    "scales as they have room for (32 px: 2, 64 px: 3, 128 px: 4), with the first weights divided by their sum: values "
    "of different image sizes are not comparable. With one scale, up to 20 pixels, it is SSIM with negative channels "
    "set to 0."
)
_KILLED = (
    "Where the structure of a channel is inverted on average at any scale, its product is 0 and so is its gradient."
)


def scale_weights(shape: ImageShape, scales: int, weights: Sequence[float], window: int) -> list[float]:
    """Return the exponents that MS-SSIM uses for images of this shape, one for each scale.

    Args:
        shape: of the images.
        scales: number of scales; 0 for as many as the images have room for.
        weights: exponents from the finest scale.
        window: side of the window in pixels.

    Returns:
        All weights as they are if all are used; otherwise the first ones, divided by their sum.

    >>> scale_weights(ImageShape(3, 32, 32), 0, [0.1, 0.3, 0.6], 11)
    [0.25, 0.7499999999999999]
    """
    count = scales or min(len(weights), room_for_scales(shape, window))
    return list(weights) if count == len(weights) else [weight / sum(weights[:count]) for weight in weights[:count]]


def room_for_scales(shape: ImageShape, window: int) -> int:
    """Return the largest number of scales s of which the last, halved s − 1 times (rounded up), still holds the window.

    That is the largest s with min(height, width) > (window − 1)·2ˢ⁻¹: for five scales, what pytorch-msssim asks for.

    >>> [room_for_scales(ImageShape(3, side, side), 11) for side in (11, 32, 64, 160, 161)]
    [1, 2, 3, 4, 5]
    """
    return (-(-min(shape.height, shape.width) // (window - 1)) - 1).bit_length()


def _window_fits(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    window = params["window"]
    if window % 2 == 0:
        yield f"needs an odd window, to have a centre, not {window}"
    if min(shape.height, shape.width) < window:
        yield f"needs at least {window} pixels a side, those of its window, not {shape.height}x{shape.width}"


def _scales_fit(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    problems = list(_window_fits(shape, params))
    yield from problems
    scales, weights, window = params["scales"], params["weights"], params["window"]
    if scales > len(weights):
        yield f"needs a weight for each scale, of which {scales} are asked for, not {len(weights)}"
    elif not problems and scales > room_for_scales(shape, window):
        least = (window - 1) * 2 ** (scales - 1)
        yield f"needs more than {least} pixels a side for {scales} scales, not {shape.height}x{shape.width}"


def _ms_ssim_fits(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    yield from _scales_fit(shape, params)
    least = (params["window"] - 1) * 2**4
    if params["implementation"] == "reference" and min(shape.height, shape.width) <= least:
        yield (
            f"needs more than {least} pixels a side with implementation: reference, because pytorch-msssim refuses "
            f"smaller images whatever the number of scales, not {shape.height}x{shape.width}; use implementation: fast"
        )


def _mix_fits(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    yield from _scales_fit(shape, params)
    if math.isfinite(params["beta"]) and not params["beta"].is_integer():
        yield f"needs a whole number of epochs or .inf for beta, not {params['beta']:g}"


@hookimpl
def recbench_losses() -> Iterator[LossEntry]:
    yield LossEntry(
        name="ssim",
        factory="recbench_losses_structural.losses:SSIMLoss",
        summary="one minus the structural similarity index",
        parameters=(*_SSIM, _IMPLEMENTATION),
        check=_window_fits,
        family="ssim",
        citation=_CITATION,
        notes=(
            "Images need as many pixels a side as the window. Values lie between 0 and 2, whatever the image size: "
            "thousands of times smaller than the sums of l1 or l2, so the KL weight must be smaller by as much."
        ),
    )
    yield LossEntry(
        name="ms_ssim",
        factory="recbench_losses_structural.losses:MSSSIMLoss",
        summary="one minus the multi-scale structural similarity index",
        parameters=(*_MS_SSIM, _IMPLEMENTATION),
        check=_ms_ssim_fits,
        family="ssim",
        citation=_MS_CITATION,
        notes=f"{_SCALES} {_KILLED} Values lie between 0 and 1, so the KL weight must be small.",
    )
    yield LossEntry(
        name="mix",
        factory="recbench_losses_structural.losses:Mix",
        summary="MS-SSIM with a mean of absolute, in late epochs of squared differences",
        parameters=(
            Parameter(
                "alpha",
                float,
                0.64,
                "weight of 1 - MS-SSIM; the pixels weigh 1 - alpha",
                minimum=0,
                maximum=1,
                tunable=Tunable(0.1, 0.95),
            ),
            Parameter("beta", float, 100.0, "last epoch with l1; l2 follows (0: always, .inf: never)", minimum=0),
            *_MS_SSIM,
        ),
        check=_mix_fits,
        family="ssim",
        citation=(
            "Kim & Jo, Two Proposed Solutions for Mitigating Blurred Output of Autoencoder, equations 11-14; after "
            "Zhao et al., Loss Functions for Image Restoration with Neural Networks, TCI 2017"
        ),
        notes=(
            "Here l1 and l2 are means over pixels and channels (equations 12 and 13), not the sums of the losses of "
            "these names, so the KL weight must be small. Outside of training the value is that of the first epoch. "
            f"{_SCALES} {_KILLED}"
        ),
    )
    yield LossEntry(
        name="gradient",
        factory="recbench_losses_structural.gradient:Gradient",
        summary="differences of pixels, and of the magnitudes of differences of neighbours, which blur makes small",
        parameters=(
            Parameter("alpha", float, 1.0, "exponent of the differences of gradients", minimum=1, maximum=4),
            Parameter(
                "gradient_weight",
                float,
                1.0,
                "weight of the differences of gradients; the pixels weigh 1",
                above=0,
                tunable=Tunable(0.1, 10.0, log=True),
            ),
            Parameter("p", int, 2, "exponent of the differences of pixels", minimum=1, maximum=2),
        ),
        requirements=Requirements(minimum_size=2),
        family="gradient",
        citation=(
            "Mathieu et al., Deep multi-scale video prediction beyond mean square error, ICLR 2016: the image gradient "
            "difference loss with their loss of pixels"
        ),
        notes=(
            "Sums over pixels and channels, of the order of l1 and l2; that of p: 2 has no factor of one half. "
            "Gradients are compared without their sign, as in the paper, so the pixels decide on it."
        ),
    )


@hookimpl
def recbench_metrics() -> Iterator[MetricEntry]:
    yield MetricEntry(
        name="ssim",
        score_range=(-1, 1),
        factory="recbench_losses_structural.metrics:SSIMMetric",
        summary="structural similarity index",
        parameters=(*_SSIM, _IMPLEMENTATION),
        direction="higher",
        check=_window_fits,
        family="ssim",
        citation=_CITATION,
        notes="Images need as many pixels a side as the window.",
    )
    yield MetricEntry(
        name="ms_ssim",
        score_range=(0, 1),
        factory="recbench_losses_structural.metrics:MSSSIMMetric",
        summary="multi-scale structural similarity index",
        parameters=(*_MS_SSIM, _IMPLEMENTATION),
        direction="higher",
        check=_ms_ssim_fits,
        family="ssim",
        citation=_MS_CITATION,
        notes=f"{_SCALES} Zero where the structure is inverted on average at any scale.",
    )
    yield MetricEntry(
        name="gmsd",
        score_range=(0, 0.5),
        factory="recbench_losses_structural.gradient:GMSD",
        summary="gradient magnitude similarity deviation",
        direction="lower",
        requirements=Requirements(channels=(1, 3), minimum_size=4),
        family="gradient",
        citation=(
            "Xue et al., Gradient Magnitude Similarity Deviation: A Highly Efficient Perceptual Image Quality Index, "
            "TIP 2014, equations 4-6"
        ),
        notes=(
            "Of the luma 0.299 R + 0.587 G + 0.114 B, averaged over blocks of 2x2 pixels, as in the package piq. Where "
            "gradients are equally wrong all over the image, the deviation is small."
        ),
    )
