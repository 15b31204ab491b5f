"""A new loss on a finished board: what would keep it from being compared, the joined plan, and where it stands.

Pure functions of plans, records and boards.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from pydantic import Field

from recbench.analysis.board import Board, Row
from recbench.plan.merge import differences
from recbench.plan.model import NUMERICS, Frozen, Method, PlannedJob, job_of
from recbench.plan.plan import Plan
from recbench.plan.tuning import Search
from recbench.store.record import Result


def hindrances(board: Plan, plan: Plan, numerics: int, fingerprints: Mapping[int, tuple[str, str]]) -> Iterator[str]:
    """Yield all that differs between a board's protocol and that of a new loss's plan; nothing if they are equal.

    Args:
        board: the plan of the board.
        plan: of the new loss, derived from the board's suite.
        numerics: the version of the numbers that the board was made with.
        fingerprints: of the board's images and of those here, by setting; without those that are unknown.
    """
    if numerics != NUMERICS:
        yield f"the board was made with version {numerics} of recbench's numbers, this is version {NUMERICS}"
    if len(plan.settings) != len(board.settings):
        yield f"the board has {len(board.settings)} settings, the suite is set to have {len(plan.settings)}"
    for theirs, mine in zip(board.settings, plan.settings, strict=False):
        pairs = (
            (f"the data set {theirs.dataset.name}", theirs.dataset, mine.dataset),
            (f"the architecture {theirs.architecture.name}", theirs.architecture, mine.architecture),
        )
        for what, one, other in pairs:
            if one.name == other.name and one.code != other.code:
                yield f"the code of {what} is not that of the board"
            neutral = {"code": "", "locations": {}, "variant": ""}
            found = differences(one.model_copy(update=neutral), other.model_copy(update=neutral))
            if found:
                yield f"{what} differs: {'; '.join(found)}"
        if theirs.training != mine.training:
            yield f"training differs: {'; '.join(differences(theirs.training, mine.training))}"
    for index, (theirs_images, mine_images) in fingerprints.items():
        if theirs_images != mine_images:
            yield (
                f"the images of {plan.settings[index].dataset.name} here are not those of the board: their fingerprint "
                f"is {mine_images[:16]}…, the board's {theirs_images[:16]}…"
            )
    for label in sorted({*board.metrics, *plan.metrics}):
        if board.metrics.get(label) != plan.metrics.get(label):
            same = label in board.metrics and label in plan.metrics
            yield f"the metric {label} {'is not that of the board' if same else 'is on one side only'}"
    if board.tuning is not None and plan.tuning is not None and board.tuning != plan.tuning:
        yield f"tuning differs: {'; '.join(differences(board.tuning, plan.tuning))}"
    ladders = {search.axes[0] for search in board.searches}
    if board.searches and {search.axes[0] for search in plan.searches} != ladders:
        yield "the range of KL weights is not that of the board"


def other_protocols(board: Plan, plan: Plan, reference: Mapping[str, Result]) -> Iterator[str]:
    """Yield a line for each setting whose records on the board have another protocol than the jobs of a new loss will
    have on the same images, though nothing that defines a job differs.

    Args:
        board: the plan of the board.
        plan: of the new loss, with tuning and the same settings.
        reference: the records of the board.
    """
    for search in plan.searches:
        method = Method(label=search.label, loss=search.loss, kl_weight=1.0)
        job = job_of(plan.settings[search.setting], method, plan.metrics, 0, "test")
        theirs = {
            record.protocol
            for planned in board.jobs
            if planned.setting == search.setting
            and planned.split == "test"
            and (record := reference.get(planned.id)) is not None
            and record.data is not None
            and record.protocol not in (None, job.protocol(record.data.fingerprint))
        }
        if theirs:
            yield (
                f"the board's protocol {', '.join(map(str, sorted(theirs, key=str)))} is not that of jobs here: it "
                "was made by another version of recbench"
            )
            return


def joined(board: Plan, plan: Plan) -> Plan:
    """Return the plan of a board with the methods, jobs and searches of another one of the same settings."""
    offset = len(board.methods)

    def search(found: Search) -> Search:
        trials = tuple(trial.model_copy(update={"method": trial.method + offset}) for trial in found.trials)
        method = None if found.method is None else found.method + offset
        return found.model_copy(update={"trials": trials, "method": method, "published": ()})

    known = {job.id for job in board.jobs}
    jobs: Iterator[PlannedJob] = (
        job.model_copy(update={"method": job.method + offset}) for job in plan.jobs if job.id not in known
    )
    return board.model_copy(
        update={
            "methods": (*board.methods, *plan.methods),
            "jobs": (*board.jobs, *jobs),
            "searches": (*board.searches, *map(search, plan.searches)),
        }
    )


def under_protocol(
    plan: Plan, records: Mapping[str, Result], board: Plan, reference: Mapping[str, Result]
) -> dict[str, Result]:
    """Return records as if they were made with the protocol and images of a board's setting, whatever theirs are."""
    models = {
        (job.setting, job.split): reference[job.id]
        for job in board.jobs
        if job.id in reference and reference[job.id].status == "done"
    }
    found = {}
    for job in plan.jobs:
        record = records.get(job.id)
        if record is None:
            continue
        model = models.get((job.setting, job.split))
        if model is not None and model.data is not None and record.data is not None and record.protocol is not None:
            data = record.data.model_copy(update={"fingerprint": model.data.fingerprint})
            record = record.model_copy(update={"protocol": model.protocol, "data": data})
        found[job.id] = record
    return found


class Against(Frozen):
    """The ranked methods that one is significantly better and worse than, and those that it is not told from."""

    better: tuple[str, ...] = ()
    worse: tuple[str, ...] = ()
    open: tuple[str, ...] = ()


class Standing(Frozen):
    """The place of a method on a board.

    Attributes:
        row: of the board.
        of: number of ranked methods.
        overall: by all ranking metrics; None if the board has no statistics or the method is not ranked.
        by_metric: by each metric with tests.
    """

    row: Row
    of: int
    overall: Against | None = None
    by_metric: dict[str, Against] = Field(default_factory=dict)


def standing(board: Board, label: str) -> Standing | None:
    """Return where a method stands on a board; None if the board has no method of that label."""
    row = next((row for row in board.rows if row.label == label), None)
    if row is None:
        return None
    ranked = [row for row in board.rows if row.status == "ranked"]
    if row not in ranked:
        return Standing(row=row, of=len(ranked))
    pairs = list(itertools.combinations(range(len(ranked)), 2))
    overall = None
    if board.overall is not None:
        decided = {pair: (1 if better else 0) for pair, better in zip(pairs, board.overall.better, strict=True)}
        overall = _against(ranked, label, decided)
    by_metric = {}
    for column in board.columns:
        verdict = board.verdicts.get(column.name)
        if verdict is None or verdict.basis == "nothing" or board.confidence is None:
            continue
        costs = [column.cost(row.cells[column.name].mean) for row in ranked]
        decided = {
            (one, other): 0 if p > 1 - board.confidence else 1 if costs[one] < costs[other] else -1
            for (one, other), p in zip(pairs, verdict.p, strict=True)
        }
        by_metric[column.name] = _against(ranked, label, decided)
    return Standing(row=row, of=len(ranked), overall=overall, by_metric=by_metric)


def _against(ranked: Sequence[Row], label: str, decided: Mapping[tuple[int, int], int]) -> Against:
    """Return a method's verdicts from those of all pairs: 1 if the first is significantly better, −1 if worse."""
    lists: dict[int, list[str]] = {1: [], -1: [], 0: []}
    for (one, other), verdict in decided.items():
        if ranked[one].label == label:
            lists[verdict].append(ranked[other].label)
        elif ranked[other].label == label:
            lists[-verdict].append(ranked[one].label)
    return Against(better=tuple(lists[1]), worse=tuple(lists[-1]), open=tuple(lists[0]))
