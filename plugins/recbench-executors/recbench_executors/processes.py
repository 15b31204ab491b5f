"""Processes of jobs: reasons of their end, and tying their life to that of their parent."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress
from pathlib import Path

from recbench.contracts.executor import Reason

_PR_SET_PDEATHSIG = 1
STARTED_BY = "_RECBENCH_FORK_SERVER"
"""The variable that tells a fork server which process has started it, and the folder of its socket."""

SAFE_PATH = "recbench"
"""The value of PYTHONSAFEPATH that recbench sets, and takes away again before jobs start programs of their own."""


def die_with_parent(number: signal.Signals) -> None:
    """Have the system send this process a signal when its parent dies (on Linux; elsewhere nothing happens)."""
    control = getattr(ctypes.CDLL(None), "prctl", None)
    if control is not None:
        control(_PR_SET_PDEATHSIG, int(number))


def kill_group(process: int) -> None:
    """Kill the rest of a job's process group: a job that was killed leaves its own children behind."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process, signal.SIGKILL)


def memory_kills() -> int:
    """Return the number of processes that the system has killed for lack of memory since boot; -1 if unknown."""
    try:
        lines = Path("/proc/vmstat").read_text(encoding="ascii").splitlines()
    except OSError:
        return -1
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), -1)


def how_it_died(code: int | None, *, memory: bool = False) -> tuple[Reason, str]:
    """Return the reason and a message for a process's exit code (negative: a signal).

    Args:
        memory: True if the system killed any process for lack of memory while this one ran.
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
