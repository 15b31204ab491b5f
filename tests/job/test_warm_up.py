"""The warm-up of processes, which the duration of a step leaves out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from recbench.job.step import Step
from recbench.job.training import Interrupted, TrainingImages, train
from tests.job.test_training import CONFIG, IMAGES, make, watch


@pytest.mark.parametrize(
    ("stops", "checkpoint_seconds", "warm"),
    [
        ((30, 0), 1e9, 40),
        ((19, 0), 1e9, 39),
        ((0,), 0.5, 20),  # with checkpoints within the warm-up
        ((50, 0), 1e9, 30),  # of the second process there are ten steps only
        ((10, 10, 0), 0.5, 40),
    ],
)
def test_the_warm_up_of_each_process_is_apart(
    stops: tuple[int, ...], checkpoint_seconds: float, warm: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock with which the first 20 steps of a process take 3 s each, the others one."""
    now, taken = [0.0], [0]

    def stop_after(last: int) -> Callable[[], bool]:
        taken[0] = 0

        def after_a_step() -> bool:
            taken[0] += 1
            return taken[0] == last

        return after_a_step

    def clock() -> float:
        return now[0]

    step = Step.__call__

    def timed(self: Step, *arguments: Any, **options: Any) -> Tensor:
        now[0] += 3.0 if taken[0] < 20 else 1.0
        return step(self, *arguments, **options)

    monkeypatch.setattr("recbench.job.training.time.perf_counter", clock)
    monkeypatch.setattr(Step, "__call__", timed)
    config = CONFIG.model_copy(update={"epochs": 30, "batch_size": 16})
    images = TrainingImages(IMAGES.train[:32], IMAGES.validation, IMAGES.traced)
    for last in stops[:-1]:
        with pytest.raises(Interrupted):
            train(make(), images, config, 0, tmp_path, watch(stop_after(last), checkpoint_seconds))
    position, _ = train(make(), images, config, 0, tmp_path, watch(stop_after(0), checkpoint_seconds))
    assert position.step == 60
    assert position.seconds == warm * 3.0 + (60 - warm) * 1.0
    assert (position.warm_steps, position.warm_seconds) == (warm, 3.0 * warm)
    assert position.step_seconds == 1.0


def test_a_training_that_is_all_warm_up_has_the_duration_of_its_steps(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(make(), IMAGES, CONFIG, 0, tmp_path, watch(lambda: True))
    position, _ = train(make(), IMAGES, CONFIG, 0, tmp_path, watch())
    assert position.warm_steps == position.step == 6
    assert position.step_seconds == position.seconds / 6
