"""A simulated month of a cluster of 64 GPUs: real sweeps, a real store and real processes, on a clock that jumps.

``python -m tests.simulated_cluster FOLDER --jobs 2000 --seed 0 --harsher 10`` lives through the month and prints what
it met as JSON. Everything but the training is real: coordinators are processes that run the sweep;
each job that comes to its end is a process that takes the lock of its folder and writes its record. What is simulated
is time: a job takes hours of a clock that goes from event to event, and the faults of the month are drawn beforehand,
from a seed.

Published rates, for 64 GPUs in 8 nodes over 30 days:

* Llama 3 (arXiv:2407.21783, section 3.3.4): 419 unexpected interruptions of 16,384 GPUs in 54 days, which makes 0.9
  a month: here a job's process that dies.
* Kokolis et al. 2025 (arXiv:2410.21680): up to 6.5 failures in a thousand node-days, which makes 1.6 a month of nodes,
  and 0.2 of the machine of the coordinator.

For the other faults nothing is published that would fit; once a month each is assumed. A month that is ``harsher`` has
so many times as many of all, and any month has at least one of each.
"""

from __future__ import annotations

import argparse
import errno
import heapq
import json
import math
import mmap
import os
import random
import signal
import struct
import sys
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recbench.contracts.executor import Ended, Event, Executor, Task
from recbench.errors import OutOfSpaceError
from recbench.files import holder, lock
from recbench.plan.model import Job
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.store.record import Data, Evaluated, Provenance, Record, Score, Trained
from recbench.store.store import Store
from recbench.suite.suite import Suite, load_suite
from recbench.sweep.attempts import Limits
from recbench.sweep.state import inspect
from recbench.sweep.sweep import Options
from recbench.sweep.sweep import run as run_sweep

NODES, GPUS_PER_NODE = 8, 8
SLOTS = NODES * GPUS_PER_NODE
HOUR = 3600.0
MONTH = 30 * 24 * HOUR
REPAIR = 12 * HOUR
"""Time for which a lost node is away."""
RATES = {
    "worker killed": 419 / (16_384 * 54) * SLOTS * 30,
    "node lost": 6.5e-3 * NODES * 30,
    "coordinator killed": 6.5e-3 * 30,
    "disk full": 1.0,
    "record damaged": 1.0,
    "job held by a process of a lost node": 1.0,
    "file system slow": 1.0,
}
"""Faults a month."""
BUSY, FULL, CRASHED = 1, 3, 70
"""Exit codes of jobs that another process holds, that met a full disk, and that left no record."""
SLOW = 0.05
"""Seconds that a sync takes on a slow file system."""
METHODS, TINY = 20, Path(__file__).parent / "tiny_plugin.py"


@dataclass(frozen=True)
class Fault:
    """Something bad at a simulated time. ``luck``, from 0 to 1, decides all that is left to chance."""

    time: float
    kind: str
    luck: float


def faults_of_a_month(seed: int, harsher: float) -> list[Fault]:
    """Poisson processes, with at least one event of each kind in the first four fifths of the month."""
    chance = random.Random(seed)
    faults = []
    for kind, rate in RATES.items():
        times = [chance.uniform(0, 0.8 * MONTH)]
        moment = chance.expovariate(rate * harsher / MONTH)
        while moment < MONTH:
            times.append(moment)
            moment += chance.expovariate(rate * harsher / MONTH)
        faults += [Fault(moment, kind, chance.random()) for moment in times[: max(1, len(times) - 1)]]
    return sorted(faults, key=lambda fault: fault.time)


class Clock:
    """The simulated time, and how many faults are over: in memory that outlives the coordinators."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 16)

    @property
    def now(self) -> float:
        return float(struct.unpack_from("d", self.memory, 0)[0])

    @now.setter
    def now(self, value: float) -> None:
        struct.pack_into("d", self.memory, 0, value)

    @property
    def faults(self) -> int:
        return int(struct.unpack_from("q", self.memory, 8)[0])

    @faults.setter
    def faults(self, value: int) -> None:
        struct.pack_into("q", self.memory, 8, value)


class Journal:
    """A log of events, a line each; the lines of processes that die at any moment are whole."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, what: str, about: str = "") -> None:
        os.write(self.handle, f"{what}\t{about}\n".encode())

    def read(self) -> list[tuple[str, str]]:
        lines = self.file.read_text(encoding="utf-8").splitlines()
        return [(what, about) for what, _, about in (line.partition("\t") for line in lines)]


def scores_of(job: Job) -> dict[str, Score]:
    """Return the result of a trivial job: numbers that follow from its id, and so not from the order of running."""
    number = int(job.id[:8], 16) / 16**8
    return {
        "psnr": Score(mean=20 + number, std=1.0, n=32),
        "ssim": Score(mean=number / 2, std=0.1, n=32),
    }


PROVENANCE = Provenance(
    recbench="0.1.0",
    plugins={},
    packages={},
    python="3.11",
    platform="Linux",
    processor="a processor",
    device="cpu",
    threads=1,
    git=None,
    started="2026-01-01T00:00:00+00:00",
    finished="2026-01-01T00:00:01+00:00",
)


def record_of(job: Job, suite: str, fingerprint: str) -> Record:
    return Record(
        job_id=job.id,
        suite=suite,
        status="done",
        job=job,
        protocol=job.protocol(fingerprint),
        scores=scores_of(job),
        data=Data(fingerprint=fingerprint, train=64, validation=32, test=32),
        trained=Trained(
            epochs=2,
            steps=8,
            parameters=1,
            loss_parameters=0,
            seconds=1.0,
            images_per_second=1.0,
            final={"epoch": 2, "step": 8},
        ),
        evaluated=Evaluated(n=32, kl=1.0, seconds=1.0),
        provenance=PROVENANCE,
    )


def hours_of(job_id: str, jobs: int) -> float:
    """Simulated hours that a job takes: a heavy tail, and on average what fills nine tenths of the month."""
    mean = 0.9 * SLOTS * MONTH / HOUR / jobs
    return mean * random.Random(job_id).lognormvariate(-0.5 * 0.7**2, 0.7)


def die_at(call: int) -> None:
    """Kill this process before its so-maniest call to the system that Python announces: open, rename, link, lockf…"""
    left, doomed = [call], os.getpid()

    def count(event: str, _: tuple[object, ...]) -> None:
        if os.getpid() != doomed:
            return
        left[0] -= event.startswith(("open", "os.", "fcntl.", "tempfile.", "shutil."))
        if left[0] < 0:
            signal.raise_signal(signal.SIGKILL)

    sys.addaudithook(count)


def fork(action: Callable[[], int]) -> int:
    """Run an action in a process of its own, which ends with what it returns; gives the process's number."""
    process = os.fork()
    if process:
        return process
    code = CRASHED
    try:
        code = action()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class Agent:
    """A process that ends one job after another, as long as the coordinator lives."""

    def __init__(self, work: Callable[[Task], int]) -> None:
        tasks, self.to_agent = os.pipe()
        self.from_agent, codes = os.pipe()

        def serve() -> int:
            os.close(self.to_agent)
            with os.fdopen(tasks, encoding="utf-8") as lines:
                for line in lines:
                    os.write(codes, bytes([work(Task(**json.loads(line)))]))
            return 0

        fork(serve)
        os.close(tasks)
        os.close(codes)

    def run(self, task: Task) -> int:
        os.write(self.to_agent, (json.dumps(asdict(task)) + "\n").encode())
        answer = os.read(self.from_agent, 1)
        if not answer:
            raise RuntimeError("the process that ends jobs is gone")
        return answer[0]


class SimulatedCluster(Executor):
    """64 places, on which jobs take simulated hours and end as processes that write real records."""

    def __init__(self, clock: Clock, faults: Sequence[Fault], journal: Journal, jobs: int, fingerprint: str) -> None:
        self.clock = clock
        self.faults = faults
        self.journal = journal
        self.jobs = jobs
        self.fingerprint = fingerprint
        self.closed = False
        self.stopping = False
        self.agent: Agent | None = None
        self.running: dict[int, tuple[float, Task]] = {}
        self.away: dict[int, float] = {}
        """Nodes that are lost, and when they come back."""
        self.store: Store | None = None
        self.next_job: dict[str, Any] = {}
        """The outcome of the next job to end: arguments of :meth:`_end`."""

    def check(self, tasks: Sequence[Task]) -> None:
        pass

    def describe(self, tasks: int) -> str:
        return f"{SLOTS} side by side on a simulated cluster"

    def drain(self) -> None:
        self.closed = True

    def stop(self) -> None:
        self.closed = self.stopping = True

    def kill(self) -> None:
        self.stop()

    def map(self, tasks: Sequence[Task]) -> Iterator[Event]:
        self.store = Store(Path(tasks[0].folder).parent.parent)
        waiting = deque(tasks)
        ends: list[tuple[float, int]] = []
        while (waiting and not self.closed) or self.running:
            if self.stopping:
                yield from (Ended(task.job_id, "interrupted") for _, task in self.running.values())
                return
            for slot in range(SLOTS):
                if waiting and not self.closed and slot not in self.running and self._is_up(slot // GPUS_PER_NODE):
                    task = waiting.popleft()
                    end = self.clock.now + HOUR * hours_of(task.job_id, self.jobs)
                    self.running[slot] = end, task
                    heapq.heappush(ends, (end, slot))
            while ends and self.running.get(ends[0][1], (None,))[0] != ends[0][0]:  # of jobs that went with a node
                heapq.heappop(ends)
            next_end = ends[0][0] if ends else min(self.away.values())
            fault = self.faults[self.clock.faults] if self.clock.faults < len(self.faults) else None
            if fault is not None and fault.time < next_end:
                self.clock.now = max(self.clock.now, fault.time)
                self.clock.faults += 1  # before it strikes, since the coordinator may be what it kills
                self.journal.note("fault", fault.kind)
                yield from self._suffer(fault)
            elif ends:
                end, slot = heapq.heappop(ends)
                self.clock.now = end
                fate, self.next_job = self.next_job, {}
                yield self._end(self.running.pop(slot)[1], **fate)
            else:
                self.clock.now = next_end  # all nodes are away

    def _is_up(self, node: int) -> bool:
        return self.away.get(node, 0.0) <= self.clock.now

    def _suffer(self, fault: Fault) -> Iterator[Event]:
        chance = random.Random(fault.luck)
        busy = sorted(self.running)
        if fault.kind == "coordinator killed":
            die_at(chance.randrange(60))
        elif fault.kind == "worker killed" and busy:
            _, task = self.running.pop(chance.choice(busy))
            yield self._end(task, die=chance.randrange(40))
        elif fault.kind == "node lost":
            node = chance.randrange(NODES)
            self.away[node] = self.clock.now + REPAIR
            for slot in [slot for slot in busy if slot // GPUS_PER_NODE == node]:
                yield Ended(self.running.pop(slot)[1].job_id, "crashed", f"node {node} is gone", "lost")
        elif fault.kind == "job held by a process of a lost node" and busy:
            # The node is lost to the cluster, but for a moment the job goes on there, and writes its record.
            _, task = self.running.pop(chance.choice(busy))
            process = fork(partial(self._work, task, wait=chance.uniform(0.0, 0.5)))
            while holder(Path(task.folder)) is None and os.waitpid(process, os.WNOHANG) == (0, 0):
                time.sleep(0.001)
            yield Ended(task.job_id, "crashed", "its node does not answer", "lost")
        elif fault.kind == "record damaged":
            self._damage(chance)
        elif fault.kind == "disk full":
            self.next_job = {"full": True}
        elif fault.kind == "file system slow":
            self.next_job = {"slow": True}

    def _damage(self, chance: random.Random) -> None:
        assert self.store is not None
        done = sorted(about for what, about in self.journal.read() if what == "written")
        for job_id in chance.sample(done, len(done)):
            file = self.store.record_file(job_id)
            try:
                if self.store.read(job_id) is None:
                    continue
            except ValueError:  # damaged already
                continue
            content = bytearray(file.read_bytes())
            if chance.random() < 0.5:
                del content[chance.randrange(len(content)) :]
            else:  # one bit, so that the number is another and the file as good as before
                content[chance.choice([place for place, byte in enumerate(content) if chr(byte).isdigit()])] ^= 1
            file.write_bytes(content)
            self.journal.note("damaged", job_id)
            return

    def _end(self, task: Task, **fate: Any) -> Ended:
        """Have a job write its record, and say what became of it. One that fares well does so in a process that does
        nothing else, since a new one for each would take most of the time."""
        if fate:
            _, status = os.waitpid(fork(partial(self._work, task, **fate)), 0)
            code = os.waitstatus_to_exitcode(status)
        else:
            self.agent = self.agent or Agent(self._work)
            code = self.agent.run(task)
        if code == FULL:
            return Ended(task.job_id, "full", "no space left on the simulated disk")
        if code == 0:
            return Ended(task.job_id, "recorded")
        if code == BUSY:
            return Ended(task.job_id, "busy")
        return Ended(task.job_id, "crashed", f"it ended with {code}", "killed" if code == -signal.SIGKILL else "exit")

    def _work(
        self, task: Task, *, die: int | None = None, full: bool = False, slow: bool = False, wait: float = 0.0
    ) -> int:
        """Run a job in its own process, as :func:`recbench.job.runner.run_task`, but for the training."""
        store = Store(Path(task.folder).parent.parent)
        if die is not None:
            die_at(die)
        with lock(Path(task.folder)) as mine:
            if not mine:
                return BUSY
            try:
                if store.settled(task.job_id, task.supersedes):
                    return 0
            except ValueError:  # a record that was damaged since; the sweep sees to it
                return CRASHED
            time.sleep(wait)
            job, suite = store.read_task(task.job_id)
            with disk(full=full, slow=slow):
                try:
                    store.add(record_of(job, suite, self.fingerprint))
                except OutOfSpaceError:
                    return FULL
            self.journal.note("written", task.job_id)
            return 0


@contextmanager
def disk(*, full: bool, slow: bool) -> Iterator[None]:
    """A disk that is full, or slow, at every sync."""
    sync = os.fsync

    def troubled(handle: int) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        time.sleep(SLOW)
        sync(handle)

    os.fsync = troubled if full or slow else sync
    try:
        yield
    finally:
        os.fsync = sync


class Silent:
    """Watches a sweep without a word."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def note(self, text: str) -> None:
        self.journal.note("note", text)

    def preparing(self, name: str) -> Any:
        return nullcontext(lambda done, total: None)

    def begin(self, plan: Any, state: Any, how: str) -> None:
        self.journal.note("begin", str(len(state.to_run)))

    def event(self, event: Event, record: Record | None) -> None:
        if record is not None:
            self.journal.note(record.status, record.job_id)


def write_suite(folder: Path, jobs: int) -> Path:
    """A suite of so many trivial jobs: twenty methods, and seeds."""
    weights = ", ".join(f"{0.001 * (index + 1):g}" for index in range(METHODS // 2))
    losses = [f"  - {{name: {name}, kl_weight: {{grid: [{weights}]}}}}" for name in ("l2", "l1")]
    seeds = list(range(math.ceil(jobs / METHODS)))
    file = folder / "month.yaml"
    file.write_text(
        "name: month\ndatasets: [blobs]\narchitectures: [linear]\n"
        + "\n".join(["losses:", *losses])
        + f"\nseeds: {seeds}\ntraining: {{epochs: 2}}\nmetrics: [psnr, ssim]\n",
        encoding="utf-8",
    )
    return file


def live_through(folder: Path, jobs: int, seed: int, harsher: float) -> dict[str, Any]:
    """Start a coordinator again whenever it is gone, as a person would who runs the same command again, until a last
    one finds nothing to do; says what happened."""
    folder.mkdir(parents=True, exist_ok=True)
    registry = Registry(load_plugins([str(TINY)]))
    suite = load_suite(write_suite(folder, jobs), registry, (), maximum_jobs=10**6)
    store = Store(folder / "results" / "month")
    options = Options(cache=folder / "cache", plugin_files=(str(TINY),), limits=Limits(retries=3))
    journal, clock = Journal(folder / "journal.txt"), Clock()
    faults = faults_of_a_month(seed, harsher) if harsher else []
    fingerprint = prepare_images(suite, registry, options, journal)

    def coordinator() -> int:
        cluster = SimulatedCluster(clock, faults, journal, len(suite.plan.jobs), fingerprint)
        try:
            run_sweep(suite, store, registry, cluster, options, Silent(journal))
        except OutOfSpaceError:
            return FULL
        return 0

    ends: Counter[str] = Counter()
    names = {0: "finished", FULL: "disk full", -signal.SIGKILL: "killed"}
    while True:
        _, status = os.waitpid(fork(coordinator), 0)
        code = os.waitstatus_to_exitcode(status)
        ends[names.get(code, f"exit code {code}")] += 1
        if code == 0:
            state = inspect(suite.plan, store)
            if not state.to_run:
                break
            if left := {planned.id for planned in state.to_run} - set(state.unusable):
                raise SystemExit(f"a sweep ended well, and left {len(left)} jobs undone")
        if code not in names or sum(ends.values()) > 10 * (len(faults) + 1):
            raise SystemExit(f"the sweeps came to no end: {dict(ends)}")
    lines = journal.read()
    return {
        "jobs": len(suite.plan.jobs),
        "days": round(clock.now / 24 / HOUR, 2),
        "faults": Counter(about for what, about in lines if what == "fault"),
        "coordinators": ends,
        "written": Counter(about for what, about in lines if what == "written"),
        "damaged": Counter(about for what, about in lines if what == "damaged"),
        "seed": seed,
        "harsher": harsher,
    }


def prepare_images(suite: Suite, registry: Registry, options: Options, journal: Journal) -> str:
    """Decode the images once, and give their fingerprint."""
    from recbench.data.cache import prepare

    return prepare(suite.plan.settings[0].dataset, registry, options.cache, lambda done, total: None).fingerprint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--jobs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--harsher", type=float, default=1.0, help="so many times the published rates; 0: no faults")
    options = parser.parse_args()
    json.dump(live_through(options.folder, options.jobs, options.seed, options.harsher), sys.stdout)


if __name__ == "__main__":
    main()
