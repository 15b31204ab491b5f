"""recbench's command line for tests that call it hundreds of times, without the seconds that importing torch takes.

A process that has imported everything forks for each command, and once more for what that command starts as the fork
server of its jobs. Nothing else differs from ``python -m recbench``. Tests of how processes begin, get signals or die
start their own.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import multiprocessing.util
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

ROOT = Path(__file__).parent.parent
LOOKED_AT_ONCE = ("LD_", "MKL_", "OMP_", "OPENBLAS_", "PYTHON")
"""How variables begin that count when a process starts, or when it loads torch."""
LATER = (
    "recbench.job.runner",
    "recbench.cli.live",
    "torch._dynamo",
    "safetensors.torch",
    "pandas",
    "pyarrow.parquet",
    "PIL.Image",
)
"""What commands and jobs import only when they need it."""


class Command:
    """A command that runs, as :class:`subprocess.Popen` has it, with captured text."""

    def __init__(self, words: Sequence[str], process: int, code: TextIO, outputs: Sequence[int]) -> None:
        self.args = ["recbench", *words]
        self.pid = process
        self.returncode: int | None = None
        self._texts = ["", ""]
        self._threads = [threading.Thread(target=self._wait, args=(code,), daemon=True)]
        self._threads += [threading.Thread(target=self._read, args=each, daemon=True) for each in enumerate(outputs)]
        for thread in self._threads:
            thread.start()

    def _wait(self, code: TextIO) -> None:
        with code:
            self.returncode = int(code.readline())

    def _read(self, number: int, output: int) -> None:
        with open(output, encoding="utf-8") as stream:
            self._texts[number] = stream.read()

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        self._join(self._threads[:1], timeout)
        assert self.returncode is not None
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self._join(self._threads, timeout)
        return self._texts[0], self._texts[1]

    def _join(self, threads: Sequence[threading.Thread], timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        for thread in threads:
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0.0)


class CommandLine:
    """Runs commands of recbench, by forking where nobody can tell: on Linux, and with the environment of this process
    as far as it is looked at once."""

    def __init__(self) -> None:
        self._requests, other = socket.socketpair()
        self._environment = dict(os.environ)
        command = [sys.executable, "-m", "tests.command_line", str(other.fileno())]
        self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[other.fileno()], start_new_session=True)
        other.close()

    def close(self) -> None:
        """End the process that forks."""
        self._requests.close()
        self._process.wait()

    def run(
        self, *arguments: object, cwd: Path, environment: Mapping[str, str], timeout: float = 300
    ) -> subprocess.CompletedProcess[str]:
        """Do what ``subprocess.run([sys.executable, "-m", "recbench", *arguments], …)`` does, with captured text.

        Raises:
            subprocess.TimeoutExpired: the command took longer, and was killed.
        """
        command = self.start(*arguments, cwd=cwd, environment=environment)
        try:
            out, err = command.communicate(timeout=timeout)
        except BaseException:
            command.kill()
            raise
        return subprocess.CompletedProcess(command.args, command.wait(), out, err)

    def start(self, *arguments: object, cwd: Path, environment: Mapping[str, str]) -> Command | subprocess.Popen[str]:
        """Do what ``subprocess.Popen([sys.executable, "-m", "recbench", *arguments], …)`` does, with captured text."""
        words = [str(argument) for argument in arguments]
        names = {name for name in {*self._environment, *environment} if name.startswith(LOOKED_AT_ONCE)}
        other = any(self._environment.get(name) != environment.get(name) for name in names)
        if other or sys.platform != "linux":  # elsewhere libraries may not survive a fork
            command, pipe = [sys.executable, "-m", "recbench", *words], subprocess.PIPE
            return subprocess.Popen(command, cwd=cwd, env=environment, stdout=pipe, stderr=pipe, text=True)
        ours, theirs = socket.socketpair()
        pipes = os.pipe(), os.pipe()
        socket.send_fds(self._requests, [b"."], [theirs.fileno(), *(write for _, write in pipes)])
        theirs.close()
        for _, write in pipes:
            os.close(write)
        with ours:
            talk = ours.makefile("rw", encoding="utf-8")
        print(json.dumps([words, str(cwd), dict(environment)]), file=talk, flush=True)
        return Command(words, int(talk.readline()), talk, [read for read, _ in pipes])


@contextmanager
def ended(process: Any) -> Iterator[Any]:
    """A command that runs in the background, until the block ends at the latest."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def serve(requests: socket.socket) -> list[str]:
    """Fork for each request. Returns only in a process that is to run a command: its arguments."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait for commands
    while True:
        message, given, _, _ = socket.recv_fds(requests, 1, 3)
        if not message:
            os._exit(0)
        if os.fork() == 0:
            requests.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            return _begin(*given)
        for descriptor in given:
            os.close(descriptor)


def _begin(connection: int, out: int, err: int) -> list[str]:
    """Fork the process of a command, and wait for it. Returns only there: the arguments."""
    with socket.socket(fileno=connection) as answer, answer.makefile("rw", encoding="utf-8") as talk:
        words, folder, environment = json.loads(talk.readline())
        process = os.fork()
        if process:
            os.close(out)
            os.close(err)
            print(process, file=talk, flush=True)
            print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), file=talk, flush=True)
            os._exit(0)
    os.setpgid(0, 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, descriptor in enumerate((nothing, out, err)):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[0] = folder
    _prepare_fork_server()
    streams = (open(number, mode, closefd=False) for number, mode in enumerate("rww"))  # noqa: SIM115
    sys.stdin, sys.stdout, sys.stderr = streams
    return list(words)


def _prepare_fork_server() -> None:
    """Fork, now that this process has no threads yet, what becomes multiprocessing's fork server if one is started."""
    ours, theirs = socket.socketpair()
    spare = os.fork()
    if not spare:
        ours.close()
        _become_fork_server(theirs)
    theirs.close()
    start = multiprocessing.util.spawnv_passfds

    def begin(path: str, arguments: Sequence[str], descriptors: Sequence[int]) -> int:
        program = str(arguments[-1])
        if "multiprocessing.forkserver" not in program or ours.fileno() < 0:
            return start(path, arguments, descriptors)
        with ours:
            told = json.dumps([program, list(descriptors), dict(os.environ)]).encode()
            socket.send_fds(ours, [len(told).to_bytes(4)], list(descriptors))
            ours.sendall(told)
        return spare

    multiprocessing.util.spawnv_passfds = begin


def _become_fork_server(wishes: socket.socket) -> NoReturn:
    """Run the program of a fork server when it comes, with the descriptors that it knows by number."""
    size, given, _, _ = socket.recv_fds(wishes, 4, 8)
    if not size:
        os._exit(0)  # the command has ended without one
    told = b""
    while len(told) < int.from_bytes(size):
        told += wishes.recv(1 << 16)
    wishes.close()
    program, numbers, environment = json.loads(told)
    free = max(*given, *numbers) + 1
    for place, descriptor in enumerate(given):
        os.dup2(descriptor, free + place)
        os.close(descriptor)
    for place, number in enumerate(numbers):
        os.dup2(free + place, number)
        os.close(free + place)
    os.environ.clear()
    os.environ.update(environment)
    exec(program, {"__name__": "__main__"})
    os._exit(0)


def _run() -> int:
    """Run the command, and return its exit code. The interpreter is not taken down: extensions that no command loads
    would say on the way what they have left."""
    code: object = 0
    try:
        runpy.run_module("recbench", run_name="__main__", alter_sys=True)
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code if isinstance(code, int) else int(code is not None)


def _import_all() -> None:
    """Import what commands and jobs do, but what prepares the fork server, which acts when it is imported."""
    from recbench.cli import COMMANDS
    from recbench.plugin.manager import load_plugins

    for name in (*(module for module, _ in COMMANDS.values()), *LATER):
        importlib.import_module(name)
    load_plugins()


if __name__ == "__main__":
    _import_all()
    gc.freeze()
    sys.argv = ["recbench", *serve(socket.socket(fileno=int(sys.argv[1])))]
    os._exit(_run())
