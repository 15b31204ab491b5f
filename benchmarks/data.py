"""CPU cost of images: from recbench's cache compared with a DataLoader over JPEGs, and the cost of preparing the cache.

    python benchmarks/data.py
    python benchmarks/data.py --images 20000 --rounds 9 --processes 1 2 4 8 16

The files are made up here: JPEGs of CelebA's size (178 x 218), cropped and resized to 64 x 64.

Reading: batches in random order, as float32 on the CPU, taken from the cache as training does, and by torchvision's
ImageFolder in a DataLoader with and without processes that load; all files are in memory. They take turns of some
batches each. Preparing: all images, by one process and by several; also the processor time, which tells more on a busy
machine. Printed are medians over the rounds, and the ratios within a round.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

from recbench_executors.local import ALLOCATOR

if __name__ == "__main__" and not all(name in os.environ for name in ALLOCATOR):
    # As the local executor does. glibc reads these when a process starts, so that this one has to start again.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**ALLOCATOR, **os.environ})

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Resize, ToTensor

from recbench.data.cache import Prepared, prepare
from recbench.job.images import take
from recbench.plan.components import component
from recbench.plan.model import ComponentSpec
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry

CORES = len(os.sched_getaffinity(0))
BATCH = 64
PAUSE = 0.5  # seconds, in which a DataLoader's processes load what they load in advance


def make_files(folder: Path, count: int) -> None:
    """Smooth colours and some noise: files of about 10 kB, as CelebA's are."""
    generator = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (28, 23, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((178, 218), Image.Resampling.BICUBIC), dtype=np.int16)
        noisy = np.clip(smooth + generator.integers(-6, 7, smooth.shape), 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"{number + 1:06}.jpg", quality=90)


# Reading


def from_cache(prepared: Prepared) -> Iterator[torch.Tensor]:
    """Epochs of batches as training takes them: indexed from the memory-mapped array, and converted."""
    images = torch.from_numpy(prepared.load("train"))
    while True:
        for indices in torch.randperm(len(images)).split(BATCH):
            if len(indices) == BATCH:
                yield take(images, indices, torch.device("cpu")).to(torch.float32).div_(255)


def from_files(folder: Path, processes: int) -> Iterator[torch.Tensor]:
    """Epochs of batches of a DataLoader over the files."""
    transform = Compose([CenterCrop(148), Resize(64), ToTensor()])
    files = ImageFolder(str(folder), transform)
    loader = DataLoader(
        files, BATCH, shuffle=True, drop_last=True, num_workers=processes, persistent_workers=processes > 0
    )
    while True:
        for images, _ in loader:
            yield images


def microseconds(batches: Iterator[torch.Tensor], count: int) -> float:
    """Of an image, over so many batches."""
    start = time.perf_counter()
    for batch in itertools.islice(batches, count):
        assert batch.shape[0] == BATCH
    return (time.perf_counter() - start) / (count * BATCH) * 1e6


def compare_reading(folder: Path, prepared: Prepared, rounds: int, batches: int) -> None:
    readers = {"recbench's cache": from_cache(prepared)}
    for processes in dict.fromkeys((0, min(CORES, 16))):
        readers[f"DataLoader over JPEGs, {processes or 'no'} processes"] = from_files(folder, processes)
    times: dict[str, list[float]] = {name: [] for name in readers}
    microseconds(readers["recbench's cache"], prepared.counts["train"] // BATCH)  # touches every page once
    for reader in readers.values():
        microseconds(reader, 4)  # starts processes
    for _ in range(rounds):
        for name, reader in readers.items():
            time.sleep(PAUSE)
            times[name].append(microseconds(reader, batches))
    print(f"reading batches of {BATCH}, 64 x 64, {CORES} cores")
    ours = times["recbench's cache"]
    for name, found in times.items():
        ratios = [other / own for other, own in zip(found, ours, strict=True)]
        print(
            f"  {name:<38} median {statistics.median(found):8.1f} µs an image, "
            f"{statistics.median(ratios):5.1f} times the cache's ({min(ratios):.1f} to {max(ratios):.1f})"
        )


# Preparing


def preparing(part: ComponentSpec, registry: Registry, processes: int) -> tuple[float, float]:
    """Seconds that so many processes take, into a new cache: of time, and of all processors together."""
    with (
        tempfile.TemporaryDirectory() as cache,
        mock.patch("os.sched_getaffinity", lambda _: set(range(processes))),
    ):
        before = os.times()
        prepare(part, registry, Path(cache))
        spent = [after - at_first for after, at_first in zip(os.times(), before, strict=True)]
        return spent[4], sum(spent[:4])


def compare_preparing(
    measure: Callable[[int], tuple[float, float]], numbers: list[int], count: int, rounds: int
) -> None:
    found: dict[int, list[tuple[float, float]]] = {number: [] for number in numbers}
    for _ in range(rounds):
        for number in numbers:
            found[number].append(measure(number))
    print(f"preparing {count} images")
    for number, seconds in found.items():
        times = [one / own for (one, _), (own, _) in zip(found[numbers[0]], seconds, strict=True)]
        wall, used = (statistics.median(each) / count * 1e6 for each in zip(*seconds, strict=True))
        print(
            f"  {number:2} processes: median {wall:6.0f} µs an image ({used:.0f} µs of processor time), "
            f"{statistics.median(times):5.2f} times as fast as {numbers[0]} ({min(times):.2f} to {max(times):.2f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000, help="files to make")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=20, help="of a turn, when reading")
    parser.add_argument("--processes", type=int, nargs="+", default=sorted({1, CORES}), help="to prepare with")
    arguments = parser.parse_args()
    registry = Registry(load_plugins())
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "files"
        folder.mkdir()
        make_files(folder / "img_align_celeba", arguments.images)
        entry = registry.get("datasets", "celeba")
        params = entry.entry.complete({"root": str(folder), "count": arguments.images})
        part = component(entry, params)
        prepared = prepare(part, registry, Path(temporary) / "cache")
        compare_reading(folder, prepared, arguments.rounds, arguments.batches)
        compare_preparing(
            lambda processes: preparing(part, registry, processes),
            arguments.processes,
            arguments.images,
            arguments.rounds,
        )


if __name__ == "__main__":
    main()
