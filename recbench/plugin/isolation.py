"""Running code that may crash or hang: first in a forked process, then with a time limit."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SECONDS = 60.0
_VARIABLE = "RECBENCH_PLUGIN_SECONDS"


class TimeLimitExceeded(BaseException):
    """Raised in code that runs too long. Not an Exception, so that the code's own ``except Exception`` lets it pass."""


def time_limit() -> float:
    """Return the number of seconds that the import of a plugin may take."""
    try:
        return max(0.1, float(os.environ.get(_VARIABLE, _SECONDS)))
    except ValueError:
        return _SECONDS


def crash_in_fork(action: Callable[[], object]) -> str:
    """Run an action in a forked process, and return how it crashed or hung that process.

    An exception is not a crash: the caller runs the action again and gets the exception. Output is discarded.

    Returns:
        A clause such as ``"crashed the process (SIGSEGV)"``; empty if the process ended normally.
    """
    child = os.fork()
    if child == 0:
        try:
            null = os.open(os.devnull, os.O_RDWR)
            for number in (0, 1, 2):
                os.dup2(null, number)
            action()
        finally:
            os._exit(0)
    deadline = time.monotonic() + time_limit()
    pause = 0.001
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"hung the process ({_not_finished()})"
        time.sleep(pause)
        pause = min(2 * pause, 0.05)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        return f"crashed the process ({signal.Signals(-code).name})"
    return f"ended the process (exit code {code})" if code else ""


@contextmanager
def with_time_limit() -> Iterator[None]:
    """Raise :class:`TimeLimitExceeded` in a block that runs too long.

    Works in the main thread only, and cannot interrupt C code that never returns to the interpreter.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TimeLimitExceeded(_not_finished())

    try:
        before = signal.signal(signal.SIGALRM, interrupt)
    except ValueError:  # not the main thread
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, time_limit(), 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _not_finished() -> str:
    return f"not finished after {time_limit():g} s; {_VARIABLE} sets the limit"
