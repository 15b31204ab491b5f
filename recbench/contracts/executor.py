"""What an executor is to recbench: something that runs jobs somewhere. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Task:
    """One job as an executor gets it: plain data, enough to run it in another process or on another machine.

    Attributes:
        job_id: the job's id.
        folder: the job's folder in the store; it holds ``job.json``, and the record in the end.
        cache: folder of the image caches; the job's data set is prepared there already.
        plugin_files: files given with ``--plugin``, to be loaded where the job runs.
        blocked: distributions whose plugins must not be loaded.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        checkpoint_seconds: seconds of training between checkpoints.
    """

    job_id: str
    folder: str
    cache: str
    plugin_files: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    device: str = "auto"
    checkpoint_seconds: float = 30.0


@dataclass(frozen=True)
class Progress:
    """A job is under way. ``epoch`` counts from 1; ``seconds_left`` is the job's own estimate."""

    job_id: str
    epoch: int
    epochs: int
    loss: float
    images_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Ended:
    """A job's process is over.

    Attributes:
        outcome: ``"recorded"`` (there is a record; read it), ``"interrupted"`` (a checkpoint, no record), ``"busy"``
            (another process holds this job), ``"crashed"`` (the process died without a record) or ``"full"`` (no
            space left for the results).
        detail: for ``"crashed"`` and ``"full"``, what is known about it.
    """

    job_id: str
    outcome: Literal["recorded", "interrupted", "busy", "crashed", "full"]
    detail: str = ""


Event = Progress | Ended


class Executor(ABC):
    """Runs tasks by calling ``recbench.runner.run_task`` for each, wherever it likes.

    The constructor takes the entry's parameters by keyword. The job itself writes its record: an executor reports
    what happens, and its own state is never the truth.
    """

    @abstractmethod
    def map(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """Run all tasks; yield events as they occur, one :class:`Ended` for every task that was started."""

    @abstractmethod
    def stop(self) -> None:
        """Start no more tasks and ask the running ones to write a checkpoint and end. ``map`` then runs out.

        Called from a signal handler: must only set flags and send signals.
        """

    @abstractmethod
    def kill(self) -> None:
        """End all running tasks at once; nothing of theirs survives but their last checkpoints."""

    @abstractmethod
    def describe(self, tasks: int) -> str:
        """One line for the user: what ``map`` over this many tasks would use (``"2 side by side, 1 thread each"``)."""
