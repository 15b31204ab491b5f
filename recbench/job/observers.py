"""Observers of a job: plugins with observer hooks, and trackers.

Each has a process of its own, next to the job's. It can raise, exit, crash or hang without affecting the job: what
is to be told is queued, and never waited for before the job is over.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

from recbench.contracts.executor import Task
from recbench.files import append_regular
from recbench.job.observer_process import LONGEST, Order
from recbench.plugin.manager import Plugins

HOOKS = ("recbench_job_started", "recbench_epoch_ended", "recbench_job_ended")
LOG = "observers.log"
PATIENCE = 60.0
"""Seconds without an answer, after the end of the job, after which an observer is killed."""


_DISABLED = " was disabled:"


def disabled(folder: Path) -> set[str]:
    """Return the observers that were disabled in the last attempt at a job; ``observers.log`` says why."""
    try:
        lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return {line.removesuffix(_DISABLED) for line in lines if line.endswith(_DISABLED)}


class Observers:
    """The observers of one job: each plugin with an observer hook, and each tracker of the task. A context: their
    processes are started as it is entered, and waited for at its end."""

    def __init__(self, plugins: Plugins, task: Task, suite: str) -> None:
        manager = plugins.manager
        watching = {impl.plugin for hook in HOOKS for impl in getattr(manager.hook, hook).get_hookimpls()}
        plain = Order(
            kind="plugin",
            name="",
            job_id=task.job_id,
            suite=suite,
            title=task.title or task.job_id,
            folder=task.folder,
            plugin_files=task.plugin_files,
            blocked=task.blocked,
        )
        names = sorted(str(manager.get_name(plugin)) for plugin in watching)
        self.orders = [plain.model_copy(update={"name": name}) for name in names]
        for name, params in task.trackers:
            self.orders.append(plain.model_copy(update={"kind": "tracker", "name": name, "params": dict(params)}))
        self.log = Path(task.folder) / LOG
        self.observers: list[_ObserverLink] = []

    def notify(self, hook: str, **arguments: Any) -> None:
        """Send an event to all observers as plain data; returns at once."""
        for observer in self.observers:
            observer.send(json.dumps({"hook": hook, "arguments": arguments}))

    def __enter__(self) -> Self:
        self.log.unlink(missing_ok=True)  # of an earlier attempt
        self.observers = [_ObserverLink(order, self.log) for order in self.orders]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for observer in self.observers:
            observer.send(None)
        for observer in self.observers:
            observer.finish()


class _ObserverLink:
    """One observer's process, with a thread that writes to it and one that listens."""

    def __init__(self, order: Order, log: Path) -> None:
        self.name = order.name
        self.log = log
        self.waiting: SimpleQueue[str | None] = SimpleQueue()
        self.heard = time.monotonic()
        self.silent = threading.Event()
        self.disabled = False
        self.process: subprocess.Popen[str] | None = None
        try:
            self.process = _start()
        except OSError as error:
            self._disable(f"its process cannot be started: {error}")
            return
        self.send(order.model_dump_json())
        for target in (self._write, self._listen):
            threading.Thread(target=target, args=(self.process,), daemon=True).start()

    def send(self, message: str | None) -> None:
        """Queue a message; None is the last."""
        self.waiting.put(message)

    def finish(self) -> None:
        """Wait for the observer to finish, up to its time limit."""
        if self.process is None:
            return
        began = self.heard = time.monotonic()
        while not self.silent.wait(0.05):
            now = time.monotonic()
            if now > self.heard + PATIENCE or now > began + LONGEST:
                self._disable(f"it did not answer for {now - self.heard:.0f} s after the job was over")
                break
        if not self.silent.is_set():
            self.process.kill()
        try:
            code = self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:  # it closed its answers, and lives on
            self.process.kill()
            return
        if code:
            self._disable(f"its process ended with exit code {code}")

    def _write(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        try:
            with process.stdin as stream:
                while (message := self.waiting.get()) is not None:
                    stream.write(message + "\n")
                    stream.flush()
        except OSError:  # it is gone; its exit code says how
            pass

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as stream:
            for line in stream:
                self.heard = time.monotonic()
                error = json.loads(line).get("error")
                if error:
                    self._disable(error)
        self.silent.set()

    def _disable(self, reason: str) -> None:
        """Disable this observer and log the reason; later reasons follow from the first and are dropped."""
        if not self.disabled:
            self.disabled = True
            append_regular(self.log, f"{self.name}{_DISABLED}\n{reason}\n")


def _start() -> subprocess.Popen[str]:
    """Start the process with SIGTERM blocked until it ignores it: the signal that stops a job goes to its group."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        command = [sys.executable, "-P", "-m", "recbench.job.observer_process"]
        return subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
