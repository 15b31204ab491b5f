"""A made-up store with all artifacts that a report reads: images, histories, scores, traces."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from recbench.job.epochs import pictured_epochs
from recbench.plan.model import Column, ComponentSpec
from recbench.plan.plan import Plan
from recbench.store.artifacts import ALL, describe
from recbench.store.record import Cost, Data, Evaluated, Score, Trained
from recbench.store.store import Store
from tests.made_up import COLUMNS, FINGERPRINT, make_plan, make_record, make_trouble

HOSTILE = (
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(2)>",
    "../../../etc/passwd",
    r"{{ 7 * 7 }} ${x} %{y} \frac{$ <b>bold</b>",
    "längste-Beschriftung=" + "x" * 120,
    "=HYPERLINK(1)",
    "漢字 价格 $5$ %&_{#} $\\frac{",
)
"""Labels that try to break out of their HTML context, or that matplotlib would take for formulas."""
FAMILIES = ("pixel", "ssim", "frequency", "perceptual", "likelihood")
METRICS = (
    *COLUMNS,
    Column(name="ssim", direction="higher", family="ssim", digits=4),
    Column(name="lpips", direction="lower", family="perceptual", digits=4),
)


def images(count: int, size: int) -> NDArray[np.uint8]:
    """Return smooth backgrounds with a disc and stripes: uint8 (count, 3, size, size)."""
    generator = np.random.default_rng(7)
    down, across = np.mgrid[0:size, 0:size] / size
    found = np.empty((count, 3, size, size), dtype=np.uint8)
    for picture in found:
        first, second, third = generator.uniform(0, 255, (3, 3))
        y, x, radius, angle = generator.uniform((0.2, 0.2, 0.1, 0.0), (0.8, 0.8, 0.35, np.pi))
        disc = np.hypot(down - y, across - x) < radius
        stripe = np.sin(30 * (across * np.cos(angle) + down * np.sin(angle))) > 0.7
        for channel in range(3):
            plane = first[channel] * down + second[channel] * (1 - down)
            plane = np.where(disc, third[channel], plane)
            picture[channel] = np.clip(np.where(stripe, plane * 0.6, plane), 0, 255)
    return found


def decoded(target: NDArray[np.uint8], strength: float, seed: int) -> NDArray[np.uint8]:
    """Return images like reconstructions of a weak autoencoder: blurred, and a little noisy."""
    generator = np.random.default_rng(seed)
    blurred = gaussian_filter(target.astype(float), (0, 0, strength, strength))
    return np.clip(blurred + generator.normal(0, 3, target.shape), 0, 255).astype(np.uint8)


def write_store(
    root: Path,
    methods: int = 60,
    seeds: Sequence[int] = (0, 1, 2),
    size: int = 32,
    labels: Sequence[str] = (),
    settings: Sequence[str] = ("photos · vae",),
    epochs: int = 20,
    test_images: int = 64,
) -> tuple[Plan, Store]:
    """Fill a store and return it with its plan.

    Of five or more methods, the last failed, the one before it diverged, and the one before that is incomplete. Every
    fourth traces kernels.
    """
    names = [*labels, *(f"loss{i:02d} alpha={0.1 * i:.1f}" for i in range(methods - len(labels)))]
    plan = make_plan(methods=names, seeds=seeds, settings=settings, columns=METRICS)
    methods_ = tuple(
        method.model_copy(
            update={
                "families": (FAMILIES[i % len(FAMILIES)],),
                "loss": ComponentSpec(name="l2", params={"alpha": 0.1 * (i // 3), "kernel": "gaussian"}),
            }
        )
        for i, method in enumerate(plan.methods)
    )
    shapes = tuple(s.model_copy(update={"shape": (3, size, size)}) for s in plan.settings)
    plan = plan.model_copy(update={"methods": methods_, "settings": shapes})
    jobs = tuple(p.model_copy(update={"id": plan.job(p).id}) for p in plan.jobs)
    plan = plan.model_copy(update={"jobs": jobs})
    store = Store(root)
    store.write_plan(plan, "name: made-up\n# </pre><script>alert(3)</script>\n")
    target = images(16, size)
    for planned in plan.jobs:
        folder = store.folder(planned.id)
        folder.mkdir(parents=True)
        rank = planned.method
        broken = {methods - 1: "failed", methods - 2: "diverged"}.get(rank) if methods >= 5 else None
        if methods >= 5 and rank == methods - 3 and planned.seed != seeds[0]:
            continue
        write_history(folder, rank, planned.seed, epochs if broken is None else epochs // 3)
        (folder / "log.txt").write_text(f"job {planned.id}\n</pre><script>alert(4)</script>\n")
        if broken is not None:
            trouble = f"{broken}: </script><script>alert(5)</script>\nat the second line"
            store.add(make_trouble(plan, planned, broken, message=trouble, traceback="Traceback\n  <script>alert(6)"))
            continue
        table = score_table(rank, planned.seed, test_images)
        pandas.DataFrame(table).to_parquet(folder / "scores.parquet", index=False)
        shown = decoded(target, 0.6 + 0.05 * rank, rank)
        save(folder / "images.npz", {"target": target, "decoded": shown, "samples": decoded(target[::-1], 3, rank)})
        if rank % 4 == 0:
            save(folder / "traces.npz", {"kernels": kernels(rank, epochs)})
        if rank % 5 != 3:  # some are of a version that kept none
            save(folder / "epochs.npz", over_epochs(target[:4], rank, epochs))
        scores = {c.name: score(table[c.name]) for c in METRICS}
        changes: dict[str, Any] = {
            "files": describe(folder, [name for name in ALL if (folder / name).exists()]),
            "data": Data(fingerprint=FINGERPRINT, train=32, validation=4, test=test_images),
            "evaluated": Evaluated(n=test_images, kl=float(table["kl"].mean()), seconds=0.1),
            "cost": Cost(
                images_per_second=900 / (1 + rank % 7), step_milliseconds=12.5 * (1 + rank % 7) + rank / 10,
                peak_memory_bytes=2**30 + rank * 2**24, parameters=99,
            ),
            "trained": Trained(
                epochs=epochs, steps=40 * epochs, parameters=99, loss_parameters=0, seconds=60.0 + rank,
                images_per_second=800.0, final={"epoch": epochs, "step": 40 * epochs, "objective": 4.5},
            ),
        }  # fmt: skip
        store.add(make_record(plan, planned, scores, **changes))
    return plan, store


def score_table(rank: int, seed: int, count: int) -> dict[str, NDArray[np.float64]]:
    """Return scores per image: the sum of an effect of the image and one of the method and the seed."""
    shared = np.random.default_rng(1).normal(0, 2, count)
    own = np.random.default_rng([rank, seed]).normal(0, 0.4, count)
    psnr = 24 - 0.08 * rank + shared + own
    ssim = 1 / (1 + np.exp(-(psnr - 22) / 3 + 0.3 * np.sin(rank)))
    return {"psnr": psnr, "mse": 10 ** (-psnr / 10), "ssim": ssim, "lpips": 1 - ssim**2, "kl": 100 + 3 * rank + own}


def score(values: NDArray[np.float64]) -> Score:
    return Score(mean=float(values.mean()), std=float(values.std()), n=len(values))


def write_history(folder: Path, rank: int, seed: int, epochs: int) -> None:
    """Write a history; every fourth method logs two numbers, one of them later, the other by a hostile name too."""
    generator = np.random.default_rng([rank, seed])
    lines = []
    for epoch in range(1, epochs + 1):
        value = (10 + rank**1.5) * (0.3 + np.exp(-epoch / 6)) + float(generator.normal(0, 0.1))
        line = {
            "epoch": epoch,
            "step": 40 * epoch,
            "objective": value,
            "reconstruction": value * 0.9,
            "kl": 100.0 - epoch,
            "validation_psnr": 24 - 0.08 * rank - 8 * math.exp(-epoch / 4) + float(generator.normal(0, 0.05)),
            "validation_ssim": 0.8 - 0.002 * rank - 0.4 * math.exp(-epoch / 4),
        }
        line |= {"auxiliary": 0.0, "images_per_second": 800.0, "learning_rate": 1e-4}
        if rank % 4 == 0:
            line |= {"vqgan.l1": 2.0 / epoch, HOSTILE[0]: 1.0}
            line |= {"vqgan.adaptive_weight": 0.5} if epoch > 2 else {}
        lines.append(json.dumps(line))
    (folder / "history.jsonl").write_text("\n".join(lines) + "\n")


def kernels(rank: int, epochs: int) -> NDArray[np.float32]:
    down, across = np.mgrid[-4:5, -4:5]
    widths = 0.6 + np.arange(epochs)[:, None, None, None] / epochs * (1 + rank / 30) + np.zeros((1, 4, 1, 1))
    values = np.exp(-(down**2 + across**2) / (2 * widths**2))
    return (values / values.sum((2, 3), keepdims=True)).astype(np.float32)


def over_epochs(target: NDArray[np.uint8], rank: int, epochs: int) -> dict[str, NDArray[Any]]:
    """Return what ``epochs.npz`` holds of a network that gets sharper."""
    seen = pictured_epochs(epochs)
    strips = [decoded(target, 0.6 + 0.05 * rank + 4 / epoch, rank) for epoch in seen]
    return {"target": target, "decoded": np.stack(strips), "epochs": np.array(seen)}


def save(file: Path, arrays: Mapping[str, Any]) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    file.write_bytes(stream.getvalue())
