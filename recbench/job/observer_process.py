"""The process of one observer: a plugin with observer hooks, or a tracker. See :mod:`recbench.job.observers`.

It reads messages from its standard input, a line of JSON each: first an order that names the observer, then the
events of the job. It answers each on its standard output. Imports no torch.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from pydantic import BaseModel

from recbench.contracts.tracker import Run, Tracker
from recbench.errors import PluginError
from recbench.files import write_atomically
from recbench.plugin.manager import Plugins, load_plugins
from recbench.plugin.registry import Registry
from recbench.store import artifacts

LONGEST = 120.0
"""Seconds that an observer may run after its job has ended."""


class Order(BaseModel):
    """The observer to run.

    Attributes:
        kind: a plugin by its origin, or a tracker by its name.
        params: the tracker's complete parameters.
        folder: of the job.
    """

    kind: str
    name: str
    params: dict[str, Any] = {}
    job_id: str
    suite: str
    title: str
    folder: str
    plugin_files: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()


def main() -> None:
    """Serve one observer until its last message."""
    for number in (signal.SIGTERM, signal.SIGINT):  # what stops the job ends the messages, and so this process
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # as _start left it blocked
    orders = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull) as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what the observer prints must not be taken for an answer
    code = 1
    try:
        observer = _make(Order.model_validate_json(orders.readline()))
        messages: SimpleQueue[dict[str, Any] | None] = SimpleQueue()
        threading.Thread(target=_read, args=(orders, messages), daemon=True).start()
        while (message := messages.get()) is not None:
            observer.notify(message["hook"], message["arguments"])
            _say(answers, {})
        observer.close()
        code = 0
    except BaseException:  # noqa: BLE001 - SystemExit and KeyboardInterrupt too: the job is told, whatever it is
        _say(answers, {"error": traceback.format_exc()})
    os._exit(code)  # an observer's threads, and what it wants to do at the end of Python, are not waited for


def _read(orders: IO[str], messages: SimpleQueue[dict[str, Any] | None]) -> None:
    for line in orders:
        messages.put(json.loads(line))
    messages.put(None)
    time.sleep(LONGEST)
    os._exit(1)


def _say(answers: IO[str], answer: Mapping[str, str]) -> None:
    try:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    except OSError:  # the job's process is gone, and so will this one be
        pass


class _Handler(ABC):
    @abstractmethod
    def notify(self, hook: str, arguments: Mapping[str, Any]) -> None:
        """Handle one event of the job."""

    @abstractmethod
    def close(self) -> None:
        """Handle the end of messages."""


def _make(order: Order) -> _Handler:
    plugins = load_plugins(order.plugin_files, order.blocked)
    return _Hooks(plugins, order.name) if order.kind == "plugin" else _Tracked(Registry(plugins), order)


class _Hooks(_Handler):
    """The observer hooks of one plugin."""

    def __init__(self, plugins: Plugins, origin: str) -> None:
        if plugins.manager.get_plugin(origin) is None:
            raise PluginError(f"the plugin {origin} cannot be loaded in the observer's process")
        self.manager = plugins.manager
        self.others = [other for other in self.manager.get_plugins() if self.manager.get_name(other) != origin]

    def notify(self, hook: str, arguments: Mapping[str, Any]) -> None:
        self.manager.subset_hook_caller(hook, remove_plugins=self.others)(**arguments)

    def close(self) -> None:
        pass


class _Shown(BaseModel):
    """The progress of a tracker through a job, kept next to the job's record so that nothing is shown twice."""

    attempt: int = 1
    title: str
    epoch: int = 0
    ended: bool = False


class _Tracked(_Handler):
    """A tracker, and its progress through the job."""

    def __init__(self, registry: Registry, order: Order) -> None:
        self.order = order
        self.folder = Path(order.folder)
        self.file = self.folder / f"tracker-{order.name}.json"
        self.shown: _Shown | None = None
        self.tracker: Tracker = registry.get("trackers", order.name).create(order.params)

    def notify(self, hook: str, arguments: Mapping[str, Any]) -> None:
        if hook == "recbench_job_started":
            self._start(arguments["job"])
        elif hook == "recbench_epoch_ended":
            self._catch_up()
        elif hook == "recbench_job_ended":
            self._catch_up()
            record = arguments["record"]
            self.tracker.end(record, artifacts.read_images(self.folder) if record["status"] == "done" else {})
            self._note(ended=True)

    def close(self) -> None:
        if self.shown is not None and not self.shown.ended:
            self.tracker.pause()

    def _start(self, job: Mapping[str, Any]) -> None:
        earlier = _Shown.model_validate_json(self.file.read_bytes()) if self.file.is_file() else None
        continued = earlier is not None and not earlier.ended
        attempt = 1 if earlier is None else earlier.attempt + earlier.ended
        self.shown = earlier if earlier and continued else _Shown(attempt=attempt, title=self.order.title)
        run = Run(
            id=self.order.job_id if attempt == 1 else f"{self.order.job_id}-{attempt}",
            title=self.shown.title,
            suite=self.order.suite,
            job_id=self.order.job_id,
            job=job,
            folder=self.folder.parent.parent / "tracking" / self.order.name,
            continued=continued,
        )
        self.tracker.start(run)
        self._note()

    def _catch_up(self) -> None:
        """Show all new lines of the history, from the file rather than from messages: a tracker may have missed earlier
        ones, and a continued job repeats some."""
        assert self.shown is not None, "started"
        for values in artifacts.written_epochs(self.folder):
            if values["epoch"] > self.shown.epoch:
                self.tracker.epoch(values)
                self._note(epoch=int(values["epoch"]))

    def _note(self, **changes: Any) -> None:
        assert self.shown is not None, "started"
        self.shown = self.shown.model_copy(update=changes)
        write_atomically(self.file, self.shown.model_dump_json().encode())


if __name__ == "__main__":
    main()
