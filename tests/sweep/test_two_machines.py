"""Two machines on one folder without working locks: a worker that was stopped wakes up when its job is long done, and
both begin the same jobs at the same time. The first record stands, and all files fit it."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recbench.store import heartbeat
from tests.conftest import SOAK, Recbench
from tests.sweep.test_sweep import LONG, RUN

pytestmark = pytest.mark.slow(seconds=40)

MACHINE = """
import fcntl, os

if "MACHINE" in os.environ:
    from recbench.store import heartbeat

    fcntl.lockf = lambda *arguments: None
    heartbeat.boot = lambda: os.environ["MACHINE"]
    if "SILENCE" in os.environ:
        heartbeat.BEAT = 0.2
        heartbeat.elsewhere.__defaults__ = (float(os.environ["SILENCE"]),)
"""
"""A machine on which locks have no effect, and on which other processes seem to be of another machine."""

Machine = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def machine(tiny: Path, environment: dict[str, str]) -> Iterator[Machine]:
    """Start a sweep on a machine of this name."""
    root = tiny.parent
    (root / "site").mkdir()
    (root / "site" / "sitecustomize.py").write_text(MACHINE)
    started: list[subprocess.Popen[str]] = []

    def start(name: str, *arguments: str, silence: str = "1.5") -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "recbench", *map(str, RUN), *LONG, "--device", "cpu", *arguments]
        more = {"MACHINE": name, "PYTHONPATH": str(root / "site"), **({"SILENCE": silence} if silence else {})}
        process = subprocess.Popen(command, cwd=root, env={**environment, **more}, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def until(what: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def job_folders(root: Path) -> list[Path]:
    return sorted((root / "results/tiny/jobs").iterdir())


def content(root: Path) -> dict[str, bytes]:
    """All files of all jobs but logs, which both machines write to."""
    files = (file for folder in job_folders(root) for file in folder.rglob("*") if file.is_file())
    return {str(file): file.read_bytes() for file in files if file.name not in ("log.txt", "lock")}


def check(root: Path, recbench: Recbench, jobs: int) -> None:
    """Everything fits: files and records, what is left behind, and what other commands say."""
    assert len(job_folders(root)) == jobs
    for folder in job_folders(root):
        record = json.loads((folder / "record.json").read_bytes())
        assert record["status"] == "done"
        for name, described in record["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == described["sha256"], name
        epochs = [json.loads(line)["epoch"] for line in (folder / "history.jsonl").read_text().splitlines()]
        assert epochs == list(range(1, record["trained"]["epochs"] + 1))
        left = {path.name for path in folder.iterdir()} - {*record["files"], "record.json"}
        assert left <= {"job.json", "lock", "log.txt"}
    status = json.loads(recbench("status", "--format", "json").stdout)
    assert {job["state"] for job in status["jobs"]} == {"done"}
    for command in (("export", "tiny", "-o", "out.zip"), ("report", "tiny")):
        done = recbench(*command)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("stopped", "silence"),
    [
        (0.0, "1.5"),
        pytest.param(60.0, "", marks=[pytest.mark.soak, pytest.mark.skipif(not SOAK, reason="a minute: make soak")]),
    ],
)
def test_a_worker_that_wakes_up_when_its_job_is_done_changes_nothing(
    tiny: Path, recbench: Recbench, machine: Machine, stopped: float, silence: str
) -> None:
    root, one = tiny.parent, ("--set", "seeds=[0]", "--set", "training.epochs=30", "--checkpoint-seconds", "0.1")
    sleeper = machine("a", *one, silence=silence)
    until(lambda: list(root.glob("results/tiny/jobs/*/checkpoint/state.pt")))
    (folder,) = job_folders(root)
    until(lambda: heartbeat.read(folder))
    running = heartbeat.read(folder)
    assert running is not None
    os.kill(running.process, signal.SIGSTOP)
    begin = time.monotonic()
    try:
        other = machine("b", *one, silence=silence)
        _, errors = other.communicate(timeout=240)
        assert other.returncode == 0, errors
        before = content(root)
        check(root, recbench, jobs=1)
        time.sleep(max(0.0, stopped - (time.monotonic() - begin)))
        assert sleeper.poll() is None
    finally:
        os.kill(running.process, signal.SIGCONT)
    _, errors = sleeper.communicate(timeout=240)
    assert sleeper.returncode == 0, errors
    assert "failed" not in errors
    assert content(root) == before
    check(root, recbench, jobs=1)


def test_machines_that_begin_the_same_jobs_at_once_leave_one_whole_result_of_each(
    tiny: Path, recbench: Recbench, machine: Machine
) -> None:
    root, options = tiny.parent, ("--checkpoint-seconds", "0.05", "--set", "seeds=[0, 1, 2, 3]")
    both = [machine(name, *options) for name in ("a", "b")]
    for process in both:
        _, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        assert "failed" not in errors
    check(root, recbench, jobs=4)


def test_a_run_repairs_what_a_writer_without_this_protection_left(tiny: Path, recbench: Recbench) -> None:
    """As an earlier version left it: a history that goes on after its end, checkpoints of finished jobs, a file of
    another job, and files that never came to their places."""
    root = tiny.parent
    four = (*RUN, "--set", "seeds=[0, 1]")
    assert recbench(*four).returncode == 0
    before = content(root)
    longer, moved, foreign, kept = job_folders(root)
    (longer / "history.jsonl").open("a").write('{"epoch": 3}\n' * 1107)
    attempt = moved / "attempt-0badcafe"
    attempt.mkdir()
    for name in ("images.npz", "model.safetensors"):
        (moved / name).rename(attempt / name)
    (attempt / "scores.parquet").write_bytes(b"of a loser")
    (foreign / "scores.parquet").write_bytes((kept / "scores.parquet").read_bytes() + b" ")
    (kept / "checkpoint").mkdir()
    (kept / "checkpoint" / "state.pt").write_bytes(b"of one who woke up")
    done = recbench(*four)
    assert done.returncode == 0, done.stderr
    assert f"the record of job {foreign.name} cannot be used (its scores.parquet is not the file" in done.stderr
    assert "1 of 4 jobs to run (3 done before)" in done.stderr
    check(root, recbench, jobs=4)
    after = content(root)
    assert {file: raw for file, raw in after.items() if foreign.name not in file} == {
        file: raw for file, raw in before.items() if foreign.name not in file
    }
