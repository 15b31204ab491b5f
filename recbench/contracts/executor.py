"""The contract of executors, which run jobs on some machine. Imports no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

Reason = Literal["exception", "out of memory", "timeout", "killed", "crash", "exit", "lost", "diverged"]
"""The reason why a job has no scores, as a fixed word for programs; the message has the details.

``exception``: it raised an exception. ``out of memory``: of the GPU or of the machine. ``timeout``: it exceeded its
time limit and was killed. ``killed``: by SIGKILL, from an unknown sender. ``crash``: by another signal, as SIGSEGV.
``exit``: its process ended by itself without a record. ``lost``: the machine that it ran on is gone. ``diverged``: NaN
or infinity.
"""


@dataclass(frozen=True)
class Task:
    """A job for an executor: plain data, enough to run the job in another process or on another machine.

    Attributes:
        job_id: the job's id.
        folder: the job's folder in the store; it contains ``job.json``, and finally the record.
        cache: folder of the image caches, in which the job's data set is already prepared.
        plugin_files: files given with ``--plugin``, to be loaded where the job runs.
        blocked: distributions whose plugins must not be loaded.
        device: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.
        checkpoint_seconds: seconds of training between checkpoints.
        timeout: seconds that this attempt may run, not counting the time it waits to start; None for no limit. The
            executor enforces it from outside, since a job that hangs cannot: it kills the job with all its child
            processes and yields :class:`Ended` with the reason ``"timeout"``.
        supersedes: identity of the record that this attempt replaces, or empty: that of a failure, or one whose stored
            model is to be scored. A record with another identity was written by another process in the meantime, and is
            kept.
        title: name of the job for people: its method, its seed and, if there are several, its setting.
        trackers: names of the trackers of the job, each with its complete parameters.
        calibrates: whether the job measures the scales of losses, and leaves them with the suite's results instead of a
            record of its own. To an executor it is a job like others.
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
    calibrates: bool = False


@dataclass(frozen=True)
class JobProgress:
    """An event: a running job reports its progress.

    Attributes:
        job_id: the job's id.
        epoch: the current epoch, from 1.
        epochs: the number of epochs of the job.
        loss: the most recent value of the training objective.
        images_per_second: current throughput of training.
        seconds_left: the job's own estimate of its remaining time.
        fraction: how much of its training is done, from 0 to 1.
    """

    job_id: str
    epoch: int
    epochs: int
    loss: float
    images_per_second: float
    seconds_left: float
    fraction: float = 0.0


@dataclass(frozen=True)
class Ended:
    """An event: a job's process has ended.

    Attributes:
        job_id: the job's id.
        outcome: ``"recorded"`` (a record was written), ``"interrupted"`` (a checkpoint, but no record), ``"busy"``
            (another process holds this job), ``"crashed"`` (it ended without a record for the given ``reason``; the
            sweep writes one) or ``"full"`` (no space left for the results).
        detail: for ``"crashed"`` and ``"full"``, details for the user.
        reason: for ``"crashed"``, the reason.
    """

    job_id: str
    outcome: Literal["recorded", "interrupted", "busy", "crashed", "full"]
    detail: str = ""
    reason: Reason = "exit"


Event = JobProgress | Ended


@dataclass(frozen=True)
class ChosenDevice:
    """The device that a process on this machine uses.

    Attributes:
        device: as of :class:`Task`.
        variables: environment variables with which the process starts.
    """

    device: str
    variables: Mapping[str, str] = field(default_factory=dict)


class Executor(ABC):
    """Base class of executors, which run tasks by calling :func:`recbench.run_task` for each, on any machine.

    The constructor takes the entry's parameters by keyword. Each job writes its own record: an executor only reports
    events, and the records decide. The sweep handles retries, ``--max-failures`` and waiting for jobs that another
    process holds: it calls ``map`` again with the tasks to run again. An executor whose engine restarts jobs by itself
    (requeues) yields a single :class:`Ended` after the last restart; a job whose machine is gone for good is
    ``"crashed"`` with the reason ``"lost"``, which the sweep runs again regardless of ``--retries``.

    Two names of parameters are known to the command line; an entry declares the ones that it supports: ``devices``
    (text, default ``""`` for all; ``--devices 0,2``) and ``jobs_per_device`` (int, default 0 for the executor's choice;
    ``--jobs-per-device K``). Giving an option that the entry does not declare is a usage error.
    """

    @abstractmethod
    def check(self, tasks: Sequence[Task]) -> None:
        """Refuse tasks that could never run, such as on a missing device, before any task starts.

        Args:
            tasks: all tasks that are to run.

        Raises:
            UserError: a task could never run; the text says what is available.
        """

    @abstractmethod
    def describe(self, tasks: int) -> str:
        """Return one line for the user: the resources that ``map`` would use (``"2 in parallel, 1 thread each"``).

        Args:
            tasks: number of tasks.
        """

    def chosen_device(self, device: str) -> ChosenDevice:
        """Return where something is measured on this machine for jobs with this device: on the first device that they
        would have. By default the device as it is given.

        Raises:
            UserError: there is no such device.
        """
        return ChosenDevice(device)

    @abstractmethod
    def map(self, tasks: Sequence[Task]) -> Iterator[Event]:
        """Run all tasks, and yield events as they occur.

        Called again after it is exhausted, for tasks that are to run again. Another process may have finished a task in
        the meantime; ``run_task`` then returns ``"recorded"`` at once.

        Args:
            tasks: the tasks, in the order in which they should start.

        Yields:
            Any number of :class:`JobProgress`, and one :class:`Ended` for every task that was started.
        """

    @abstractmethod
    def drain(self) -> None:
        """Start no more tasks, and let the running ones finish, which ends this call of ``map`` and any later one.

        Called between two events of ``map``.
        """

    @abstractmethod
    def stop(self) -> None:
        """Start no more tasks, and ask the running ones to write a checkpoint and end, which ends ``map``.

        Called from a signal handler: must only set flags and send signals.
        """

    @abstractmethod
    def kill(self) -> None:
        """Kill all running tasks at once; only their last checkpoints remain."""

    def resumed(self, tasks: Sequence[Task]) -> Collection[str]:
        """Return the ids of tasks that the engine still runs for an earlier process, and that ``map`` would rejoin.

        They are passed to ``map`` although another process holds them. By default there are none.

        Args:
            tasks: all tasks that are to run.
        """
        return ()

    def queue(self, root: Path) -> Mapping[str, str]:
        """Return the jobs that wait in the engine, for ``recbench status``. By default there are none.

        Called in a separate process, on an executor with the parameters of the last run; must not start anything.

        Args:
            root: folder of the suite's results, ``results/<suite>``, in which the executor may keep a file.

        Returns:
            A few words by job id, such as ``"pending in Slurm as 17_3 (Priority)"``.
        """
        return {}
