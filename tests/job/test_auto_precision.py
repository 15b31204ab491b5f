"""``precision: auto`` is chosen once, by the machine that begins: whatever goes on elsewhere keeps to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from recbench import run_task
from recbench.contracts.executor import Task
from recbench.data.cache import prepare
from recbench.job import runner
from recbench.job.checkpoint import Checkpoint, Position
from recbench.job.training import Interrupted, train
from recbench.job.verification import verify
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.store.record import Record
from recbench.store.store import Store
from recbench.suite.suite import load_suite
from tests.conftest import TINY
from tests.job.test_training import CONFIG, IMAGES, make, state, watch

AUTO = CONFIG.model_copy(update={"precision": "auto"})
SUITE = """\
name: tiny
datasets: [blobs]
architectures: [linear]
losses: [{{name: l2, kl_weight: 0.001}}]
seeds: [0]
training: {{epochs: 2, batch_size: 16, learning_rate: 1e-2, precision: auto}}
metrics: [{metrics}]
"""
Here = Callable[[bool], None]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    """Make this machine one that multiplies bf16, or one that does not."""
    return lambda fast: monkeypatch.setattr("recbench.job.device._multiplies_bf16", lambda _: fast)


@pytest.mark.parametrize(("first", "precision"), [(True, "bf16"), (False, "float32")])
def test_training_goes_on_in_the_precision_that_it_began_with(
    first: bool, precision: str, here: Here, tmp_path: Path
) -> None:
    whole = make()
    train(whole, IMAGES, CONFIG.model_copy(update={"precision": precision}), 0, tmp_path / "whole", watch())
    here(first)
    steps = iter([False, False, True])
    with pytest.raises(Interrupted):
        train(make(), IMAGES, AUTO, 0, tmp_path, watch(lambda: next(steps)))
    here(not first)
    continued = make()
    position, _ = train(continued, IMAGES, AUTO, 0, tmp_path, watch())
    assert position.precision == precision
    for name, wanted in state(whole).items():
        assert torch.equal(state(continued)[name], wanted), name


def test_an_older_checkpoint_goes_on_as_the_machine_chooses(
    here: Here, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Checkpoint.save

    def save_as_before(self: Checkpoint, position: Position) -> None:
        facts = dict(vars(position))
        del position.precision
        save(self, position)
        vars(position).update(facts)

    monkeypatch.setattr(Checkpoint, "save", save_as_before)
    here(False)
    with pytest.raises(Interrupted):
        train(make(), IMAGES, AUTO, 0, tmp_path, watch(lambda: True))
    here(True)
    position, _ = train(make(), IMAGES, AUTO, 0, tmp_path, watch())
    assert position.precision == "bf16"


# Records


class Jobs:
    """The one job of a suite, in this process."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder, self.cache = folder, cache
        self.registry = Registry(load_plugins([TINY]))
        self.store = Store(folder / "results" / "tiny")

    def run(self, metrics: str = "psnr", split: str = "", stop: Callable[[], bool] = lambda: False) -> Record | None:
        (self.folder / "tiny.yaml").write_text(SUITE.format(metrics=metrics))
        plan = load_suite(self.folder / "tiny.yaml", self.registry).plan
        job = plan.job(plan.jobs[0])
        if split:
            job = job.model_copy(update={"split": split})
        prepare(job.dataset, self.registry, self.cache)
        self.store.write_task(job, "tiny")
        task = Task(
            job_id=job.id,
            folder=str(self.store.folder(job.id)),
            cache=str(self.cache),
            plugin_files=(str(TINY),),
            device="cpu",
            supersedes=self.store.identity(job.id),
        )
        run_task(task, lambda _: None, stop)
        return self.store.read(job.id)


@pytest.fixture
def jobs(tmp_path: Path, cache: Path) -> Iterator[Jobs]:
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    yield Jobs(tmp_path, cache)
    torch.set_num_threads(before[0])
    torch.set_deterministic_debug_mode(before[1])


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The precision of each evaluation by a job."""
    found: list[str] = []
    evaluate = runner.evaluate

    def noted(*arguments: Any, **options: Any) -> Any:
        found.append(options["config"].precision)
        return evaluate(*arguments, **options)

    monkeypatch.setattr(runner, "evaluate", noted)
    return found


def test_the_record_of_a_resumed_job_names_the_precision_that_it_had(
    jobs: Jobs, here: Here, evaluated: list[str]
) -> None:
    here(True)
    assert jobs.run(stop=lambda: True) is None
    here(False)
    record = jobs.run()
    assert record is not None
    assert record.status == "done"
    assert record.provenance.precision == "bf16"
    assert record.job.training.precision == "auto"
    assert evaluated == ["bf16"]


@pytest.mark.parametrize("fast", [True, False])
def test_a_job_is_verified_in_the_precision_of_its_record(jobs: Jobs, here: Here, fast: bool) -> None:
    here(fast)
    record = jobs.run()
    assert record is not None
    here(not fast)
    found = verify(jobs.store, record.job_id, jobs.registry, jobs.cache, "cpu")
    assert [score.verdict for score in found.scores] == ["identical"] * len(found.scores)
    assert found.scores
    assert not any("precision" in check.says for check in found.checks)


def test_new_scores_are_in_the_precision_of_the_record(jobs: Jobs, here: Here, evaluated: list[str]) -> None:
    here(True)
    jobs.run()
    here(False)
    record = jobs.run("psnr, ssim")
    assert record is not None
    assert set(record.scores) >= {"psnr", "ssim"}
    assert [again.provenance.precision for again in record.rescored] == ["bf16"]
    assert evaluated == ["bf16", "bf16"]


def test_a_model_that_another_job_trained_is_scored_in_the_precision_of_that(
    jobs: Jobs, here: Here, evaluated: list[str]
) -> None:
    here(True)
    jobs.run(split="test")
    here(False)
    record = jobs.run(split="validation")
    assert record is not None
    assert record.trained is not None
    assert record.trained.job
    assert record.provenance.precision == "bf16"
    assert evaluated == ["bf16", "bf16"]
