"""Statistics of leaderboards: seconds of a large board, false alarms, and power.

    python benchmarks/verdicts.py

The board has 60 methods, 3 seeds and 10,000 test images by 8 metrics; the goal is seconds, and a bounded memory. Power
is how often one method differs significantly from each of the others, which are equal, by how many standard deviations
of a training it differs, if images matter little. Coverage is that of intervals of scores that are far from normal:
clipped, binary, nearly constant, tied, heavy-tailed. Pairing compares the tests with others that pair trainings by
their seed, where the trainings of two methods with one seed correlate, and where they do not. False alarms are boards
of equal methods with more than one tier, or with any significant difference where tests are compared. Tiers are
those of forty methods.
"""

from __future__ import annotations

import argparse
import itertools
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import special

from recbench.analysis import ordering, statistics
from recbench.analysis.ranking import rank_stored
from recbench.plan.model import Column
from recbench.store.record import Score
from recbench.store.store import Store
from tests.made_up import make_plan, make_record
from tests.synthetic import ODD, World, odd_mean, odd_scores

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
                several = len(ordering.tiers(moments.means, better)) > 1
                parted += better[:-1, -1].mean() if distance else several
            found[distance] = parted / boards
        print(f"{methods:>7} {seeds:>5} {found[0.0]:>12.1%} " + " ".join(f"{found[d]:>12.0%}" for d in DISTANCES))


def tiers(boards: int) -> None:
    """Print what tiers tell of forty methods in pairs of equals: how many there are, how many methods each of them
    holds, how many ranks an interval, how often all pairs share a tier, and how many tiers there were if one ended only
    where all methods above differ from all below."""
    heads = f"{'steps':>6} {'seeds':>5} {'tiers':>6} {'methods':>8} {'ranks':>6} {'pairs share':>11} {'cuts':>6}"
    print(f"\n{heads}")
    for step, seeds in itertools.product((1.0, 3.0, 10.0), (2, 3, 5)):
        generator = np.random.default_rng(seeds)
        counts, sizes, widths, together, cuts = [], [], [], 0, []
        for _ in range(boards):
            means = np.repeat(np.arange(20.0), 2) * step
            found = statistics.moments(
                World(means.tolist(), seeds, 100, image=20.0, both=0.5, rest=0.5).scores(generator)
            )
            (corrected,) = statistics.holm_of_pairs([statistics.pairwise(found)])
            better = ordering.better(found.means, corrected)
            groups = ordering.tiers(found.means, better)
            counts.append(len(groups))
            sizes += [len(group) for group in groups]
            widths.append(float(np.mean(np.diff(ordering.rank_intervals(better), axis=1) + 1)))
            together += not any(better[i, i + 1] or better[i + 1, i] for i in range(0, 40, 2))
            order = np.argsort(found.means)
            sorted_better = better[np.ix_(order, order)]
            cuts.append(1 + sum(bool(sorted_better[:end, end:].all()) for end in range(1, 40)))
        print(f"{step:>6g} {seeds:>5} {np.mean(counts):>6.1f} {np.mean(sizes):>8.1f} {np.mean(widths):>6.1f} ", end="")
        print(f"{together / boards:>11.1%} {np.mean(cuts):>6.1f}")


def coverage(boards: int) -> None:
    """Print how often intervals of scores that are far from normal cover, and equal methods differ significantly."""
    heads = f"{'scores':>16} {'seeds':>5} {'images':>6} {'coverage':>8} {'no spread':>9} {'false alarms':>12}"
    print(f"\n{heads} {'reach':>6}")
    for kind, seeds, images in itertools.product(("normal", *ODD), (1, 3), (16, 50, 200, 1000)):
        generator = np.random.default_rng([seeds, images])
        covered, parted, constant, reaches = 0, 0.0, 0, []
        for _ in range(boards):
            if kind == "normal":
                world, truth = World([0.0] * 2, seeds, images, training=0.0, both=0.8, rest=0.6), 0.0
                scores = world.scores(generator)
            else:
                scores, truth = odd_scores(kind, 2, seeds, images, generator), odd_mean(kind)
            found = statistics.moments(scores)
            low, high = statistics.intervals(found)[0]
            covered += low <= truth <= high
            constant += not found.covariances[0, 0]
            parted += statistics.pairwise(found)[0, 1] <= 0.05
            if found.covariances[0, 0]:
                reaches.append((high - low) / 2 / np.sqrt(found.covariances[0, 0] / images))
        reach = np.median(reaches) if reaches else np.nan
        print(f"{kind:>16} {seeds:>5} {images:>6} {covered / boards:>8.1%} {constant / boards:>9.1%} ", end="")
        print(f"{parted / boards:>12.1%} {reach:>6.2f}")


def pairing(boards: int) -> None:
    """Print false alarms and power of the tests as they are, and of two that pair trainings by their seed.

    *Pairs*: Student's t of the seeds' differences, pair by pair. *Two-way*: one variance for all pairs, of what neither
    method nor seed explains, with (M − 1)(S − 1) degrees of freedom.
    """
    print(f"\n{'':>38} {'false alarms':^26} {'power':^26}")
    print(
        f"{'methods':>7} {'seeds':>5} {'correlation':>11} {'spreads':>8}    "
        + f"{'now':>8} {'pairs':>8} {'two-way':>8} " * 2
    )
    for methods, seeds, erratic, shared in itertools.product((2, 5), (2, 3, 5), (False, True), (0.0, 0.5, 0.9)):
        generator = np.random.default_rng([methods, seeds, erratic, int(10 * shared)])
        spread = [4.0 if erratic else 1.0] + [1.0] * (methods - 1)
        rates = []
        for distance in (0.0, 8.0):
            world = World([0.0] * (methods - 1) + [distance], seeds, 1, spread, 0.0, 0.0, 0.0, shared=shared)
            hits = np.zeros(3)
            for _ in range(boards):
                means = np.stack([one[:, 0] for one in world.scores(generator)])
                now = statistics.pairwise(statistics.moments_of_means(list(means)))
                for number, p in enumerate((now, *_paired(means))):
                    (corrected,) = statistics.holm_of_pairs([p])
                    found = corrected <= 0.05
                    hits[number] += found[:-1, -1].mean() if distance else found.any()
            rates += [f"{rate:>8.1%}" for rate in hits / boards]
        kind = "erratic" if erratic else "equal"
        print(f"{methods:>7} {seeds:>5} {shared:>11.1f} {kind:>8}    {' '.join(rates)}", flush=True)


def _paired(means: statistics.Numbers) -> Iterator[statistics.Numbers]:
    """Yield p-values of all pairs of methods, (M, M), from the seeds' means, (M, S): by pairs, and two-way."""
    methods, seeds = means.shape
    differences = means[:, None] - means[None, :]
    estimates, variances = differences.mean(axis=2), differences.var(axis=2, ddof=1)
    upper = np.triu_indices(methods, 1)
    common = np.full_like(variances, variances[upper].mean())  # the mean over all pairs is the residual's, twice
    for variance, freedom in ((variances, seeds - 1), (common, (methods - 1) * (seeds - 1))):
        with np.errstate(invalid="ignore"):
            t = np.abs(estimates) / np.sqrt(variance / seeds)
        yield np.nan_to_num(2 * special.stdtr(float(freedom), -t), nan=1.0)


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
    tiers(max(arguments.boards // 5, 1))
    coverage(4 * arguments.boards)
    pairing(4 * arguments.boards)


if __name__ == "__main__":
    main()
