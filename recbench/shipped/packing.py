"""Making a reference board of a suite's results: an export that is small, and still gives the same board.

Stored models are left out, and so is what no board, curve or page shows: scores per image of the trials of tuning, and
pictures of all seeds but the first. Scores per image are rounded as little as the size limit allows.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from recbench.analysis.board import Leaderboard
from recbench.analysis.ranking import rank_stored
from recbench.errors import UserError
from recbench.files import read_regular, write_atomically
from recbench.plan.model import SUITE_NAME
from recbench.plan.plan import Plan
from recbench.shipped.boards import MOST, BoardFacts, ReferenceBoard
from recbench.shipped.rounding import rounded_content
from recbench.store import artifacts
from recbench.store.archive import MOST_SUITE, export
from recbench.store.artifacts import EPOCHS, HISTORY, IMAGES, SCORES, TRACES, ArtifactError
from recbench.store.record import MOST_BYTES, File, Record, Result, sealed
from recbench.store.store import Store

PICTURES = 8
"""The number of test images, and of samples, that a reference board shows of each method."""
STEPS = (None, 1024, 512, 256, 128, 64, 32, 16, 8)
"""The roundings that are tried, from none to the coarsest, until the board is small enough."""


def pack(store: Store, folder: Path, most: int = MOST) -> ReferenceBoard:
    """Write the reference board of a suite into a folder of boards, in the place of the one that is there.

    Args:
        store: the results of the suite.
        folder: of the reference boards.
        most: the largest size of all boards in the folder together, in bytes.

    Raises:
        UserError: a job of the suite has no record, or one that cannot be used; or the board does not fit the limit;
            or it would not be the same board; nothing was written.
        OutOfSpaceError: the disk is full.
    """
    plan = store.read_plan()
    if not SUITE_NAME.fullmatch(plan.suite):
        raise UserError(f"{store.plan_file}: {plan.suite[:200]!r} is not a valid name of a suite")
    kept = dict(_records(store, plan))
    board = ReferenceBoard(plan.suite, folder / f"{plan.suite}.zip")
    mine = (board.file, board.file.with_suffix(".json"))
    others = sum(file.stat().st_size for file in folder.glob("*") if file.is_file() and file not in mine)
    with tempfile.TemporaryDirectory() as temporary:
        for steps in STEPS:
            compact = Store(Path(temporary) / "board" / plan.suite)
            _write(store, plan, kept, compact, steps)
            file = Path(temporary) / board.file.name
            export(compact, file, ("images", "traces"))
            content = file.read_bytes()
            facts = BoardFacts(suite=plan.suite, export=File.of(content), steps=steps)
            text = facts.model_dump_json(indent=1) + "\n"
            size = others + len(content) + len(text)
            if size <= most:
                break
            shutil.rmtree(compact.root)
        else:
            raise UserError(
                f"{plan.suite} does not fit: all boards would have {size:,} bytes, at most {most:,} are allowed"
            )
        _check_same(plan, store, compact)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(board.file, content)
        write_atomically(board.file.with_suffix(".json"), text.encode())
    return board


def _records(store: Store, plan: Plan) -> Iterator[tuple[str, Record]]:
    """Yield the record of every job of a plan.

    Raises:
        UserError: one is missing, or cannot be used.
    """
    for planned in plan.jobs:
        try:
            record = store.read(planned.id)
        except ValueError as error:
            raise UserError(f"job {planned.id}: its record cannot be used: {error}") from None
        if record is None:
            raise UserError(f"job {planned.id} has no record; 'recbench run {plan.suite}' completes the suite")
        yield planned.id, record


def _write(store: Store, plan: Plan, kept: dict[str, Record], compact: Store, steps: int | None) -> None:
    """Write what a reference board keeps of a store into another one."""
    compact.root.mkdir(parents=True)
    compact.write_plan(plan, read_regular(store.root / "suite.yaml", MOST_SUITE).decode())
    pictured: set[tuple[int, int]] = set()
    for planned in plan.jobs:
        record, source, target = kept[planned.id], store.folder(planned.id), compact.folder(planned.id)
        target.mkdir(parents=True)
        files: dict[str, bytes] = {}
        try:
            if record.status == "done":
                files[HISTORY] = artifacts.content(source, HISTORY, record.files)
            if record.status == "done" and planned.split == "test":
                files[SCORES] = _scores(artifacts.content(source, SCORES, record.files), steps)
                if (planned.method, planned.setting) not in pictured:
                    pictured.add((planned.method, planned.setting))
                    files.update(_pictures(source, target, record))
        except ArtifactError as error:
            raise UserError(f"job {planned.id}: its files cannot be read: {error}") from None
        for name, content in files.items():
            (target / name).write_bytes(content)
        changed = {name: File.of(content) for name, content in files.items()}
        (target / "record.json").write_bytes(_record(store, record, changed))


def _record(store: Store, record: Record, changed: dict[str, File]) -> bytes:
    """Return the content of a record that describes these files; its own bytes if it does so already."""
    if all(record.files.get(name) == file for name, file in changed.items()):
        return read_regular(store.record_file(record.job_id), MOST_BYTES)
    files = {**record.files, **changed}
    return sealed(record.model_copy(update={"files": files}).model_dump_json(indent=1))


def _scores(raw: bytes, steps: int | None) -> bytes:
    return raw if steps is None else rounded_content(artifacts.read_scores(raw), steps)


def _pictures(source: Path, target: Path, record: Record) -> dict[str, bytes]:
    """Return the first pictures of a job, those after its epochs, and the traces of its loss."""
    found = artifacts.read_images(source, files=record.files)
    artifacts.write_images(target, {name: images[:PICTURES] for name, images in found.items()})
    files = {IMAGES: (target / IMAGES).read_bytes()}
    for name in (TRACES, EPOCHS):
        if name in record.files:
            files[name] = artifacts.content(source, name, record.files)
    return files


def _check_same(plan: Plan, whole: Store, compact: Store) -> None:
    """Raise a UserError if the boards of two stores differ in more than the last digits of intervals and p-values."""
    first, second = (_shown(plan, store) for store in (whole, compact))
    if first != second:
        raise UserError(
            f"the reference board of {plan.suite} would differ from that of its results; nothing was written"
        )


def _shown(plan: Plan, store: Store) -> list[Any]:
    records: dict[str, Result] = dict(store.scan(plan).records)
    leaderboard: Leaderboard = rank_stored(plan, store, records)
    varying: dict[str, Any] = {
        "verdicts": {"__all__": {"p"}},
        "rows": {"__all__": {"cells": {"__all__": {"interval"}}}},
    }
    return [board.model_dump(exclude=varying) for board in leaderboard.boards]
