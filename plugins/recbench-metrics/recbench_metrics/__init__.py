"""Metrics of reconstructions."""

from __future__ import annotations

from collections.abc import Iterator

from recbench import MetricEntry, Requirements, hookimpl


@hookimpl
def recbench_metrics() -> Iterator[MetricEntry]:
    yield MetricEntry(
        name="psnr",
        factory="recbench_metrics.pixel:PSNR",
        summary="peak signal-to-noise ratio",
        direction="higher",
        unit="dB",
        digits=2,
    )
    yield MetricEntry(
        name="mse",
        factory="recbench_metrics.pixel:MSE",
        summary="mean squared error of pixels in 0 to 1",
        direction="lower",
        digits=5,
    )
    yield MetricEntry(
        name="l1",
        factory="recbench_metrics.pixel:L1",
        summary="mean absolute error of pixels in 0 to 1",
        direction="lower",
    )
    yield MetricEntry(
        name="ssim",
        factory="recbench_metrics.structural:SSIM",
        summary="structural similarity index",
        direction="higher",
        requirements=Requirements(minimum_size=11),
        family="ssim",
        citation="Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, TIP 2004",
    )
