"""Metrics of reconstructions."""

from __future__ import annotations

from collections.abc import Iterator

from recbench import MetricEntry, hookimpl


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
