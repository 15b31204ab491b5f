"""Processes of jobs: how they die, and that they never outlive those who started them."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

from recbench.contracts.executor import Reason

_PR_SET_PDEATHSIG = 1


def die_with_parent(number: signal.Signals) -> None:
    """Have the system send this process a signal when its parent dies. Nothing happens on systems other than Linux."""
    control = getattr(ctypes.CDLL(None), "prctl", None)
    if control is not None:
        control(_PR_SET_PDEATHSIG, int(number))


def kill_group(process: int) -> None:
    """End what is left of a job's process group: a job that was killed leaves its own children behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def memory_kills() -> int:
    """How many processes the system has ended since it started because memory had run out; -1 if it does not say."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return -1
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), -1)


def how_it_died(code: int | None, *, memory: bool = False) -> tuple[Reason, str]:
    """The named state and the words for a process's exit code (negative: a signal).

    Args:
        memory: whether the system ended any process for lack of memory while this one ran.
    """
    if code is None or code >= 0:
        return "exit", f"the job's process ended with exit code {code} and no record"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # real-time signals have no names
        name = f"signal {-code}"
    text = f"the job's process was ended by {name}"
    if name != "SIGKILL":
        return "crash", text
    if memory:
        return "out of memory", f"{text}: the system had no memory left"
    return "killed", f"{text}; often the system had no memory left"
