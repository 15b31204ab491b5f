"""The local executor: a fresh process for each job.

Stock pools lose or hang other jobs when one worker is killed. Here a worker is one process for one job, forked from a
server that has imported torch, and watched through a pipe and its exit.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from recbench.contracts.executor import Ended, Event, Executor, Progress, Task
from recbench.errors import UserError

ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""glibc gives about 1 GB back to the system at every step of a 64-pixel VAE and asks for it again, page by page.
Keeping it makes training 1.4 times as fast (docs/benchmarks.md). Only what the user has not set is set."""


@dataclass
class _Worker:
    task: Task
    process: ForkServerProcess
    pipe: Connection
    slot: int
    ended: bool = False


class Local(Executor):
    """See the entry's notes."""

    def __init__(self, *, jobs: int, threads: int) -> None:
        self.jobs = jobs
        self.threads = threads
        self.stopping = False
        self.draining = False
        self.workers: list[_Worker] = []

    @cached_property
    def gpus(self) -> list[str]:
        """GPUs of this machine; looked for when the first job is about to start."""
        return visible_gpus()

    def describe(self, tasks: int) -> str:
        slots = self._slots("auto")
        where = f"on {len(self.gpus)} GPU{'s' * (len(self.gpus) > 1)}" if self.gpus else "on the CPU"
        threads = self._threads(slots)
        return f"{slots} side by side {where}, {threads} thread{'s' * (threads > 1)} each"

    def check(self, tasks: Sequence[Task]) -> None:
        if tasks and tasks[0].device.startswith("cuda") and not self.gpus:
            raise UserError(f"--device {tasks[0].device}: no NVIDIA GPU was found on this machine")

    def map(self, tasks: Sequence[Task]) -> Iterator[Event]:
        if not tasks:
            return
        for name, value in ALLOCATOR.items():  # inherited by the fork server, before it imports torch
            os.environ.setdefault(name, value)
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["torch", "torch._dynamo", "recbench.runner"])
        slots = self._slots(tasks[0].device)
        free = deque(range(slots))
        waiting = deque(tasks)
        try:
            while (waiting and not (self.stopping or self.draining)) or self.workers:
                while waiting and free and not (self.stopping or self.draining):
                    self._start(context, waiting.popleft(), free.popleft(), self._threads(slots))
                if self.stopping:  # asked while a worker was being started, which then was not told
                    self._signal(signal.SIGTERM)
                yield from self._events()
                for worker in [worker for worker in self.workers if not worker.process.is_alive()]:
                    yield from self._drain(worker)
                    worker.process.join()
                    worker.pipe.close()
                    self.workers.remove(worker)
                    free.append(worker.slot)
                    if not worker.ended and self.stopping:
                        yield Ended(worker.task.job_id, "interrupted")
                    elif not worker.ended:
                        yield Ended(worker.task.job_id, "crashed", how_it_died(worker.process.exitcode))
        finally:
            self.kill()

    def drain(self) -> None:
        self.draining = True

    def stop(self) -> None:
        self.stopping = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self.stopping = True
        self._signal(signal.SIGKILL)

    def _slots(self, device: str) -> int:
        if self.jobs:
            return self.jobs
        return len(self.gpus) if self.gpus and device == "auto" else 1 if device.startswith("cuda") else cores()

    def _threads(self, slots: int) -> int:
        return self.threads or max(1, cores() // slots)

    def _start(self, context: multiprocessing.context.ForkServerContext, task: Task, slot: int, threads: int) -> None:
        receiver, sender = context.Pipe(duplex=False)
        gpu = self.gpus[slot % len(self.gpus)] if self.gpus and task.device == "auto" else None
        process = context.Process(target=work, args=(task, sender, gpu, threads), name=f"recbench-{task.job_id}")
        process.start()
        sender.close()
        self.workers.append(_Worker(task, process, receiver, slot))

    def _events(self) -> Iterator[Event]:
        """Wait for any worker to say something or end, and pass on what was said."""
        ready = wait([w.pipe for w in self.workers if not w.ended] + [w.process.sentinel for w in self.workers], 1.0)
        for worker in self.workers:
            if worker.pipe in ready:
                yield from self._drain(worker)

    def _drain(self, worker: _Worker) -> Iterator[Event]:
        try:
            while not worker.ended and worker.pipe.poll():
                event: Event = worker.pipe.recv()
                worker.ended = isinstance(event, Ended)
                yield event
        except (EOFError, OSError):  # the process is gone; its exit code says how
            return

    def _signal(self, number: signal.Signals) -> None:
        for worker in list(self.workers):
            if worker.process.pid is not None and worker.process.is_alive():
                try:
                    os.killpg(worker.process.pid, number)
                except ProcessLookupError:  # not yet leader of its own group, or just gone
                    worker.process.terminate() if number == signal.SIGTERM else worker.process.kill()


def work(task: Task, pipe: Connection, gpu: str | None, threads: int) -> None:
    """Run one task in this process, which is the task's own."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the coordinator, which then asks us
    os.setpgid(0, 0)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    log = (Path(task.folder) / "log.txt").open("a", buffering=1, encoding="utf-8")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log

    import torch

    from recbench.errors import OutOfSpaceError
    from recbench.runner import run_task

    torch.set_num_threads(threads)

    def tell(progress: Progress) -> None:
        try:
            pipe.send(progress)
        except OSError:  # the coordinator is gone; so are we, soon
            stopped.set()

    try:
        outcome = Ended(task.job_id, run_task(task, tell, stopped.is_set))
    except OutOfSpaceError as error:
        outcome = Ended(task.job_id, "full", str(error))
    except BaseException as error:  # noqa: BLE001 - whatever it is, the coordinator is told
        traceback.print_exc()
        outcome = Ended(task.job_id, "crashed", f"{type(error).__name__}: {error}")
    pipe.send(outcome)


def _die_with_parent() -> None:
    """End this process and its children when the coordinator dies, however it dies."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(os.getpid(), signal.SIGKILL)


def how_it_died(code: int | None) -> str:
    """An exit code in words."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        hint = "; often the system had no memory left" if name == "SIGKILL" else ""
        return f"the job's process was ended by {name}{hint}"
    return f"the job's process ended with exit code {code} and no record"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """GPUs as CUDA_VISIBLE_DEVICES names them, without starting CUDA in this process, which a fork could not share."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() not in ("", "-1")]
    lister = shutil.which("nvidia-smi")
    if lister is None:
        return []
    try:
        listed = subprocess.run([lister, "-L"], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError):  # a driver without a working device
        return []
    count = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return [str(index) for index in range(count)]
