"""Statistics of leaderboards: seconds of a large board, false alarms, and power.

    python benchmarks/verdicts.py

The board has 60 methods, 3 seeds and 10,000 test images by 8 metrics; the goal is seconds, and a bounded memory. Power
is how often one method differs significantly from each of the others, which are equal, by how many standard deviations
of a training it differs, if images matter little. False alarms are boards of equal methods with more than one tier.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from recbench.analysis import ordering, statistics
from recbench.analysis.ranking import rank_stored
from recbench.plan.model import Column
from recbench.store.record import Score
from recbench.store.store import Store
from tests.made_up import make_plan, make_record
from tests.synthetic import World

SIZES = [(2, 2), (5, 2), (20, 2), (2, 3), (5, 3), (20, 3), (5, 5), (20, 5)]
DISTANCES = (5.0, 12.0, 30.0)


def large(folder: Path, methods: int, seeds: int, images: int, metrics: int) -> None:
    columns = tuple(Column(name=f"metric_{i}", direction="higher") for i in range(metrics))
    plan = make_plan([f"method {i}" for i in range(methods)], range(seeds), columns=columns)
    store = Store(folder / plan.suite)
    store.write_plan(plan, "")
    generator = np.random.default_rng(0)
    shared = generator.normal(0, 3, (metrics, images))
    for planned in plan.jobs:
        worth = 0.05 * planned.method + 0.1 * generator.normal()
        values = {column.name: shared[i] + generator.normal(0, 1, images) + worth for i, column in enumerate(columns)}
        scores = {n: Score(mean=float(v.mean()), std=float(v.std()), n=images) for n, v in values.items()}
        store.add(make_record(plan, planned, scores))
        pd.DataFrame(values).to_parquet(store.folder(planned.id) / "scores.parquet")
    records = store.scan(plan).records
    for what in ("the first time", "from the cache"):
        start = time.process_time()
        rank_stored(plan, store, records)
        print(f"{methods} methods, {seeds} seeds, {images:,} images, {metrics} metrics, {what}: ", end="")
        print(f"{time.process_time() - start:.2f} s of processor time")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cache = (store.root / "statistics.json").stat().st_size / 1e6
    print(f"peak of memory: {peak:.0f} MiB; statistics.json: {cache:.1f} MB")


def power(boards: int) -> None:
    print(
        f"\n{'methods':>7} {'seeds':>5} {'false alarms':>12} " + " ".join(f"{f'power at {d:g}':>12}" for d in DISTANCES)
    )
    for methods, seeds in SIZES:
        generator = np.random.default_rng([methods, seeds])
        found = {}
        for distance in (0.0, *DISTANCES):
            parted = 0.0
            for _ in range(boards):
                world = World([0.0] * (methods - 1) + [distance], seeds, 100, image=20.0, both=0.5, rest=0.5)
                moments = statistics.moments(world.scores(generator))
                (corrected,) = statistics.holm_of_pairs([statistics.pairwise(moments)])
                better = ordering.better(moments.means, corrected)
                tiers = ordering.tiers(moments.means, better)
                parted += better[:-1, -1].mean() if distance else tiers.max() > 1
            found[distance] = parted / boards
        print(f"{methods:>7} {seeds:>5} {found[0.0]:>12.1%} " + " ".join(f"{found[d]:>12.0%}" for d in DISTANCES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--metrics", type=int, default=8)
    parser.add_argument("--boards", type=int, default=500, help="synthetic boards for each number of the table")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large(Path(folder), arguments.methods, arguments.seeds, arguments.images, arguments.metrics)
    power(arguments.boards)


if __name__ == "__main__":
    main()
