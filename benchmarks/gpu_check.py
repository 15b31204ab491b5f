"""Everything that only a GPU can show, in under ten minutes, with a table at the end: ``make gpu-check``.

    python benchmarks/gpu_check.py                # on the first GPU that is visible
    python benchmarks/gpu_check.py --rehearse     # without one: steps on fake CUDA tensors, the rest on the CPU

Each section is a process of its own, so that one that ends CUDA's context ends nothing else. See docs/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gpu_speed
from gpu_steps import LOSSES, ROOT, Device, Row, model_of, moved, section, stepper, steps_of

BUDGET = 570.0
"""Seconds after which no further section begins, or goes on."""


def machine(device: Device) -> Iterator[Row]:
    import platform

    import torch

    yield "machine", "torch", f"{torch.__version__}, Python {platform.python_version()}"
    if not device.rehearse:
        from recbench.job.provenance import _of_gpu

        yield "machine", "GPU", f"{torch.cuda.get_device_name()}, {torch.cuda.mem_get_info()[1] / 2**30:.0f} GiB"
        yield "machine", "driver, CUDA, cuDNN", ", ".join(str(value) for value in _of_gpu().values())


def training_run(device: Device, loss: str, folder: Path, stop_after: int = 0, **training: Any) -> dict[str, Any]:
    """Train a small model, and return its tensors; with ``stop_after``, it is interrupted there, and goes on."""
    import torch

    from recbench.job.training import Interrupted, TrainingImages, Watch, seed_everything, train
    from recbench.plan.model import Training

    config = Training(**{"epochs": 2, "batch_size": 16, "learning_rate": 1e-3, **training})
    images = torch.randint(0, 256, (128, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = images.to(device.name)
    for stop in [stop_after, 0] if stop_after else [0]:
        seed_everything(0, deterministic=True)
        params = {"warmup_epochs": 0} if loss == "wiener" else {"weights": "initial"} if "watson" in loss else {}
        model = moved(model_of(loss, params, 32, "vae_bredell_small"), device)
        steps = iter(range(1, 10_000))
        watch = Watch(lambda *_: None, lambda _: None, lambda stop=stop, steps=steps: next(steps) == stop, 1e9)
        try:
            train(model, TrainingImages(images, images[:16], images[:4]), config, 0, folder, watch)
        except Interrupted:
            continue
    return {**model.architecture.state_dict(), **{f"loss.{k}": v for k, v in model.loss.state_dict().items()}}


@contextmanager
def eager_steps() -> Iterator[None]:
    from recbench.job.graph import EAGER

    os.environ[EAGER] = "1"
    try:
        yield
    finally:
        del os.environ[EAGER]


def bitwise(device: Device) -> Iterator[Row]:
    import torch

    for loss in ("l2",) if device.rehearse else (*LOSSES, "sigma_gaussian", "barron"):
        found = []
        for stop_after in (0, 0, 5):
            with tempfile.TemporaryDirectory() as folder:
                found.append(training_run(device, loss, Path(folder), stop_after))
        with eager_steps(), tempfile.TemporaryDirectory() as folder:
            found.append(training_run(device, loss, Path(folder)))
        for name, other in (("repeat", found[1]), ("resume", found[2]), ("graph and eager", found[3])):
            same = all(torch.equal(found[0][key], other[key]) for key in found[0])
            yield f"bitwise {name}", loss, "the same to the last bit" if same else "DIFFERS"


def divergence(device: Device) -> Iterator[Row]:
    """NaN in the weights is found at its step, whatever the loss, and ends no process."""
    import torch

    from recbench.job.guard import Diverged
    from recbench.plugin.manager import load_plugins
    from recbench.plugin.registry import Registry
    from tests.stand_in_weights import stand_in_everywhere

    stand_in_everywhere()
    for loss in ("l2", "ce", "barron") if device.rehearse else Registry(load_plugins()).names("losses"):
        try:
            with tempfile.TemporaryDirectory() as folder:
                training_run(device, loss, Path(folder), learning_rate=1e30, epochs=4)
            yield "NaN", loss, "NOT NOTICED"
        except Diverged as error:
            yield "NaN", loss, f"diverged in step {error.step}"
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            yield "NaN", loss, f"FAILED: {type(error).__name__}: {str(error).splitlines()[0][:80]}"
    if not device.rehearse:
        yield "NaN", "CUDA afterwards", f"works: {float(torch.ones(3, device='cuda').sum()) == 3}"


def memory(device: Device) -> Iterator[Row]:
    """Ask for more and more until there is none left; the reason must be known, and a later step must work."""
    import torch

    from recbench.job.accidents import reason_of

    once = stepper("l2", 32, device)
    once()
    kept: list[Any] = []
    try:
        for _ in range(10_000):
            if device.rehearse:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            kept.append(torch.empty(2**31, dtype=torch.uint8, device="cuda"))
            once()
    except Exception as error:  # noqa: BLE001 - any spelling of it
        said, what = reason_of(error), f"{type(error).__name__}: {str(error).splitlines()[0][:60]}"
    else:
        said, what = "NOT REACHED", ""
    kept.clear()
    if not device.rehearse:
        torch.cuda.empty_cache()
    once()
    device.wait()
    yield "out of memory", what, f"{said}; a step afterwards works"


def two_jobs(device: Device, name: str) -> Iterator[Row]:
    """A section in two processes at the same time."""
    running = [subprocess.Popen(section(name, device), stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for number, process in enumerate(running, 1):
        rows = [json.loads(line) for line in process.communicate()[0].splitlines()]
        wrong = [row for row in rows if bad(row)]
        died = [] if process.returncode == 0 else [f"DIED: {process.returncode}"]
        yield f"{name}, two jobs", f"job {number}", "; ".join([*died, *(str(row[1:]) for row in wrong or rows[-1:])])


SUITE = """\
name: gpu-check
datasets: [{name: shapes, params: {size: 32, train: 256, validation: 16, test: 64}}]
architectures: [vae_bredell_small]
losses: [l2, ssim]
seeds: [0]
training: {epochs: 2, batch_size: 32}
metrics: [psnr, ssim, kl]
"""


def verified(device: Device) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "suite.yaml").write_text(SUITE)

        def call(*arguments: str) -> tuple[int, str]:
            command = [sys.executable, "-m", "recbench", *arguments]
            environment = {**os.environ, "RECBENCH_CACHE": folder, "NO_COLOR": "1"}
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment)
            return done.returncode, (done.stdout.strip() or done.stderr.strip()).splitlines()[-1]

        code, last = call("run", "suite.yaml", "--device", device.name)
        yield "verify", f"run on {device.name}", "done" if code == 0 else f"FAILED: {last}"
        for where in dict.fromkeys((device.name, "cpu")):
            code, last = call("verify", "gpu-check", "--device", where)
            yield "verify", f"{device.name} to {where}", f"{'' if code == 0 else 'FAILED: '}{last}"


def syncs(device: Device) -> Iterator[Row]:
    """No step waits for the GPU, by torch's own watch."""
    import torch

    for loss, params in LOSSES.items():
        model = moved(model_of(loss, params, 32), device, fake=True)
        with device.fake():
            once = steps_of(model, 32, "cuda")
            once()
            try:
                if not device.rehearse:
                    torch.cuda.set_sync_debug_mode("error")
                once()
                found = "none"
            except RuntimeError as error:
                found = f"FAILED: {str(error).splitlines()[0][:80]}"
            finally:
                if not device.rehearse:
                    torch.cuda.set_sync_debug_mode("default")
        yield "waits in a step", loss, found


def metrics(device: Device) -> Iterator[Row]:
    """Scores on the GPU against those on the CPU, with random weights where files are missing."""
    import torch

    from recbench.contracts.entries import ImageShape
    from recbench.contracts.metric import ImageMetric, Reference
    from recbench.job.training import seed_everything
    from recbench.plugin.manager import load_plugins
    from recbench.plugin.registry import Registry
    from tests.stand_in_weights import stand_in_everywhere

    stand_in_everywhere()
    seed_everything(0, deterministic=True)
    registry = Registry(load_plugins())
    generator = torch.Generator().manual_seed(0)
    real = torch.randint(0, 256, (8 if device.rehearse else 64, 3, 64, 64), dtype=torch.uint8, generator=generator)
    decoded = (real.float() / 255 + 0.1 * torch.randn(real.shape, generator=generator)).clamp(0, 1)
    for name in ("st_lpips",) if device.rehearse else ("fid_recon", "lpips", "st_lpips", "ms_ssim"):
        registered, found = registry.get("metrics", name), []
        for where in (device.name, "cpu"):
            metric = registered.create(registered.entry.complete({}), ImageShape(3, 64, 64)).to(where)
            with tempfile.TemporaryDirectory() as folder, torch.no_grad():
                shown, target = decoded.to(where), (real.float() / 255).to(where)
                if isinstance(metric, ImageMetric):
                    found.append(float(metric(shown, target).double().mean()))
                else:
                    metric.prepare(Reference(real.to(where), name, Path(folder), torch.device(where)))
                    metric.update(shown, target)
                    found.append(metric.compute())
        difference = abs(found[0] - found[1]) / max(abs(found[1]), 1e-12)
        verdict = "" if difference < 1e-3 else "DIFFERS: "
        yield "metric against the CPU", name, f"{verdict}{found[0]:.6g} and {found[1]:.6g}, {difference:.1e} apart"


SECTIONS: dict[str, Callable[[Device], Iterator[Row]]] = {
    "machine": machine,
    "syncs": syncs,
    "divergence": divergence,
    "divergence_twice": lambda device: two_jobs(device, "divergence"),
    "memory": memory,
    "memory_twice": lambda device: two_jobs(device, "memory"),
    "bitwise": bitwise,
    "metrics": metrics,
    "verified": verified,
    "eager": gpu_speed.eager,
    "graph": gpu_speed.graph,
    "host": gpu_speed.host,
    "shared": lambda device: gpu_speed.shared(device, 2 if device.rehearse else 4, mps=False),
    "shared_mps": lambda device: gpu_speed.shared(device, 2 if device.rehearse else 4, mps=True),
    "compiled": gpu_speed.compiled,  # last: what it takes depends on what the compiler has cached
}


def report(found: Sequence[Row]) -> None:
    widths = [max(len(row[place]) for row in found) for place in range(3)] if found else []
    for row in found:
        print("| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |")


def bad(row: Row) -> bool:
    return row[0] == "failed" or any(word in row[2] for word in ("FAILED", "DIFFERS", "DIED", "NOT "))


def run_all(arguments: argparse.Namespace) -> int:
    begun, found = time.monotonic(), list[Row]()
    for name in arguments.only or SECTIONS:
        left = BUDGET - (time.monotonic() - begun)
        if left < 5:
            found.append((name, "", "left out: no time"))
            continue
        command = section(name, Device(arguments.rehearse))
        with tempfile.TemporaryFile("w+") as output:  # what came before the end of time counts
            try:
                code = subprocess.run(command, stdout=output, check=False, timeout=left).returncode
            except subprocess.TimeoutExpired:
                code = None
            output.seek(0)
            rows = [tuple(json.loads(line)) for line in output.read().splitlines() if line.startswith("[")]
        if code != 0:
            rows.append((name, "", "ended: no time" if code is None else f"DIED with exit code {code}"))
        for row in rows:
            print(*row, sep=" · ", flush=True)
        found += rows
    print(f"\n{time.monotonic() - begun:.0f} seconds\n")
    report(found)
    wrong = [row for row in found if bad(row)]
    print(f"\n{len(wrong)} of {len(found)} are wrong" if wrong else "\nall is well")
    return 1 if wrong else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rehearse", action="store_true", help="without a GPU: see above")
    parser.add_argument("--only", nargs="+", choices=list(SECTIONS), help="these sections")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    parser.add_argument("--begins", type=float, default=0.0, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    if arguments.section is None:
        return run_all(arguments)
    device = Device(arguments.rehearse)
    if not device.rehearse:
        import torch

        if not torch.cuda.is_available():
            print(json.dumps(("failed", arguments.section, "there is no GPU that torch can use: try --rehearse")))
            return 1
    sections = {**SECTIONS, "shared_job": lambda device: gpu_speed.shared_job(device, arguments.begins)}
    for row in sections[arguments.section](device):
        print(json.dumps(row), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
