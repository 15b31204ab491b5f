"""Files are written whole, by regular names only, and never through a link."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from recbench.errors import UserError
from recbench.files import (
    append_regular,
    holder,
    lock,
    misplaced,
    open_regular,
    read_regular,
    update,
    write_atomically,
    write_output,
)
from recbench.store import artifacts, heartbeat
from recbench.store.store import Store
from tests.store.hostile import ANYTHING


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A file of the user's, outside of all results."""
    file = tmp_path / "mine"
    file.write_text("precious")
    return file


def device(path: Path) -> Path:
    """Make a device like /dev/null, or skip."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes devices")
    return path


def test_a_lock_that_is_a_link_leaves_the_file_that_it_leads_to(tmp_path: Path, mine: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / "lock").symlink_to(mine)
    assert holder(job) is None
    with (
        pytest.raises(UserError, match=r"job/lock cannot be used: it is a link, expected a regular file; remove it"),
        lock(job),
    ):
        pass
    (job / "lock").unlink()
    (job / "lock").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="it is a link"), lock(job):
        pass
    assert not (tmp_path / "nowhere").exists()
    assert mine.read_text() == "precious"


@pytest.mark.parametrize("kind", ["a FIFO", "a folder"])
def test_a_lock_of_another_kind_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    ANYTHING[kind](tmp_path / "lock")
    with pytest.raises(UserError, match=f"it is {kind}"), lock(tmp_path):
        pass


def test_a_locked_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "job").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"job is a link, expected a folder of recbench's own"), lock(tmp_path / "job"):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="file is a file"), lock(tmp_path / "file"):
        pass
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_lock_keeps_its_content_and_can_be_taken_again(tmp_path: Path) -> None:
    for _ in range(2):
        with lock(tmp_path) as held:
            assert held
            assert misplaced(tmp_path) == ""


@pytest.mark.parametrize("kind", [kind for kind in ANYTHING if kind not in ("empty", "noise", "deep")])
def test_only_a_regular_file_of_a_sensible_size_is_read(tmp_path: Path, kind: str) -> None:
    ANYTHING[kind](tmp_path / "file")
    with pytest.raises(OSError) as caught:
        read_regular(tmp_path / "file", 1 << 20)
    assert caught.value.strerror.startswith(("it is ", "it has 1,099,511,627,776 bytes"))
    assert caught.value.filename == str(tmp_path / "file")


def test_appending_does_not_follow_links(tmp_path: Path, mine: Path) -> None:
    (tmp_path / "history.jsonl").symlink_to(mine)
    with pytest.raises(OSError, match="a link"):
        artifacts.append_history(tmp_path, "x\n")
    with pytest.raises(OSError, match="a link"):
        append_regular(tmp_path / "history.jsonl", "x")
    artifacts.start_history(tmp_path, ["{}\n"])
    artifacts.append_history(tmp_path, "{}\n")
    assert (tmp_path / "history.jsonl").read_text() == "{}\n{}\n"
    assert mine.read_text() == "precious"


def test_a_heartbeat_does_not_write_through_a_link(tmp_path: Path, mine: Path) -> None:
    job = tmp_path / "job"
    job.mkdir()
    (job / f".{heartbeat.FILE}.{os.getpid()}.unfinished").symlink_to(mine)
    (job / heartbeat.FILE).symlink_to(mine)
    with heartbeat.announced(job, "cpu", "2026"):
        deadline = time.monotonic() + 10
        while heartbeat.read(job) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert mine.read_text() == "precious"


def test_a_link_is_replaced_not_followed(tmp_path: Path, mine: Path) -> None:
    for write in (lambda file: write_atomically(file, b"new"), lambda file: update(file, "new")):
        (tmp_path / "plan.json").unlink(missing_ok=True)
        (tmp_path / "plan.json").symlink_to(mine)
        write(tmp_path / "plan.json")
        assert not (tmp_path / "plan.json").is_symlink()
        assert (tmp_path / "plan.json").read_text() == "new"
    assert mine.read_text() == "precious"


def test_the_umask_counts(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        write_atomically(tmp_path / "secret", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_what_was_misplaced_is_named(tmp_path: Path, mine: Path) -> None:
    job = tmp_path / "job"
    (job / "checkpoint").mkdir(parents=True)
    (job / "log.txt").write_text("x")
    assert misplaced(job) == misplaced(tmp_path / "nothing") == ""
    (job / "checkpoint" / "state.tmp").symlink_to(mine)
    assert misplaced(job) == "checkpoint/state.tmp is a link"
    (job / "a.fifo").unlink(missing_ok=True)
    os.mkfifo(job / "a.fifo")
    assert misplaced(job) == "a.fifo is a FIFO"
    (tmp_path / "link").symlink_to(job)
    assert misplaced(tmp_path / "link") == "link is a link"
    assert misplaced(mine) == "mine is a file"


def test_a_job_set_aside_leaves_what_its_links_lead_to(tmp_path: Path, mine: Path) -> None:
    store = Store(tmp_path / "suite")
    job = store.folder("a" * 16)
    job.mkdir(parents=True)
    (job / "why.txt").symlink_to(mine)
    moved = store.set_aside("a" * 16, "because")
    assert (moved / "why.txt").read_text() == "because\n"
    outside = tmp_path / "outside"
    outside.mkdir()
    job.symlink_to(outside)
    moved = store.set_aside("a" * 16, "it is a link")
    assert moved.is_symlink()
    assert moved.with_name(f"{moved.name}-why.txt").read_text() == "it is a link\n"
    assert not list(outside.iterdir())
    assert mine.read_text() == "precious"


@pytest.mark.parametrize("name", ["jobs", "set-aside", "executors", "slurm"])
def test_folders_that_lead_out_of_the_results_are_refused(tmp_path: Path, name: str) -> None:
    store = Store(tmp_path / "suite")
    store.root.mkdir()
    store.check_folders()
    (store.root / name).symlink_to(tmp_path)
    with pytest.raises(UserError, match=f"{name} is a link"):
        store.check_folders()


# Files that the user names


def test_outputs_are_new_names_or_regular_files(tmp_path: Path, mine: Path) -> None:
    write_output(tmp_path / "new" / "board.csv", b"1")
    write_output(tmp_path / "new" / "board.csv", b"2")
    assert (tmp_path / "new" / "board.csv").read_bytes() == b"2"
    (tmp_path / "link").symlink_to(mine)
    write_output(tmp_path / "link", b"3")
    assert (tmp_path / "link").is_symlink()
    assert mine.read_text() == "3"
    with pytest.raises(UserError, match="cannot be written: it is a folder, expected a regular file or a new name"):
        write_output(tmp_path / "new", b"4")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UserError, match="it is a FIFO"):
        write_output(tmp_path / "fifo", b"5")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UserError, match="cannot be written"):
        write_output(tmp_path / "loop", b"6")
    assert stat.S_ISFIFO((tmp_path / "fifo").lstat().st_mode)


def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    null = device(tmp_path / "null")
    (tmp_path / "link").symlink_to(null)
    for output in (null, tmp_path / "link"):
        with pytest.raises(UserError, match="it is a device, expected a regular file or a new name"):
            write_output(output, b"x")
    assert stat.S_ISCHR(null.lstat().st_mode)


def test_a_regular_file_is_opened_relative_to_a_folder(tmp_path: Path, mine: Path) -> None:
    (tmp_path / "link").symlink_to(mine)
    folder = os.open(tmp_path, os.O_DIRECTORY)
    try:
        os.close(open_regular("mine", folder=folder))
        with pytest.raises(OSError, match="a link"):
            open_regular("link", folder=folder)
        with pytest.raises(FileNotFoundError):
            open_regular("nothing", folder=folder)
    finally:
        os.close(folder)
