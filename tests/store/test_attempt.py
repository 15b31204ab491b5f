"""Folders of attempts: one that was taken over changes nothing, at whichever point it was stopped, and what a writer
that died left undone is done by the next one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from recbench.store import attempt as attempt_module
from recbench.store.attempt import AttemptFolder, SupersededError, attempts, discard, finish, show
from recbench.store.record import File, Record
from recbench.store.repair import repaired
from recbench.store.store import Store
from tests.made_up import make_plan, make_record, make_trouble

PLAN = make_plan(methods=["l2"], seeds=range(1))
(PLANNED,) = PLAN.jobs
FILES = ("history.jsonl", "scores.parquet", "images.npz", "model.safetensors")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "made-up")
    found.folder(PLANNED.id).mkdir(parents=True)
    return found


def begun(store: Store, who: str) -> tuple[AttemptFolder, Record]:
    """An attempt that has written all its files, and the record that it is going to publish."""
    attempt = AttemptFolder.begin(store.folder(PLANNED.id))
    attempt.clear()
    described = {}
    for name in FILES:
        content = f"{name} of {who}\n".encode()
        (attempt.path / name).write_bytes(content)
        described[name] = File.of(content)
    return attempt, make_record(PLAN, PLANNED).model_copy(update={"files": described, "suite": who})


def check(store: Store, who: str) -> None:
    folder = store.folder(PLANNED.id)
    record = store.read(PLANNED.id)
    assert record is not None
    assert (record.suite, record.status) == (who, "done")
    for name in FILES:
        assert (folder / name).read_text() == f"{name} of {who}\n"
    assert {path.name for path in folder.iterdir()} - {"lock"} == {"record.json", *FILES}


def test_an_attempt_publishes_its_files_with_the_record(store: Store) -> None:
    attempt, record = begun(store, "one")
    attempt.publish(store, record)
    check(store, "one")
    assert not attempt.held


def test_one_that_was_taken_over_writes_nothing(store: Store) -> None:
    first, early = begun(store, "first")
    second, late = begun(store, "second")
    assert second.held
    assert not first.held
    with pytest.raises(SupersededError):
        first.publish(store, early)
    with pytest.raises(FileNotFoundError):
        show("history.jsonl", first.path, first.job)
    assert store.read(PLANNED.id) is None
    second.publish(store, late)
    with pytest.raises(SupersededError):
        first.publish(store, early)
    check(store, "second")


STEPS = ("check", "_write", "link_new", "_place", "discard")


@pytest.mark.parametrize("step", STEPS)
def test_it_may_be_stopped_at_any_step_of_publishing(store: Store, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Before each step of the first attempt, another machine begins, and if it may, ends."""
    first, early = begun(store, "first")
    real = AttemptFolder.check if step == "check" else getattr(attempt_module, step)

    def stopped(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        other = AttemptFolder.begin(store.folder(PLANNED.id))
        found = store.read(PLANNED.id)
        if found is not None:
            finish(store.folder(PLANNED.id), found)
        else:
            other.clear()
            discard(other.path)
            second, late = begun(store, "second")
            second.publish(store, late)
        return real(*arguments, **options)

    monkeypatch.setattr(AttemptFolder if step == "check" else attempt_module, step, stopped)
    if STEPS.index(step) < STEPS.index("_place"):
        with pytest.raises(SupersededError):
            first.publish(store, early)
        check(store, "second")
    else:
        first.publish(store, early)
        check(store, "first")


def test_a_failure_of_one_that_was_taken_over_is_no_record(store: Store) -> None:
    first, _ = begun(store, "first")
    second, late = begun(store, "second")
    with pytest.raises(SupersededError):
        first.publish(store, make_trouble(PLAN, PLANNED))
    second.publish(store, late)
    check(store, "second")


def test_a_retry_keeps_the_failure_aside_and_its_history_is_shown_until_then(store: Store) -> None:
    first, _ = begun(store, "first")
    first.publish(store, make_trouble(PLAN, PLANNED))
    folder = store.folder(PLANNED.id)
    assert (folder / "history.jsonl").read_text() == "history.jsonl of first\n"
    assert not attempts(folder)
    second, record = begun(store, "second")
    second.publish(store, record)
    (folder / "failed-1.json").unlink()
    check(store, "second")


def test_of_two_that_begin_at_once_at_most_one_goes_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has made its folder before it looks for others."""
    listed = attempts
    others: list[AttemptFolder] = []

    def meanwhile(job: Path) -> list[Path]:
        monkeypatch.setattr(attempt_module, "attempts", listed)
        others.append(AttemptFolder.begin(job))
        return listed(job)

    monkeypatch.setattr(attempt_module, "attempts", meanwhile)
    with pytest.raises(SupersededError):
        AttemptFolder.begin(store.folder(PLANNED.id))
    (other,) = others
    assert other.held
    assert attempts(other.job) == [other.path]


@pytest.mark.parametrize("placed", range(len(FILES) + 1))
def test_the_next_run_goes_on_where_a_writer_died(store: Store, monkeypatch: pytest.MonkeyPatch, placed: int) -> None:
    first, record = begun(store, "one")

    def dies(work: Path, job: Path, names: Any) -> None:
        for name in FILES[:placed]:
            (work / name).replace(job / name)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(attempt_module, "_place", dies)
        first.publish(store, record)
    assert repaired(store, [PLANNED.id]) == {}
    check(store, "one")


def test_without_hard_links_it_is_the_same(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(Path, "hardlink_to", refused)
    attempt, record = begun(store, "one")
    show("history.jsonl", attempt.path, attempt.job)
    assert not (attempt.job / "history.jsonl").exists()
    other, late = begun(store, "two")
    with pytest.raises(SupersededError):
        attempt.publish(store, record)
    other.publish(store, late)
    check(store, "two")


def test_links_to_other_folders_are_no_attempts(store: Store, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "letter").touch()
    folder = store.folder(PLANNED.id)
    (folder / "attempt-0badcafe").symlink_to(mine)
    attempt, record = begun(store, "one")
    attempt.publish(store, record)
    repaired(store, [PLANNED.id])
    assert (mine / "letter").exists()


def test_repair_waits_for_a_writer_that_holds_the_lock(store: Store) -> None:
    attempt, record = begun(store, "one")
    attempt.publish(store, record)
    folder = store.folder(PLANNED.id)
    (folder / "checkpoint").mkdir()
    code = (
        "import sys, time; from pathlib import Path; from recbench.files import lock\n"
        "with lock(Path(sys.argv[1])): print('held', flush=True); sys.stdin.readline(); "
        "(Path(sys.argv[1]) / 'checkpoint').rmdir(); time.sleep(0.2)\n"
    )
    command = [sys.executable, "-c", code, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        holder.stdin.write("go on\n")
        holder.stdin.close()
        assert repaired(store, [PLANNED.id]) == {}
    check(store, "one")


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("history.jsonl", "history.jsonl of one\nof one who woke up\n", ""),
        ("history.jsonl", "history.jsonl of two\n", "its history.jsonl is not the file that the record describes"),
        ("history.jsonl", "", "its history.jsonl is not the file that the record describes"),
        ("images.npz", "of another length", "its images.npz is not the file that the record describes"),
        ("model.safetensors", None, ""),
    ],
)
def test_what_no_longer_fits_is_repaired_or_named(store: Store, name: str, content: str | None, why: str) -> None:
    attempt, record = begun(store, "one")
    attempt.publish(store, record)
    file = store.folder(PLANNED.id) / name
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
        later = store.record_file(PLANNED.id).stat().st_mtime_ns + 10**9
        os.utime(file, ns=(later, later))
    assert repaired(store, [PLANNED.id]) == ({PLANNED.id: why} if why else {})
    if not why and content is not None:
        check(store, "one")
