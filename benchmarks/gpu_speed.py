"""Sections of ``gpu_check.py`` about speed: images per second of the losses, by how their steps are launched."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import torch
from gpu_steps import BATCH, LOSSES, Device, Row, combinations, model_of, moved, section, speed, stepper, steps_of
from torch import Tensor

from recbench.job import training
from recbench.job.graph import ReplayedStep
from recbench.job.graph import _Recorded as Recorded
from recbench.job.host_state import HostState
from recbench.plan.model import Training

SLOT, STARTING = 5.0, 30.0
"""Seconds for a loss and a size when several jobs share the GPU, and before the first of these slots."""
GOAL = 50_000
"""Images per second that a step as a CUDA graph is to reach at 64 pixels."""
GOALS = ("l2", "ffl", "ssim", "wiener")
TABLE_5 = ("l2", "ffl", "ce", "wiener")
"""The losses of table 5 of Bredell et al., on CIFAR-10."""


def eager(device: Device) -> Iterator[Row]:
    for loss, side in combinations():
        if device.rehearse:
            model = moved(model_of(loss, LOSSES[loss], side), device, fake=True)
            with device.fake():
                steps_of(model, side, "cuda")()
            yield f"{side} px eager", loss, "a step on fake CUDA tensors"
        else:
            yield (
                f"{side} px eager",
                loss,
                f"{speed(stepper(loss, side, device), device, device.seconds):,.0f} images/s",
            )


def graph(device: Device) -> Iterator[Row]:
    reached: dict[tuple[str, int], float] = {}
    for loss, side in combinations()[:1] if device.rehearse else [*combinations(), ("ce", 32)]:
        try:
            once = stepper(loss, side, device, recorded=True)
            for _ in range(5):  # until a step is recorded, and another replayed
                once()
            reached[loss, side] = speed(once, device, device.seconds)
            found = f"{reached[loss, side]:,.0f} images/s"
        except RuntimeError as error:
            found = f"FAILED: {error}"
        yield f"{side} px as a CUDA graph", loss, found
    for (loss, side), found_speed in reached.items():
        if loss in GOALS and side == 64:
            yield f"goal at 64 px: {GOAL:,} images/s", loss, "reached" if found_speed >= GOAL else "missed"
    table = [reached[loss, 32] for loss in TABLE_5 if (loss, 32) in reached]
    if len(table) == len(TABLE_5):
        minutes = sum(100 * 50_000 / each for each in table) / 60
        yield "table 5 of Bredell et al.: goal 10 minutes", ", ".join(TABLE_5), f"{minutes:.1f} minutes"


class Nothing:
    """A recording in which nothing is done."""

    def replay(self) -> None:
        pass


class IdleStep(ReplayedStep):
    """Steps that are replayed, and whose recordings do nothing: what is left is the host's part."""

    def _record(self, target: Tensor, epoch: int, step: int) -> Tensor:
        terms = self.step(target, epoch, step, checked=False)
        self._recorded = Recorded(Nothing(), target.clone(), terms, {}, None, HostState((), set()))
        return terms


def host(device: Device) -> Iterator[Row]:
    """The time in which the host takes and launches a step, which bounds the images per second whatever the GPU is."""
    torch.set_num_threads(1)
    counts, seconds = (50, 200, 2000), []  # in the first, libraries are imported
    for count in counts:
        model = moved(model_of("l2", {}, 8, "vae_bredell_small", widths=[2], latent_size=2), device)
        images = torch.zeros(count * BATCH, 3, 8, 8, dtype=torch.uint8, device=device.name)
        config = Training(epochs=1, batch_size=BATCH, learning_rate=1e-4, precision="bf16")
        watch = training.Watch(lambda *_: None, lambda _: None, lambda: False, 1e9)
        with ExitStack() as patched, tempfile.TemporaryDirectory() as folder:
            for name, value in (("recorder_for", lambda _: object()), ("ReplayedStep", IdleStep)):
                patched.enter_context(patch.object(training, name, value))
            start = time.perf_counter()
            training.train(
                model, training.TrainingImages(images, images[:0], images[:0]), config, 0, Path(folder), watch
            )
            device.wait()
            seconds.append(time.perf_counter() - start)
    each = (seconds[2] - seconds[1]) / (counts[2] - counts[1])
    yield "the host's part of a replayed step", "l2", f"{1e6 * each:.0f} µs: {BATCH / each:,.0f} images/s at most"


def compiled(device: Device) -> Iterator[Row]:
    for loss, side in combinations()[:1] if device.rehearse else combinations():
        once = stepper(loss, side, device, compiled=not device.rehearse)
        yield f"{side} px compiled", loss, f"{speed(once, device, device.seconds):,.0f} images/s"


def shared_job(device: Device, begins: float) -> Iterator[Row]:
    """One of several jobs that share the GPU: they measure the same at the same time."""
    for number, (loss, side) in enumerate(combinations()[:2] if device.rehearse else combinations()):
        once = stepper(loss, side, device, recorded=True)
        for _ in range(5):  # until a step is recorded
            once()
        device.wait()
        time.sleep(max(0.0, begins + number * SLOT + 0.5 * SLOT - time.time()))
        yield f"{side} px", loss, str(speed(once, device, min(device.seconds, 0.3 * SLOT), warm_up=0))


def shared(device: Device, jobs: int, mps: bool) -> Iterator[Row]:
    name = f"{jobs} jobs{' with MPS' if mps else ''}"
    with multi_process_service() if mps else nullcontext({}) as environment:
        if environment is None:
            yield name, "", "nvidia-cuda-mps-control is not here, or does not start"
            return
        begins = time.time() + (5.0 if device.rehearse else STARTING)
        command = section("shared_job", device, "--begins", str(begins))
        whole = {**os.environ, **environment}
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=whole) for _ in range(jobs)]
        sums: dict[tuple[str, str], list[float]] = {}
        for process in running:
            for line in process.communicate()[0].splitlines():
                size, loss, found = json.loads(line)
                sums.setdefault((size, loss), []).append(float(found) if size != "failed" else math.nan)
        for (size, loss), found in sums.items():
            missing = "" if len(found) == jobs else f" ({len(found)} of {jobs} jobs)"
            yield f"{size} {name}", loss, f"{sum(found):,.0f} images/s in all{missing}"


@contextmanager
def multi_process_service() -> Iterator[dict[str, str] | None]:
    """Start NVIDIA's MPS daemon, and end it; None where there is none."""
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        mine = {"CUDA_MPS_PIPE_DIRECTORY": folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        environment = {**os.environ, **mine}
        started = subprocess.run([control, "-d"], env=environment, check=False, capture_output=True)
        try:
            yield mine if started.returncode == 0 else None
        finally:
            subprocess.run([control], input=b"quit\n", env=environment, check=False, capture_output=True, timeout=30)
