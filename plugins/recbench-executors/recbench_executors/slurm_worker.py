"""The program inside a Slurm job: ``python -m recbench_executors.slurm_worker FOLDER`` runs the jobs of one element.

They run in processes of the local executor, so that a crash costs only its own job. Slurm sends its signals to every
process of a job; here only this one listens, and asks the others to write their checkpoints.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from recbench.contracts.executor import Ended, Event, Executor, JobProgress, Task
from recbench_executors import slurm_array, slurm_queue
from recbench_executors.gpus import variables_for
from recbench_executors.local import Local

STOP = signal.SIGINT
"""From the coordinator: write checkpoints, and do not come back. The processes of jobs ignore it."""
AGAIN = signal.SIGUSR2
"""From Slurm, some time before the time limit: write checkpoints, and go back to the queue."""
_SECONDS_BETWEEN_PROGRESS = 5.0


class SlurmWorker:
    """Runs the jobs of one element, and reports how they ended.

    Args:
        executor: runs them, on this machine.
        slurm_id: Slurm's id of this element (``"17_3"``; a bare 17 may be the whole array).
    """

    def __init__(self, folder: Path, index: int, executor: Executor, slurm_id: str) -> None:
        self.folder = folder
        self.index = index
        self.executor = executor
        self.slurm_id = slurm_id
        self.asked: signal.Signals | None = None
        self.shown: dict[str, float] = {}

    def hear(self, number: signal.Signals) -> None:
        """Handle a signal. Only the first one counts: later ones repeat it or come too late."""
        if self.asked is None:
            self.asked = number
            self.executor.stop()

    def run(self, tasks: Iterable[Task]) -> None:
        """Run the tasks that this element has not finished before it was requeued."""
        slurm_array.tell(self.folder, self.index)
        earlier = slurm_array.ended(self.folder, self.index)
        over = {job_id for job_id, event in earlier.items() if event.outcome != "interrupted"}
        left = {task.job_id: task for task in tasks if task.job_id not in over}
        before = {task.job_id: _checkpoint(task) for task in left.values()}
        ended = 0
        for event in self.executor.map(list(left.values())):
            if isinstance(event, JobProgress):
                self.show(event)
            elif event.outcome != "interrupted":
                self.tell(event)
                del left[event.job_id]
                ended += 1
        if left:
            moved = ended > 0 or any(_checkpoint(task) != before[task.job_id] for task in left.values())
            self.leave(list(left.values()), moved=moved)

    def leave(self, tasks: list[Task], *, moved: bool) -> None:
        """Handle unfinished tasks: requeue them, report them as interrupted, or, after a SIGTERM for unknown reasons,
        leave them to Slurm."""
        if self.asked == AGAIN and not moved:  # it would repeat forever
            detail = "the Slurm job's time limit is too short: it came before the first checkpoint"
            self.tell(*(Ended(task.job_id, "crashed", detail, "timeout") for task in tasks))
            return
        if self.asked == AGAIN or (self.asked == signal.SIGTERM and self.is_preempted()):
            try:
                slurm_queue.call("scontrol", "requeue", self.slurm_id)
            except slurm_queue.SlurmError as error:
                detail = f"its Slurm job could not go back to the queue: {error}"
                self.tell(*(Ended(task.job_id, "crashed", detail, "lost") for task in tasks))
            return
        if self.asked == STOP:
            self.tell(*(Ended(task.job_id, "interrupted") for task in tasks))

    def is_preempted(self) -> bool:
        """Return True if Slurm preempts this job. A job that is cancelled, or requeued by Slurm itself, is no longer
        listed as running."""
        try:
            known = slurm_queue.find(self.slurm_id)
        except slurm_queue.SlurmError:
            return False
        return known.get("JobState") == "RUNNING" and known.get("PreemptTime", "None")[:1].isdigit()

    def show(self, progress: JobProgress) -> None:
        now = time.monotonic()
        if now - self.shown.get(progress.job_id, -_SECONDS_BETWEEN_PROGRESS) >= _SECONDS_BETWEEN_PROGRESS:
            self.shown[progress.job_id] = now
            self.tell(progress)

    def tell(self, *events: Event) -> None:
        slurm_array.tell(self.folder, self.index, events)


def _checkpoint(task: Task) -> list[tuple[str, int]]:
    """Return names and times of a task's checkpoint files, which change with every checkpoint."""
    return sorted((file.name, file.stat().st_mtime_ns) for file in (Path(task.folder) / "checkpoint").glob("*"))


def local(array: slurm_array.SlurmArray) -> Local:
    """Return the executor of an element, with the local executor's defaults for all that Slurm does not decide."""
    from recbench_executors import recbench_executors

    entry = next(entry for entry in recbench_executors() if entry.name == "local")
    return Local(**entry.complete({"jobs": array.side_by_side, "threads": array.threads}))


def main(folder: Path) -> None:
    """Run the element that Slurm's environment names."""
    # Slurm would end the processes of jobs by it: blocked, here and so in all that come from here, it reaches only
    # the thread that waits for it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [AGAIN])
    index = int(os.environ["SLURM_ARRAY_TASK_ID"])
    array = slurm_array.read(folder)
    if not array.gpus:
        os.environ |= variables_for(None)  # those of this node are not ours
    worker = SlurmWorker(folder, index, local(array), f"{os.environ['SLURM_ARRAY_JOB_ID']}_{index}")

    for number in (STOP, signal.SIGTERM):
        signal.signal(number, lambda number, _: worker.hear(signal.Signals(number)))
    threading.Thread(target=lambda: worker.hear(signal.Signals(signal.sigwait([AGAIN]))), daemon=True).start()
    worker.run(array.elements[index])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
