"""Arrays in Slurm's queue that a coordinator waits for, its own and those of earlier coordinators."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from recbench import Store, lock
from recbench.contracts.executor import Ended, Task
from recbench_executors import slurm_array, slurm_queue
from recbench_executors.slurm_array import SlurmArray
from recbench_executors.slurm_queue import GONE, Element

_UNKNOWN = Element("", GONE)
_AGAIN = Ended("", "interrupted")


@dataclass
class Followed:
    """An array whose events this coordinator waits for.

    Attributes:
        waited: for each element, by index, the tasks whose end has not been reported, by job id.
        mine: True unless another living coordinator has submitted it; only then may it be stopped from here.
        read: position up to which its events were read, by index.
        missing: number of polls for which the queue has not listed an element, by index.
        last: the last state that the queue reported, by index.
    """

    folder: Path
    array: SlurmArray
    waited: dict[int, dict[str, Task]]
    mine: bool
    read: dict[int, int] = field(default_factory=dict)
    missing: dict[int, int] = field(default_factory=dict)
    last: dict[int, Element] = field(default_factory=dict)


def alive(
    arrays: Sequence[tuple[Path, SlurmArray]], tasks: Sequence[Task]
) -> Iterator[tuple[bool, dict[int, dict[str, Task]]]]:
    """Yield for each array whether any element is still queued or running, and the tasks that it still has to end, by
    index and job id."""
    wanted = {task.job_id: task for task in tasks}
    states = slurm_queue.elements(array.name for _, array in arrays)
    for folder, array in arrays:
        living = [i for i in range(len(array.elements)) if not states.get((array.name, i), _UNKNOWN).over]
        waited: dict[int, dict[str, Task]] = {}
        for index in living:
            ended = slurm_array.ended(folder, index)
            still = [task.job_id for task in array.elements[index]]
            still = [j for j in still if j in wanted and ended.get(j, _AGAIN).outcome == "interrupted"]
            if still:
                waited[index] = {job_id: wanted.pop(job_id) for job_id in still}
        yield bool(living), waited


def is_settled(task: Task) -> bool:
    """Return True if the task has a record that stands."""
    try:
        return Store(Path(task.folder).parent.parent).settled(task.job_id, task.supersedes)
    except ValueError:  # the sweep deals with records that cannot be used
        return False


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the right to submit; wait while another coordinator has it."""
    while True:
        with lock(folder) as mine:
            if mine:
                yield
                return
        time.sleep(0.2)
