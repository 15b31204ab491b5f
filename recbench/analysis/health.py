"""Health warnings of a board's rows: what the records of a method's seeds say, and what only a board can know.

docs/health.md gives the reason for each check.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from recbench.analysis.board import Row, Warned
from recbench.plan.model import Column, brief
from recbench.plan.strategies import KL_WEIGHT
from recbench.plan.tuning import Search
from recbench.store.record import LARGEST, Result, Symptom

PCA = "pca"
"""The architecture that a method's scores are held against."""
_BOUNDS = "likelihood"
"""The family of metrics of codes and densities, of which a plain autoencoder such as ``pca`` has none to compare."""


def seed_warnings(seeds: Mapping[int, Result | None]) -> Iterator[Warned]:
    """Yield a warning for each check that the jobs of some seeds did not pass, with the number farthest beyond."""
    found: dict[str, list[tuple[int, Symptom]]] = {}
    for seed, record in seeds.items():
        for symptom in record.health if record is not None else ():
            found.setdefault(symptom.check, []).append((seed, symptom))
    for check, raised in found.items():
        _, worst = max(raised, key=lambda item: abs(item[1].value - item[1].threshold))
        facts = {"value": worst.value, "threshold": worst.threshold, "sentence": worst.sentence}
        yield Warned(check=check, seeds=tuple(seed for seed, _ in raised), **facts)


def edge_warnings(search: Search | None) -> Iterator[Warned]:
    """Yield a warning if tuning has chosen a KL weight at an end of its ladder."""
    if search is None or search.chosen is None or KL_WEIGHT not in search.edge:
        return
    weights = [trial.values[KL_WEIGHT] for trial in search.trials]
    chosen = weights[search.chosen]
    end = "lowest" if chosen == min(weights) else "highest"
    text = (
        f"the KL weight {brief(chosen)} is the {end} that tuning tried ({brief(min(weights))} to "
        f"{brief(max(weights))}): a better one may lie beyond"
    )
    yield Warned(check="kl_weight_edge", value=chosen, threshold=chosen, sentence=text)


def baseline_warnings(row: Row, baselines: Sequence[Row], columns: Sequence[Column]) -> Iterator[Warned]:
    """Yield a warning if a method's score by a metric of single images is worse than that of PCA."""
    pca = next((other for other in baselines if other.baseline == PCA and other.status == "baseline"), None)
    if pca is None:
        return
    worse = [column for column in columns if _is_worse(row, pca, column)]
    if not worse:
        return
    first = worse[0]
    mine, its = row.cells[first.name].mean, pca.cells[first.name].mean
    more = f" (so it is by {', '.join(column.name for column in worse[1:])})" if len(worse) > 1 else ""
    text = (
        f"its {first.name} of {mine:.{first.digits}f} is worse than the {its:.{first.digits}f} of {pca.label} with "
        f"{pca.params.get('latent_size', 'as many')} components{more}"
    )
    bounded = [min(max(value, -LARGEST), LARGEST) for value in (mine, its)]
    yield Warned(check="below_pca", value=bounded[0], threshold=bounded[1], sentence=text)


def _is_worse(row: Row, pca: Row, column: Column) -> bool:
    mine, its = row.cells.get(column.name), pca.cells.get(column.name)
    if mine is None or its is None or column.family == _BOUNDS or mine.std_images is None:
        return False
    return column.cost(mine.mean) > column.cost(its.mean)
