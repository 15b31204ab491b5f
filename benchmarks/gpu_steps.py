"""Steps of training that the checks of a GPU take, on the GPU or on what stands in for it in a rehearsal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
CHECK = Path(__file__).with_name("gpu_check.py")
LOSSES: dict[str, dict[str, Any]] = {
    "l2": {},
    "ffl": {},
    "ssim": {},
    "wiener": {"warmup_epochs": 0},
    "watson_dft": {"weights": "initial"},
}
SIDES = (32, 64)
BATCH = 64

Row = tuple[str, str, str]
"""A section's name, what was looked at, and what was found."""


class Device:
    """The GPU, or what stands in for it in a rehearsal."""

    def __init__(self, rehearse: bool) -> None:
        self.rehearse = rehearse
        self.name = "cpu" if rehearse else "cuda"
        self.seconds = 0.1 if rehearse else 1.5

    def wait(self) -> None:
        import torch

        if not self.rehearse:
            torch.cuda.synchronize()

    @contextmanager
    def fake(self) -> Iterator[None]:
        """In a rehearsal, let tensors on ``cuda`` be fake ones."""
        if not self.rehearse:
            yield
            return
        from tests.fake_cuda import Watch, fake_cuda

        with fake_cuda(), Watch() as watch:
            yield
            assert not watch.waits, dict(watch.waits)


def model_of(loss: str, params: dict[str, Any], side: int, network: str = "vae_bredell", **sizes: Any) -> Any:
    """Return a model on the CPU."""
    import torch

    from recbench.contracts.entries import ImageShape
    from recbench.contracts.loss import Setting
    from recbench.job.parts import Model
    from recbench.plugin.manager import load_plugins
    from recbench.plugin.registry import Registry

    registry = Registry(load_plugins())
    networks, losses = registry.get("architectures", network), registry.get("losses", loss)
    shape = ImageShape(3, side, side)
    architecture = networks.create(networks.entry.complete(sizes), shape)
    made = losses.create(losses.entry.complete(params), Setting(shape, architecture.latent_size))
    architecture = architecture.to(memory_format=torch.channels_last)
    return Model(architecture, made, networks.entry.value_range, losses.entry.value_range, 1.0)


def moved(model: Any, device: Device, *, fake: bool = False) -> Any:
    """Move a model to the device; with ``fake``, in a rehearsal, to the fake one."""
    if fake and device.rehearse:
        from tests.fake_cuda import to_fake

        to_fake(model.architecture)
        to_fake(model.loss)
    else:
        model.architecture.to(device.name)
        model.loss.to(device.name)
    return model


def stepper(
    loss: str, side: int, device: Device, *, compiled: bool = False, recorded: bool = False
) -> Callable[[], None]:
    """Return a function that takes a step of training in bf16, with images on the device."""
    model = moved(model_of(loss, LOSSES.get(loss, {}), side), device)
    return steps_of(model, side, device.name, compiled=compiled, recorded=recorded)


def steps_of(
    model: Any, side: int, where: str, *, compiled: bool = False, recorded: bool = False
) -> Callable[[], None]:
    """Return a function that takes a step of a model on a device; with ``recorded``, as a CUDA graph, or on the CPU by
    its stand-in."""
    import torch

    from recbench.job.graph import ReplayedStep
    from recbench.job.images import take, to_range
    from recbench.job.step import Step
    from recbench.plan.model import Training

    config = Training(epochs=2, batch_size=BATCH, precision="bf16", compile=compiled, deterministic=False)
    images = torch.randint(0, 256, (16 * BATCH, 3, side, side), dtype=torch.uint8, device=where)
    step, order, done = Step(model, config), torch.arange(16 * BATCH, device=where), [0]
    take_step = ReplayedStep(step, recorder(where), refused) if recorded else step

    def once() -> None:
        chosen = order[(done[0] % 16) * BATCH :][:BATCH]
        target = to_range(take(images, chosen, torch.device(where)), model.image_range)
        take_step(target, 20, done[0], checked=False)
        done[0] += 1

    return once


def recorder(where: str) -> Any:
    """Return what records steps on a device."""
    import torch

    if where == "cpu":
        from tests.recorded_operations import OperationsRecorder

        return OperationsRecorder()
    from recbench.job.graph import CudaRecorder

    return CudaRecorder(torch.device(where))


def refused(why: str) -> None:
    raise RuntimeError(why)


def speed(once: Callable[[], None], device: Device, seconds: float, warm_up: int = 10) -> float:
    """Return images per second."""
    for _ in range(1 if device.rehearse else warm_up):
        once()
    device.wait()
    start, steps = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or not steps:
        for _ in range(1 if device.rehearse else 10):
            once()
            steps += 1
        device.wait()
    return steps * BATCH / (time.perf_counter() - start)


def combinations() -> list[tuple[str, int]]:
    """Losses, and sides of images."""
    return [(loss, side) for side in SIDES for loss in LOSSES]


def section(name: str, device: Device, *options: str) -> list[str]:
    """Return the command that runs a section in a process of its own."""
    return [sys.executable, str(CHECK), "--section", name, *options, *(["--rehearse"] if device.rehearse else [])]
