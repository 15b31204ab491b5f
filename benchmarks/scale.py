"""Overhead of a suite of 10,000 jobs: all it costs except the jobs.

    python benchmarks/scale.py                  # expanding, listing and ranking together: the goal is under 5 s
    python benchmarks/scale.py --jobs 1000 --real 50

First the steps in this process: expanding the suite, listing what is missing, writing what defines each job, listing
what is done, ranking. Then a coordinator whose executor only writes records: time per job and memory. Last, real jobs
that train for one step, one after the other: the time between them is the cost of scheduling, and the goal is under
0.1 s for each. Times are wall-clock times, and processor times where other load would disturb these.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

from recbench.analysis.ranking import rank
from recbench.contracts.executor import Ended, Event, Executor, Task
from recbench.job.provenance import now, provenance
from recbench.plan.plan import Plan
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.store.record import Data, Evaluated, Record, Score, sealed
from recbench.store.store import Store
from recbench.suite.suite import Suite, load_suite
from recbench.sweep.state import inspect
from recbench.sweep.sweep import Options, run

SUITE = """\
name: scale
datasets: [{name: blobs, params: {count: 32}}]
architectures: [linear]
losses: [{name: l2, kl_weight: {grid: WEIGHTS}}]
seeds: SEEDS
training: {epochs: 1, batch_size: 32}
metrics: [psnr]
"""
TINY = Path(__file__).parent.parent / "tests" / "tiny_plugin.py"
Returned = TypeVar("Returned")


class Writer(Executor):
    """An executor that writes a record for each task, as a job would, without waiting for the disk."""

    def __init__(self, plan: Plan, store: Store, where: Any) -> None:
        self.plan, self.store, self.where = plan, store, where
        self.jobs = {planned.id: planned for planned in plan.jobs}

    def map(self, tasks: Sequence[Task]) -> Iterator[Event]:
        for task in tasks:
            job = self.plan.job(self.jobs[task.job_id])
            record = Record(
                job_id=task.job_id,
                suite=self.plan.suite,
                status="done",
                job=job,
                protocol=job.protocol("f" * 64),
                scores={"psnr": Score(mean=20 + hash(task.job_id) % 1000 / 100, std=1.0, n=256)},
                data=Data(fingerprint=task.cache, train=32, validation=16, test=16),
                evaluated=Evaluated(n=16, kl=20.0, seconds=0.1),
                provenance=self.where,
            )
            self.store.record_file(task.job_id).write_bytes(sealed(record.model_dump_json(indent=1)))
            yield Ended(task.job_id, "recorded")

    def drain(self) -> None: ...

    stop = kill = drain

    def check(self, tasks: Sequence[Task]) -> None: ...

    def describe(self, tasks: int) -> str:
        return "at once"


class Silence:
    """A watcher that prints nothing."""

    def note(self, text: str) -> None: ...
    def begin(self, *_: Any) -> None: ...
    def event(self, *_: Any) -> None: ...
    def preparing(self, name: str) -> Any:
        return nullcontext(lambda *_: None)


def suite_of(folder: Path, jobs: int, registry: Registry) -> tuple[Path, Callable[[], Suite]]:
    """Return the file of a suite of so many jobs (a multiple of five), and a function that expands it."""
    file = folder / "scale.yaml"
    weights = [round(1e-3 * (1 + i), 6) for i in range(max(1, jobs // 5))]
    file.write_text(SUITE.replace("WEIGHTS", str(weights)).replace("SEEDS", str(list(range(min(5, jobs))))))
    return file, lambda: load_suite(file, registry, maximum_jobs=1_000_000)


def timed(what: str, action: Callable[[], Returned]) -> tuple[Returned, float]:
    start, cpu = time.perf_counter(), time.process_time()
    result = action()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"{what:<40} {seconds:7.2f} s by the clock {cpu:7.2f} s of the processor", flush=True)
    return result, seconds


def steps(folder: Path, jobs: int) -> None:
    registry = Registry(load_plugins([TINY]))
    suite, expanding = timed(f"expanding {jobs:,} jobs", suite_of(folder, jobs, registry)[1])
    plan, store = suite.plan, Store(folder / "results" / "scale")
    _, missing = timed("listing what is missing", lambda: inspect(plan, store))
    timed("writing what defines each job", lambda: [store.write_task(plan.job(p), plan.suite) for p in plan.jobs])
    where = provenance(registry.plugins, device="cpu", threads=1, started=now())
    tasks = [Task(planned.id, "", "f" * 64) for planned in plan.jobs]
    for _ in Writer(plan, store, where).map(tasks):
        pass
    state, listing = timed("listing what is done", lambda: inspect(plan, store))
    _, ranking = timed("ranking", lambda: rank(plan, state.records, state.unusable))
    print(f"{'expanding, listing and ranking':<40} {expanding + max(missing, listing) + ranking:7.2f} s by the clock")


def coordinate(folder: Path, jobs: int) -> None:
    """Coordinate jobs that end at once; print seconds per job and this process's peak memory."""
    registry = Registry(load_plugins([TINY]))
    suite = suite_of(folder, jobs, registry)[1]()
    before = peak_memory()
    store = Store(folder / "results" / f"scale-{jobs}")
    where = provenance(registry.plugins, device="cpu", threads=1, started=now())
    start, cpu = time.perf_counter(), time.process_time()
    run(
        suite,
        store,
        registry,
        Writer(suite.plan, store, where),
        Options(cache=folder / "cache", preflight=False),
        Silence(),
    )
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = peak_memory()
    each, cpu = 1000 * seconds / jobs, 1000 * cpu / jobs
    print(f"a coordinator of {jobs:,} jobs that take no time: {each:.1f} ms each ({cpu:.1f} ms of the processor),")
    print(f"    {peak:.0f} MB at most, of which {before:.0f} MB before the first")


def peak_memory() -> float:
    """Return the peak in MB; resource.getrusage would include the memory of the process before exec."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def real(folder: Path, jobs: int) -> None:
    """Run jobs of one training step, one after the other."""
    file, _ = suite_of(folder, jobs, Registry(load_plugins([TINY])))
    options = ["--results", folder / "real", "--cache", folder / "cache", "--device", "cpu", "--plugin", TINY]
    command = [sys.executable, "-m", "recbench", "run", file, *options, "--executor-option", "jobs=1"]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    folders = list((folder / "real").glob("*/jobs/*"))
    # A job's process begins by opening its log, which stays empty; its record is written last.
    spans = sorted(((path / "log.txt").stat().st_mtime, (path / "record.json").stat().st_mtime) for path in folders)
    gaps = [after[0] - before[1] for before, after in itertools.pairwise(spans)]
    took = [end - begin for begin, end in spans[1:]]
    whole = (spans[-1][1] - spans[1][0]) / (len(spans) - 1)
    print(
        f"{len(spans)} real jobs, one after the other: {whole:.3f} s each; median {statistics.median(took):.3f} s from"
    )
    print(f"    the start of a process to its record, and {statistics.median(gaps):.3f} s from there to the next start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--real", type=int, default=100, help="jobs that are really run")
    parser.add_argument("--coordinate", type=int, metavar="N", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.coordinate:
        coordinate(arguments.folder, arguments.coordinate)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        steps(folder, arguments.jobs)
        for jobs in (arguments.jobs // 10, arguments.jobs):
            own = [sys.executable, __file__, "--coordinate", str(jobs), "--folder", name]
            subprocess.run(own, check=True, env={**os.environ, "PYTHONHASHSEED": "0"})
        if arguments.real:
            real(folder, arguments.real)


if __name__ == "__main__":
    main()
