"""Attempts at jobs until each has a record: in rounds over an executor, each with the jobs that are still open.

A job that failed may get further attempts; a job that another process holds is waited for, and taken over if that
process dies. Executors know nothing of this. Imports no torch.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from recbench.contracts.executor import Ended, Event, Executor, Task
from recbench.errors import OutOfSpaceError
from recbench.files import holder, lock
from recbench.job.observers import disabled
from recbench.store import heartbeat
from recbench.store.attempt import AttemptFolder, SupersededError, warnings
from recbench.store.record import Record
from recbench.store.store import Store

LOST = 10
"""Number of times that a job runs again because its machine was lost, which is not the job's fault."""
POLL = 0.5
"""Seconds between two polls of jobs that other processes hold."""
GRACE = 20.0
"""Seconds to wait for a job that is held without a sign of work. A starting job gives one after loading its plugins."""


@dataclass(frozen=True)
class Limits:
    """Limits on failures, after which a sweep gives up.

    Attributes:
        retries: further attempts at a job that failed; one that diverged would diverge again.
        max_failures: failed attempts after which no more jobs are started; None: no limit.
    """

    retries: int = 0
    max_failures: int | None = None


class Listener(Protocol):
    """A receiver of notes and events."""

    def note(self, text: str) -> None:
        """Show a message to the user."""

    def event(self, event: Event, record: Record | None) -> None:
        """Handle an executor's event, with the record where a job ended with one."""


@dataclass
class _Open:
    """A job without a settled record."""

    task: Task
    retries: int
    lost: int = LOST
    held_since: float | None = None
    """Time at which it was first seen held without a sign of work."""
    told: bool = False
    """True once the user was told that the sweep waits for it."""

    @property
    def folder(self) -> Path:
        return Path(self.task.folder)


class Rounds:
    """Runs tasks until each has a settled record; counts failures over several calls.

    Args:
        interrupted: whether the user wants to stop.
    """

    def __init__(
        self,
        store: Store,
        executor: Executor,
        limits: Limits,
        listener: Listener,
        interrupted: Callable[[], bool],
    ) -> None:
        self.store = store
        self.executor = executor
        self.limits = limits
        self.listener = listener
        self.interrupted = interrupted
        self.failures = 0
        self.disabled: set[str] = set()
        self.open: dict[str, _Open] = {}

    @property
    def given_up(self) -> bool:
        """True after so many failures that no more jobs are started."""
        return self.limits.max_failures is not None and self.failures >= self.limits.max_failures

    def run(self, tasks: Sequence[Task], crashed: Callable[[Ended], Record]) -> None:
        """Run tasks until none is open, the user interrupts, or there are too many failures.

        Args:
            crashed: makes the record of a job whose process left none.

        Raises:
            OutOfSpaceError: a disk is full; finished jobs are safe.
        """
        self.crashed = crashed
        self.open = {task.job_id: _Open(task, self.limits.retries) for task in tasks}
        resumed = self.executor.resumed(tasks)
        while self.open and not self.interrupted() and not self.given_up:
            batch, before = self._batch(resumed), len(self.open)
            resumed = ()
            if batch:
                self._map(batch)
            if self.open and len(self.open) == before:  # all that is left is held by others
                time.sleep(POLL)

    def _batch(self, resumed: Collection[str]) -> list[Task]:
        """Return the tasks to run next: jobs that no process holds, and those that the executor resumes.

        Jobs that another machine seems to hold come last: it takes a while to find out whether they are alive.
        """
        free, elsewhere = [], []
        for job in list(self.open.values()):
            if job.task.job_id in resumed:
                free.append(job.task)
            elif holder(job.folder) is not None:
                self._wait(job)
            elif (found := heartbeat.at_work(job.folder)) is not None and not found.here:
                elsewhere.append(job.task)
            else:
                job.held_since = None
                free.append(job.task)
        return free or elsewhere

    def _wait(self, job: _Open) -> None:
        """Check on a job that another process of this machine holds."""
        job_id = job.task.job_id
        self._tell(job)
        if heartbeat.at_work(job.folder) is not None:
            job.held_since = None
        elif job.held_since is None:
            job.held_since = time.monotonic()
        elif time.monotonic() - job.held_since > GRACE:
            self.listener.note(
                f"job {job_id} is being run by another process, {holder(job.folder)}, which shows no sign of work: it "
                "was left to it"
            )
            self._close(Ended(job_id, "busy"), None)

    def _tell(self, job: _Open) -> None:
        if not job.told:
            job.told = True
            self.listener.note(f"job {job.task.job_id} is being run by another process; waiting for it")

    def _map(self, batch: Sequence[Task]) -> None:
        full: OutOfSpaceError | None = None
        noted = False
        for event in self.executor.map(batch):
            if not isinstance(event, Ended):
                self.listener.event(event, None)
                continue
            try:
                self._ended(event)
            except OutOfSpaceError as error:
                full = full or error
                self.executor.stop()
            if self.given_up and not noted:
                noted = True
                self.executor.drain()
                self.listener.note(f"{self.failures} failures: no more jobs are started (--max-failures)")
        if full is not None:
            raise full

    def _ended(self, event: Ended) -> None:
        job = self.open[event.job_id]
        if event.outcome == "full":
            self.listener.event(event, None)
            raise OutOfSpaceError(event.detail)
        if event.outcome == "interrupted":
            self._close(event, None)
            return
        if event.outcome == "busy":
            self._tell(job)
            return
        try:
            record = self._crash(event, job) if event.outcome == "crashed" else self.store.read(event.job_id)
        except ValueError as error:
            specification = self.store.read_task(event.job_id)
            target = self.store.set_aside(event.job_id, str(error))
            self.store.write_task(*specification)
            self.listener.note(f"the record of job {event.job_id} cannot be used ({error}); it was moved to {target}")
            if not self._again(job, lost=True):
                self._close(event, None)
            return
        if record is None:  # another process runs it
            return
        if event.outcome == "crashed" and record.status == "done":
            self.listener.note(f"the model of job {event.job_id} was not scored: {event.detail}")
        if record.status == "failed":
            self.failures += 1
            if self._again(job, lost=record.failure is not None and record.failure.reason == "lost"):
                self.listener.event(event, record)
                return
        self._close(event, record)

    def _crash(self, event: Ended, job: _Open) -> Record | None:
        """Write the record of a job whose process left none; None if another process has begun to run it."""
        with lock(job.folder) as mine:
            if not mine or (event.reason != "lost" and heartbeat.elsewhere(job.folder)):
                return None
            (job.folder / heartbeat.FILE).unlink(missing_ok=True)
            if not self.store.settled(event.job_id, job.task.supersedes):
                with suppress(SupersededError):  # then there is another record
                    AttemptFolder.begin(job.folder).publish(self.store, self.crashed(event))
            return self.store.read(event.job_id)

    def _again(self, job: _Open, *, lost: bool) -> bool:
        """Leave a failed job open for another attempt, if it has one left."""
        if not (job.lost if lost else job.retries):
            return False
        job.lost, job.retries = (job.lost - 1, job.retries) if lost else (job.lost, job.retries - 1)
        job.task = replace(job.task, supersedes=self.store.identity(job.task.job_id))
        return True

    def _close(self, event: Ended, record: Record | None) -> None:
        folder = self.open[event.job_id].folder
        for name in sorted(disabled(folder) - self.disabled):
            self.disabled.add(name)  # once is enough: it will not fare better in other jobs
            self.listener.note(f"{name} was disabled in a job, which continued; observers.log in {folder} says why")
        if event.outcome != "busy":
            for line in warnings(folder):
                self.listener.note(f"job {event.job_id}: {line}")
        del self.open[event.job_id]
        self.listener.event(event, record)
