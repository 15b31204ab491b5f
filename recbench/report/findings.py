"""``docs/findings.md``: what reference boards say about the orderings that papers print. Every number and every verdict
is computed from the boards; nothing is typed by hand."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from recbench.analysis.board import Board
from recbench.analysis.ranking import rank_stored
from recbench.analysis.rate_distortion import Matched, RateDistortion, rate_distortion
from recbench.plan.model import Column
from recbench.render.text import number
from recbench.store.store import Store
from recbench.suite.document import load
from recbench.suite.values import published_value

LEAST = 5
"""Boards of fewer methods are for tests, and say nothing."""
STANDS_IN = {"lpips": "st_lpips", "fid_recon": "fd_enet_recon", "fid_gen": "fd_enet_gen"}
"""Metrics by which a board judges a printed ordering if it has not the metric itself."""
_TABLE = re.compile(r".*?table \d+")

Decision = Literal["holds", "fails", "undecided"]


@dataclass(frozen=True)
class PrintedTable:
    """A table of a paper: scores by loss and metric.

    Attributes:
        source: the paper, and the number of the table.
        datasets: that its suite is about.
        architectures: of the losses, where the table has several.
    """

    source: str
    datasets: tuple[str, ...]
    scores: Mapping[str, Mapping[str, float]]
    architectures: Mapping[str, str]


@dataclass(frozen=True)
class Ordering:
    """One printed ordering, that ``better`` is better than ``worse``, and what a board says of it.

    Attributes:
        metric: that was printed; ``judged`` is the board's column.
        published: the printed scores of both.
        measured: the board's.
        p: corrected p-value that the board's differ.
        matched: whether the order at equal KL is the printed one; None if a curve does not span that rate.
        apart: whether the paper has the two losses with different architectures.
        datasets: that the paper's table is about.
    """

    source: str
    metric: str
    judged: Column
    better: str
    worse: str
    published: tuple[float, float]
    measured: tuple[float, float]
    p: float
    verdict: Decision
    matched: bool | None
    apart: bool = False
    datasets: tuple[str, ...] = ()


def printed_tables(files: Mapping[str, Path]) -> list[PrintedTable]:
    """Return the published tables in suite files, by name of the suite; parts of one table are joined."""
    found: dict[tuple[str, str], tuple[dict[str, dict[str, float]], dict[str, str], tuple[str, ...]]] = {}
    for suite, file in files.items():
        data: Any = load(file).data
        datasets = tuple(item if isinstance(item, str) else item["name"] for item in data["datasets"])
        for part in data.get("published", ()):
            match = _TABLE.match(part["source"])
            if match is None:
                continue
            scores, architectures, _ = found.setdefault((suite, match.group()), ({}, {}, datasets))
            for loss, values in part["scores"].items():
                scores.setdefault(loss, {}).update({name: published_value(value)[0] for name, value in values.items()})
                architectures[loss] = part.get("architecture", "")
    return [
        PrintedTable(source, datasets, scores, architectures)
        for (_, source), (scores, architectures, datasets) in found.items()
    ]


def orderings(board: Board, matched: Matched | None, tables: Sequence[PrintedTable]) -> list[Ordering]:
    """Return the printed orderings that a board can judge."""
    columns = {column.name: column for column in board.columns}
    ranked = [row for row in board.rows if row.status == "ranked"]
    rows = {row.label: row for row in ranked}
    at_rate = {row.label: row.scores for row in matched.rows} if matched is not None else {}
    found = []
    for table in tables:
        losses = [label for label in table.scores if label in rows]
        for metric in dict.fromkeys(name for label in losses for name in table.scores[label]):
            judged = columns.get(metric) or columns.get(STANDS_IN.get(metric, ""))
            verdict = board.verdicts.get(judged.name) if judged is not None else None
            if judged is None or verdict is None or verdict.basis == "nothing":
                continue
            pairs = itertools.combinations([row.label for row in ranked], 2)
            p_values = {frozenset(pair): p for pair, p in zip(pairs, verdict.p, strict=True)}
            having = [label for label in losses if metric in table.scores[label]]
            for pair in itertools.combinations(having, 2):
                better, worse = sorted(pair, key=lambda label: judged.cost(table.scores[label][metric]))
                published = table.scores[better][metric], table.scores[worse][metric]
                if published[0] == published[1]:
                    continue
                measured = rows[better].cells[judged.name].mean, rows[worse].cells[judged.name].mean
                p = p_values[frozenset(pair)]
                said: Decision = "undecided"
                if p <= 1 - (board.confidence or 0.95):
                    said = "holds" if judged.cost(measured[0]) < judged.cost(measured[1]) else "fails"
                rates = [at_rate.get(label, {}).get(judged.name) for label in (better, worse)]
                same = None
                if rates[0] is not None and rates[1] is not None:
                    same = judged.cost(rates[0]) < judged.cost(rates[1])
                apart = table.architectures[better] != table.architectures[worse]
                found.append(
                    Ordering(
                        source=table.source,
                        metric=metric,
                        judged=judged,
                        better=better,
                        worse=worse,
                        published=published,
                        measured=measured,
                        p=p,
                        verdict=said,
                        matched=same,
                        apart=apart,
                        datasets=table.datasets,
                    )
                )
    return found


def findings(stores: Mapping[str, Store], files: Mapping[str, Path]) -> str:
    """Return the page about boards.

    Args:
        stores: the results of the boards, by name of the suite.
        files: of the suites that hold published scores, by name.
    """
    tables = printed_tables(files)
    blocks = [
        "# Findings",
        "What the reference boards of `results/reference` say, with the tests of the boards (95 % confidence, "
        "corrected for "
        "all pairs; [statistics](statistics.md)). `recbench findings` writes this page from the boards' "
        "records; a test "
        "compares the two.",
        "An ordering that a paper prints *holds* if the board's difference is significant in the same "
        "direction, *fails* "
        "if it is significant in the other, and is *undecided* otherwise. Papers compare at weights of their "
        "own choice; "
        "a board tunes every loss with the same budget. At equal KL the losses are interpolated along the trials of "
        "tuning, with one seed, on validation images: an order there is not tested.",
    ]
    shown = 0
    for name, store in stores.items():
        plan = store.read_plan()
        records = dict(store.scan(plan).records)
        curves = {found.setting: found for found in rate_distortion(plan, records)}
        for board in rank_stored(plan, store, records).boards:
            if sum(row.status == "ranked" for row in board.rows) >= LEAST:
                shown += 1
                data = next(each.dataset.name for each in plan.settings if each.label == board.setting)
                blocks += _board(name, board, curves.get(board.setting), tables, data)
    if not shown:
        known = ", ".join(stores) or "none"
        blocks.append(
            f"No board with {LEAST} methods or more is shipped yet (shipped: {known}, for tests), so nothing "
            "is decided."
        )
    return "\n\n".join(blocks) + "\n"


def _board(
    name: str, board: Board, curve: RateDistortion | None, tables: Sequence[PrintedTable], data: str
) -> Iterator[str]:
    ranked = [row for row in board.rows if row.status == "ranked"]
    matched = curve.matched if curve is not None else None
    yield f"## {name}: {board.setting}"
    seeds = min(row.seeds for row in ranked)
    yield (
        f"{len(ranked)} methods with {seeds} seeds or more on {board.test_images:,} test images, ranked by "
        f"{', '.join(board.ranking)}."
    )
    heads = ["#", "tier", "loss", "rank interval", "mean rank", *(c.name for c in board.columns), "KL, nats"]
    yield _markdown(
        heads,
        [
            [
                str(row.place), str(row.tier), f"`{row.label}`",
                "–".join(map(str, dict.fromkeys(row.rank_interval or ()))),
                number(row.mean_rank, 2),
                *(number(row.cells[c.name].mean if c.name in row.cells else None, c.digits) for c in board.columns),
                number(row.kl, 0),
            ]
            for row in ranked
        ],
    )  # fmt: skip
    left = [f"`{row.label}` ({row.status})" for row in board.rows if row.status != "ranked"]
    if left:
        yield f"Not ranked: {', '.join(left)}."
    found = orderings(board, matched, tables)
    yield f"### What papers print about {data}"
    yield from _orderings([each for each in found if data in each.datasets], matched)
    others = [each for each in found if data not in each.datasets]
    if others:
        yield "### What papers print about other data"
        yield from _elsewhere(others)
    yield "### Which loss to use"
    yield "\n".join(_advice(board))


def _orderings(found: Sequence[Ordering], matched: Matched | None) -> Iterator[str]:
    if not found:
        yield "No table orders two losses of this board by a metric that it has."
        return
    counts = {verdict: sum(each.verdict == verdict for each in found) for verdict in ("holds", "fails", "undecided")}
    yield (
        f"Of {len(found)} printed orderings that this board can judge, {counts['holds']} hold, "
        f"**{counts['fails']} fail** "
        f"and {counts['undecided']} are undecided, each loss tuned."
    )
    known = [each for each in found if each.matched is not None]
    if matched is not None and known:
        same = sum(each.matched is True for each in known)
        yield (
            f"At equal KL ({matched.rate:.4g} nats) {len(known)} of them can be looked at: {same} have the "
            "printed order, "
            f"{len(known) - same} the opposite one."
        )
    stand = sorted({f"`{e.judged.name}` for {e.metric}" for e in found if e.metric != e.judged.name})
    if stand:
        yield f"Judged by stand-ins: {', '.join(stand)}."
    rows = [
        [
            each.source, f"`{each.better}` > `{each.worse}`{' ¹' if each.apart else ''}", each.metric,
            f"{each.published[0]:g}, {each.published[1]:g}",
            f"{number(each.measured[0], each.judged.digits)}, {number(each.measured[1], each.judged.digits)}",
            f"**{each.verdict}**" if each.verdict == "fails" else each.verdict,
            "–" if each.matched is None else "as printed" if each.matched else "opposite",
        ]
        for each in sorted(found, key=lambda e: ("wiener" not in (e.better, e.worse), e.source, e.metric))
    ]  # fmt: skip
    yield _markdown(["table", "better > worse", "by", "printed", "here", "tuned", "at equal KL"], rows)
    if any(each.apart for each in found):
        yield "¹ The paper compares two architectures along with the two losses; this board differs in the loss alone."
    yield from _plainly(found)


def _elsewhere(found: Sequence[Ordering]) -> Iterator[str]:
    """Yield how many orderings of each table hold here, though it is about other images."""
    yield (
        "These tables are about other images, so what fails here need not fail there. Orderings by table, each loss "
        "tuned, and how many of those that can be looked at have the printed order at equal KL:"
    )
    tables: dict[tuple[str, tuple[str, ...]], list[Ordering]] = {}
    for each in found:
        tables.setdefault((each.source, each.datasets), []).append(each)
    rows = []
    for (source, datasets), group in sorted(tables.items()):
        for about, chosen in (("wiener and another", True), ("two others", False)):
            those = [each for each in group if ("wiener" in (each.better, each.worse)) == chosen]
            counts = [sum(each.verdict == verdict for each in those) for verdict in ("holds", "fails", "undecided")]
            known = [each.matched for each in those if each.matched is not None]
            if those:
                rows.append([source, ", ".join(datasets), about, *map(str, counts), f"{sum(known)} of {len(known)}"])
    yield _markdown(["table", "data", "of", "hold", "fail", "undecided", "at equal KL"], rows)
    of_wiener = [each for each in found if "wiener" in (each.better, each.worse)]
    yield from _plainly(of_wiener, "Where claims about `wiener` fail on these images")


def _plainly(found: Sequence[Ordering], where: str = "Where the papers' claims fail") -> Iterator[str]:
    """Yield a sentence for each pair of losses and table with a printed ordering that fails."""
    failed: dict[tuple[str, str, str], list[Ordering]] = {}
    for each in found:
        if each.verdict == "fails":
            failed.setdefault((each.source, each.better, each.worse), []).append(each)
    lines = [
        f"- {source}: `{better}` is **not** better than `{worse}` by "
        f"{', '.join(dict.fromkeys(each.judged.name for each in group))}, but "
        "significantly worse."
        for (source, better, worse), group in failed.items()
    ]
    yield "\n".join([f"{where}:", "", *lines]) if lines else "No printed ordering fails."


def _advice(board: Board) -> Iterator[str]:
    """Yield for each metric the losses that no other is significantly better than."""
    ranked = [row for row in board.rows if row.status == "ranked"]
    for column in board.columns:
        verdict = board.verdicts.get(column.name)
        if column.name not in board.ranking or verdict is None or verdict.basis == "nothing":
            continue
        cells = [(row.label, row.cells[column.name]) for row in ranked]
        first = [
            (label, cell) for label, cell in cells if cell.rank_interval is not None and cell.rank_interval[0] == 1
        ]
        named = ", ".join(
            f"`{label}`{' ⌂' if cell.in_family else ''}"
            for label, cell in sorted(first, key=lambda one: one[1].rank or 0)
        )
        yield f"- For {column.name}: {named}; none is significantly better."
    best = [f"`{row.label}`" for row in ranked if row.rank_interval is not None and row.rank_interval[0] == 1]
    yield f"- Over all ranking metrics: {', '.join(best)}; none is significantly better."
    yield "- ⌂: the metric is of the loss's own family, so it is judged by what it trains on."


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
