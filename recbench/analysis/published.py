"""Published against measured scores: what a paper printed, what our runs give, and which of its orderings hold.

Any two methods of a printed table whose numbers for a metric differ make a claim: one is better than the other. It
holds if the two differ significantly in our runs in the same direction, and is contradicted if they differ
significantly in the other; the tests are those of the leaderboard, corrected for all pairs of the metric. All other
claims are undecided.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from recbench.analysis import statistics
from recbench.analysis.board import Board, Leaderboard, Row
from recbench.plan.model import Column, Frozen, PublishedScore
from recbench.plan.plan import Plan
from recbench.store.record import Number

CONFIDENCE = 0.95
"""For boards without statistics."""


class Compared(Frozen):
    """A printed number and ours.

    Attributes:
        std: printed standard deviation of ``published``, over test images.
        measured: ours, mean over seeds and test images; null if there is none.
        std_seeds: standard deviation of ours over seeds.
        difference: measured − published.
        in_stds: the difference in units of the published std; null if none was printed.
        status: of the method on our board.
    """

    method: str
    metric: str
    published: float
    std: float | None
    measured: Number | None = None
    std_seeds: Number | None = None
    difference: Number | None = None
    in_stds: Number | None = None
    status: str


class Claim(Frozen):
    """One printed ordering: ``better`` is better than ``worse`` by a metric.

    Attributes:
        published: the two printed numbers, of ``better`` and of ``worse``.
        measured: ours.
        p: two-sided p-value that ours differ, corrected for all pairs of the metric.
        why: the reason, if the claim is undecided.
    """

    metric: str
    better: str
    worse: str
    published: tuple[float, float]
    measured: tuple[Number | None, Number | None]
    p: float | None
    verdict: Literal["holds", "contradicted", "undecided"]
    why: str = ""


class PublishedTable(Frozen):
    """A printed table compared with our board of the same setting.

    Attributes:
        confidence: of the tests.
        single_seeds: whether no method has more than one seed, so that verdicts hold for these trainings only.
        not_computed: metrics of the table that the suite does not compute; their printed numbers are left out.
    """

    source: str
    setting: str
    protocol: str | None
    confidence: float
    single_seeds: bool
    columns: tuple[Column, ...]
    compared: tuple[Compared, ...]
    claims: tuple[Claim, ...]
    not_computed: tuple[str, ...]

    def count(self, verdict: str) -> int:
        """Return the number of claims with a verdict."""
        return sum(claim.verdict == verdict for claim in self.claims)


def compare_published(plan: Plan, leaderboard: Leaderboard) -> tuple[PublishedTable, ...]:
    """Return every printed table of a suite compared with each board of its setting; empty if the suite has none."""
    tables = []
    for (source, setting), printed in _tables(plan).items():
        for board in leaderboard.boards:
            if board.setting == plan.settings[setting].label:
                tables.append(_table(source, board, printed))
    return tuple(tables)


_Printed = dict[str, dict[str, PublishedScore]]
"""Printed numbers by method and metric."""


def _tables(plan: Plan) -> dict[tuple[str, int], _Printed]:
    found: dict[tuple[str, int], _Printed] = {}
    for number in plan.published:
        label = plan.methods[number.method].label
        found.setdefault((number.source, number.setting), {}).setdefault(label, {})[number.metric] = number
    for search in plan.searches:  # what was printed for a method that tuning has not chosen yet
        for number in search.published if search.method is None else ():
            methods = found.setdefault((number.source, search.setting), {})
            methods.setdefault(search.label, {}).setdefault(number.metric, number)
    return found


def _table(source: str, board: Board, printed: _Printed) -> PublishedTable:
    rows = {row.label: row for row in board.rows}
    metrics = list(dict.fromkeys(metric for numbers in printed.values() for metric in numbers))
    columns = {column.name: column for column in board.columns}
    known = [name for name in columns if name in metrics]
    confidence = board.confidence or CONFIDENCE
    claims: list[Claim] = []
    for name in known:
        numbers = {label: found[name] for label, found in printed.items() if name in found}
        claims.extend(_claims(board, rows, columns[name], numbers, confidence))
    return PublishedTable(
        source=source,
        setting=board.setting,
        protocol=board.protocol,
        confidence=confidence,
        single_seeds=all(row.seeds < 2 for row in board.rows),
        columns=tuple(columns[name] for name in known),
        compared=tuple(
            _compared(label, number, rows.get(label))
            for label, numbers in printed.items()
            for name, number in numbers.items()
            if name in columns
        ),
        claims=tuple(claims),
        not_computed=tuple(metric for metric in metrics if metric not in columns),
    )


def _compared(label: str, number: PublishedScore, row: Row | None) -> Compared:
    cell = row.cells.get(number.metric) if row else None
    difference = cell.mean - number.mean if cell else None
    return Compared(
        method=label,
        metric=number.metric,
        published=number.mean,
        std=number.std,
        measured=cell.mean if cell else None,
        std_seeds=cell.std_seeds if cell else None,
        difference=difference,
        in_stds=difference / number.std if difference is not None and number.std else None,
        status=row.status if row else "not run",
    )


def _claims(
    board: Board, rows: Mapping[str, Row], column: Column, numbers: Mapping[str, PublishedScore], confidence: float
) -> Iterator[Claim]:
    p_values = _p_values(board, rows, column, numbers)
    for pair in itertools.combinations(numbers, 2):
        one, other = sorted(pair, key=lambda label: column.cost(numbers[label].mean))
        published = numbers[one].mean, numbers[other].mean
        if column.cost(published[0]) == column.cost(published[1]):
            continue  # a printed tie claims nothing
        measured = _measured(rows, one, column.name), _measured(rows, other, column.name)
        p = p_values.get(frozenset(pair))
        why = _why_not(rows, (one, other), column.name, p)
        verdict: Literal["holds", "contradicted", "undecided"] = "undecided"
        if not why and p is not None and measured[0] is not None and measured[1] is not None:
            if p > 1 - confidence:
                why = "no significant difference"
            else:
                verdict = "holds" if column.cost(measured[0]) < column.cost(measured[1]) else "contradicted"
        yield Claim(
            metric=column.name,
            better=one,
            worse=other,
            published=published,
            measured=measured,
            p=p,
            verdict=verdict,
            why=why,
        )


def _measured(rows: Mapping[str, Row], label: str, metric: str) -> float | None:
    cell = rows[label].cells.get(metric) if label in rows else None
    return cell.mean if cell else None


def _why_not(rows: Mapping[str, Row], labels: Iterable[str], metric: str, p: float | None) -> str:
    """Return why our runs cannot compare two methods; empty if they can."""
    for label in labels:
        if label not in rows:
            return f"{label} was not run"
        if rows[label].status != "ranked":
            return f"{label} is {rows[label].status}"
        if metric not in rows[label].cells:
            return f"{label} has no {metric}"
    return "" if p is not None else "no test is possible with a single seed and no scores of single images"


def _p_values(
    board: Board, rows: Mapping[str, Row], column: Column, labels: Iterable[str]
) -> dict[frozenset[str], float]:
    """Return corrected p-values of all pairs of ranked methods: those of the board if it has them for this metric."""
    ranked = [row for row in board.rows if row.status == "ranked"]
    metric = column.name
    verdict = board.verdicts.get(metric)
    if verdict is not None:
        if verdict.basis == "nothing":
            return {}
        pairs = itertools.combinations([row.label for row in ranked], 2)
        return {frozenset(pair): p for pair, p in zip(pairs, verdict.p, strict=True)}
    # If some ranked method has no value for the metric, the board has no tests for it.
    sound = [rows[label] for label in labels if label in rows and rows[label].status == "ranked"]
    return _unpaired([row for row in sound if metric in row.cells], column, board.test_images or 0)


def _unpaired(rows: Sequence[Row], column: Column, images: int) -> dict[frozenset[str], float]:
    """Return corrected p-values from means and standard deviations alone, as if each method had its own test images."""
    cells = [row.cells[column.name] for row in rows]
    by_image = images > 1 and all(cell.std_images is not None for cell in cells)
    by_seed = any(cell.std_seeds is not None for cell in cells)
    finite = all(math.isfinite(cell.mean) for cell in cells)
    if len(rows) < 2 or not (by_image or by_seed) or not finite:
        return {}
    variances = [(cell.std_images or 0.0) ** 2 if by_image else 0.0 for cell in cells]
    moments = statistics.ScoreMoments(
        means=np.array([cell.mean for cell in cells]),
        seeds=np.array([row.seeds_done for row in rows]),
        seed_variances=np.array([math.nan if cell.std_seeds is None else cell.std_seeds**2 for cell in cells]),
        images=images if by_image else 0,
        covariances=np.diag(variances) * images / max(images - 1, 1),
        interactions=np.zeros(len(rows)),
    )
    upper = np.triu_indices(len(rows), 1)
    p: NDArray[np.float64] = statistics.holm(statistics.pairwise(moments, column.target)[upper])
    pairs = itertools.combinations([row.label for row in rows], 2)
    return {frozenset(pair): float(value) for pair, value in zip(pairs, p, strict=True) if math.isfinite(value)}
