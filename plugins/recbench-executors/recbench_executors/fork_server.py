"""Prepares the fork server, which imports this module before anything else; no other process imports it.

Signals to the whole group or service (Ctrl-C, a closed terminal, a stopped service) are for the coordinator, which asks
its jobs to write checkpoints; a fork server that they ended would take the jobs with it. When the coordinator dies,
however it dies, so does the fork server, and with it all its jobs: also one that hangs in C code and so cannot notice
by itself, as :func:`recbench_executors.local.work` otherwise does.
"""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path
from types import FrameType

from recbench_executors.processes import SAFE_PATH, STARTED_BY, die_with_parent

SERVER = os.getpid()
_NUMBER, _, _FOLDER = os.environ.get(STARTED_BY, "").partition(":")
_PARENT = int(_NUMBER) if _NUMBER else os.getppid()


def _end(number: int, frame: FrameType | None) -> None:
    """Where the coordinator is dead, end all jobs with their children, and this process; remove its socket's folder."""
    if os.getppid() == _PARENT:  # only the thread that started us has ended
        return
    listed = Path(f"/proc/self/task/{os.getpid()}/children")
    for job in listed.read_text(encoding="ascii").split() if listed.exists() else ():
        for kill in (os.killpg, os.kill):  # one that has just begun leads no group yet
            with suppress(ProcessLookupError):
                kill(int(job), signal.SIGKILL)
    if _FOLDER:
        shutil.rmtree(_FOLDER, ignore_errors=True)
    os._exit(0)


def _watch(number: signal.Signals) -> None:
    """Have this process end with the coordinator, which may have died before: then no signal comes.

    Does nothing in the jobs' processes, which inherit it and may fork, too.
    """
    if os.getpid() != SERVER:
        return
    die_with_parent(number)
    _end(number, None)


for _number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, _end)
if os.environ.get("PYTHONSAFEPATH") == SAFE_PATH:
    del os.environ["PYTHONSAFEPATH"]  # what jobs start is theirs
_watch(signal.SIGKILL)  # while torch is being loaded, which takes seconds, there are no jobs, and no handler would run
os.register_at_fork(before=lambda: _watch(signal.SIGUSR1))
