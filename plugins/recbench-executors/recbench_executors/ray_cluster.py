"""The Ray executor: Ray schedules each job on a node, where it runs in a process of its own.

A Ray task is only the job's host: it starts the job as the local executor does, from a fork server that has imported
torch, watches it, and reports how it ended. A job that crashes therefore takes neither Ray's worker nor another job
with it, and a new interpreter (4 s) is started once per slot and not per job. Results travel through the job's record
in the results folder and never through Ray; if an answer is lost with a node, the record is read instead.
"""

from __future__ import annotations

import importlib.util
import math
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import recbench
from recbench.contracts.executor import Ended, Event, Executor, JobProgress, Task
from recbench.errors import UserError
from recbench_executors.local import JOBS_PER_GPU, cores
from recbench_executors.ray_host import HEARTBEAT, Switchboard, host

INSTALL = "pip install 'recbench[ray]'"
CARRIED = ("RECBENCH_", "OMP_", "MKL_", "OPENBLAS_", "MALLOC_", "THP_MEM_", "WANDB_", "MLFLOW_")
"""Variables of the coordinator's environment that jobs get on every node; all others are the node's own."""
OBJECTS = 100 * 2**20
"""Bytes of shared memory of a Ray that is started here; Ray would take a third of the machine's, and jobs use none."""
PATIENCE = 300.0
"""Seconds that a sweep waits for nodes when none is left that could run a job."""


class Ray(Executor):
    """See the entry's notes."""

    def __init__(self, *, address: str, cpus: int, jobs_per_device: int) -> None:
        if importlib.util.find_spec("ray") is None:
            raise UserError(f"the executor ray needs the package ray: {INSTALL}")
        if address.startswith("ray://"):
            raise UserError(
                f"the executor ray cannot use {address}: run recbench on a node of the cluster, which sees the same "
                "results folder, with the address HOST:PORT or auto"
            )
        self.address = address
        self.cpus = cpus
        self.jobs_per_device = jobs_per_device or JOBS_PER_GPU
        self.ray: Any = None
        self.gpu = 0.0
        self.draining = False
        self.stopping = False
        self.killing = False

    def check(self, tasks: Sequence[Task]) -> None:
        if not tasks:
            return
        device = tasks[0].device
        if device.startswith("cuda:"):
            raise UserError(f"--device {device}: Ray chooses the GPU of a job; --device cuda asks it for one")
        self._connect()
        nodes = self._nodes()
        gpus = any(node.get("GPU") for node in nodes)
        if device == "cuda" and not gpus:
            raise UserError(f"--device cuda: no node of the Ray cluster has a GPU; it has {_listed(nodes)}")
        self.gpu = share(self.jobs_per_device) if device == "cuda" or (device == "auto" and gpus) else 0.0
        if not any(places(node, self.cpus, self.gpu) for node in nodes):
            # Ray itself would wait for such a node without a word.
            raise UserError(
                f"no node of the Ray cluster could ever run a job that asks for {self._request()}: "
                f"it has {_listed(nodes)}"
            )

    def describe(self, tasks: int) -> str:
        nodes = [node for node in self._nodes() if places(node, self.cpus, self.gpu)]
        most = sum(places(node, self.cpus, self.gpu) for node in nodes)
        where = f"{len(nodes)} node{'s' * (len(nodes) != 1)}"
        each = f"{self.cpus} thread{'s' * (self.cpus > 1)}" + (f" and {self.gpu:g} GPU" if self.gpu else "")
        return f"up to {most} side by side on {where} of a Ray cluster, {each} each"

    def map(self, tasks: Sequence[Task]) -> Iterator[Event]:
        if not tasks:
            return
        if self.ray is None:
            self.check(tasks)
        try:
            with _Sweep(self, tasks) as sweep:
                while not sweep.over():
                    yield from sweep.step()
        except self.ray.exceptions.RayError as error:
            raise UserError(
                f"the Ray cluster is gone: {_first_line(error)}; finished jobs are safe, the same command continues"
            ) from error

    def drain(self) -> None:
        self.draining = True

    def stop(self) -> None:
        self.stopping = True

    def kill(self) -> None:
        self.stopping = self.killing = True

    def _request(self) -> str:
        gpu = f" and {self.gpu:g} GPU" if self.gpu else ""
        return f"{self.cpus} CPU{'s' * (self.cpus > 1)}{gpu}"

    def _nodes(self) -> list[dict[str, float]]:
        """Resources of the nodes that are alive."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def _connect(self) -> None:
        """Join a cluster, or start one on this machine.

        Raises:
            UserError: there is none at the address.
        """
        if self.ray is not None:
            return
        address = self.address or os.environ.get("RAY_ADDRESS") or "local"
        _check_reachable(address)
        os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # Ray prints news of the cluster, and to stdout
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if address == "local":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            options |= {"num_cpus": cores(), "include_dashboard": False, "object_store_memory": OBJECTS}
        with _own_signal_handlers():
            import ray

            try:
                if not ray.is_initialized():
                    ray.init(address, **options)
            except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
                raise UserError(f"no Ray cluster could be reached at '{address}': {error}") from None
        self.ray = ray


@dataclass
class _RayJob:
    task: Task
    started: bool = False


class _Sweep:
    """One call of ``map``: the tasks that wait here, and those that Ray has."""

    def __init__(self, executor: Ray, tasks: Sequence[Task]) -> None:
        self.executor = executor
        self.ray = ray = executor.ray
        self.waiting = deque(tasks)
        self.running: dict[Any, _RayJob] = {}
        self.able = time.monotonic()
        self.environment = {name: value for name, value in os.environ.items() if name.startswith(CARRIED)}
        here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
            ray.get_runtime_context().get_node_id(), soft=False
        )
        kind = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here)(Switchboard)
        self.switchboard = kind.remote()
        # Ray itself would run every GPU job in a new worker, and lost ones again, any number of times.
        self.host = ray.remote(num_cpus=executor.cpus, num_gpus=executor.gpu, max_calls=0, max_retries=0)(host)

    def __enter__(self) -> _Sweep:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(self.ray.exceptions.RayError):  # the cluster is gone, and the jobs with it
            for reference in self.running:
                self.ray.cancel(reference, force=True)
            self.ray.kill(self.switchboard)

    def over(self) -> bool:
        closed = self.executor.stopping or self.executor.draining
        return not self.running and (closed or not self.waiting)

    def step(self) -> Iterator[Event]:
        """Submit what fits, wait for a moment, and yield the events since."""
        executor = self.executor
        if executor.killing:
            for reference in self.running:
                self.ray.cancel(reference, force=True)
        elif executor.stopping or executor.draining:
            for reference, running in self.running.items():
                if not running.started:  # it may never have its turn on a cluster that others use
                    self.ray.cancel(reference)
        else:
            self._submit()
        ready, _ = self.ray.wait(list(self.running), timeout=HEARTBEAT)
        if ready:
            ready, _ = self.ray.wait(list(self.running), num_returns=len(self.running), timeout=0)
        yield from self._news()
        for reference in ready:
            running = self.running.pop(reference)
            ended = self._answer(reference, running)
            if ended is not None:
                yield ended

    def _submit(self) -> None:
        """Keep twice as many tasks with Ray as it has slots, which fills it and makes an autoscaling cluster grow."""
        most = sum(places(node, self.executor.cpus, self.executor.gpu) for node in self.executor._nodes())
        now = time.monotonic()
        self.able = now if most or any(running.started for running in self.running.values()) else self.able
        if now - self.able > PATIENCE:
            raise UserError(
                f"no node is left in the Ray cluster that could run a job that asks for {self.executor._request()}; "
                "the same command continues when there is one"
            )
        while self.waiting and len(self.running) < max(2, 2 * most):
            task = self.waiting.popleft()
            payload = {
                "task": asdict(task),
                "threads": self.executor.cpus,
                "gpu": self.executor.gpu > 0,
                "environment": self.environment,
                "recbench": recbench.__version__,
                "shadows": "" if str(Path.cwd()) in sys.path else str(Path.cwd()),
            }
            reference = self.host.options(name=f"recbench {task.job_id}").remote(payload, self.switchboard)
            self.running[reference] = _RayJob(task)

    def _news(self) -> Iterator[JobProgress]:
        stop = self.executor.stopping
        try:
            started, progress = self.ray.get(self.switchboard.collect.remote(stop), timeout=30)
        except self.ray.exceptions.RayError:  # it is being started again; news can wait
            return
        for running in self.running.values():
            running.started = running.started or running.task.job_id in started
        yield from (JobProgress(**facts) for facts in progress)

    def _answer(self, reference: Any, running: _RayJob) -> Ended | None:
        """Return how a task ended; None if it was never started."""
        job_id = running.task.job_id
        problems = self.ray.exceptions
        try:
            answer = self.ray.get(reference)
        except problems.TaskCancelledError:
            return Ended(job_id, "interrupted") if running.started else None
        except problems.OutOfMemoryError as error:
            return Ended(job_id, "crashed", f"its node had no memory left: {_first_line(error)}", "out of memory")
        except problems.RayTaskError as error:
            return Ended(job_id, "crashed", f"its host on the Ray cluster failed: {_last_line(error)}", "exception")
        except problems.RayError as error:
            if self.executor.killing:
                return Ended(job_id, "interrupted") if running.started else None
            return Ended(job_id, "crashed", f"its node of the Ray cluster is gone: {_first_line(error)}", "lost")
        return Ended(job_id, **answer) if answer else None


def share(jobs: int) -> float:
    """Return the fraction of a GPU for each of ``jobs`` jobs, rounded down: Ray rounds to ten-thousandths, so that six
    times 1/6 would exceed one."""
    return math.floor(10_000 / jobs) / 10_000


def places(resources: Mapping[str, float], cpus: int, gpu: float) -> int:
    """Return the number of jobs that an idle node has room for."""
    most = int(resources.get("CPU", 0) // cpus)
    return min(most, int(resources.get("GPU", 0)) * int(1 / gpu)) if gpu else most


def _listed(nodes: Sequence[Mapping[str, float]]) -> str:
    """``2 nodes with 8 CPUs and 1 GPU, 1 node with 4 CPUs and 0 GPUs``."""
    counts: dict[tuple[int, int], int] = {}
    for node in nodes:
        size = int(node.get("CPU", 0)), int(node.get("GPU", 0))
        counts[size] = counts.get(size, 0) + 1
    return ", ".join(
        f"{count} node{'s' * (count != 1)} with {cpus} CPU{'s' * (cpus != 1)} and {gpus} GPU{'s' * (gpus != 1)}"
        for (cpus, gpus), count in sorted(counts.items(), reverse=True)
    )


def _check_reachable(address: str) -> None:
    """Raise a UserError at once: Ray itself would try for minutes, and then end this process."""
    name, _, port = address.rpartition(":")
    if not name or not port.isdecimal():
        return
    try:
        socket.create_connection((name.strip("[]"), int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"no Ray cluster could be reached at '{address}': {error}") from None


@contextmanager
def _own_signal_handlers() -> Iterator[None]:
    """Keep the handlers of Ctrl-C and SIGTERM, which Ray replaces when it is joined."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
