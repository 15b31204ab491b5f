"""Leftovers of Slurm arrays and of exports, and the progress that people see who may only read."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from recbench.files import holder, lock
from recbench.store.cleanup import find, remove, stale_exports
from recbench.store.store import Store
from tests.made_up import make_plan, make_record, make_trouble

PLAN = make_plan(seeds=range(4))


def array(store: Store, *jobs: str, name: str = "20260101-000000-0123abcd", age: float = 0.0) -> str:
    """Write the folder of an array of these jobs, and return its name."""
    folder = store.root / "slurm" / name
    folder.mkdir(parents=True)
    (folder / "array.json").write_text(json.dumps({"elements": [[{"job_id": job}] for job in jobs]}))
    (folder / "0.out").write_text("hello")
    os.utime(folder / "array.json", (time.time() - age,) * 2)
    return name


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "made-up")
    done, failed = PLAN.jobs[:2]
    made.write_plan(PLAN, "")
    made.add(make_record(PLAN, done))
    made.add(make_trouble(PLAN, failed))
    return made


def arrays(store: Store) -> list[str]:
    return [leftover.path.name for leftover in find(store, PLAN) if leftover.kind == "slurm"]


def test_an_array_whose_jobs_have_ended_is_left_over(store: Store) -> None:
    done, failed = (job.id for job in PLAN.jobs[:2])
    name = array(store, done, failed, "a" * 16, age=60)
    assert arrays(store) == [name]
    (leftover,) = (one for one in find(store, PLAN) if one.kind == "slurm")
    assert remove(leftover)
    assert not arrays(store)
    assert store.read(done) is not None


@pytest.mark.parametrize("what", ["waiting", "tried again", "damaged", "odd", "of an odd name", "a link"])
def test_an_array_that_may_be_in_the_queue_is_kept(store: Store, tmp_path: Path, what: str) -> None:
    done, failed, waiting = (job.id for job in PLAN.jobs[:3])
    if what == "waiting":
        array(store, done, waiting)
    elif what == "tried again":
        array(store, failed, age=-60)
    elif what == "damaged":
        (store.root / "slurm" / array(store, done) / "array.json").write_text("{")
    elif what == "odd":
        array(store, "../../../etc")
    elif what == "of an odd name":
        array(store, done, name="mine")
    else:
        (tmp_path / "outside").mkdir()
        (store.root / "slurm").mkdir()
        (store.root / "slurm" / "20260101-000000-0123abcd").symlink_to(tmp_path / "outside")
    assert not arrays(store)


def test_an_array_that_was_never_written_is_left_over_after_an_hour(store: Store) -> None:
    folder = store.root / "slurm" / "20260101-000000-0123abcd"
    folder.mkdir(parents=True)
    assert not arrays(store), "it may be written just now"
    os.utime(folder, (time.time() - 4000,) * 2)
    assert arrays(store) == [folder.name]


def test_killed_exports_are_found_by_the_next_one(tmp_path: Path) -> None:
    names = [".a.zip.x1.unfinished", ".a.zip.x2.unfinished", ".b.zip.x3.unfinished", "a.zip.unfinished"]
    for name in names:
        (tmp_path / name).write_text("half")
    for name in names[:1] + names[2:]:
        os.utime(tmp_path / name, (time.time() - 4000,) * 2)
    assert [path.name for path in stale_exports(tmp_path / "a.zip")] == names[:1], "the second is being written"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_those_who_may_only_read_see_who_holds_a_lock(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    for above in (tmp_path, *tmp_path.parents):
        if str(above).startswith("/tmp/pytest-of-"):
            above.chmod(0o755)
    with lock(folder) as mine:
        assert mine
        (folder / "lock").chmod(0o644)
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setegid(12345)
            os.seteuid(12345)
            seen = holder(folder) == os.getppid()
            writable = os.access(folder / "lock", os.W_OK, effective_ids=True)
            os._exit(0 if seen and not writable else 1)
        signal.alarm(30)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        signal.alarm(0)
