"""Heartbeats: ``running.json`` in the folder of a running job, written by the job itself.

On one machine the lock of the folder (:mod:`recbench.files`) shows whether the job is still alive. Between machines
that share a folder a lock may have no effect, so the file contains a counter that increases as long as the job is
alive. Clocks are not compared, so they need not agree.
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
from recbench.files import UNFINISHED, append_regular, holder, read_regular
from recbench.plan.model import Frozen
from recbench.store.record import Amount, Count

FILE = "running.json"
_MOST = 1 << 16
BEAT = 5.0
"""Seconds between two beats."""
SILENCE = 30.0
"""Seconds without a beat after which a job of another machine counts as dead."""


class RunningJob(Frozen):
    """A running job.

    Attributes:
        host, process: the machine and the process id.
        boot: identifies the running system of that machine, shared by its containers.
        device: ``cpu``, or a GPU.
        started: start of this attempt, in ISO 8601.
        beat: increases by one every few seconds.
        epoch, epochs, images_per_second, seconds_left: as in ``JobProgress``; zero before the first one.
    """

    host: str
    boot: str
    process: Count
    device: str
    started: str
    beat: Count = 0
    epoch: Count = 0
    epochs: Count = 0
    images_per_second: Amount = 0.0
    seconds_left: Amount = 0.0

    @property
    def here(self) -> bool:
        """True if it is on this machine, where locks show whether it is alive."""
        return self.boot == boot()


def boot() -> str:
    """Return an id of the running system of this machine, which changes with every boot."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return socket.gethostname()


@contextmanager
def announced(
    folder: Path, device: str, started: str, work: Path | None = None
) -> Iterator[Callable[[JobProgress], None]]:
    """Keep a job's ``running.json`` up to date, and remove it at the end; yields the function that takes progress.

    The job goes on if the file cannot be written, for lack of space or other reasons.

    Args:
        work: the attempt's own folder, out of which the file is moved, so that an attempt that has lost it writes
            nothing; None: the job's folder.
    """
    state = [RunningJob(host=socket.gethostname(), boot=boot(), process=os.getpid(), device=device, started=started)]
    ended = threading.Event()

    def tell(progress: JobProgress) -> None:
        known = {name: getattr(progress, name) for name in ("epoch", "epochs", "images_per_second", "seconds_left")}
        state[0] = state[0].model_copy(update=known)

    def beat() -> None:
        for number in itertools.count():
            _write(folder, work or folder, state[0].model_copy(update={"beat": number}))
            if ended.wait(BEAT):
                return

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield tell
    finally:
        ended.set()
        thread.join()
        if (last := read(folder)) is not None and _same(last, state[0]):
            with suppress(OSError):
                (folder / FILE).unlink(missing_ok=True)


def _same(one: RunningJob, other: RunningJob) -> bool:
    return (one.boot, one.process, one.started) == (other.boot, other.process, other.started)


def clear(folder: Path, process: int) -> None:
    """Remove the heartbeat of a process of this machine that has died."""
    last = read(folder)
    if last is not None and last.here and last.process == process:
        with suppress(OSError):
            (folder / FILE).unlink(missing_ok=True)


def _write(folder: Path, work: Path, running: RunningJob) -> None:
    """Replace the file without fsync: it means nothing after a power cut."""
    temporary = work / f".{FILE}.{running.process}{UNFINISHED}"
    with suppress(OSError):
        temporary.unlink(missing_ok=True)  # it may be a link
        append_regular(temporary, running.model_dump_json(indent=1) + "\n")
        temporary.replace(folder / FILE)


def read(folder: Path) -> RunningJob | None:
    """Return the content of a job's ``running.json``, even if outdated; None if it is missing or unreadable."""
    try:
        return RunningJob.model_validate_json(read_regular(folder / FILE, _MOST))
    except (OSError, ValidationError):
        return None


def at_work(folder: Path) -> RunningJob | None:
    """Return the running job, without waiting: one on another machine may have died since its last beat."""
    running = read(folder)
    if running is None or (running.here and holder(folder) is None):
        return None
    return running


def elsewhere(folder: Path, silence: float = SILENCE) -> bool:
    """Return whether a job that is alive on another machine uses this folder.

    Takes until its next beat, or ``silence`` seconds if it is dead; returns at once if the folder has no heartbeat.
    """
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
