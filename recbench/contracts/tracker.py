"""What a tracker is to recbench: something that is shown how jobs go. Imports nothing heavy."""

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
    """A job, as a tracker is shown it.

    Attributes:
        id: what to call the run in files and addresses: the job's id, and a number from the second attempt on. A job
            that was interrupted continues under the same id; one that failed and is tried again has another.
        title: what people call it: method and seed.
        suite: name of the suite.
        job_id: the job's id.
        job: all that defines the job, as plain data: the part ``job`` of its record.
        folder: where a tracker that keeps files puts them, shared by all jobs of the suite; it need not exist yet.
        continued: whether the tracker has been shown an earlier part of this run.
    """

    id: str
    title: str
    suite: str
    job_id: str
    job: Mapping[str, Any]
    folder: Path
    continued: bool = False


class Tracker(ABC):
    """Is shown one job, in a process of its own beside the job's: what happens here never stops the job.

    The constructor takes the entry's parameters by keyword; one object is made for each part of a job that runs without
    interruption. An exception, the end of the process, or a minute without an answer after the job, ends the
    tracking of that job. The calls come in the order ``start``, ``epoch`` for every epoch, then ``end`` or ``pause``.
    """

    @abstractmethod
    def start(self, run: Run) -> None:
        """The job starts, or continues where it was interrupted."""

    @abstractmethod
    def epoch(self, values: Mapping[str, float]) -> None:
        """A line of ``history.jsonl``: ``epoch`` and ``step`` from 1, ``objective``, and so on.

        Every line comes once, in order, over all parts of an interrupted job, and also where the tracker was added
        later. What was taken must be safe when this returns: it does not come again.
        """

    @abstractmethod
    def end(self, record: Mapping[str, Any], images: Mapping[str, NDArray[np.uint8]]) -> None:
        """The job has ended, and the tracker is to close.

        Args:
            record: the job's record as plain data, whatever its status.
            images: uint8 (N, C, H, W): ``target`` and ``decoded``, the first test images, and ``samples``; none where
                the job has no scores.
        """

    @abstractmethod
    def pause(self) -> None:
        """The job was interrupted before its end, and the tracker is to close. It may continue in another process."""
