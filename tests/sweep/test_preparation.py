"""Calibration by an executor: where it runs, what it is refused for, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from recbench import run_task
from recbench.contracts.executor import Ended, Event, Executor, Task
from recbench.data.cache import prepare
from recbench.errors import UserError
from recbench.plan.plan import Plan
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.store import scales
from recbench.suite.suite import load_suite
from recbench.sweep.preparation import calibrated
from tests.conftest import TINY

SUITE = """\
name: tiny
datasets: [blobs]
architectures: [linear]
losses: [l2, l1]
seeds: [0]
training: {epochs: 1, batch_size: 16}
metrics: [psnr, ssim]
tuning: {budget: 2, kl_weight: {low: 1e-3, high: 0.1}, select: {metric: ssim}, calibration_steps: 2}
"""


class Here(Executor):
    """Runs tasks in this process, or ends them as a test says."""

    def __init__(self, end: Callable[[Task], Ended] | None = None, refuse: str = "") -> None:
        self.end = end
        self.refuse = refuse
        self.calls: list[tuple[str, list[Task]]] = []

    def check(self, tasks: Sequence[Task]) -> None:
        self.calls.append(("check", list(tasks)))
        if self.refuse:
            raise UserError(self.refuse)

    def describe(self, tasks: int) -> str:
        return "here"

    def map(self, tasks: Sequence[Task]) -> Iterator[Event]:
        self.calls.append(("map", list(tasks)))
        for task in tasks:
            outcome = None if self.end else run_task(task, lambda _: None, lambda: False)
            yield self.end(task) if self.end else Ended(task.job_id, outcome or "crashed")

    def drain(self) -> None: ...

    def stop(self) -> None: ...

    def kill(self) -> None: ...


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry(load_plugins([TINY]))


@pytest.fixture
def plan(registry: Registry, tmp_path: Path) -> Plan:
    (tmp_path / "tiny.yaml").write_text(SUITE)
    return load_suite(tmp_path / "tiny.yaml", registry).plan


@pytest.fixture
def calibrate(plan: Plan, registry: Registry, cache: Path, tmp_path: Path) -> Callable[..., Plan | None]:
    prepare(plan.settings[0].dataset, registry, cache)
    root = tmp_path / "results" / "tiny"
    task = Task(job_id="", folder="", cache=str(cache), plugin_files=(str(TINY),), device="cpu")

    def call(executor: Executor, interrupted: bool = False) -> Plan | None:
        return calibrated(plan, root, registry, executor, task, note=lambda _: None, interrupted=lambda: interrupted)

    return call


def test_it_is_a_job_of_the_executor_with_what_all_jobs_have(
    calibrate: Callable[..., Plan | None], tmp_path: Path
) -> None:
    executor = Here()
    found = calibrate(executor)
    assert found is not None
    assert not scales.lacking(found)
    (_, (task,)), (_, (mapped,)) = executor.calls
    assert [name for name, _ in executor.calls] == ["check", "map"]
    assert task == mapped
    assert (task.calibrates, task.device, task.plugin_files) == (True, "cpu", (str(TINY),))
    assert (tmp_path / "results" / "tiny" / scales.FILE).is_file()
    assert not (tmp_path / "results" / "tiny" / "calibration").exists()
    assert calibrate(Here(refuse="not asked again")) == found


def test_what_the_executor_refuses_is_said_before_anything_starts(calibrate: Callable[..., Plan | None]) -> None:
    executor = Here(refuse="--devices 7: no NVIDIA GPU was found on this machine")
    with pytest.raises(UserError, match="--devices 7"):
        calibrate(executor)
    assert [name for name, _ in executor.calls] == ["check"]


def test_a_job_that_dies_ends_the_run_with_its_reason(calibrate: Callable[..., Plan | None]) -> None:
    def crash(task: Task) -> Ended:
        return Ended(task.job_id, "crashed", "device cuda does not exist: torch sees 0 GPUs")

    with pytest.raises(UserError, match="the losses could not be calibrated: device cuda does not exist"):
        calibrate(Here(crash))
    with pytest.raises(UserError, match="its job left no scales"):
        calibrate(Here(lambda task: Ended(task.job_id, "recorded")))


def test_an_interrupted_one_is_no_error(calibrate: Callable[..., Plan | None]) -> None:
    assert calibrate(Here(lambda task: Ended(task.job_id, "interrupted", "left to Slurm's queue"))) is None
    assert calibrate(Here(lambda task: Ended(task.job_id, "recorded")), interrupted=True) is None


def test_a_stop_is_heard_between_two_steps(calibrate: Callable[..., Plan | None]) -> None:
    outcomes = []

    def stopped(task: Task) -> Ended:
        outcomes.append(run_task(task, lambda _: None, lambda: True))
        return Ended(task.job_id, outcomes[-1])

    assert calibrate(Here(stopped)) is None
    assert outcomes == ["interrupted"]


def test_another_coordinators_calibration_is_waited_for(calibrate: Callable[..., Plan | None], tmp_path: Path) -> None:
    """It is busy at first; then its scales are there."""

    def busy(task: Task) -> Ended:
        run_task(task, lambda _: None, lambda: False)
        return Ended(task.job_id, "busy")

    executor = Here(busy)
    found = calibrate(executor)
    assert found is not None
    assert not scales.lacking(found)
    kept = json.loads((tmp_path / "results" / "tiny" / scales.FILE).read_text())
    assert len(kept["scales"]) == 1
