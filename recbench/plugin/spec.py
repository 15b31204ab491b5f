"""The hooks of recbench and their markers. Imports pluggy and nothing heavier."""

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
    """Observe the start of a job: called before training starts or continues, in a separate process.

    An observer that raises an exception, exits or hangs is disabled for the rest of the job and never stops it.

    Args:
        job: the job's canonical form (plain data).
        job_id: the job's id, 16 hexadecimal digits.

    Example::

        @hookimpl
        def recbench_job_started(job, job_id):
            open_dashboard(job_id, job["loss"]["name"])

    .. versionadded:: 0.1
    """


@hookspec
def recbench_epoch_ended(job_id: str, epoch: int, values: Mapping[str, float]) -> None:
    """Observe an epoch: called after each epoch with the line that was added to ``history.jsonl``.

    A job that continues from a checkpoint repeats the epochs since that checkpoint.

    Args:
        job_id: the job's id.
        epoch: the epoch that has ended, from 1.
        values: the line of ``history.jsonl``: ``epoch`` and ``step`` from 1, ``objective``, and so on.

    Example::

        @hookimpl
        def recbench_epoch_ended(job_id, epoch, values):
            plot(job_id, epoch, values["objective"])

    .. versionadded:: 0.1
    """


@hookspec
def recbench_job_ended(job_id: str, record: Mapping[str, Any]) -> None:
    """Observe the end of a job: called after its record was written, whatever its status.

    Args:
        job_id: the job's id.
        record: the record as plain data.

    Example::

        @hookimpl
        def recbench_job_ended(job_id, record):
            notify(job_id, record["status"])

    .. versionadded:: 0.1
    """
