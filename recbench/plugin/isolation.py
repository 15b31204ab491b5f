"""Running code that may crash or hang: in a forked process, or with a time limit."""

from __future__ import annotations

import faulthandler
import os
import pickle
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, TypeVar, cast

from recbench.errors import PluginError, RecbenchError, UserError

_Result = TypeVar("_Result")

_SECONDS = 60.0
_CORE = f"{Path(__file__).parent.parent}{os.sep}"
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
    """Run an action in a forked process, and return how it ended or hung that process.

    An exception is no crash: the caller runs the action again and gets the exception. Output is discarded. The action's
    own processes are ended with it.

    Returns:
        A clause such as ``"crashed the process (SIGSEGV)"``; empty if the action returned or raised.
    """

    def quietly() -> str:
        faulthandler.disable()
        null = Path(os.devnull).open("r+")  # noqa: SIM115 - as long as the process
        for number in (0, 1, 2):
            os.dup2(null.fileno(), number)
        sys.stdin = sys.stdout = sys.stderr = null
        try:
            action()
        except KeyboardInterrupt:  # Ctrl-C does not reach this process, so the plugin raised it
            return "raised KeyboardInterrupt"
        except BaseException:  # noqa: BLE001, S110 - the caller will see it
            pass
        return ""

    raised, how = _forked(quietly, time_limit())
    return how or str(raised)


def call_in_fork(action: Callable[[], _Result]) -> _Result:
    """Run an action in a forked process and return its result, so that code of plugins cannot end this process.

    Args:
        action: its result is pickled. Its output and its input are this process's.

    Raises:
        UserError: raised by the action, as any other error of recbench.
        PluginError: anything else that the action raised or that ended its process; the text is a clause such as
            ``"crashed the process (SIGSEGV)"`` or ``"raised TypeError: … (file.py, line 3)"``.
        KeyboardInterrupt: this process was interrupted, or the action.
    """

    def answer() -> tuple[str, object]:
        try:
            return "result", action()
        except KeyboardInterrupt:
            return "interrupted", None
        except RecbenchError as error:
            return "error", str(error)
        except BaseException as error:  # noqa: BLE001 - SystemExit too
            return "raised", described(error)

    answered, how = _forked(answer, None)
    if how:
        raise PluginError(how)
    kind, value = answered
    if kind == "interrupted":
        raise KeyboardInterrupt
    if kind == "error":
        raise UserError(str(value))
    if kind == "raised":
        raise PluginError(f"raised {value}")
    return cast(_Result, value)


def described(error: BaseException) -> str:
    """Return type, text and place of an exception on one line: ``TypeError: … (bad.py, line 3)``."""
    try:
        text = " ".join(str(error).split())[:500]
    except Exception:  # noqa: BLE001 - the class is somebody else's
        text = ""
    place = place_of(traceback.extract_tb(error.__traceback__))
    return f"{type(error).__name__}{': ' if text else ''}{text}{f' ({place})' if place else ''}"


def place_of(frames: Sequence[traceback.FrameSummary]) -> str:
    """Return file and line of the last frame that is not recbench's own; empty if there is none."""
    others = [frame for frame in frames if not frame.filename.startswith((_CORE, "<frozen"))]
    return f"{others[-1].filename}, line {others[-1].lineno}" if others else ""


def _forked(action: Callable[[], object], limit: float | None) -> tuple[Any, str]:
    """Run an action in a forked process; return its pickled result, or None and how the process ended instead.

    That the action came to its end is seen by its answer, since a process can end with exit code 0 at any time.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # closed, or missing
            stream.flush()
    receiver, sender = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(receiver)
            if limit is not None:
                os.setsid()  # its children are ended with it, and Ctrl-C is for the parent
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.alarm(int(limit) + 5)  # if the parent is killed meanwhile
            content = pickle.dumps(action())
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):
                    stream.flush()
            with os.fdopen(sender, "wb") as pipe:
                pipe.write(content)
        finally:
            os._exit(0)
    os.close(sender)
    try:
        with os.fdopen(receiver, "rb", buffering=0) as pipe:
            content, status = _watch(child, pipe, None if limit is None else time.monotonic() + limit)
    finally:
        _end(child, group=limit is not None)
    if status is None:
        return None, f"hung the process ({_not_finished()})"
    with suppress(EOFError, pickle.UnpicklingError):
        return pickle.loads(content), ""  # noqa: S301 - of our own process
    code = os.waitstatus_to_exitcode(status)
    return None, f"ended the process (exit code {code})" if code >= 0 else f"crashed the process ({signal_name(-code)})"


def _watch(child: int, pipe: IO[bytes], deadline: float | None) -> tuple[bytes, int | None]:
    """Return what a process wrote to the pipe, and its exit status; None if it is not finished by the deadline.

    The pipe alone does not tell: the process may close it and go on, or end and leave it to a child of its own.
    """
    content, pause, opened = b"", 0.001, [pipe]
    while deadline is None or time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        while select.select(opened, [], [], 0.0 if ended else pause)[0]:
            block = os.read(pipe.fileno(), 1 << 16)
            content += block
            if not block:
                opened = []
                break
        if ended:
            return content, status
        pause = min(2 * pause, 0.05)
    return content, None


def _end(child: int, *, group: bool) -> None:
    """End a process, which may have ended, and with it its group."""
    with suppress(ProcessLookupError, PermissionError):
        if group:
            os.killpg(child, signal.SIGKILL)
    with suppress(ChildProcessError):
        if os.waitpid(child, os.WNOHANG)[0] == 0:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)


def signal_name(number: int) -> str:
    """Return the name of a signal; real-time signals have none, but a number."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


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
