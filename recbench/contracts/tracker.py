"""The contract of trackers, which follow the progress of jobs. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Run:
    """One run of a job, as a tracker sees it.

    Attributes:
        id: name of the run in files and addresses: the job's id, followed by a number from the second attempt on. A job
            that was interrupted continues under the same id; a retry of a failed job has a new one.
        title: name of the run for people: method and seed.
        suite: name of the suite.
        job_id: the job's id.
        job: the definition of the job as plain data, as under ``job`` in its record.
        folder: folder for the tracker's files, shared by all jobs of the suite; it may not exist yet.
        continued: whether the tracker has already seen an earlier part of this run.
    """

    id: str
    title: str
    suite: str
    job_id: str
    job: Mapping[str, Any]
    folder: Path
    continued: bool = False


class Tracker(ABC):
    """Base class of trackers. A tracker follows one job from a separate process, so that it can never stop the job.

    The constructor takes the entry's parameters by keyword; one object is created for each part of a job that runs
    without interruption. An exception, the end of the tracker's process, or no answer within a minute after the end of
    the job, ends the tracking of that job. Methods are called in the order ``start``, ``epoch`` for every epoch, then
    ``end`` or ``pause``.
    """

    @abstractmethod
    def start(self, run: Run) -> None:
        """Handle the start of a job, or its continuation after an interruption."""

    @abstractmethod
    def epoch(self, values: Mapping[str, float]) -> None:
        """Handle the end of an epoch.

        Called exactly once for every line of ``history.jsonl``, in order, over all parts of an interrupted job, even if
        the tracker was added later. Values must be stored safely before this returns: they are not sent again.

        Args:
            values: the line of ``history.jsonl``: ``epoch`` and ``step`` from 1, ``objective``, and so on.
        """

    @abstractmethod
    def end(self, record: Mapping[str, Any], images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Handle the end of the job, and close the tracker.

        Args:
            record: the job's record as plain data, whatever its status.
            images: arrays uint8 (N, C, H, W) by name: ``target`` and ``decoded``, the first test images and their
                reconstructions, and ``samples``; empty if the job has no scores.
        """

    @abstractmethod
    def pause(self) -> None:
        """Handle an interruption of the job, and close the tracker. The job may continue in another process."""
