"""Who works on a job at the moment: ``running.json`` in its folder, written by the job itself.

On one machine the lock of :mod:`recbench.store.store` tells whether that is still true. Between machines on a shared folder
a lock may not reach, so the file has a count of beats that goes up while the job lives; who wants to know watches it.
No clocks are compared, so it does not matter whether they agree, or jump.
"""

from __future__ import annotations

import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from recbench.contracts.executor import JobProgress
from recbench.files import UNFINISHED, holder
from recbench.plan.model import Frozen

FILE = "running.json"
BEAT = 5.0
"""Seconds between two beats."""
SILENCE = 30.0
"""Seconds without a beat after which a job of another machine counts as dead."""


class RunningJob(Frozen):
    """A job at work.

    Attributes:
        host, process: where it runs.
        boot: what tells the running system of that machine from any other, containers on it included.
        device: ``cpu``, or a GPU.
        started: when this attempt began, in ISO 8601.
        beat: goes up by one every few seconds.
        epoch, epochs, images_per_second, seconds_left: as in ``JobProgress``; zero before the first one.
    """

    host: str
    boot: str
    process: int
    device: str
    started: str
    beat: int = 0
    epoch: int = 0
    epochs: int = 0
    images_per_second: float = 0.0
    seconds_left: float = 0.0

    @property
    def here(self) -> bool:
        """Whether it is on this machine, where locks tell whether it lives."""
        return self.boot == boot()


def boot() -> str:
    """The running system of this machine; another after each start of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


@contextmanager
def announced(folder: Path, device: str, started: str) -> Iterator[Callable[[JobProgress], None]]:
    """Keep a job's ``running.json`` up to date, and remove it at the end; gives what is to be told of progress.

    That the file cannot be written, for lack of space or other reasons, does not disturb the job.
    """
    state = [RunningJob(host=socket.gethostname(), boot=boot(), process=os.getpid(), device=device, started=started)]
    ended = threading.Event()

    def tell(progress: JobProgress) -> None:
        known = {name: getattr(progress, name) for name in ("epoch", "epochs", "images_per_second", "seconds_left")}
        state[0] = state[0].model_copy(update=known)

    def beat() -> None:
        for number in itertools.count():
            _write(folder, state[0].model_copy(update={"beat": number}))
            if ended.wait(BEAT):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield tell
    finally:
        ended.set()
        thread.join()
        with suppress(OSError):
            (folder / FILE).unlink(missing_ok=True)


def _write(folder: Path, running: RunningJob) -> None:
    """Replace the file, without making sure that it reaches the disk: it means nothing after a power cut."""
    temporary = folder / f".{FILE}.{running.process}{UNFINISHED}"
    with suppress(OSError):
        temporary.write_text(running.model_dump_json(indent=1) + "\n", encoding="utf-8")
        temporary.replace(folder / FILE)


def read(folder: Path) -> RunningJob | None:
    """What a job's ``running.json`` says, true or not; None where there is none that can be read."""
    try:
        return RunningJob.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def at_work(folder: Path) -> RunningJob | None:
    """Who works on a job, as far as can be said at once: on another machine it may have died since its last beat."""
    running = read(folder)
    if running is None or (running.here and holder(folder) is None):
        return None
    return running


def elsewhere(folder: Path, silence: float = SILENCE) -> bool:
    """Whether a living job on another machine works in this folder; takes until its next beat, or ``silence`` seconds
    where it is dead, and no time where nobody says so."""
    first = read(folder)
    if first is None or first.here:
        return False
    deadline = time.monotonic() + silence
    while time.monotonic() < deadline:
        time.sleep(min(BEAT / 5, silence / 5))
        now = read(folder)
        if now is None:  # it has just ended
            return False
        if now.here or now.beat != first.beat or now.started != first.started:
            return not now.here
    return False
