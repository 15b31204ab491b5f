"""Retries, limits and waiting, over an executor that does as it is told."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from recbench.contracts.executor import Ended, Event, Executor, Reason, Task
from recbench.errors import OutOfSpaceError
from recbench.files import lock
from recbench.store import heartbeat
from recbench.store.record import Record
from recbench.store.store import Store
from recbench.sweep import attempts
from recbench.sweep.attempts import Limits, Rounds
from tests.made_up import make_plan, make_record, make_trouble

PLAN = make_plan(methods=["l2"], seeds=range(4))
JOBS = {planned.id: planned for planned in PLAN.jobs}


class Scripted(Executor):
    """Gives each task the next outcome of its script; ``"done"`` when that is over."""

    def __init__(self, store: Store, script: dict[str, list[str]]) -> None:
        self.store, self.script = store, script
        self.ran: list[str] = []
        self.closed = False

    def map(self, tasks: Sequence[Task]) -> Iterator[Event]:
        for task in tasks:
            if self.closed:
                return
            self.ran.append(task.job_id)
            planned = JOBS[task.job_id]
            script = self.script.get(task.job_id, [])
            what = script.pop(0) if script else "done"
            if what in ("done", "failed", "diverged"):
                if not self.store.settled(task.job_id, task.supersedes):
                    made = make_record(PLAN, planned) if what == "done" else make_trouble(PLAN, planned, what)
                    self.store.add(made)
                yield Ended(task.job_id, "recorded")
            elif what in ("killed", "lost", "timeout"):
                yield Ended(task.job_id, "crashed", what, what)
            elif what == "rubbish":
                self.store.record_file(task.job_id).write_text("rubbish")
                yield Ended(task.job_id, "recorded")
            else:
                yield Ended(task.job_id, what)

    def drain(self) -> None:
        self.closed = True

    stop = kill = drain

    def check(self, tasks: Sequence[Task]) -> None: ...

    def describe(self, tasks: int) -> str:
        return "as told"


class Notes:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.events: list[tuple[str, str]] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def event(self, event: Event, record: Record | None) -> None:
        assert isinstance(event, Ended)
        self.events.append((event.job_id, record.status if record else event.outcome))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "made-up")


def run(store: Store, script: dict[str, list[str]], jobs: int = 1, **limits: int) -> tuple[Rounds, Scripted, Notes]:
    notes, executor = Notes(), Scripted(store, script)
    tasks = []
    for planned in PLAN.jobs[:jobs]:
        store.write_task(PLAN.job(planned), PLAN.suite)
        tasks.append(Task(planned.id, str(store.folder(planned.id)), "cache"))

    def crashed(event: Ended) -> Record:
        reason: Reason = event.reason
        return make_trouble(PLAN, JOBS[event.job_id], type="ProcessDied", reason=reason, message=event.detail)

    sweep = Rounds(store, executor, Limits(**limits), notes, lambda: False)
    sweep.run(tasks, crashed)
    return sweep, executor, notes


def kept(store: Store, job_id: str) -> list[str]:
    return sorted(path.name for path in store.folder(job_id).glob("failed-*.json"))


FIRST, SECOND, THIRD, FOURTH = JOBS


@pytest.mark.parametrize("what", ["failed", "killed", "timeout"])
def test_what_may_pass_is_tried_again_and_earlier_failures_are_kept(store: Store, what: str) -> None:
    _, executor, notes = run(store, {FIRST: [what, what]}, retries=2)
    assert executor.ran == [FIRST] * 3
    assert [status for _, status in notes.events] == ["failed", "failed", "done"]
    assert kept(store, FIRST) == ["failed-1.json", "failed-2.json"]


def test_attempts_are_bounded(store: Store) -> None:
    _, executor, _ = run(store, {FIRST: ["killed"] * 9}, retries=2)
    assert executor.ran == [FIRST] * 3
    record = store.read(FIRST)
    assert record is not None
    assert record.failure is not None
    assert (record.status, record.failure.reason) == ("failed", "killed")


def test_without_retries_there_is_one_attempt_and_divergence_is_never_tried_again(store: Store) -> None:
    assert run(store, {FIRST: ["diverged"]}, retries=3)[1].ran == [FIRST]
    assert run(store, {SECOND: ["failed"]}, jobs=2)[1].ran == [FIRST, SECOND]


def test_retries_come_after_everything_else(store: Store) -> None:
    _, executor, _ = run(store, {FIRST: ["failed"]}, jobs=3, retries=1)
    assert executor.ran == [FIRST, SECOND, THIRD, FIRST]


@pytest.mark.slow
def test_a_lost_machine_is_no_fault_of_the_job(store: Store) -> None:
    _, executor, _ = run(store, {FIRST: ["lost"] * 3})
    assert executor.ran == [FIRST] * 4
    assert store.read(FIRST).status == "done"  # type: ignore[union-attr]
    _, executor, _ = run(store, {SECOND: ["lost"] * 99}, jobs=2)
    assert executor.ran.count(SECOND) == 1 + attempts.LOST


def test_after_so_many_failures_no_more_jobs_are_started(store: Store) -> None:
    sweep, executor, notes = run(store, {FIRST: ["failed"], SECOND: ["timeout"]}, jobs=4, max_failures=2, retries=5)
    assert executor.ran == [FIRST, SECOND]
    assert sweep.given_up
    assert notes.notes == ["2 failures: no more jobs are started (--max-failures)"]
    assert store.read(THIRD) is None


def test_a_full_disk_stops_everything(store: Store) -> None:
    with pytest.raises(OutOfSpaceError):
        run(store, {FIRST: ["full"]}, jobs=3)
    assert store.read(SECOND) is None


def test_a_record_that_turns_out_damaged_is_set_aside_and_the_job_runs_again(store: Store) -> None:
    _, executor, notes = run(store, {FIRST: ["rubbish"]})
    assert executor.ran == [FIRST, FIRST]
    assert "was moved to" in notes.notes[0]
    assert (store.root / "set-aside" / f"{FIRST}-1" / "record.json").read_text() == "rubbish"


def test_a_failure_that_somebody_else_has_recorded_meanwhile_stands(store: Store) -> None:
    store.add(make_trouble(PLAN, JOBS[FIRST], message="theirs"))
    _, executor, notes = run(store, {FIRST: ["done"]})
    assert executor.ran == [FIRST]
    assert store.read(FIRST).failure.message == "theirs"  # type: ignore[union-attr]
    assert notes.events == [(FIRST, "failed")]


def test_a_job_that_is_busy_is_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "POLL", 0.01)
    _, executor, notes = run(store, {FIRST: ["busy", "busy"]}, jobs=2)
    assert executor.ran == [FIRST, SECOND, FIRST, FIRST]
    assert [status for _, status in notes.events] == ["done", "done"]
    assert notes.notes == [f"job {FIRST} is being run by another process; waiting for it"]


@pytest.mark.parametrize("ends", ["with a record", "killed"])
def test_jobs_that_others_hold_come_last_and_are_taken_over_when_those_die(
    store: Store, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    monkeypatch.setattr(attempts, "POLL", 0.01)
    folder = store.folder(FIRST)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with lock(folder) as mine, heartbeat.announced(folder, "cpu", "2026-01-01T00:00:00+00:00"):
                while heartbeat.read(folder) is None:
                    time.sleep(0.01)
                os.write(writer, b"1" if mine else b"0")
                time.sleep(0.5)
                if ends == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                store.add(make_trouble(PLAN, JOBS[FIRST], "diverged"))
        finally:
            os._exit(0)
    try:
        assert os.read(reader, 1) == b"1"
        _, executor, _ = run(store, {}, jobs=2)
    finally:
        os.waitpid(child, 0)
    assert executor.ran == [SECOND, FIRST]
    record = store.read(FIRST)
    assert record is not None
    assert record.status == ("diverged" if ends == "with a record" else "done")


def test_a_lock_without_a_sign_of_work_is_not_waited_for_for_ever(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "POLL", 0.01)
    monkeypatch.setattr(attempts, "GRACE", 0.1)
    monkeypatch.setattr(attempts, "holder", lambda folder: 7 if folder.name == FIRST else None)
    _, executor, notes = run(store, {}, jobs=2)
    assert executor.ran == [SECOND]
    assert "which shows no sign of work" in notes.notes[-1]
    assert notes.events == [(SECOND, "done"), (FIRST, "busy")]
