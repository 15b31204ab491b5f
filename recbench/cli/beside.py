"""The results of ``recbench try`` beside those of the board that its losses are ranked on."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from recbench.analysis import contender
from recbench.cli.text import echo
from recbench.errors import UserError
from recbench.plan.model import NUMERICS
from recbench.plan.plan import Plan
from recbench.shipped import boards, find_board
from recbench.store.record import Result
from recbench.store.remembered import remembered_board
from recbench.store.store import Store
from recbench.sweep.state import inspect

TRY = "-try"
"""The end of the name of a suite that ``recbench try`` made; the rest is that of the board."""


@dataclass(frozen=True)
class FinishedBoard:
    """A finished board: its results, read only."""

    store: Store
    plan: Plan
    records: Mapping[str, Result]

    @property
    def numerics(self) -> int:
        """The version of the numbers that its records were made with."""
        done = next(job_id for job_id, record in self.records.items() if record.status == "done")
        try:
            record = self.store.read(done)
        except ValueError:  # of another version of recbench, as its protocol tells
            return NUMERICS
        assert record is not None, "it was read before"
        return record.job.numerics

    def fingerprints(self) -> dict[int, str]:
        """Return the fingerprint of its images by setting."""
        found: dict[int, str] = {}
        for job in self.plan.jobs:
            record = self.records.get(job.id)
            if record is not None and record.data is not None:
                found.setdefault(job.setting, record.data.fingerprint)
        return found


def finished_board(name: str, results: Path, cache: Path) -> FinishedBoard:
    """Return a shipped board, or the finished results of a suite: those in a folder, or those of that name.

    Raises:
        UserError: there is none, or it has no finished job.
    """
    folder = Path(name)
    if (folder / "plan.json").is_file():
        store = Store(folder)
    elif name not in boards() and (results / name / "plan.json").is_file():
        store = Store(results / name)
    else:
        store = find_board(name).store(cache)
    plan = store.read_plan()
    records = inspect(plan, store).records
    if not any(record.status == "done" for record in records.values()):
        raise UserError(f"{store.root} has no finished jobs to rank a loss among")
    return FinishedBoard(store, plan, records)


@contextmanager
def side_by_side(board: FinishedBoard, plan: Plan, store: Store) -> Iterator[Store]:
    """Give a store in which the jobs of a board and those of a plan are side by side, by links; nothing is copied."""
    with tempfile.TemporaryDirectory() as folder:
        jobs = Path(folder) / "jobs"
        jobs.mkdir()
        for source, known in ((board.store, board.plan), (store, plan)):
            for job in known.jobs:
                target = source.folder(job.id).resolve()
                if target.is_dir() and not (jobs / job.id).is_symlink():
                    (jobs / job.id).symlink_to(target, target_is_directory=True)
        yield Store(Path(folder))


@dataclass(frozen=True)
class ShownSuite:
    """The results that a command shows.

    Attributes:
        unusable: by job id, why a record cannot be used.
    """

    plan: Plan
    store: Store
    records: Mapping[str, Result]
    unusable: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def with_board(store: Store, results: Path, cache: Path) -> Iterator[ShownSuite]:
    """Give the results of a suite: those of a try together with the board that its losses are ranked on.

    A board that is not there any more is named on stderr, and left out.
    """
    plan = store.read_plan()
    state = inspect(plan, store)
    alone = ShownSuite(plan, store, state.records, state.unusable)
    if not plan.suite.endswith(TRY):
        yield alone
        return
    name = plan.suite.removesuffix(TRY)
    try:
        board = finished_board(remembered_board(store) or name, results, cache)
    except UserError as error:
        echo(f"{plan.suite} is shown without the board of {name}: {error}", err=True)
        yield alone
        return
    if [setting.label for setting in board.plan.settings] != [setting.label for setting in plan.settings]:
        yield alone
        return
    together = contender.joined(board.plan, plan).model_copy(update={"suite": plan.suite})
    with side_by_side(board, plan, store) as both:
        yield ShownSuite(together, both, {**state.records, **board.records}, state.unusable)
