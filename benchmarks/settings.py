"""Whether recbench's defaults for the CPU are the fast ones: allocator, fused Adam, channels last, bf16, threads.

    python benchmarks/settings.py

Each variant of a plain PyTorch loop (vae_bredell at 64 px, batch 64; see training.py) lives in a process of its own,
and they take turns of a few steps. Printed is how often faster than the first one each of them is, in the same round.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from recbench_executors.local import ALLOCATOR

CORES = len(os.sched_getaffinity(0))
FLAGS = Path("/proc/cpuinfo").read_text().split()
FAST_BF16 = "amx_bf16" in FLAGS or "avx512_bf16" in FLAGS
VARIANTS = {  # allocator's settings, options of the loop, processes, threads of each
    "as the local executor runs one job": (True, {}, 1, CORES),
    "without the allocator's settings": (False, {}, 1, CORES),
    "without fused Adam": (True, {"fused": False}, 1, CORES),
    "not channels last": (True, {"channels_last": False}, 1, CORES),
    "none of these three": (False, {"fused": False, "channels_last": False}, 1, CORES),
    "bf16": (True, {"bf16": True}, 1, CORES),
    "bf16, not channels last": (True, {"bf16": True, "channels_last": False}, 1, CORES),
    f"{CORES} jobs with 1 thread each": (True, {}, CORES, 1),
    f"{CORES} jobs with {CORES} threads each": (True, {}, CORES, CORES),
}


class Variant:
    """The processes of one variant; they wait for their turn."""

    def __init__(self, network: str, allocator: bool, options: dict[str, bool], processes: int, threads: int) -> None:
        clean = {key: value for key, value in os.environ.items() if key not in ALLOCATOR}
        command = [sys.executable, __file__, "--worker", network, str(threads), *options]
        self.workers = [
            subprocess.Popen(
                command,
                env={**clean, **ALLOCATOR} if allocator else clean,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(processes)
        ]

    def turn(self, steps: int, processor_time: bool) -> float:
        """Images/s of all processes together, which make so many steps each."""
        start = time.perf_counter()
        used = 0.0
        for worker in self.workers:
            assert worker.stdin is not None
            print(steps, file=worker.stdin, flush=True)
        for worker in self.workers:
            assert worker.stdout is not None
            used += float(worker.stdout.readline())
        return 64 * steps * len(self.workers) / (used if processor_time else time.perf_counter() - start)

    def close(self) -> None:
        for worker in self.workers:
            worker.communicate()


def work(network: str, threads: str, *options: str) -> None:
    """What a process does: the number of steps that each line of stdin asks for."""
    import torch
    from training import PlainLoop, made_up_images
    from training import network as make

    torch.set_num_threads(int(threads))
    model, side = make(network)
    loop = PlainLoop(model, made_up_images(512, side), **{name: name == "bf16" for name in options})
    for line in sys.stdin:
        start = time.process_time()
        for _ in range(int(line)):
            loop.step()
        print(time.process_time() - start, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=2, help="of each variant in a round")
    parser.add_argument("--network", default="vae_bredell, 64 px", help="one of training.py's")
    parser.add_argument(
        "--processor-time", action="store_true", help="for busy machines: one thread, and no jobs side by side"
    )
    arguments = parser.parse_args()
    alone = arguments.processor_time
    variants = {
        name: Variant(arguments.network, allocator, options, jobs, 1 if alone else threads)
        for name, (allocator, options, jobs, threads) in VARIANTS.items()
        if (jobs == 1 or not alone) and (FAST_BF16 or "bf16" not in options)
    }
    if not FAST_BF16:
        print("bf16 is left out: this processor has neither AMX nor avx512_bf16, and takes many times as long")
    speeds: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(arguments.rounds + 1):
        for name, variant in variants.items():
            speed = variant.turn(arguments.steps, alone)
            if number:  # the first round makes room in memory
                speeds[name].append(speed)
    for variant in variants.values():
        variant.close()
    first = next(iter(speeds.values()))
    print(f"{arguments.network}; how often faster than the first, in the same round; {1 if alone else CORES} cores")
    for name, found in speeds.items():
        times = [own / reference for own, reference in zip(found, first, strict=True)]
        print(
            f"{name:<36} median {statistics.median(times):.2f} ({min(times):.2f} to {max(times):.2f}), "
            f"{statistics.median(found):.1f} images/s"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        work(*sys.argv[2:])
    else:
        main()
