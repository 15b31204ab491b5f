"""The hooks of recbench, and the markers for them. This module imports pluggy and nothing heavier."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from recbench.contracts.entries import (
        ArchitectureEntry,
        DatasetEntry,
        ExecutorEntry,
        LossEntry,
        MetricEntry,
        TrackerEntry,
    )

PROJECT = "recbench"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def recbench_losses() -> Iterable[LossEntry]:  # type: ignore[empty-body]
    """Yield the reconstruction losses that this plugin offers.

    Example::

        @hookimpl
        def recbench_losses():
            yield LossEntry(name="l1", factory="my_package.losses:L1", summary="sum of absolute differences")

    .. versionadded:: 0.1
    """


@hookspec
def recbench_architectures() -> Iterable[ArchitectureEntry]:  # type: ignore[empty-body]
    """Yield the autoencoders that this plugin offers.

    Example::

        @hookimpl
        def recbench_architectures():
            yield ArchitectureEntry(name="my_vae", factory="my_package.vae:MyVAE", summary="a small VAE")

    .. versionadded:: 0.1
    """


@hookspec
def recbench_datasets() -> Iterable[DatasetEntry]:  # type: ignore[empty-body]
    """Yield the data sets that this plugin offers. Their factories must not import torch.

    Example::

        @hookimpl
        def recbench_datasets():
            yield DatasetEntry(name="my_scans", factory="my_package.scans:Scans", summary="knee MRI slices")

    .. versionadded:: 0.1
    """


@hookspec
def recbench_metrics() -> Iterable[MetricEntry]:  # type: ignore[empty-body]
    """Yield the metrics that this plugin offers.

    Example::

        @hookimpl
        def recbench_metrics():
            yield MetricEntry(name="psnr", factory="my_package.psnr:PSNR", summary="...", direction="higher")

    .. versionadded:: 0.1
    """


@hookspec
def recbench_executors() -> Iterable[ExecutorEntry]:  # type: ignore[empty-body]
    """Yield the executors that this plugin offers. Their factories must not import torch.

    Example::

        @hookimpl
        def recbench_executors():
            yield ExecutorEntry(name="my_queue", factory="my_package.queue:Queue", summary="the lab's job queue")

    .. versionadded:: 0.1
    """


@hookspec
def recbench_trackers() -> Iterable[TrackerEntry]:  # type: ignore[empty-body]
    """Yield the trackers that this plugin offers: ``recbench run SUITE --track NAME`` shows them every job.

    Example::

        @hookimpl
        def recbench_trackers():
            yield TrackerEntry(name="my_board", factory="my_package.board:Board", summary="the lab's dashboard")

    .. versionadded:: 0.1
    """


@hookspec
def recbench_job_started(job: Mapping[str, Any], job_id: str) -> None:
    """Called before a job's training starts or continues, in a process of its own beside the job's.

    ``job`` is the job's canonical form (plain data). An observer that raises, exits or hangs is disabled for the rest
    of the job and never stops it.

    Example::

        @hookimpl
        def recbench_job_started(job, job_id):
            open_dashboard(job_id, job["loss"]["name"])

    .. versionadded:: 0.1
    """


@hookspec
def recbench_epoch_ended(job_id: str, epoch: int, values: Mapping[str, float]) -> None:
    """Called after each epoch with the line that was added to ``history.jsonl``. A job that continues from a checkpoint
    repeats the epochs since then.

    Example::

        @hookimpl
        def recbench_epoch_ended(job_id, epoch, values):
            plot(job_id, epoch, values["objective"])

    .. versionadded:: 0.1
    """


@hookspec
def recbench_job_ended(job_id: str, record: Mapping[str, Any]) -> None:
    """Called after a job's record was written, whatever its status.

    Example::

        @hookimpl
        def recbench_job_ended(job_id, record):
            notify(job_id, record["status"])

    .. versionadded:: 0.1
    """
