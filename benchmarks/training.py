"""What recbench's training loop costs beside a plain PyTorch loop that makes the same steps: under 2 % is the goal.

    python benchmarks/training.py

Both loops train the same network on the same images with the same loss (L2 and KL), batch size and optimizer, in one
process, taking turns step by step: after each of recbench's steps the plain loop makes one of its own. What disturbs
the machine disturbs both, so the ratios are steadier than the times.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from recbench_executors.local import ALLOCATOR

if __name__ == "__main__" and not all(name in os.environ for name in ALLOCATOR):
    # As the local executor does. glibc reads these when a process starts, so that this one has to start again.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**ALLOCATOR, **os.environ})

import torch

from recbench.contracts.entries import ImageShape
from recbench.contracts.loss import Setting
from recbench.job.parts import Model
from recbench.job.training import TrainingImages, Watch, seed_everything, train
from recbench.plan.model import Training
from recbench_architectures.bredell import VAEBredell
from recbench_losses_pixel.losses import L2

KL_WEIGHT, LEARNING_RATE, BATCH = 0.01, 1e-4, 64

NETWORKS = {
    "vae_bredell, 64 px": (64, {"widths": [64, 128, 256, 512], "latent_size": 256, "hidden": 1024}),
    "quickstart-like, 32 px": (32, {"widths": [32, 64, 128], "latent_size": 128, "hidden": 256}),
    "tiny, 16 px": (16, {"widths": [8, 16], "latent_size": 8, "hidden": 32}),
}


def network(name: str) -> tuple[VAEBredell, int]:
    """A network of that name, and the side of its images."""
    side, params = NETWORKS[name]
    torch.manual_seed(0)
    return VAEBredell(ImageShape(3, side, side), **params, blocks=0, decoder_widths="inputs"), side


def made_up_images(count: int, side: int) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class PlainLoop:
    """The loop that one would write for one experiment: no history, no checkpoints, no look at the loss."""

    def __init__(
        self,
        model: VAEBredell,
        images: torch.Tensor,
        *,
        fused: bool = True,
        channels_last: bool = True,
        bf16: bool = False,
    ) -> None:
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model = model.to(memory_format=self.layout).train()
        self.images = images
        self.optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=fused)
        self.bf16 = bf16
        self.order = torch.empty(0, dtype=torch.long)

    def step(self) -> None:
        if len(self.order) < BATCH:
            self.order = torch.randperm(len(self.images))
        chosen, self.order = self.order[:BATCH], self.order[BATCH:]
        x = self.images[chosen].to(torch.float32, memory_format=self.layout).mul_(2 / 255).sub_(1)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            mean, log_variance = self.model.encoder(x).chunk(2, dim=1)
        mean, log_variance = mean.float(), log_variance.float()
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            decoded = self.model.decode(z)
        error = 0.5 * decoded.float() - 0.5 * x  # the loss sees images in 0 to 1
        l2 = 0.5 * error.square().sum((1, 2, 3)).mean()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1).mean()
        objective = l2 + KL_WEIGHT * kl
        self.optimizer.zero_grad(set_to_none=True)
        objective.backward()
        self.optimizer.step()


def ratios(name: str, steps: int, clock: Callable[[], float]) -> tuple[list[float], float]:
    """Time of a step of recbench's in that of the plain steps before and after it; and images/s of the plain loop."""
    model, side = network(name)
    images = made_up_images(BATCH * min(steps, 16), side)
    plain = PlainLoop(network(name)[0], images)
    ours: list[float] = []
    theirs: list[float] = []
    tick = clock()

    def take_turns() -> bool:
        """Called by recbench after each of its steps."""
        nonlocal tick
        ours.append(clock() - tick)
        start = clock()
        plain.step()
        tick = clock()
        theirs.append(tick - start)
        return False

    seed_everything(0, deterministic=True)
    loss = L2(Setting(ImageShape(3, side, side), model.latent_size))
    whole = Model(model.to(memory_format=torch.channels_last), loss, (-1.0, 1.0), (0.0, 1.0), KL_WEIGHT)
    config = Training(epochs=-(-steps // min(steps, 16)), batch_size=BATCH, learning_rate=LEARNING_RATE)
    with tempfile.TemporaryDirectory() as folder:
        watch = Watch(lambda *_: None, lambda _: None, take_turns, checkpoint_seconds=1e9)
        train(whole, TrainingImages(images, images[:0], images[:0]), config, 0, Path(folder), watch)
    skipped = max(1, len(ours) // 10)  # the first steps make room in memory
    pairs = range(skipped, len(ours))
    found = [2 * ours[i] / (theirs[i - 1] + theirs[i]) for i in pairs]
    return found, BATCH / statistics.median(theirs[skipped:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, nargs=3, default=[60, 400, 4000], help="for each of the three networks")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--processor-time", action="store_true", help="for busy machines; with --threads 1")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    clock = time.process_time if arguments.processor_time else time.perf_counter
    print(f"torch {torch.__version__}, {arguments.threads} threads; times of recbench's steps in plain steps")
    for name, steps in zip(NETWORKS, arguments.steps, strict=True):
        for _ in range(arguments.repeats):
            found, speed = ratios(name, steps, clock)
            low, middle, high = statistics.quantiles(found, n=4)
            print(
                f"{name:<20} median {middle:.3f}, quartiles {low:.3f} to {high:.3f}, "
                f"min {min(found):.3f}, max {max(found):.3f} ({len(found)} steps, plain loop {speed:.0f} images/s)"
            )


if __name__ == "__main__":
    main()
