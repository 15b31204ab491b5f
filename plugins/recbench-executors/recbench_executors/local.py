"""The local executor: a fresh process for each job.

Stock pools lose or hang other jobs when one worker is killed. Here a worker is one process for one job, forked from a
server that has imported torch, and watched through a pipe and its exit.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import ModuleType

from recbench import Store, holder
from recbench.contracts.executor import ChosenDevice, Ended, Event, Executor, JobProgress, Task
from recbench.errors import UserError
from recbench_executors import forking
from recbench_executors.gpus import variables_for, visible_gpus
from recbench_executors.processes import SAFE_PATH, die_with_parent, how_it_died, kill_group, memory_kills

ALLOCATOR = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "100000000000",
    "MALLOC_TOP_PAD_": "268435456",
    "THP_MEM_ALLOC_ENABLE": "1",
}
"""glibc gives about 1 GB back to the system at every step of a 64-pixel VAE and asks for it again, page by page.
Keeping it makes training 1.4 times as fast (docs/benchmarks.md). Only what the user has not set is set."""


JOBS_PER_GPU = 1
"""Jobs that share a GPU unless --jobs-per-device says otherwise."""

STARTS, PATIENCE = 10, 300.0
"""Tries and seconds to start a job's process, while somebody kills the fork server again and again."""
REPEATS = 10
"""Times that a job runs again because the fork server was killed, before that is reported as a failure."""
_UNKNOWN_EXIT = 255
"""What the standard library gives as exit code where the fork server can tell it no more."""

_PRELOADED = [
    "recbench_executors.fork_server",
    "torch",
    "torch._dynamo",
    "recbench.job.runner",
    "pandas",  # which a job loads when it writes its files: half a second, here once and not in every job
    "safetensors.torch",
]


@dataclass
class _Worker:
    task: Task
    process: ForkServerProcess
    pipe: Connection
    slot: int
    deadline: float
    memory_kills: int
    server: int
    ended: bool = False
    timed_out: bool = False


class Local(Executor):
    """See the entry's notes."""

    def __init__(self, *, jobs: int, threads: int, devices: str = "", jobs_per_device: int = 0) -> None:
        self.jobs = jobs
        self.threads = threads
        self.devices = devices
        self.jobs_per_device = jobs_per_device
        self.device = "auto"
        self.closed = False
        self.stopping = False
        self.workers: list[_Worker] = []
        self.repeated: Counter[str] = Counter()
        self.troubles: list[str] = []

    @cached_property
    def gpus(self) -> list[str]:
        """The GPUs of this machine, determined before the first job starts."""
        return visible_gpus(self.troubles.append)

    def check(self, tasks: Sequence[Task]) -> None:
        self.device = tasks[0].device if tasks else self.device
        if self.device.startswith("cuda") and not self.gpus:
            raise UserError(f"--device {self.device}: no NVIDIA GPU was found on this machine{self._why()}")
        if self.device.startswith("cuda:") and not self._chosen():
            raise UserError(f"--device {self.device}: there are {len(self.gpus)} GPUs on this machine, from cuda:0")
        if self.devices:
            if not self.gpus:
                raise UserError(f"--devices {self.devices}: no NVIDIA GPU was found on this machine{self._why()}")
            if self.device not in ("auto", "cuda"):
                raise UserError(f"--devices {self.devices} and --device {self.device} exclude each other: give one")
            self._chosen()

    def chosen_device(self, device: str) -> ChosenDevice:
        self.check([Task("", "", "", device=device)])
        first = next(iter(self._chosen()), None)
        return ChosenDevice("cpu" if first is None else "cuda", variables_for(first))

    def describe(self, tasks: int) -> str:
        slots, chosen = self._slots(), self._chosen()
        where = f"on {len(chosen)} GPU{'s' * (len(chosen) > 1)}" if chosen else f"on the CPU{self._why()}"
        threads = self._threads(slots)
        return f"{slots} side by side {where}, {threads} thread{'s' * (threads > 1)} each"

    def map(self, tasks: Sequence[Task]) -> Iterator[Event]:
        if not tasks:
            return
        self.device = tasks[0].device
        slots = self._slots()
        for name, value in {**ALLOCATOR, "OPENBLAS_NUM_THREADS": str(self._threads(slots))}.items():
            os.environ.setdefault(name, value)  # inherited by the fork server, before it imports torch
        free = deque(range(slots))
        waiting = deque(tasks)
        try:
            while (waiting and not self.closed) or self.workers:
                while waiting and free and not self.closed:
                    task = waiting.popleft()
                    known = known_without_running(task)
                    if known is not None:
                        yield known
                    elif (trouble := self._start(task, free)) is not None:
                        yield trouble
                if self.stopping:  # a worker that was just being started has not received the request
                    self._signal(signal.SIGTERM)
                yield from self._events()
                self._end_overdue()
                for worker in [worker for worker in self.workers if not worker.process.is_alive()]:
                    yield from self._drain(worker)
                    worker.process.join()
                    worker.pipe.close()
                    kill_group(worker.process.pid or 0)
                    self.workers.remove(worker)
                    free.append(worker.slot)
                    _store(worker.task).note_death(worker.task.job_id, worker.process.pid or 0)
                    if worker.ended:
                        continue
                    if self._lost_its_server(worker):
                        waiting.appendleft(worker.task)
                    else:
                        yield self._unreported_end(worker)
        finally:
            self._signal(signal.SIGKILL)  # jobs of a loop that was left early; the next round may still start jobs

    def drain(self) -> None:
        self.closed = True

    def stop(self) -> None:
        self.closed = self.stopping = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        self.closed = self.stopping = True
        self._signal(signal.SIGKILL)

    def _chosen(self) -> list[str]:
        """Return the GPUs that jobs are spread over, as CUDA_VISIBLE_DEVICES names them; none for the CPU.

        Raises:
            UserError: --devices names a GPU that does not exist.
        """
        if self.device == "cpu":
            return []
        if self.device.startswith("cuda:"):
            index = int(self.device.partition(":")[2])
            return self.gpus[index : index + 1]
        if not self.devices:
            return self.gpus
        chosen = []
        for name in (name.strip() for name in self.devices.split(",")):
            place = int(name) if name.isdecimal() else self.gpus.index(name) if name in self.gpus else len(self.gpus)
            if place >= len(self.gpus) or self.gpus[place] in chosen:
                there = f"0 to {len(self.gpus) - 1}" if len(self.gpus) > 1 else "0"
                raise UserError(f"--devices {self.devices}: expected different GPUs from {there}, got '{name}'")
            chosen.append(self.gpus[place])
        return chosen

    def _why(self) -> str:
        """Return why no GPU is listed, in parentheses, where there may be one."""
        return f" ({self.troubles[0]})" if self.troubles else ""

    def _slots(self) -> int:
        chosen = self._chosen()
        each = self.jobs_per_device or (JOBS_PER_GPU if chosen else cores())
        return self.jobs or each * max(1, len(chosen))

    def _threads(self, slots: int) -> int:
        return self.threads or max(1, cores() // slots)

    def _start(self, task: Task, free: deque[int]) -> Ended | None:
        """Start a job's process; return its end if that is not possible."""
        chosen, begun, tries = self._chosen(), time.monotonic(), 0
        while True:
            context = forking.prepare(_PRELOADED)
            receiver, sender = context.Pipe(duplex=False)
            gpu = chosen[free[0] % len(chosen)] if chosen else None
            arguments = (task, sender, gpu, self._threads(self._slots()))
            process = context.Process(target=work, args=arguments, name=f"recbench-{task.job_id}")
            try:
                with without_working_folder(), without_main_module():
                    process.start()
            except (OSError, EOFError) as caught:  # the fork server was killed; the next start makes another
                receiver.close()
                tries += 1
                if self.closed:
                    return Ended(task.job_id, "interrupted")
                if tries >= STARTS and time.monotonic() - begun > PATIENCE:
                    detail = f"its process could not be started {tries} times: {str(caught) or type(caught).__name__}"
                    return Ended(task.job_id, "crashed", detail, "lost")
                forking.recover()
                time.sleep(min(1.0, 0.05 * tries))
                continue
            finally:
                sender.close()
            deadline = time.monotonic() + (task.timeout or float("inf"))
            found = memory_kills(), forking.server()
            self.workers.append(_Worker(task, process, receiver, free.popleft(), deadline, *found))
            return None

    def _lost_its_server(self, worker: _Worker) -> bool:
        """Return whether a job ended because the fork server was killed, and is to run again: it is not at fault."""
        if worker.timed_out or self.stopping or worker.process.exitcode != _UNKNOWN_EXIT:
            return False
        if not forking.is_dead(worker.server) or self.repeated[worker.task.job_id] >= REPEATS:
            return False
        self.repeated[worker.task.job_id] += 1
        deadline = time.monotonic() + REPEATS
        while holder(Path(worker.task.folder)) == worker.process.pid and time.monotonic() < deadline:
            time.sleep(0.05)  # its memory is being freed, and its lock is released last
        return True

    def _events(self) -> Iterator[Event]:
        """Wait for any worker to report, end or run out of time, and yield the events."""
        patience = min([1.0, *(worker.deadline - time.monotonic() for worker in self.workers)])
        told = [w.pipe for w in self.workers if not w.ended] + [w.process.sentinel for w in self.workers]
        ready = wait(told, max(0.0, patience))
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

    def _end_overdue(self) -> None:
        for worker in self.workers:
            if time.monotonic() > worker.deadline and not worker.timed_out and worker.process.is_alive():
                worker.timed_out = True
                kill_group(worker.process.pid or 0)
                worker.process.kill()  # where it is not yet leader of its own group

    def _unreported_end(self, worker: _Worker) -> Ended:
        """Return how a job ended whose process ended without reporting."""
        job_id = worker.task.job_id
        if worker.timed_out:
            detail = f"it was ended after {worker.task.timeout:g} s, as --timeout says"
            return Ended(job_id, "crashed", detail, "timeout")
        if self.stopping:
            return Ended(job_id, "interrupted")
        if worker.process.exitcode == _UNKNOWN_EXIT and self.repeated[job_id] >= REPEATS:
            return Ended(job_id, "crashed", f"the server of its process was killed {REPEATS + 1} times", "lost")
        reason, detail = how_it_died(worker.process.exitcode, memory=memory_kills() > worker.memory_kills)
        return Ended(job_id, "crashed", detail, reason)

    def _signal(self, number: signal.Signals) -> None:
        for worker in list(self.workers):
            if worker.process.pid is not None and worker.process.is_alive():
                try:
                    os.killpg(worker.process.pid, number)
                except ProcessLookupError:  # not yet leader of its own group, or just gone
                    worker.process.terminate() if number == signal.SIGTERM else worker.process.kill()


@contextmanager
def without_working_folder() -> Iterator[None]:
    """Start processes that do not look for modules in the working folder, where a file may have a module's name."""
    if os.environ.get("PYTHONSAFEPATH"):
        yield
        return
    os.environ["PYTHONSAFEPATH"] = SAFE_PATH
    try:
        yield
    finally:
        os.environ.pop("PYTHONSAFEPATH", None)


@contextmanager
def without_main_module() -> Iterator[None]:
    """Start processes that do not import the program that this one runs: a script without ``if __name__ == …`` would
    start its suite anew in each of them."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _store(task: Task) -> Store:
    return Store(Path(task.folder).parent.parent)


def known_without_running(task: Task) -> Ended | None:
    """Return the end of a task that another process has finished, or is running, meanwhile; None for all others."""
    if holder(Path(task.folder)) is not None:
        return Ended(task.job_id, "busy")
    try:
        settled = _store(task).settled(task.job_id, task.supersedes)
    except ValueError:  # a record that cannot be used; the job finds out and says so
        return None
    return Ended(task.job_id, "recorded") if settled else None


def work(task: Task, pipe: Connection, gpu: str | None, threads: int) -> None:
    """Run one task in this process, which is the task's own."""
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)  # the fork server's
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the coordinator, which then asks us
    os.setpgid(0, 0)
    die_with_parent(signal.SIGKILL)
    server = sys.modules.get("recbench_executors.fork_server")
    if server is not None and os.getppid() != server.SERVER:
        os._exit(1)  # it was killed before this process could be told; the job is started again
    threading.Thread(target=_die_with_parent, daemon=True).start()
    if gpu is not None:
        os.environ |= variables_for(gpu)
        task = replace(task, device="cuda")  # with "auto" it would train on the CPU where torch cannot use the GPU
    elif not task.device.startswith("cuda"):  # one that is not listed is not ours; torch says where "cuda" has none
        os.environ |= variables_for(None)
        task = replace(task, device="cpu")
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW  # a link could lead to any other file
    log = os.fdopen(os.open(Path(task.folder) / "log.txt", flags, 0o666), "a", buffering=1, encoding="utf-8")
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    sys.stdout = sys.stderr = log

    import torch

    from recbench import reason_of, run_task
    from recbench.errors import OutOfSpaceError

    torch.set_num_threads(threads)

    def tell(progress: JobProgress) -> None:
        try:
            pipe.send(progress)
        except OSError:  # the coordinator is gone; so are we, soon
            stopped.set()

    try:
        outcome = Ended(task.job_id, run_task(task, tell, stopped.is_set))
    except OutOfSpaceError as error:
        outcome = Ended(task.job_id, "full", str(error))
    except BaseException as error:  # noqa: BLE001 - the coordinator learns of any error
        traceback.print_exc()
        outcome = Ended(task.job_id, "crashed", f"{type(error).__name__}: {error}", reason_of(error))
    pipe.send(outcome)


def _die_with_parent() -> None:
    """End this process and its children when the coordinator dies, however it dies."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.killpg(os.getpid(), signal.SIGKILL)


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
