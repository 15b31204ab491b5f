"""Records under real faults: writers that are killed, writers that race, bytes that change."""

from __future__ import annotations

import ctypes
import errno
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from recbench.contracts.executor import JobProgress
from recbench.errors import UserError
from recbench.files import holder, lock
from recbench.store import heartbeat
from recbench.store.cleanup import find, remove
from recbench.store.record import Record, validated
from recbench.store.store import Store
from tests.conftest import SOAK
from tests.made_up import make_plan, make_record, make_trouble

PLAN = make_plan(seeds=range(4))
FIRST = PLAN.jobs[0]


def forked(action: Callable[[], int]) -> int:
    """Run something in a child process, whose exit code it gives; returns the child's id."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = action()
        finally:
            os._exit(code)
    return child


def no_links(*_: object) -> None:
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.slow
@pytest.mark.soak
def test_killed_writers_leave_whole_records_or_none(tmp_path: Path) -> None:
    """Writers, each killed at a random moment of writing records: what is there afterwards can be used."""
    moments = random.Random(0)
    padding = "x" * 20_000  # a record that takes a while to write
    record = make_trouble(PLAN, FIRST, message=padding)
    store = Store(tmp_path / "made-up")

    def write_for_ever() -> int:
        while True:
            store.add(record)

    whole = absent = torn = 0
    for _ in range(2000 if SOAK else 100):
        child = forked(write_for_ever)
        time.sleep(moments.uniform(0.0, 0.02))
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "the writer ended by itself"
        found = store.read(FIRST.id)  # raises if it is torn
        whole, absent = whole + (found is not None), absent + (found is None)
        torn += bool(list(store.folder(FIRST.id).glob(".*.unfinished")))
        for kept in store.folder(FIRST.id).glob("failed-*.json"):
            assert validated(Record, kept.read_bytes()).failure == record.failure
            kept.unlink()
    assert whole, "no writer got so far"
    assert torn, "no writer was killed while it wrote: the moments tested nothing"
    assert whole + absent == (2000 if SOAK else 100)


@pytest.mark.parametrize("way", ["hard links", "renames", "neither"])
def test_of_many_writers_one_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """Whoever runs a job, and whatever the file system can do: one record, by one of them."""
    if way != "hard links":
        monkeypatch.setattr(Path, "hardlink_to", no_links)
    if way == "neither":
        monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    writers = 8
    for planned in PLAN.jobs[:4]:
        store = Store(tmp_path / "made-up")
        start = time.monotonic() + 0.05

        def write(number: int, planned=planned, store=store, start=start) -> int:
            text = make_record(PLAN, planned).model_copy(update={"suite": f"writer-{number}"})
            time.sleep(max(0.0, start - time.monotonic()))
            try:
                if way == "neither":  # as all writers of records do; without links and renames it is what remains
                    with lock(store.folder(planned.id)) as mine:
                        if not mine:
                            return 1
                        store.add(text)
                else:
                    store.add(text)
            except FileExistsError:
                return 1
            return 0

        children = [forked(lambda number=number: write(number)) for number in range(writers)]
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert sorted(codes) == [0] + [1] * (writers - 1)
        record = store.read(planned.id)
        assert record is not None
        assert record.suite == f"writer-{codes.index(0)}"


def test_any_change_of_a_record_is_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path / "made-up")
    store.add(make_record(PLAN, FIRST))
    file = store.record_file(FIRST.id)
    whole = file.read_bytes()
    generator = random.Random(0)
    for _ in range(300):
        place = generator.randrange(len(whole.rstrip()))
        changed = bytearray(whole)
        changed[place] ^= 1 << generator.randrange(8)
        file.write_bytes(bytes(changed))
        with pytest.raises(ValueError):
            store.read(FIRST.id)
        assert len(store.scan(PLAN).damaged) == 1
    digits = whole.replace(b'"mean": 1.0', b'"mean": 2.0', 1)
    assert digits != whole
    file.write_bytes(digits)
    assert store.scan(PLAN).damaged[0].reason == "damaged: its checksum is not that of its content"
    file.write_bytes(whole)
    assert not store.scan(PLAN).damaged


def test_any_change_of_a_plan_is_noticed(tmp_path: Path) -> None:
    store = Store(tmp_path / "made-up")
    store.write_plan(PLAN, "")
    whole = store.plan_file.read_bytes()
    generator = random.Random(0)
    for _ in range(300):
        place = generator.randrange(len(whole))
        changed = bytearray(whole)
        changed[place] ^= 1 << generator.randrange(8)
        store.plan_file.write_bytes(bytes(changed))
        with pytest.raises(UserError, match=r"plan\.json cannot be used .*'recbench run SUITE' writes it again"):
            store.read_plan()
    store.plan_file.write_bytes(whole.replace(b'"digits":2', b'"digits":3'))
    with pytest.raises(UserError, match="damaged: its checksum is not that of its content"):
        store.read_plan()
    store.write_plan(PLAN, "")
    assert store.plan_file.read_bytes() == whole


def test_a_plan_from_before_plans_had_a_checksum_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "made-up")
    store.root.mkdir()
    store.plan_file.write_text(PLAN.model_dump_json())
    assert store.read_plan() == PLAN


def test_a_result_that_comes_between_is_never_moved_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that a lock does not reach finishes the job just before its failed record is replaced."""
    store = Store(tmp_path / "made-up")
    store.add(make_trouble(PLAN, FIRST))
    done = make_record(PLAN, FIRST)
    rename = Path.rename

    def late(self: Path, target: Path) -> Path:
        monkeypatch.undo()
        self.unlink()
        store.add(done)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(FileExistsError):
        store.add(make_trouble(PLAN, FIRST, message="again"))
    assert store.read(FIRST.id) == done
    assert not list(store.folder(FIRST.id).glob("failed-*"))


# Who works on a job


def test_a_holder_is_seen_and_gone_when_killed(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    reader, writer = os.pipe()

    def hold() -> int:
        with lock(tmp_path) as mine:
            os.write(writer, b"1" if mine else b"0")
            time.sleep(60)
        return 0

    child = forked(hold)
    assert os.read(reader, 1) == b"1"
    assert holder(tmp_path) == child
    assert holder(tmp_path) == child, "asking takes no lock away"
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert holder(tmp_path) is None


def test_a_job_announces_itself_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "BEAT", 0.02)
    with heartbeat.announced(tmp_path, "cpu", "2026-01-01T00:00:00+00:00") as tell:
        tell(JobProgress("x", epoch=2, epochs=5, loss=1.0, images_per_second=7.0, seconds_left=60.0))
        deadline = time.monotonic() + 10
        while (found := heartbeat.read(tmp_path)) is None or found.beat < 3 or found.epoch != 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert (found.process, found.here, found.epochs, found.seconds_left) == (os.getpid(), True, 5, 60.0)
        assert heartbeat.at_work(tmp_path) is None, "without the lock the job is not running, whatever its file says"
    assert list(tmp_path.iterdir()) == []


def test_a_job_of_another_machine_is_told_apart_by_its_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock is asked: that of the other machine may be hours off."""
    monkeypatch.setattr(heartbeat, "BEAT", 0.05)
    state = heartbeat.RunningJob(host="other", boot="another", process=7, device="cpu", started="1999", beat=1)
    assert not heartbeat.elsewhere(tmp_path)
    (tmp_path / heartbeat.FILE).write_text(state.model_dump_json())
    assert heartbeat.at_work(tmp_path) == state
    os.utime(tmp_path / heartbeat.FILE, (0, 0))
    assert not heartbeat.elsewhere(tmp_path, silence=0.2), "it does not beat, so it is dead"

    def beat() -> int:
        for number in range(2, 200):
            text = state.model_copy(update={"beat": number}).model_dump_json()
            (tmp_path / "new").write_text(text)
            (tmp_path / "new").replace(tmp_path / heartbeat.FILE)
            time.sleep(0.02)
        return 0

    child = forked(beat)
    try:
        assert heartbeat.elsewhere(tmp_path, silence=20.0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# What may be removed


def test_cleaning_finds_leftovers_and_nothing_else(tmp_path: Path) -> None:
    store = Store(tmp_path / "made-up")
    done, failed, third, fourth = PLAN.jobs[:4]
    store.write_plan(PLAN, "")
    store.add(make_record(PLAN, done))
    store.add(make_trouble(PLAN, failed))
    for planned in (done, failed):
        (store.folder(planned.id) / "checkpoint").mkdir()
        (store.folder(planned.id) / "checkpoint" / "state.pt").write_text("x")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    (store.root / "jobs" / ("a" * 16)).mkdir()
    (store.root / "jobs" / ("b" * 16)).symlink_to(outside)
    (store.root / "jobs" / "notes").mkdir()
    store.folder(third.id).mkdir()
    (store.folder(third.id) / ".record.json.1.unfinished").write_text("half")
    store.folder(fourth.id).mkdir()
    (store.folder(fourth.id) / "record.json").write_text("rubbish")
    store.set_aside(fourth.id, "rubbish")
    found = {(leftover.kind, leftover.path.relative_to(store.root).as_posix()) for leftover in find(store, PLAN)}
    assert found == {
        ("set-aside", f"set-aside/{fourth.id}-1"),
        ("orphans", f"jobs/{'a' * 16}"),
        ("checkpoints", f"jobs/{done.id}/checkpoint"),
        ("unfinished", f"jobs/{third.id}/.record.json.1.unfinished"),
    }
    for leftover in list(find(store, PLAN)):
        assert remove(leftover)
    assert not list(find(store, PLAN))
    assert store.read(done.id) is not None
    assert (store.folder(failed.id) / "checkpoint" / "state.pt").exists(), "the next attempt goes on from it"
    assert (outside / "precious").exists()
    assert (store.root / "jobs" / "notes").exists()


def test_nothing_of_a_job_at_work_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path / "made-up")
    store.write_plan(PLAN, "")
    orphan = store.root / "jobs" / ("a" * 16)
    other = store.root / "jobs" / ("c" * 16)
    for folder in (orphan, other):
        folder.mkdir(parents=True)
    (leftover, _) = find(store, PLAN)
    reader, writer = os.pipe()

    def work() -> int:
        with lock(orphan) as mine:
            os.write(writer, b"1" if mine else b"0")
            time.sleep(60)
        return 0

    child = forked(work)
    try:
        assert os.read(reader, 1) == b"1"
        assert not list(find(store, PLAN)), "another sweep of the suite is under way"
        assert not remove(leftover)
        assert orphan.is_dir()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
