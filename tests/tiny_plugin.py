"""A single-file plugin with a data set, a network and losses so small that a job takes a fraction of a second.

Used with ``--plugin``; some of its losses misbehave on purpose.
"""

import ctypes
import os
import signal
import subprocess
import time

import numpy as np

from recbench import ArchitectureEntry, DatasetEntry, ImageShape, LossEntry, MetricEntry, Parameter, hookimpl
from recbench.contracts.dataset import Dataset

CHILD = f"98765.{os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw')}"
"""Seconds that a child process sleeps; also what tests know it by, each worker of pytest its own."""


class Blobs(Dataset):
    """Bright squares on dark ground, at random places."""

    duplicates = "keep"  # there are few places

    def __init__(self, *, size, count, channels, salt):
        self.size, self.count, self.channels, self.salt = size, count, channels, salt

    @property
    def shape(self):
        return ImageShape(self.channels, self.size, self.size)

    def source(self):
        return os.environ.get("TINY_SOURCE", "generated")

    def images(self, split):
        generator = np.random.default_rng([("train", "validation", "test").index(split), self.salt])
        bright = int(os.environ.get("TINY_BRIGHT", "200"))
        for _ in range(self.count if split == "train" else self.count // 2):
            image = np.full((self.size, self.size, self.channels), 20, dtype=np.uint8)
            top, left = generator.integers(0, self.size // 2, 2)
            image[top : top + self.size // 2, left : left + self.size // 2] = bright
            yield image


def _torch_parts():
    import torch
    from torch import nn

    from recbench.contracts.architecture import Architecture, Gaussian
    from recbench.contracts.loss import Loss
    from recbench.contracts.metric import SetMetric

    class Linear(Architecture):
        def __init__(self, shape, *, latent_size):
            super().__init__()
            self.latent_size = latent_size
            self.shape = (shape.channels, shape.height, shape.width)
            pixels = shape.channels * shape.height * shape.width
            self.encoder = nn.Linear(pixels, 2 * latent_size)
            self.decoder = nn.Linear(latent_size, pixels)

        def encode(self, images):
            return Gaussian(*self.encoder(images.flatten(1)).chunk(2, dim=1))

        def decode(self, z):
            return torch.tanh(self.decoder(z)).reshape(-1, *self.shape)

    class Misbehaving(Loss):
        """L2 that does something bad from a given step on."""

        def __init__(self, setting, *, what, step):
            super().__init__()
            self.what, self.step = what, step

        def forward(self, decoded, target, context):
            value = (decoded - target).square().sum((1, 2, 3))
            if context.step is not None and context.step + 1 < self.step:
                return value
            if self.what == "raise":
                raise RuntimeError("this loss raises on purpose")
            if self.what == "nan":
                return value * float("nan")
            if self.what == "inf":
                return value * float("inf")
            if self.what == "exit":
                os._exit(3)
            if self.what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.what == "slow":
                time.sleep(0.05)
            if self.what == "segv":
                ctypes.string_at(0)
            if self.what == "hang":
                subprocess.Popen(["sleep", CHILD])
                time.sleep(100_000)
            if self.what == "hang in c":
                ctypes.PyDLL(None).sleep(100_000)  # no other thread of this process runs meanwhile
            if self.what == "leave a child":
                subprocess.Popen(["sleep", CHILD])
                os.kill(os.getpid(), signal.SIGKILL)
            if self.what == "memory":
                torch.empty(2**50)
            if self.what == "memory of numpy":
                np.empty(2**50)
            if self.what == "memory of the gpu":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB.")
            if self.what == "raise once":
                try:
                    os.close(os.open("raised", os.O_CREAT | os.O_EXCL))
                except FileExistsError:
                    return value
                raise RuntimeError("this loss raises once")
            return value

    class MeanError(SetMetric):
        def __init__(self, shape):
            super().__init__()
            self.total, self.count = 0.0, 0

        def update(self, decoded, target):
            self.total += float((decoded - target).sum())
            self.count += target.numel()

        def compute(self):
            return self.total / self.count

    return {"Linear": Linear, "Misbehaving": Misbehaving, "MeanError": MeanError}


def __getattr__(name):
    """Make the classes that need torch only when a job asks for them."""
    if name in ("Linear", "Misbehaving", "MeanError"):
        return _torch_parts()[name]
    raise AttributeError(name)


@hookimpl
def recbench_datasets():
    yield DatasetEntry(
        name="blobs",
        factory=f"{__name__}:Blobs",
        summary="bright squares",
        parameters=(
            Parameter("size", int, 16, "side in pixels", minimum=4),
            Parameter("count", int, 64, "training images; half as many for the other splits", minimum=2),
            Parameter("channels", int, 3, "channels", choices=(1, 2, 3)),
            Parameter("salt", int, 0, "seed"),
        ),
    )


@hookimpl
def recbench_architectures():
    yield ArchitectureEntry(
        name="linear",
        factory=f"{__name__}:Linear",
        summary="one linear layer each way",
        parameters=(Parameter("latent_size", int, 4, "entries of z", minimum=1),),
    )


@hookimpl
def recbench_losses():
    yield LossEntry(
        name="misbehaving",
        factory=f"{__name__}:Misbehaving",
        summary="L2 until it does something bad",
        parameters=(
            Parameter("what", str, "nothing", "the bad thing"),
            Parameter("step", int, 1, "the step at which it happens", minimum=1),
        ),
    )


@hookimpl
def recbench_metrics():
    yield MetricEntry(
        name="mean_error", factory=f"{__name__}:MeanError", summary="mean signed error", direction="lower"
    )
