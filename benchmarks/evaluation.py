"""Cost of evaluation compared with the programs that published numbers come from, taking turns in one run.

    python benchmarks/evaluation.py
    python benchmarks/evaluation.py --only features --device cuda --images 2000 --batch 250
    PYTHONPATH=folder-with-torch-fidelity python benchmarks/evaluation.py --only features

- features: Inception's features of images, next to pytorch-fid's loop over the same images as PNG files, and to
  torch-fidelity where it can be imported. With random weights, which cost as much as trained ones.
- frechet: the distance of 2048 features of many and of few images, next to pytorch-fid's, which is scipy's sqrtm.
- images: metrics of single images, in batches next to one by one.
- chunks: EfficientNet's features on a processor, of four images at a time as ours are, next to 64 at a time.
- share: all metrics whose weights are here, in the time of a training of 100 epochs, as the command line runs both; for
  splits of 80 % to train and 20 % to test.

In every round all take turns. What disturbs the machine disturbs all of them, so the ratios, taken within a round, are
steadier than the times.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pkgutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from unittest import mock

from recbench_executors.local import ALLOCATOR

if __name__ == "__main__" and not all(name in os.environ for name in ALLOCATOR):
    # As the local executor does. glibc reads these when a process starts, so that this one has to start again.
    os.execve(sys.executable, [sys.executable, *sys.argv], {**ALLOCATOR, **os.environ})

import numpy as np
import pytorch_fid.fid_score
import pytorch_fid.inception
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from recbench.contracts.entries import ImageShape, Weights
from recbench.contracts.metric import ImageMetric
from recbench.data.weights import VARIABLE, missing
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench_metrics.features import EFFICIENTNET, INCEPTION_V3, Collection, Extractor, FeaturePrecision
from recbench_metrics.frechet import FeatureGaussian, FeatureMoments, gaussian_of, squared_distance

SIDE = 64
DIMENSIONS = 2048

Call = Callable[[], object]


class Turns:
    """Times several things that do the same, in turns, on a device, which works on after a call has returned."""

    def __init__(self, device: torch.device, clock: Callable[[], float]) -> None:
        self.device = device
        self.clock = clock

    def seconds(self, call: Call) -> float:
        self._wait()
        start = self.clock()
        call()
        self._wait()
        return self.clock() - start

    def take(self, calls: Mapping[str, Call], rounds: int, *, warm: bool = True) -> dict[str, list[float]]:
        """Seconds of each call in each round. The first calls, which make room in memory, do not count, if ``warm``."""
        for call in calls.values() if warm else ():
            call()
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(rounds):
            for name, call in calls.items():
                times[name].append(self.seconds(call))
        return times

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def print_table(
    title: str, times: Mapping[str, list[float]], first: str, shown: Callable[[float], str], notes: Mapping[str, str]
) -> None:
    """In Markdown: medians over the rounds, and how many times the first one's time each takes, with its range."""
    print(f"\n| {title} | median | in {first}'s time | |\n|---|---:|---:|---|")
    for name, each in times.items():
        ratios = [own / ours for own, ours in zip(each, times[first], strict=True)]
        ratio = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"| {name} | {shown(statistics.median(each))} | {ratio} | {notes.get(name, '')} |")


# Features


def random_inception() -> nn.Module:
    """Pytorch-fid's network, whose activations neither vanish nor explode."""
    with (
        mock.patch.object(pytorch_fid.inception, "load_state_dict_from_url", return_value={}),
        mock.patch.object(torchvision.models.Inception3, "load_state_dict"),
    ):
        network: nn.Module = pytorch_fid.inception.fid_inception_v3()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                module.weight.normal_(0, (2 / module.weight[0].numel()) ** 0.5, generator=generator)
    return network.eval()


def fidelity(file: Path, device: torch.device) -> nn.Module | str:
    """Torch-fidelity's network with these weights, or why there is none."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        return f"not installed: {error.name}"
    network: nn.Module = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(file))
    return network.to(device).eval()


def features(turns: Turns, arguments: argparse.Namespace) -> None:
    generator = np.random.default_rng(0)
    coarse = generator.integers(0, 256, (arguments.images, 3, SIDE // 8, SIDE // 8), dtype=np.uint8)
    pixels = torch.from_numpy(coarse.repeat(8, 2).repeat(8, 3))
    precisions: tuple[FeaturePrecision, ...] = ("float32", "bf16") if arguments.bf16 else ("float32",)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = random_inception()
        file = folder / "random.pth"
        torch.save(network.state_dict(), file)
        content = file.read_bytes()
        weights = Weights(
            file=file.name,
            address="https://none.invalid",
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            licence="",
        )
        with mock.patch.dict(os.environ, {VARIABLE: name}):
            random = dataclasses.replace(INCEPTION_V3, weights=weights)
            ours = {precision: Extractor(random, precision).to(turns.device) for precision in precisions}
        with mock.patch.object(pytorch_fid.inception, "load_state_dict_from_url", return_value=network.state_dict()):
            original = pytorch_fid.inception.InceptionV3().to(turns.device).eval()
        files = [folder / f"{index:06}.png" for index in range(len(pixels))]
        for path, image in zip(files, pixels, strict=True):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
        other = fidelity(file, turns.device)

        def with_ours(extractor: Extractor) -> Tensor:
            batches = pixels.split(arguments.batch)
            return torch.cat([extractor(batch.to(turns.device).float() / 255) for batch in batches]).cpu()

        def with_pytorch_fid() -> Tensor:
            with mock.patch.object(pytorch_fid.fid_score, "tqdm", lambda loader: loader):
                found = pytorch_fid.fid_score.get_activations(
                    files, original, arguments.batch, DIMENSIONS, turns.device, num_workers=0
                )
            return torch.from_numpy(found).float()

        @torch.no_grad()
        def with_fidelity() -> Tensor:
            return torch.cat([other(batch.to(turns.device))[0] for batch in pixels.split(arguments.batch)]).cpu()

        calls: dict[str, Callable[[], Tensor]] = {
            "ours": lambda: with_ours(ours["float32"]),
            "pytorch-fid": with_pytorch_fid,
        }
        if arguments.bf16:
            calls["ours, bf16"] = lambda: with_ours(ours["bf16"])
        if isinstance(other, str):
            print(f"\ntorch-fidelity: {other}")
        else:
            calls["torch-fidelity"] = with_fidelity
        expected = with_pytorch_fid()
        notes = {
            name: f"features differ from pytorch-fid's by {float((call() - expected).norm() / expected.norm()):.0e}"
            for name, call in calls.items()
            if name != "pytorch-fid"
        }
        if "torch-fidelity" in notes:
            notes["torch-fidelity"] += ", because it resizes images as TensorFlow 1 did"
        times = turns.take(calls, arguments.rounds, warm=False)
    title = f"features of {len(pixels)} images of {SIDE} px, batches of {arguments.batch}"
    print_table(title, times, "ours", lambda seconds: f"{len(pixels) / seconds:.1f} images/s", notes)


# Fréchet


def frechet(turns: Turns, arguments: argparse.Namespace) -> None:
    for count in arguments.counts:
        frechet_of(count, turns, arguments.frechet_rounds)


def frechet_of(count: int, turns: Turns, rounds: int) -> None:
    """From mean and covariance to the distance. Of the real images, ours keeps the decomposition."""
    generator = torch.Generator().manual_seed(0)
    decay = torch.logspace(0, -3, DIMENSIONS)
    real, judged = (torch.randn(count, DIMENSIONS, generator=generator).mul_(decay).to(turns.device) for _ in range(2))
    judged = judged.roll(3, 1).add_(0.01)

    def summary(rows: Tensor) -> FeatureGaussian | FeatureMoments:
        collection = Collection(DIMENSIONS)
        collection.add(rows)
        return collection.summary()

    def mean_and_covariance(rows: Tensor) -> tuple[np.ndarray, np.ndarray]:
        own = rows.double().cpu().numpy()
        return own.mean(0), np.cov(own, rowvar=False)

    def with_ours(kept: FeatureGaussian) -> float:
        return squared_distance(kept, judged_summary).item()

    def decomposed() -> FeatureGaussian:
        return real_summary if isinstance(real_summary, FeatureGaussian) else gaussian_of(real_summary)

    def with_sqrtm() -> float:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            return float(pytorch_fid.fid_score.calculate_frechet_distance(*known[0], *known[1]))

    real_summary, judged_summary = summary(real), summary(judged)
    known = mean_and_covariance(real), mean_and_covariance(judged)
    kept = decomposed()
    calls: dict[str, Callable[[], float]] = {
        "ours": lambda: with_ours(kept),
        "ours, first of a data set": lambda: with_ours(decomposed()),
        "pytorch-fid (sqrtm)": with_sqrtm,
    }
    found = {name: call() for name, call in calls.items()}
    times = turns.take(calls, rounds, warm=False)
    exact = found["ours"]
    notes = {name: f"{value:.9g}, {abs(value - exact) / exact:.0e} off ours" for name, value in found.items()}
    title = f"distance of {count} images by {DIMENSIONS} features"
    print_table(title, times, "ours", lambda seconds: f"{seconds:.3g} s", notes)


# Metrics of single images


def images(turns: Turns, arguments: argparse.Namespace) -> None:
    registry = Registry(load_plugins())
    shape = ImageShape(3, SIDE, SIDE)
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 256, (64, 3, SIDE, SIDE), generator=generator).float() / 255
    decoded = (target + 0.05 * torch.randn(target.shape, generator=generator)).clamp(0, 1).mul(255).round() / 255
    pair = [each.to(turns.device, memory_format=torch.channels_last) for each in (decoded, target)]
    print("\n| metric | in batches of 64, images/s | one by one, in the batches' time |\n|---|---:|---:|")
    for found in registry.all("metrics"):
        entry = found.entry
        kind = entry.factory if isinstance(entry.factory, type) else pkgutil.resolve_name(str(entry.factory))
        if not issubclass(kind, ImageMetric):
            continue
        params = entry.complete({})
        reasons = entry.refusals(shape, params)
        absent = missing(entry.needed_weights(shape, params)) if not reasons else None
        if reasons or absent:
            print(f"| {entry.name} | {'; '.join(reasons) or 'its weights are missing'} | |")
            continue
        metric = found.create(params, shape).to(turns.device)
        times = turns.take(
            {
                "batch": lambda metric=metric: metric(*pair),
                "single": lambda metric=metric: [metric(*(each[i : i + 1] for each in pair)) for i in range(64)],
            },
            arguments.rounds,
        )
        ratios = [one / batch for one, batch in zip(times["single"], times["batch"], strict=True)]
        speed = 64 / statistics.median(times["batch"])
        print(
            f"| {entry.name} | {speed:.0f} | {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |"
        )


# Images at a time


def chunks(turns: Turns, arguments: argparse.Namespace) -> None:
    if missing([EFFICIENTNET.weights]):
        print("\nchunks: recbench weights fetch fd_enet_gen")
        return
    extractor = Extractor(EFFICIENTNET, "float32").to(turns.device)
    pictures = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0)).to(turns.device)

    def compute(size: int) -> None:
        with mock.patch("recbench_metrics.features.CACHED_CHUNK", size):
            extractor(pictures.clone())

    times = turns.take({"four": lambda: compute(4), "all": lambda: compute(64)}, arguments.rounds)
    ratios = [whole / four for four, whole in zip(times["four"], times["all"], strict=True)]
    print(
        f"\nEfficientNet, 64 images of 32 px: {64 / statistics.median(times['four']):.0f} images/s four at a "
        f"time, {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) times 64 at a time"
    )


# Share of a training


def share(turns: Turns, arguments: argparse.Namespace) -> None:
    registry = Registry(load_plugins())
    shape = ImageShape(3, SIDE, SIDE)
    usable = []
    for found in registry.all("metrics"):
        params = found.entry.complete({})
        if not found.entry.refusals(shape, params) and not missing(found.entry.needed_weights(shape, params)):
            usable.append(found.entry.name)
    count = {"train": 1024, "validation": 64, "test": 256}
    suite = {
        "name": "share",
        "datasets": [{"name": "photos", "params": {"size": SIDE, **count}}],
        "architectures": ["vae_bredell"],
        "losses": ["sigma_gaussian"],  # has a likelihood, so that every metric has a value
        "seeds": [0],
        "training": {"epochs": 1},
        "metrics": usable,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "share.yaml").write_text(json.dumps(suite), encoding="utf-8")
        where = ["--results", str(folder / "results"), "--device", str(turns.device)]
        command = [sys.executable, "-m", "recbench", "run", str(folder / "share.yaml"), *where]
        command += ["--executor-option", "jobs=1", "--executor-option", f"threads={arguments.threads}"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        (file,) = (folder / "results" / "share" / "jobs").glob("*/record.json")
        record = json.loads(file.read_text(encoding="utf-8"))
    training = 100 * 0.8 / record["trained"]["images_per_second"]
    evaluation = 0.2 * record["evaluated"]["seconds"] / count["test"]
    print(f"\nevaluation of {', '.join(usable)}:")
    print(f"{100 * evaluation / training:.2f} % of a training of 100 epochs of vae_bredell at {SIDE} px")


PARTS = {"features": features, "frechet": frechet, "images": images, "chunks": chunks, "share": share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--images", type=int, default=50, help="whose features are computed")
    parser.add_argument("--batch", type=int, default=50, help="of images, whose features are computed")
    parser.add_argument("--bf16", action="store_true", help="also features in bf16; very slow on processors without it")
    parser.add_argument("--counts", type=int, nargs="+", default=[10_000, 500], help="of images, for frechet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frechet-rounds", type=int, default=3, help="sqrtm takes its time")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--processor-time", action="store_true", help="for busy machines; with --threads 1")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{arguments.threads} threads"
    print(f"torch {torch.__version__}, {machine}, {arguments.rounds} rounds")
    turns = Turns(device, time.process_time if arguments.processor_time else time.perf_counter)
    with torch.no_grad():
        for part in arguments.only:
            PARTS[part](turns, arguments)


if __name__ == "__main__":
    main()
