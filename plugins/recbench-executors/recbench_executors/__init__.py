"""Executors of recbench."""

from __future__ import annotations

from collections.abc import Iterator

from recbench import ExecutorEntry, Parameter, hookimpl


@hookimpl
def recbench_executors() -> Iterator[ExecutorEntry]:
    yield ExecutorEntry(
        name="local",
        factory="recbench_executors.local:Local",
        summary="a fresh process for each job, on the GPUs or the cores of this machine",
        parameters=(
            Parameter(
                "jobs", int, 0, "jobs side by side; 0: one for each GPU, or for each core without one", minimum=0
            ),
            Parameter("threads", int, 0, "threads for each job; 0: the cores divided among the jobs", minimum=0),
        ),
        notes=(
            "Every job is a process of its own, forked from a server that has imported torch, so that a crash costs "
            "only its own job. The number of threads does not depend on how many jobs are left, because sums are "
            "rounded differently with another number: a continued sweep ends with the numbers of an undisturbed one."
        ),
    )
