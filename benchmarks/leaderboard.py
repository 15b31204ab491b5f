"""Time of the leaderboard of many records: whole processes, on records written here.

    python benchmarks/leaderboard.py            # 10,000 records; the goal is under 2 s for each format

The records are those of a suite of 20 boards, 100 methods and 5 seeds, with random scores; a few jobs failed, diverged
or are missing, and a few records are truncated, foreign or of a newer schema.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recbench.job.provenance import now, provenance
from recbench.plan.plan import Plan
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.store.record import SCHEMA, Data, Evaluated, Failure, File, Record, Score, Trained, sealed
from recbench.store.store import Store
from recbench.suite.suite import load_suite

SUITE = """\
name: many
description: made up, to time the leaderboard
datasets:
  - {name: photos, params: {size: {grid: [32, 48, 64, 96]}}}
architectures:
  - {name: vae_bredell, params: {widths: [32, 64, 128], latent_size: {grid: [16, 32, 64, 128, 256]}}}
losses:
  - {name: l2, kl_weight: {grid: WEIGHTS}}
  - {name: l1, kl_weight: {grid: WEIGHTS}}
  - {name: ce, kl_weight: {grid: WEIGHTS}}
  - {name: ssim, kl_weight: {grid: WEIGHTS}}
  - {name: wiener, kl_weight: {grid: WEIGHTS}}
seeds: SEEDS
training: {epochs: 12}
metrics: [psnr, ssim, mse, l1]
"""


def make(folder: Path, seeds: int, weights: int) -> tuple[Store, Plan]:
    """Write a store with a record for nearly every job of the suite."""
    file = folder / "many.yaml"
    text = SUITE.replace("WEIGHTS", str([round(1e-4 * 1.3**i, 9) for i in range(weights)]))
    file.write_text(text.replace("SEEDS", str(list(range(seeds)))))
    plugins = load_plugins()
    plan = load_suite(file, Registry(plugins), maximum_jobs=1_000_000).plan
    store = Store(folder / "results" / plan.suite)
    store.write_plan(plan, "")
    generator = random.Random(0)
    where = provenance(plugins, device="cpu", threads=2, started=now())
    for planned in plan.jobs:
        job, chance = plan.job(planned), generator.random()
        if chance < 0.001:
            continue
        status = "failed" if chance < 0.003 else "diverged" if chance < 0.005 else "done"
        failure = Failure(type="RuntimeError", message="it went wrong", traceback="line\n" * 40)
        done = status == "done"
        final = {"epoch": 12, "step": 768, "objective": 103.5, "reconstruction": 98.1, "kl": 22.2, "auxiliary": 0.0}
        record = Record(
            job_id=planned.id,
            suite=plan.suite,
            status=status,
            job=job,
            protocol=job.protocol("f" * 64),
            scores={name: score(generator) for name in plan.metrics} if done else {},
            failure=None if done else failure,
            data=Data(fingerprint="f" * 64, train=4096, validation=256, test=256),
            trained=Trained(
                epochs=12,
                steps=768,
                parameters=1_234_567,
                loss_parameters=0,
                seconds=61.234,
                images_per_second=802.1,
                final={**final, "images_per_second": 801.22},
            )
            if done
            else None,
            evaluated=Evaluated(n=256, kl=generator.uniform(10, 40), seconds=0.71) if done else None,
            provenance=where,
            files={name: File(bytes=12345, sha256="a" * 64) for name in ("history.jsonl", "scores.parquet")},
        )
        text = record.model_dump_json(indent=1)
        if chance > 0.9995:
            text = generator.choice([text[:500], json.dumps({"schema_version": SCHEMA + 1}), '{"hello": "world"}'])
        path = store.record_file(planned.id)
        path.parent.mkdir(parents=True)
        path.write_bytes(sealed(text))
    return store, plan


def score(generator: random.Random) -> Score:
    return Score(mean=generator.gauss(20, 3), std=abs(generator.gauss(1, 0.2)), n=256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--weights", type=int, default=20, help="KL weights for each of five losses")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store, plan = make(Path(folder), arguments.seeds, arguments.weights)
        print(f"{len(plan.jobs):,} jobs, {len(plan.settings)} boards of {len(plan.methods)} methods")
        command = [sys.executable, "-m", "recbench", "leaderboard", "many", "--results", str(store.root.parent)]
        for form in ("terminal", "json", "csv", "markdown", "latex"):
            seconds = [measure([*command, "--format", form]) for _ in range(arguments.repeats + 1)][1:]
            print(f"{form:<10} median {statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})")


def measure(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
