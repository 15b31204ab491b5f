"""The time of a training step, measured in a few steps on made-up images, to say beforehand what a suite will take."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from recbench.contracts.entries import ImageShape
from recbench.job.graph import ReplayedStep, recorder_for
from recbench.job.images import to_range
from recbench.job.parts import Model, build
from recbench.job.preflight import images_of
from recbench.job.step import Step
from recbench.job.training import seed_everything
from recbench.plan.model import Job
from recbench.plugin.registry import Registry

WARM_UP = 2
"""Steps that are not timed: the first ones choose kernels and take memory."""


def step_seconds(
    job: Job, registry: Registry, shape: ImageShape, device: torch.device, *, steps: int = 6, threads: int = 0
) -> float:
    """Return the median seconds of a step of a job's training, with its own batch size; no metric is created.

    Args:
        job: what would be trained.
        shape: of its images.
        steps: that are timed.
        threads: of the processor; 0 leaves torch's number as it is.

    Raises:
        PluginError: network or loss cannot be created.
        ContractError: one of them is not what its kind is to be.
    """
    if threads:
        torch.set_num_threads(threads)
    uncompiled = job.model_copy(update={"training": job.training.model_copy(update={"compile": False})})
    _, take = repeatable_step(uncompiled, registry, shape, device)
    taken = []
    for number in range(WARM_UP + steps):
        _wait(device)
        begin = time.perf_counter()
        take(number)
        _wait(device)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[WARM_UP:])


def repeatable_step(
    job: Job, registry: Registry, shape: ImageShape, device: torch.device
) -> tuple[Model, Callable[[int], Tensor]]:
    """Return the model of a job, and what takes a step of its training on made-up images and returns the terms; its
    argument is the number of steps before it. No metric is created.

    Raises:
        PluginError: network or loss cannot be created.
        ContractError: one of them is not what its kind is to be.
    """
    seed_everything(job.seed, deterministic=job.training.deterministic)
    model, _ = build(job.model_copy(update={"metrics": {}}), registry, shape, device)
    model.architecture.train()
    model.loss.train()
    step = Step(model, job.training)
    recorder = recorder_for(device)
    take = step if recorder is None else ReplayedStep(step, recorder, print)
    target = to_range(images_of(shape, job.training.batch_size).to(device), model.image_range)
    return model, lambda number: take(target, 1, number, checked=False)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
