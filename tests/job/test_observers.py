"""Trackers and observers in sweeps: what they are shown, over interruptions too; nothing they do costs a job."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from recbench.contracts.executor import Task
from recbench.job import observers
from recbench.job.observers import Observers, disabled
from recbench.plugin.manager import load_plugins
from tests.command_line import CommandLine
from tests.conftest import TINY, Recbench

ONE = ("run", "tiny.yaml", "--plugin", TINY, "--set", "seeds=[0]", "--set", "losses=[l2]", "--device", "cpu")

TRACKER = """
import json, os, sys, time
from pathlib import Path
from recbench import Parameter, TrackerEntry, hookimpl
from recbench.contracts.tracker import Tracker


class Notes(Tracker):
    def __init__(self, *, file, bad, where):
        self.file, self.bad, self.where = file, bad, where

    def note(self, where, **facts):
        with open(self.file, "a") as stream:
            stream.write(json.dumps({"call": where, "pid": os.getpid(), **facts}) + "\\n")
        if where == self.where:
            if self.bad == "raise":
                raise RuntimeError("no connection")
            if self.bad == "exit":
                sys.exit(3)
            if self.bad == "die":
                os._exit(7)
            if self.bad == "hang":
                time.sleep(1000)
            if self.bad == "kill":
                os.kill(os.getpid(), 9)

    def start(self, run):
        self.note("start", id=run.id, title=run.title, suite=run.suite, loss=run.job["loss"]["name"],
                  continued=run.continued, folder=str(run.folder))

    def epoch(self, values):
        self.note("epoch", epoch=values["epoch"], step=values["step"])

    def end(self, record, images):
        self.note("end", status=record["status"], shapes={k: list(v.shape) for k, v in images.items()})

    def pause(self):
        self.note("pause")


@hookimpl
def recbench_trackers():
    yield TrackerEntry(
        name="notes", factory=Notes, summary="notes",
        parameters=(Parameter("file", str, "notes.txt", "file"), Parameter("bad", str, "", "what"),
                    Parameter("where", str, "", "when")),
    )
    yield TrackerEntry(
        name="absent", factory="recbench_absent.module:Tracker", summary="needs what is not there",
        packages=("recbench_absent", "json"), install="pip install recbench-absent",
    )
    yield TrackerEntry(name="unimportable", factory="exits_on_import:Tracker", summary="cannot be imported")
"""


def calls(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


@pytest.fixture
def notes(tiny: Path) -> Path:
    file = tiny.parent / "notes.py"
    file.write_text(TRACKER)
    return file


@pytest.mark.slow
def test_a_tracker_sees_the_whole_job_in_a_process_of_its_own(tiny: Path, notes: Path, recbench: Recbench) -> None:
    done = recbench(*ONE, "--plugin", notes, "--track", "notes")
    assert done.returncode == 0, done.stderr
    seen = calls(tiny.parent / "notes.txt")
    assert [call["call"] for call in seen] == ["start", "epoch", "epoch", "end"]
    start, first, second, end = seen
    assert len({call["pid"] for call in seen}) == 1
    (folder,) = tiny.parent.glob("results/tiny/jobs/*")
    assert (start["id"], start["title"], start["suite"], start["loss"]) == (folder.name, "l2, seed 0", "tiny", "l2")
    assert Path(start["folder"]) == tiny.parent / "results" / "tiny" / "tracking" / "notes"
    assert not start["continued"]
    assert (first["epoch"], second["epoch"], second["step"]) == (1, 2, 8)
    assert end["status"] == "done"
    assert end["shapes"] == {"target": [16, 3, 16, 16], "decoded": [16, 3, 16, 16], "samples": [16, 3, 16, 16]}
    assert not (folder / "observers.log").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("bad", "where", "words"),
    [
        ("raise", "start", "RuntimeError: no connection"),
        ("exit", "epoch", "SystemExit: 3"),
        ("die", "epoch", "exit code 7"),
        ("kill", "end", "exit code -9"),
    ],
)
def test_a_broken_tracker_stops_nothing(
    bad: str, where: str, words: str, tiny: Path, notes: Path, recbench: Recbench
) -> None:
    options = ("--track-option", f"notes.bad={bad}", "--track-option", f"notes.where={where}")
    done = recbench(*ONE, "--plugin", notes, "--track", "notes", *options)
    assert done.returncode == 0, done.stderr
    assert "1/1 jobs done" in done.stdout
    assert "notes was disabled in a job" in done.stderr
    (log,) = tiny.parent.glob("results/tiny/jobs/*/observers.log")
    assert words in log.read_text()
    assert log.read_text().count("was disabled") == 1


@pytest.mark.slow
def test_a_tracker_that_exits_when_it_is_imported_stops_nothing(tiny: Path, notes: Path, recbench: Recbench) -> None:
    (tiny.parent / "exits_on_import.py").write_text("import sys\nsys.exit(5)\n")
    done = recbench(*ONE, "--plugin", notes, "--track", "unimportable", PYTHONPATH=str(tiny.parent))
    assert done.returncode == 0, done.stderr
    (log,) = tiny.parent.glob("results/tiny/jobs/*/observers.log")
    assert "SystemExit: 5" in log.read_text()


def test_a_tracker_that_hangs_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "PATIENCE", 0.5)
    (tmp_path / "notes.py").write_text(TRACKER)
    folder = tmp_path / "suite" / "jobs" / ("0" * 16)
    folder.mkdir(parents=True)
    params = {"file": str(tmp_path / "notes.txt"), "bad": "hang", "where": "start"}
    task = Task(
        job_id="0" * 16,
        folder=str(folder),
        cache="",
        plugin_files=(str(tmp_path / "notes.py"),),
        trackers=(("notes", params),),
    )
    with Observers(load_plugins(task.plugin_files), task, "suite") as watching:
        watching.notify("recbench_job_started", job={"loss": {"name": "l2"}}, job_id=task.job_id)
        deadline = time.monotonic() + 60
        while not calls(tmp_path / "notes.txt") and time.monotonic() < deadline:
            time.sleep(0.05)
        (call,) = calls(tmp_path / "notes.txt")
    assert disabled(folder) == {"notes"}
    assert "did not answer" in (folder / "observers.log").read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(call["pid"], 0)


OBSERVER = """
import os, sys, time
from recbench import hookimpl

@hookimpl
def recbench_job_started(job_id):
    os._exit(9)
"""


@pytest.mark.slow
def test_an_observer_that_ends_its_process_does_not_end_the_job(tiny: Path, recbench: Recbench) -> None:
    (tiny.parent / "observer.py").write_text(OBSERVER)
    done = recbench(*ONE, "--plugin", "observer.py")
    assert done.returncode == 0, done.stderr
    (log,) = tiny.parent.glob("results/tiny/jobs/*/observers.log")
    assert "exit code 9" in log.read_text()


@pytest.mark.slow
def test_unknown_trackers_options_and_missing_packages_are_named_before_anything_runs(
    tiny: Path, notes: Path, recbench: Recbench
) -> None:
    for options, words in (
        (("--track", "tensorbord"), "did you mean 'tensorboard'?"),
        (("--track", "absent"), "--track absent needs recbench_absent, which is not installed: pip install"),
        (("--track", "notes", "--track-option", "notes.fil=x"), "notes has no parameter 'fil'; did you mean 'file'?"),
        (("--track", "notes", "--track-option", "wandb.mode=offline"), "expected NAME.KEY=VALUE"),
        (("--track", "notes", "--track-option", "notes.file"), "expected KEY=VALUE"),
    ):
        done = recbench(*ONE, "--plugin", notes, *options)
        assert done.returncode == 2, done.stderr
        assert words in done.stderr
    assert not list(tiny.parent.glob("results/tiny/jobs/*"))


@pytest.mark.slow
def test_an_interrupted_job_continues_its_run_and_repeats_nothing(
    tiny: Path, notes: Path, recbench: Recbench, command_line: CommandLine, environment: dict[str, str]
) -> None:
    """Interrupted politely, then killed, then finished: every epoch comes once, in order, in one run."""
    long = (*ONE[:-4], "--set", "training.epochs=40", "--set", "losses=[{name: misbehaving, params: {what: slow}}]")
    long = (*long, "--set", "seeds=[0]", "--device", "cpu", "--plugin", notes, "--track", "notes")
    file = tiny.parent / "notes.txt"
    for number in (signal.SIGINT, signal.SIGKILL):
        before = len(calls(file))
        process = command_line.start(*long, "--checkpoint-seconds", "0.3", cwd=tiny.parent, environment=environment)
        deadline = time.monotonic() + 120
        while len(calls(file)) < before + 6 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert process.poll() is None, "the job ended before it could be stopped"
        process.send_signal(number)
        process.wait(60)
    time.sleep(1)  # the job's own process dies with the coordinator's
    done = recbench(*long)
    assert done.returncode == 0, done.stderr
    seen = calls(file)
    starts = [call for call in seen if call["call"] == "start"]
    assert [call["continued"] for call in starts] == [False, True, True]
    assert len({call["id"] for call in starts}) == 1
    assert [call["epoch"] for call in seen if call["call"] == "epoch"] == list(range(1, 41))
    assert seen[-1]["call"] == "end"
    assert "pause" in [call["call"] for call in seen]


@pytest.mark.slow
def test_a_tracker_that_is_added_later_gets_what_it_missed(
    tiny: Path, notes: Path, recbench: Recbench, command_line: CommandLine, environment: dict[str, str]
) -> None:
    long = ("run", "tiny.yaml", "--plugin", TINY, "--set", "training.epochs=20", "--set", "seeds=[0]")
    long = (*long, "--set", "losses=[{name: misbehaving, params: {what: slow}}]", "--device", "cpu", "--plugin", notes)
    process = command_line.start(*long, "--checkpoint-seconds", "0.1", cwd=tiny.parent, environment=environment)
    deadline = time.monotonic() + 120
    history: list[str] = []
    while len(history) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
        history = [line for found in tiny.parent.glob("results/tiny/jobs/*/history.jsonl") for line in found.open()]
    process.send_signal(signal.SIGINT)
    process.wait(60)
    done = recbench(*long, "--track", "notes")
    assert done.returncode == 0, done.stderr
    seen = calls(tiny.parent / "notes.txt")
    assert [call["epoch"] for call in seen if call["call"] == "epoch"] == list(range(1, 21))


@pytest.mark.slow
def test_another_attempt_after_a_failure_is_another_run(tiny: Path, notes: Path, recbench: Recbench) -> None:
    bad = ("--set", "losses=[{name: misbehaving, params: {what: raise, step: 6}}]")
    arguments = (*ONE[:-4], *bad, "--device", "cpu", "--plugin", notes, "--track", "notes")
    assert recbench(*arguments).returncode == 1
    assert recbench(*arguments).returncode == 1
    seen = calls(tiny.parent / "notes.txt")
    assert [(call["id"][16:]) for call in seen if call["call"] == "start"] == ["", "-2"]
    assert [call["epoch"] for call in seen if call["call"] == "epoch"] == [1, 1]
    assert [call["status"] for call in seen if call["call"] == "end"] == ["failed", "failed"]
