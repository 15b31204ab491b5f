"""The cost of each loss, forward and backward, relative to l2, to its authors' formulation and to a training step.

    python benchmarks/losses.py --step
    python benchmarks/losses.py --device cuda --rounds 20
    python benchmarks/losses.py --only ffl wiener --sizes 64x3x64x64
    python benchmarks/losses.py --only lpips dists vqgan --stand-ins

In every round l2, the loss and its authors' formulation (their package, or benchmarks/formulations) take turns of some
calls each. What disturbs the machine disturbs all of them, so the ratios, taken within a round, are steadier than the
times. The decoded images are a leaf with a gradient, as the network's output is; parameters of a loss get theirs, too.

Memory is the most that the tensors of one call take at once, beyond the images and what the loss keeps, and with the
gradient of the decoded images: as counted by torch's allocators, which do not see what
libraries allocate themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recbench_executors.local import ALLOCATOR

if __name__ == "__main__" and not all(name in os.environ for name in ALLOCATOR):
    # As the local executor does. glibc reads these when a process starts, so that this one has to start again.
    os.execve(sys.executable, [sys.executable, *sys.argv], {"KINETO_LOG_LEVEL": "9", **ALLOCATOR, **os.environ})

import torch
from formulations.by_name import AUTHORS, OBJECTIVES, UNEQUAL, Formulation, Made
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from recbench.contracts.entries import ImageShape, LossEntry
from recbench.contracts.loss import Context, Loss, Setting
from recbench.data.weights import missing
from recbench.job.images import convert
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registered, Registry

LATENT = 256
TURN = 0.05  # seconds of a turn, at least
PER_IMAGE = (1, 2, 3)


# What is timed of a loss, where its defaults are not what there is to compare.


def variants(name: str, side: int) -> list[dict[str, Any]]:
    if name == "wiener":
        # the paper's, section 4.2; and the gradient of its equation 11 as printed, which costs more than the default
        size = {"kernel_size": 41 if side >= 256 else 11, "latent_gradient": True}
        return [size, {**size, "kernel": "gaussian"}]
    if name.startswith("watson_"):
        return [{}, {"shift": False}]  # the authors' formulation is without the random shift
    if name == "vgg":
        return [{}, {"trunk": "st"}]
    if name == "vqgan":  # with its discriminator from the first step, as later ones are
        return [{"disc_start": 0}, {"disc_start": 0, "perceptual": "st_lpips", "net": "alex"}]
    return [{}]


# Taking turns


@dataclass
class ImageBatch:
    """A batch of decoded and target images in 0 to 1, and the z that they were made of."""

    decoded: Tensor
    target: Tensor
    z: Tensor

    @classmethod
    def made_up(cls, shape: tuple[int, ...], layout: torch.memory_format, device: torch.device) -> ImageBatch:
        generator = torch.Generator().manual_seed(0)
        target = torch.rand(shape, generator=generator)
        decoded = (target + 0.1 * torch.randn(shape, generator=generator)).clamp(0, 1)
        z = torch.randn(shape[0], LATENT, generator=generator)
        decoded, target = (images.to(device, memory_format=layout) for images in (decoded, target))
        return cls(decoded.requires_grad_(), target, z.to(device).requires_grad_())

    def in_range(self, entry: LossEntry) -> ImageBatch:
        """Return the same as leaves in the loss's value range."""
        both = [convert(images.detach(), (0.0, 1.0), entry.value_range) for images in (self.decoded, self.target)]
        return ImageBatch(both[0].clone().requires_grad_(), both[1], self.z)


class LossCall:
    """Forward and backward of something that gives values of images; their mean is differentiated, as in training."""

    def __init__(self, formulation: Formulation, images: ImageBatch, parameters: Iterable[Tensor]) -> None:
        self.formulation = formulation
        self.images = images
        self.leaves = [images.decoded, images.z, *parameters]

    def __call__(self) -> Tensor:
        for leaf in self.leaves:
            leaf.grad = None
        value = self.formulation(self.images.decoded, self.images.target, self.images.z).mean()
        value.backward()
        return value.detach()


@dataclass
class LossRow:
    """One line of the table: calls of ours and of the authors, and what was measured of them."""

    label: str
    ours: LossCall
    authors: LossCall | None
    reason: str  # the reason if the authors' formulation is missing
    equal: bool
    turns: dict[str, int] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=lambda: {"l2": [], "ours": [], "authors": []})


class Timer:
    """Times calls on a device, which works on after a call has returned."""

    def __init__(self, device: torch.device, clock: Callable[[], float]) -> None:
        self.device = device
        self.clock = clock

    def seconds(self, call: Callable[[], object], count: int = 1) -> float:
        """Return the time of each of ``count`` calls."""
        self._wait()
        start = self.clock()
        for _ in range(count):
            call()
        self._wait()
        return (self.clock() - start) / count

    def calls_of_a_turn(self, call: Callable[[], object]) -> int:
        """Return the number of calls that fill a turn; the first ones, which allocate memory, do not count."""
        first = self.seconds(call)
        if first > 20 * TURN:
            return 1
        self.seconds(call)
        return max(1, round(TURN / max(self.seconds(call), 1e-6)))

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def peak_memory(call: Callable[[], object], leaves: list[Tensor], device: torch.device) -> int:
    """Return the bytes that a call's tensors take at most at once, with the gradients that it leaves."""
    call()
    for leaf in leaves:
        leaf.grad = None
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    with tempfile.TemporaryDirectory() as folder:  # the only public way to single allocations
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        events = [e for e in json.loads(trace.read_bytes())["traceEvents"] if e.get("name") == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda e: e["ts"]):
        held += event["args"]["Bytes"]
        peak = max(peak, held)
    return peak


class TrainingStep:
    """A step of the loop of recbench.job.training: vae_bredell with its defaults, l2, Adam, float32."""

    def __init__(self, registry: Registry, images: ImageBatch, shape: ImageShape) -> None:
        found = registry.get("architectures", "vae_bredell")
        refusals = found.entry.refusals(shape, found.entry.complete({}))
        if refusals:
            raise ValueError("; ".join(refusals))
        self.model = found.create({}, shape).to(images.target.device, memory_format=torch.channels_last).train()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4, fused=True)
        self.target = images.target.to(memory_format=torch.channels_last) * 2 - 1

    def __call__(self) -> None:
        posterior = self.model.encode(self.target)
        decoded = self.model.decode(posterior.sample())
        objective = 0.125 * (decoded - self.target).square().sum(PER_IMAGE).mean() + 0.01 * posterior.kl().mean()
        self.optimizer.zero_grad(set_to_none=True)
        objective.backward()
        self.optimizer.step()


# From the registry to the table


def rows(
    found: Registered, images: ImageBatch, shape: ImageShape, *, stand_ins: bool = False
) -> Iterator[LossRow | str]:
    """Yield the rows of a loss, or the reason why it has none."""
    entry = found.entry
    assert isinstance(entry, LossEntry)
    for chosen in variants(entry.name, shape.height):
        label = " ".join([entry.name, *(f"{key}={value}" for key, value in chosen.items())])
        try:
            params = entry.complete(chosen)
        except ValueError as error:
            yield f"{label}: {error}"
            continue
        reasons = entry.refusals(shape, params)
        absent = missing(entry.needed_weights(shape, params)) if not reasons and not stand_ins else None
        if reasons or absent:
            yield f"{label}: {'; '.join(reasons) or absent}"
            continue
        torch.manual_seed(0)
        loss: Loss = found.create(params, Setting(shape, LATENT))
        device = images.target.device
        made = Made(entry, params, shape, loss.to(device).train(), device)
        own = images.in_range(entry)
        yield row(label, made, own, loss, AUTHORS)
        auxiliary = loss.auxiliary()
        if auxiliary is not None:
            apart = ImageBatch(own.decoded.detach(), own.target, own.z.detach())
            yield row(f"{label}: its own objective", made, apart, auxiliary.objective, OBJECTIVES)


def row(
    label: str,
    made: Made,
    images: ImageBatch,
    value: Callable[[Tensor, Tensor, Context], Tensor],
    table: Mapping[str, Callable[[Made], Formulation | None]],
) -> LossRow:
    """Return a row for a loss, or for its auxiliary objective, with the authors' formulation from a table of these."""
    layer = torch.eye(made.shape.channels, device=made.device)[:, :, None, None].requires_grad_()

    def ours(decoded: Tensor, target: Tensor, z: Tensor) -> Tensor:
        if made.entry.name == "vqgan":  # compares gradients at a last layer; here, one that changes nothing
            decoded = torch.nn.functional.conv2d(decoded, layer)
            return value(decoded, target, Context(z=z, training=True, step=1, last_layer=layer))
        return value(decoded, target, Context(z=z, training=True))  # without an epoch: warm-ups are over

    authors, reason = None, "none"
    try:
        make = table.get(made.entry.name)
        authors = make(made) if make else None
    except ImportError as error:
        reason = f"not installed: {error.name}"
    parameters = list(made.loss.parameters())
    return LossRow(
        label,
        LossCall(ours, images, parameters),
        LossCall(authors, images, parameters) if authors else None,
        reason,
        made.entry.name not in UNEQUAL,
    )


def measure(size: tuple[int, ...], registry: Registry, arguments: argparse.Namespace, device: torch.device) -> None:
    """Print the table for batches of one size, (B, C, H, W)."""
    shape = ImageShape(*size[1:])
    layout = torch.channels_last if arguments.channels_last else torch.contiguous_format
    images = ImageBatch.made_up(size, layout, device)
    names = arguments.only or registry.names("losses")
    timer = Timer(device, time.process_time if arguments.processor_time else time.perf_counter)
    print(f"\n{'x'.join(map(str, size))}, float32, {'channels last, ' if arguments.channels_last else ''}{device}")

    found: list[LossRow] = []
    for name in names:
        for each in rows(registry.get("losses", name), images, shape, stand_ins=arguments.stand_ins):
            if isinstance(each, str):
                print(f"left out: {each}")
            else:
                found.append(each)
    reference = next(r for r in rows(registry.get("losses", "l2"), images, shape) if isinstance(r, LossRow)).ours
    step = None
    if arguments.step:
        try:
            step = TrainingStep(registry, images, shape)
            timer.seconds(step)
        except ValueError as error:
            print(f"no step of vae_bredell: {error}")

    turn = timer.calls_of_a_turn(reference)
    for each in found:
        each.turns = {"ours": timer.calls_of_a_turn(each.ours)}
        if each.authors:
            each.turns["authors"] = timer.calls_of_a_turn(each.authors)
    steps: list[float] = []
    for _ in range(arguments.rounds):
        if step:
            steps.append(timer.seconds(step))
        for each in found:
            each.times["l2"].append(timer.seconds(reference, turn))
            each.times["ours"].append(timer.seconds(each.ours, each.turns["ours"]))
            if each.authors:
                each.times["authors"].append(timer.seconds(each.authors, each.turns["authors"]))
    print_table(found, steps, device)


def print_table(found: list[LossRow], steps: list[float], device: torch.device) -> None:
    """In Markdown: medians over the rounds, ratios with their range."""
    if steps:
        print(f"step of vae_bredell: median {milliseconds(steps)} ms")
    print(
        "\n| loss | median, ms | in l2's | authors', ms | authors' in ours | difference of values | % of a step "
        "| memory, MiB | authors', MiB |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    for each in found:
        ours, authors = each.times["ours"], each.times["authors"]
        to_l2 = [own / l2 for own, l2 in zip(ours, each.times["l2"], strict=True)]
        cells = [f"`{each.label}`", milliseconds(ours), figures(statistics.median(to_l2))]
        if each.authors:
            ratios = [theirs / own for theirs, own in zip(authors, ours, strict=True)]
            cells.append(milliseconds(authors))
            cells.append(f"{statistics.median(ratios):.2f} ({spread(ratios)})")
            value, theirs = each.ours(), each.authors()
            cells.append(f"{float(abs(value - theirs) / abs(theirs)):.0e}" if each.equal else "other weights")
        else:
            cells += [each.reason, "", ""]
        cells.append(figures(100 * statistics.median(ours) / statistics.median(steps)) if steps else "")
        for call in (each.ours, each.authors):
            peak = peak_memory(call, call.leaves, device) if call else None
            cells.append("" if peak is None else f"{peak / 2**20:.1f}")
        print(f"| {' | '.join(cells)} |")


def milliseconds(seconds: list[float]) -> str:
    """Return the median."""
    return figures(1e3 * statistics.median(seconds))


def figures(value: float) -> str:
    """Return three figures, which are not more than there is in a time; no powers of ten."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def spread(ratios: list[float]) -> str:
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def dimensions(text: str) -> tuple[int, ...]:
    size = tuple(int(part) for part in text.split("x"))
    if len(size) != 4 or min(size) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not BATCHxCHANNELSxHEIGHTxWIDTH")
    return size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=dimensions, nargs="+", default=[(64, 3, 64, 64), (16, 3, 256, 256)])
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these losses, not all that are installed")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--step", action="store_true", help="also a training step, and each loss's share of it")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--channels-last", action="store_true", help="images as a convolutional decoder gives them")
    parser.add_argument("--processor-time", action="store_true", help="for busy machines; with --threads 1")
    parser.add_argument("--stand-ins", action="store_true", help="random weights for networks whose files are missing")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.stand_ins:
        sys.path.insert(0, str(Path(__file__).parents[1]))
        from tests.stand_in_weights import stand_in_everywhere

        stand_in_everywhere()
    device = torch.device(arguments.device)
    registry = Registry(load_plugins())
    for name in arguments.only or []:
        if registry.find("losses", name) is None:
            parser.error(registry.unknown("losses", name))
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{arguments.threads} threads"
    print(f"torch {torch.__version__}, {machine}, {arguments.rounds} rounds")
    for size in arguments.sizes:
        measure(size, registry, arguments, device)


if __name__ == "__main__":
    main()
