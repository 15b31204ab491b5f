"""Trying something out in a process that may die of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SECONDS = 60.0
_VARIABLE = "RECBENCH_PLUGIN_SECONDS"


class TookTooLong(BaseException):
    """Not an Exception, so that what hangs in a loop of attempts does not take it for one that failed."""


def patience() -> float:
    """Seconds that a plugin may take to be imported."""
    try:
        return max(0.1, float(os.environ.get(_VARIABLE, _SECONDS)))
    except ValueError:
        return _SECONDS


def survives(action: Callable[[], object]) -> str:
    """Do something in a forked process; gives how that process died, or nothing if it did not.

    What the action raises is no death: the caller does the action again, and sees. Whatever it prints is dropped.
    """
    child = os.fork()
    if child == 0:
        try:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(nowhere, number)
            action()
        finally:
            os._exit(0)
    deadline = time.monotonic() + patience()
    pause = 0.001
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"it hangs: no end after {patience():g} s ({_VARIABLE})"
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"it ends the process by {signal.Signals(-code).name}"
    return f"it ends the process with exit code {code}" if code else ""


@contextmanager
def impatiently() -> Iterator[None]:
    """Raise :class:`TookTooLong` in what takes too long, in the main thread; what hangs in C code without looking up is
    beyond its reach."""

    def ring(number: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"no end after {patience():g} s ({_VARIABLE})")

    try:
        before = signal.signal(signal.SIGALRM, ring)
    except ValueError:  # not the main thread
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, patience(), 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
