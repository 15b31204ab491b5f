"""Losses that compare local structure."""

from __future__ import annotations

from collections.abc import Iterator

from recbench import LossEntry, Parameter, Requirements, hookimpl


@hookimpl
def recbench_losses() -> Iterator[LossEntry]:
    yield LossEntry(
        name="ssim",
        factory="recbench_losses_structural.losses:SSIM",
        summary="one minus the structural similarity index",
        parameters=(
            Parameter("sigma", float, 1.5, "standard deviation of the 11x11 Gaussian window, in pixels", above=0),
        ),
        requirements=Requirements(minimum_size=11),
        family="ssim",
        citation="Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, TIP 2004",
        notes=(
            "Values lie between 0 and 2, whatever the image size: thousands of times smaller than the sums of l1 or "
            "l2, so the KL weight must be smaller by as much."
        ),
    )
