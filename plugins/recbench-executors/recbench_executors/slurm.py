"""The slurm executor: an array of Slurm jobs for each round of a suite.

submitit turns the resources into a batch script; the script runs this package's own worker, not a pickled function. The
worker reads its tasks from a file written before the array is submitted, runs them as the local executor does, and
reports in a file next to it. The coordinator may end at any moment and come back: it finds its arrays in the queue.
"""

from __future__ import annotations

import importlib.util
import math
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from recbench import lock
from recbench.contracts.executor import Ended, Event, Executor, Reason, Task
from recbench.errors import UserError
from recbench_executors import slurm_array, slurm_queue
from recbench_executors.local import known_without_running
from recbench_executors.slurm_array import SlurmArray
from recbench_executors.slurm_followed import Followed, alive, alone, is_settled
from recbench_executors.slurm_queue import GONE, Element, SlurmError
from recbench_executors.slurm_worker import STOP

_REASONS: dict[str, Reason] = {"TIMEOUT": "timeout", "DEADLINE": "timeout", "OUT_OF_MEMORY": "out of memory"}
_TAKEN_AWAY = ("NODE_FAIL", "BOOT_FAIL", "PREEMPTED", "REVOKED", GONE)
_START_MINUTES = 10
"""Added to the timeouts of jobs for the time limit of their Slurm job, which also has to start and to end."""
_PATIENCE = 12
"""Number of polls without an answer from Slurm after which a coordinator that was asked to stop gives up."""


class _Asked(NamedTuple):
    draining: bool
    stopping: bool
    killing: bool


class Slurm(Executor):
    """See the entry's notes."""

    def __init__(
        self,
        *,
        partition: str,
        account: str,
        qos: str,
        constraint: str,
        gpus: int,
        gpu_type: str,
        cpus: int,
        memory: str,
        time: str,
        jobs_per_device: int,
        bundle: int,
        at_most: int,
        warning: int,
        extra: str,
        setup: str,
        python: str,
        poll: float,
        detach: bool,
        profile: str,
    ) -> None:
        if importlib.util.find_spec("submitit") is None:
            raise UserError("--executor slurm needs submitit, which is not installed: pip install 'recbench[slurm]'")
        for command in ("sbatch", "squeue", "scancel", "scontrol", "sinfo", "srun"):
            if shutil.which(command) is None:
                raise UserError(
                    f"--executor slurm: the command {command} is not installed here; run this on a node of the cluster"
                )
        self.partition, self.account, self.qos, self.constraint = partition, account, qos, constraint
        self.gpus, self.gpu_type, self.cpus, self.memory = gpus, gpu_type, cpus, memory
        self.per_device = jobs_per_device or 1
        self.bundle, self.at_most, self.warning, self.poll = bundle, at_most, warning, poll
        self.setup, self.python, self.detach = setup, python, detach
        try:
            self.minutes = slurm_queue.minutes(time) if time else 0
            self.megabytes = slurm_queue.megabytes(memory) if memory else 0
            self.extra = slurm_queue.flags(extra)
        except ValueError as error:
            raise UserError(f"--executor slurm: {error}") from None
        if self.minutes and 60 * self.minutes <= warning:
            raise UserError(f"--executor slurm: warning={warning} seconds leave nothing of a time limit of {time}")
        self.stopping = self.killing = self.draining = False

    def check(self, tasks: Sequence[Task]) -> None:
        if not tasks:
            return
        self.gpus = gpus = self._gpus(tasks)
        device = tasks[0].device
        if device.startswith("cuda") and not gpus:
            raise UserError(f"--device {device}: expected at least one GPU in each Slurm job, got gpus=0")
        if "\\" in tasks[0].folder:
            raise UserError(
                f"{tasks[0].folder}: Slurm cannot handle backslashes in folder names; --results sets another folder"
            )
        chosen = slurm_queue.partitions(self.partition)
        for partition in chosen:
            if partition.maximum_minutes and self.minutes > partition.maximum_minutes:
                longest = slurm_queue.written(partition.maximum_minutes)
                raise UserError(f"time: the partition {partition.name} allows at most {longest}")
        with tempfile.TemporaryDirectory() as folder:
            array = SlurmArray(
                name="recbench-check", side_by_side=1, threads=1, gpus=gpus, elements=(tuple(tasks[:1]),)
            )
            refusal = slurm_queue.refusal(self._script(Path(folder), array))
        kinds = slurm_queue.nodes(chosen)
        wanted = slurm_queue.Nodes(self.cpus, self.megabytes, gpus)
        at_the_moment = slurm_queue.NO_SUCH_NODE in refusal and any(kind.hold(wanted) for kind in kinds)
        if refusal and not at_the_moment:  # nodes that are down may come back; sbatch decides
            listed = "; or ".join(map(str, kinds))
            names = ", ".join(partition.name for partition in chosen)
            raise UserError(
                f"Slurm refuses such jobs ({self._resources(gpus)}): {refusal}\nthe partition {names} has nodes with "
                f"{listed}"
            )

    def describe(self, tasks: int) -> str:
        side = max(1, self.gpus) * self.per_device
        size = self.bundle or side
        each = f", {size} in each Slurm job" if size > 1 else ""
        return f"an array of {-(-tasks // size)} Slurm jobs{each} ({self._resources(self.gpus)})"

    def _resources(self, gpus: int) -> str:
        parts = [f"partition {self.partition}" if self.partition else "the default partition"]
        parts += [f"{gpus} GPU{'s' * (gpus != 1)}" if gpus >= 0 else "a GPU if there are any"]
        parts += [f"{self.cpus} core{'s' * (self.cpus != 1)}"]
        parts += [self.memory] if self.memory else []
        parts += [slurm_queue.written(self.minutes)] if self.minutes else []
        return ", ".join(parts)

    def _gpus(self, tasks: Sequence[Task]) -> int:
        """Return the GPUs of each Slurm job; by default one where jobs may use it and nodes have any."""
        if self.gpus >= 0:
            return self.gpus
        device = tasks[0].device
        if device == "auto":
            return int(any(kind.gpus for kind in slurm_queue.nodes(slurm_queue.partitions(self.partition))))
        return int(device != "cpu")

    def _time(self, array: SlurmArray) -> int:
        """Return the time limit of each element in minutes; 0 for none."""
        if self.minutes:
            return self.minutes
        chosen = slurm_queue.partitions(self.partition)
        limits = [partition.maximum_minutes for partition in chosen if partition.maximum_minutes]
        timeout = array.elements[0][0].timeout
        if timeout is None:
            usual = [partition.default_minutes for partition in chosen if partition.default_minutes]
            return min(usual, default=0)
        turns = -(-max(map(len, array.elements)) // array.side_by_side)
        return min([turns * math.ceil(timeout / 60) + _START_MINUTES, *limits])

    def _script(self, folder: Path, array: SlurmArray) -> Path:
        """Write the batch script of an array into its folder."""
        import submitit

        executor = submitit.SlurmExecutor("unused")  # only names the files of the output, which are named below
        options = {name: getattr(self, name) for name in ("partition", "account", "qos", "constraint")}
        gpus = f"{self.gpu_type}:{array.gpus}" if self.gpu_type else array.gpus
        executor.update_parameters(
            **{name: value for name, value in options.items() if value},
            **({"mem": self.memory} if self.memory else {}),
            **({"gpus_per_node": gpus} if array.gpus else {}),
            job_name=array.name,
            time=self._time(array),
            nodes=1,
            ntasks_per_node=1,
            cpus_per_task=self.cpus,
            array_parallelism=self.at_most or len(array.elements),
            signal_delay_s=self.warning,
            setup=self.setup.splitlines() or None,
            # Since Slurm 22.05 a step does not inherit the number of cores.
            srun_args=[f"--cpus-per-task={self.cpus}", f"--output={_output(folder)}", "--open-mode=append"],
            wckey=None,
            stderr_to_stdout=True,
            additional_parameters={"requeue": True, "output": "/dev/null", **self.extra},
        )
        executor.parameters["map_count"] = len(array.elements)
        python = self.python or shlex.quote(sys.executable)
        command = f"{python} -P -u -m recbench_executors.slurm_worker {shlex.quote(str(folder))}"
        script = folder / "script.sh"
        script.write_text(executor._make_submission_file_text(command, ""), encoding="utf-8")
        return script

    # Running

    def map(self, tasks: Sequence[Task]) -> Iterator[Event]:
        if not tasks or self._ending:
            return
        root = Path(tasks[0].folder).parent.parent
        with ExitStack() as held:
            with alone(root / slurm_array.FOLDER):  # or two coordinators would submit the same jobs
                followed = self._adopt(root, tasks, held)
                covered = {job_id for array in followed for some in array.waited.values() for job_id in some}
                known = [(task, known_without_running(task)) for task in tasks if task.job_id not in covered]
                followed = self._submit(root, [task for task, event in known if event is None], followed, held)
            yield from (event for _, event in known if event is not None)
            yield from _left(followed) if self.detach else self._follow(followed)

    def drain(self) -> None:
        self.draining = True

    def stop(self) -> None:
        self.stopping = True

    def kill(self) -> None:
        self.stopping = self.killing = True

    @property
    def _ending(self) -> bool:
        return self.draining or self.stopping

    def resumed(self, tasks: Sequence[Task]) -> Collection[str]:
        if not tasks:
            return ()
        arrays = list(slurm_array.found(Path(tasks[0].folder).parent.parent))
        return {job_id for _, waited in alive(arrays, tasks) for some in waited.values() for job_id in some}

    def queue(self, root: Path) -> Mapping[str, str]:
        arrays = {array.name: array for _, array in slurm_array.found(root)}
        states = slurm_queue.elements(arrays)
        return {
            task.job_id: str(element)
            for (name, index), element in states.items()
            if not element.over and index < len(arrays[name].elements)
            for task in arrays[name].elements[index]
        }

    def _adopt(self, root: Path, tasks: Sequence[Task], held: ExitStack) -> list[Followed]:
        """Return the arrays of earlier coordinators that are still in the queue, as far as they run these tasks.

        Remains of finished arrays that no coordinator waits for are removed.
        """
        arrays = list(slurm_array.found(root))
        followed = []
        for (folder, array), (living, waited) in zip(arrays, alive(arrays, tasks), strict=True):
            with ExitStack() as own:
                mine = own.enter_context(lock(folder))
                if waited:
                    followed.append(Followed(folder, array, waited, mine))
                    held.push(own.pop_all())
                elif mine and not living:
                    shutil.rmtree(folder, ignore_errors=True)
        return followed

    def _submit(
        self, root: Path, tasks: Sequence[Task], followed: Sequence[Followed], held: ExitStack
    ) -> list[Followed]:
        """Submit tasks, as one array if the cluster allows; return all arrays to follow.

        Tasks that a limit of the cluster refuses while others are queued are left for the next call of ``map``.

        Raises:
            SlurmError: the queue is empty, and Slurm refuses all the same.
        """
        submitted = list(followed)
        if not tasks:
            return submitted
        gpus = self._gpus(tasks)
        side = max(1, gpus) * self.per_device
        elements = slurm_array.chunks(tasks, self.bundle or side)
        for part in slurm_array.chunks(elements, slurm_queue.largest_array()):
            folder = slurm_array.create(root)
            held.enter_context(lock(folder))
            threads = max(1, self.cpus // side)
            name = f"recbench-{root.name}-{folder.name}"
            array = SlurmArray(
                name=name, side_by_side=side, threads=threads, gpus=gpus, elements=tuple(map(tuple, part))
            )
            slurm_array.write(folder, array)
            try:
                slurm_queue.submit(self._script(folder, array), _output(folder))
            except SlurmError as error:
                shutil.rmtree(folder, ignore_errors=True)
                if submitted:
                    break
                hint = "try fewer Slurm jobs with more jobs in each: --executor-option bundle=K"
                raise SlurmError(f"{error}\n{hint}" if len(part) > 1 else str(error)) from None
            waited = {index: {task.job_id: task for task in some} for index, some in enumerate(part)}
            submitted.append(Followed(folder, array, waited, mine=True))
        return submitted

    def _follow(self, followed: list[Followed]) -> Iterator[Event]:
        """Wait for the end of all tasks, and yield their events."""
        silence = 0
        while waiting := [array for array in followed if array.waited]:
            asked = self._asked
            try:
                self._pass_on([array.array.name for array in waiting if array.mine])
                states = slurm_queue.elements(array.array.name for array in waiting)
                silence = 0
            except SlurmError:  # the controller is being restarted; the jobs go on without it
                silence += 1
                states = None
            for array in waiting:
                for index in list(array.waited):
                    yield from self._news(array, index, states)
                if asked.stopping and not array.mine:  # it belongs to the coordinator that submitted it
                    array.waited.clear()
            if asked.killing or (asked.stopping and silence > _PATIENCE):
                yield from (
                    Ended(j, "interrupted") for array in waiting for some in array.waited.values() for j in some
                )
                return
            self._sleep(asked)

    def _news(self, array: Followed, index: int, states: Mapping[tuple[str, int], Element] | None) -> Iterator[Event]:
        """Yield the events of an element since the last call, and the end of its tasks if it is over. The states are
        older than the events, so that no event is missed."""
        waited = array.waited[index]
        element = states.get((array.array.name, index)) if states is not None else None
        if element is not None:
            array.last[index] = element
            array.missing[index] = 0
        if element is None or element.state != "PENDING":
            events, array.read[index] = slurm_array.told(array.folder, index, array.read.get(index, 0))
            for event in events:
                if event.job_id not in waited:
                    continue
                if not isinstance(event, Ended):
                    yield event
                elif event.outcome != "interrupted":  # Slurm may put the element back into its queue
                    del waited[event.job_id]
                    yield event
        if element is None and states is not None:
            element = self._forgotten(array, index)
        if element is not None and element.over:
            for task in list(waited.values()):
                ended = self._end(array, index, element, task)
                if ended is not None:
                    yield ended
            waited.clear()
        if not waited:
            del array.waited[index]

    def _forgotten(self, array: Followed, index: int) -> Element | None:
        """Return the final state of an element that two polls in a row have not found in the queue."""
        array.missing[index] = array.missing.get(index, 0) + 1
        if array.missing[index] < 2:
            return None
        last = array.last.get(index, Element("a job", GONE))
        accounted = slurm_queue.accounted([last.job]).get(last.job)
        return accounted if accounted is not None and accounted.over else Element(last.job, GONE, nodes=last.nodes)

    def _end(self, array: Followed, index: int, element: Element, task: Task) -> Ended | None:
        """Return how a task ended whose element ended without reporting it; None if it was never started."""
        begun = slurm_array.begun(array.folder, index)
        if not begun and self._ending:
            return None
        if is_settled(task):
            return Ended(task.job_id, "recorded")
        taken_away = element.state in _TAKEN_AWAY
        if not taken_away and (self.stopping or element.state == "CANCELLED"):
            return Ended(task.job_id, "interrupted", str(element))
        if task.job_id in slurm_array.ended(array.folder, index):  # another coordinator has stopped it
            return Ended(task.job_id, "busy")
        said = slurm_array.printed(array.folder, index)
        detail = f"its Slurm job is over without a record: {element}" + (f"\n{said}" if said else "")
        reason = _REASONS.get(element.state, "lost" if begun or taken_away else "exit")
        return Ended(task.job_id, "crashed", detail, reason)

    def _pass_on(self, names: Sequence[str]) -> None:
        """Pass requests to stop on to Slurm; repeatedly, since a job that is just starting does not receive signals."""
        if self.killing:
            slurm_queue.cancel(names, "--full", "--signal=KILL", "--state=RUNNING")
            slurm_queue.cancel(names)
        elif self._ending:
            slurm_queue.cancel(names, "--state=PENDING")
            if self.stopping:
                slurm_queue.cancel(names, f"--signal={STOP.name}", "--state=RUNNING")

    @property
    def _asked(self) -> _Asked:
        return _Asked(self.draining, self.stopping, self.killing)

    def _sleep(self, asked: _Asked) -> None:
        """Wait for the next poll, or until a new request arrives."""
        end = time.monotonic() + (min(self.poll, 1.0) if asked.stopping else self.poll)
        while time.monotonic() < end and self._asked == asked:
            time.sleep(0.1)


def _left(followed: Sequence[Followed]) -> Iterator[Event]:
    """Report all tasks as left in the queue."""
    for job_id in (job_id for array in followed for some in array.waited.values() for job_id in some):
        yield Ended(job_id, "interrupted", "left to Slurm's queue")


def _output(folder: Path) -> str:
    return slurm_queue.pattern(folder, "%a.out")
