"""What an executor is to recbench: something that runs jobs somewhere. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Reason = Literal["exception", "out of memory", "timeout", "killed", "crash", "exit", "lost", "diverged"]
"""Why a job has no scores, as one word for programs; the message says more.

``exception``: it raised. ``out of memory``: of the GPU or of the machine. ``timeout``: it took longer than was allowed,
and was killed. ``killed``: SIGKILL, from whom is not known. ``crash``: another signal, such as SIGSEGV. ``exit``: its
process ended by itself and left no record. ``lost``: the machine that it ran on is gone. ``diverged``: NaN or infinity.
"""


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
        timeout: seconds that this attempt may run, without the time it waits for its turn; None: as long as it takes.
            The executor enforces it from outside, since a job that hangs cannot: it kills the job with all its
            children and yields :class:`Ended` with the reason ``"timeout"``.
        supersedes: identity of the failed record that this attempt is to replace, or empty. A failed record with
            another identity was made by somebody else since, and stands.
        title: what to call the job where people read of it: its method, its seed and, among several, its setting.
        trackers: names of trackers that are to be shown the job, each with its complete parameters.
    """

    job_id: str
    folder: str
    cache: str
    plugin_files: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    device: str = "auto"
    checkpoint_seconds: float = 30.0
    timeout: float | None = None
    supersedes: str = ""
    title: str = ""
    trackers: tuple[tuple[str, Mapping[str, Any]], ...] = ()


@dataclass(frozen=True)
class JobProgress:
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
            (another process holds this job), ``"crashed"`` (it ended without a record, for whatever ``reason``; the
            sweep then writes one) or ``"full"`` (no space left for the results).
        detail: for ``"crashed"`` and ``"full"``, what is known about it.
        reason: for ``"crashed"``, which of the named states it is.
    """

    job_id: str
    outcome: Literal["recorded", "interrupted", "busy", "crashed", "full"]
    detail: str = ""
    reason: Reason = "exit"


Event = JobProgress | Ended


class Executor(ABC):
    """Runs tasks by calling ``recbench.job.runner.run_task`` for each, wherever it likes.

    The constructor takes the entry's parameters by keyword. The job itself writes its record: an executor reports
    what happens, and its own state is never the truth. Retries, ``--max-failures`` and waiting for jobs that another
    process holds are the sweep's business: it calls ``map`` again with the tasks that are to run again. An executor
    whose engine repeats jobs by itself (requeues) yields one :class:`Ended` when that is over; a job whose machine is
    gone for good is ``"crashed"`` with the reason ``"lost"``, which the sweep runs again whatever ``--retries`` says.

    Two parameters have names that the command line knows; an entry declares those that mean something to it:
    ``devices`` (text, default ``""``: all; ``--devices 0,2``) and ``jobs_per_device`` (int, default 0: the executor's
    choice; ``--jobs-per-device K``). Giving an option that the entry does not declare is an error of use.
    """

    @abstractmethod
    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse what could never run, before anything does: a device that is not there, more than a cluster has.

        Raises:
            UserError: with what is there instead.
        """

    @abstractmethod
    def describe(self, tasks: int) -> str:
        """One line for the user: what ``map`` over this many tasks would use (``"2 side by side, 1 thread each"``)."""

    @abstractmethod
    def map(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """Run all tasks; yield events as they occur, one :class:`Ended` for every task that was started.

        Called again after it has run out, for what is to run again. A task may have been finished by somebody else
        meanwhile; ``run_task`` then says ``"recorded"`` at once.
        """

    @abstractmethod
    def drain(self) -> None:
        """Start no more tasks and let the running ones finish. ``map`` then runs out, and so does any later one.

        Called between two events of ``map``.
        """

    @abstractmethod
    def stop(self) -> None:
        """Start no more tasks and ask the running ones to write a checkpoint and end. ``map`` then runs out.

        Called from a signal handler: must only set flags and send signals.
        """

    @abstractmethod
    def kill(self) -> None:
        """End all running tasks at once; nothing of theirs survives but their last checkpoints."""

    def resumed(self, tasks: Sequence[Task]) -> Collection[str]:
        """Ids of the tasks that the engine already runs for an earlier coordinator, and that ``map`` would come back to
        instead of starting them. They are given to ``map`` although somebody holds them. By default none."""
        return ()

    def queue(self, root: Path) -> Mapping[str, str]:
        """What ``recbench status`` shows of jobs that wait in the engine: by job id, a few words, such as ``"pending
        in Slurm as 17_3 (Priority)"``. By default nothing waits anywhere but in the coordinator.

        Called in a process of its own, on an executor with the parameters of the last run; must start nothing.

        Args:
            root: the folder of the suite's results, ``results/<suite>``; the executor may keep a file there.
        """
        return {}
