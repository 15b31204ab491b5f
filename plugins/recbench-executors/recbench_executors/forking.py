"""Jobs' processes come from multiprocessing's fork server: where its socket lies, and what to do when it is killed.

The standard library starts another server when it finds the last one dead, but it looks only once, and a server that
has just been killed refuses connections before it counts as dead.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import time
from contextlib import suppress
from multiprocessing import forkserver, util
from pathlib import Path
from typing import Any

from recbench.errors import UserError
from recbench_executors.processes import STARTED_BY

_LONGEST = 88
"""Bytes of the folder of a socket, whose own path may have 107."""
_NAME = 40
_OTHERS = ("XDG_RUNTIME_DIR", "/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 - a private folder is made in one of them


def prepare(preload: list[str]) -> multiprocessing.context.ForkServerContext:
    """Return the context that starts processes from a server with these modules loaded.

    Raises:
        UserError: there is no folder for its socket.
    """
    config: dict[str, Any] = vars(multiprocessing.current_process())["_config"]
    folder = config.get("tempdir")
    if folder is None or len(os.fsencode(folder)) > _LONGEST or not Path(folder).is_dir():
        config["tempdir"] = folder = _private_folder()
        util.Finalize(None, shutil.rmtree, args=(folder, True), exitpriority=-100)
    os.environ[STARTED_BY] = f"{os.getpid()}:{folder}"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(preload)
    return context


def _private_folder() -> str:
    """Make a folder that only this user may read, with a path that is short enough for a socket."""
    own = f"recbench-{_namespace()}-"
    for place in (tempfile.gettempdir(), *(os.environ.get(name, name) for name in _OTHERS)):
        if len(os.fsencode(place)) + _NAME > _LONGEST or not Path(place).is_absolute():
            continue
        for left in Path(place).glob(f"{own}*-*"):  # by a coordinator that was killed while its server started
            process = left.name.removeprefix(own).partition("-")[0]
            if process.isdecimal() and Path("/proc/self").exists() and not Path("/proc", process).exists():
                shutil.rmtree(left, ignore_errors=True)
        with suppress(OSError):
            return tempfile.mkdtemp(prefix=f"{own}{os.getpid()}-", dir=place)
    raise UserError(
        f"no folder for the socket of job processes: {tempfile.gettempdir()} is longer than {_LONGEST - _NAME} bytes, "
        "and none of /tmp, /var/tmp and /dev/shm can be written; set TMPDIR to a shorter path"
    )


def _namespace() -> str:
    """Identify the processes among which a process id is unique: containers may share a folder, and not these."""
    try:
        return str(Path("/proc/self/ns/pid").stat().st_ino)
    except OSError:
        return "0"


def server() -> int:
    """Return the process id of the last fork server; 0 before the first."""
    return int(vars(forkserver._forkserver)["_forkserver_pid"] or 0)


def is_dead(process: int, patience: float = 2.0) -> bool:
    """Return whether a fork server is dead, after giving one that has just been killed so many seconds to die."""
    deadline = time.monotonic() + patience
    while True:
        try:
            # Without reaping it: the standard library waits for it too, and must find it.
            if process != server() or os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)


def recover() -> None:
    """Prepare for another try after a process could not be started.

    A server that was killed is waited for. One that lives and cannot be reached, since somebody has removed its socket,
    is left to the jobs that it has; another takes its place.
    """
    known = vars(forkserver._forkserver)
    address = known["_forkserver_address"]
    if is_dead(server()) or address is None or os.path.exists(address):  # noqa: PTH110 - it may be any text
        return
    os.close(known["_forkserver_alive_fd"])  # the jobs have it as well
    known.update(_forkserver_address=None, _forkserver_alive_fd=None, _forkserver_pid=None)
    vars(multiprocessing.current_process())["_config"]["tempdir"] = None
