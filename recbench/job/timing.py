"""The time of a training step, measured in a few steps on made-up images, to say beforehand what a suite will take."""

from __future__ import annotations

import statistics
import time

import torch

from recbench.contracts.entries import ImageShape
from recbench.job.images import to_range
from recbench.job.parts import build
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
    seed_everything(job.seed, deterministic=job.training.deterministic)
    model, _ = build(job.model_copy(update={"metrics": {}}), registry, shape, device)
    model.architecture.train()
    model.loss.train()
    step = Step(model, job.training.model_copy(update={"compile": False}))
    target = to_range(images_of(shape, job.training.batch_size).to(device), model.image_range)
    taken = []
    for number in range(WARM_UP + steps):
        _wait(device)
        begin = time.perf_counter()
        step(target, 1, number, checked=False)
        _wait(device)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[WARM_UP:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
