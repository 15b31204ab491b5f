"""The host of one job on a node of a Ray cluster, and the switchboard that it reports to."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import recbench
from recbench.contracts.executor import Ended, JobProgress, Task
from recbench_executors.local import Local

HEARTBEAT = 0.5
"""Seconds between two calls of a host to the switchboard: the latency of Ctrl-C."""


class Switchboard:
    """An actor on the coordinator's node that collects the progress of jobs and tells them to stop.

    Its state is disposable: after a restart, jobs report again.
    """

    def __init__(self) -> None:
        self.stopping = False
        self.started: set[str] = set()
        self.progress: dict[str, dict[str, Any]] = {}

    def exchange(self, job_id: str, progress: dict[str, Any] | None) -> bool:
        """Take a job's progress from its host; True if the job should stop."""
        self.started.add(job_id)
        if progress is not None:
            self.progress[job_id] = progress
        return self.stopping

    def collect(self, stopping: bool) -> tuple[set[str], list[dict[str, Any]]]:
        """Give the coordinator the jobs that reported since the last call, and the latest progress of each."""
        self.stopping = stopping
        news = self.started, list(self.progress.values())
        self.started, self.progress = set(), {}
        return news


def host(payload: Mapping[str, Any], switchboard: Any) -> dict[str, str]:
    """Run one job in a process of its own on this node.

    Returns:
        The fields of :class:`Ended`; empty if the sweep was stopped before the job could start.
    """
    import ray

    task = Task(**payload["task"])
    node = socket.gethostname()
    if payload["recbench"] != recbench.__version__:
        detail = f"{node} has recbench {recbench.__version__}, and the coordinator {payload['recbench']}"
        return {"outcome": "crashed", "detail": detail, "reason": "exception"}
    if not (Path(task.folder) / "job.json").is_file():
        detail = f"{node} sees no {task.folder}: the results folder must be at the same place on every node"
        return {"outcome": "crashed", "detail": detail, "reason": "exception"}
    if ray.get(switchboard.exchange.remote(task.job_id, None)):
        return {}
    os.environ.pop("OMP_NUM_THREADS", None)  # which Ray has set
    os.environ.update(payload["environment"])
    # A job's process would run the main module's file first: here Ray's script for workers, which imports Ray.
    vars(sys.modules["__main__"]).pop("__file__", None)
    # Ray adds the coordinator's working folder, where a file may have a module's name.
    sys.path[:] = [path for path in sys.path if path != payload["shadows"]]
    if payload["gpu"]:
        task = replace(task, device="cuda")  # the one that Ray chose, which CUDA_VISIBLE_DEVICES names
        if not os.environ.get("CUDA_VISIBLE_DEVICES"):
            return {"outcome": "crashed", "detail": f"Ray gave the job no GPU on {node}", "reason": "exception"}
    else:
        task = replace(task, device="cpu")
    local = Local(jobs=1, threads=payload["threads"], devices="", jobs_per_device=0)
    link = _Reporter(local, task.job_id, switchboard)
    ended = Ended(task.job_id, "interrupted")
    with link:
        for event in local.map([task]):
            if isinstance(event, Ended):
                ended = event
            else:
                link.latest = event
    answer = asdict(ended)
    del answer["job_id"]
    return cast(dict[str, str], answer)


class _Reporter(threading.Thread):
    """A thread that reports a job's progress to the switchboard twice a second, and stops the job on request."""

    def __init__(self, local: Local, job_id: str, switchboard: Any) -> None:
        super().__init__(daemon=True)
        self.local = local
        self.job_id = job_id
        self.switchboard = switchboard
        self.latest: JobProgress | None = None
        self.over = threading.Event()

    def __enter__(self) -> None:
        self.start()

    def __exit__(self, *_: object) -> None:
        self.over.set()
        self.join()

    def run(self) -> None:
        import ray

        told: JobProgress | None = None
        while not self.over.wait(HEARTBEAT):
            latest = self.latest
            news = asdict(latest) if latest is not None and latest is not told else None
            try:
                stop = ray.get(self.switchboard.exchange.remote(self.job_id, news), timeout=30)
            except ray.exceptions.GetTimeoutError:  # a network that is slow now
                continue
            except ray.exceptions.RayError:  # the coordinator's node is gone
                stop = True
            told = latest
            if stop:
                self.local.stop()
                return
