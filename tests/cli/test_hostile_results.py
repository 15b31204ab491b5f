"""Commands on results that hold what nobody should send: they go on without it, and say so, with little memory."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from recbench.plan.plan import Plan
from recbench.store.artifacts import ALL, describe
from recbench.store.store import Store
from tests.conftest import TINY, Recbench
from tests.report_store import write_store
from tests.store import hostile
from tests.store.hostile import ANYTHING, Put, written

pytestmark = pytest.mark.slow

Outcome = dict[str, Any]
ALLOWED: dict[str, Sequence[int]] = {
    "leaderboard": (0,),
    "status": (0,),
    "clean": (0,),
    "report": (0,),
    "figure": (0,),
    "curves": (0, 2),
    "export": (0, 1),
    "compare": (0, 2),
    "merge": (0, 2),
}
"""The exit codes that a command may have on results with damaged jobs: boards and reports are made without them."""


def commands(folder: Path, whole: Path) -> list[list[str]]:
    merged = folder / "merged"
    return [
        ["leaderboard", "made-up"],
        ["leaderboard", "made-up", "--time-to", "objective=1"],
        ["status", "made-up"],
        ["clean", "made-up"],
        ["report", "made-up", "--no-models", "--cache", str(folder / "cache")],
        ["figure", "curves", "made-up", "--output", "curves.svg"],
        ["figure", "reconstructions", "made-up", "--output", "images.png", "--cache", str(folder / "cache")],
        ["curves", "made-up"],
        ["export", "made-up", "--with", "images", "--with", "traces"],
        ["compare", str(whole / "results" / "made-up"), "results/made-up"],
        ["merge", "results/made-up", "--into", str(merged)],
    ]


def ended(calls: Sequence[tuple[Path, list[str]]]) -> list[Outcome]:
    """Run commands in folders, all in one process, and return how they ended."""
    request = json.dumps([[str(folder), arguments] for folder, arguments in calls])
    command = [sys.executable, "-m", "tests.cli.limited"]
    done = subprocess.run(command, input=request, capture_output=True, text=True, timeout=600, check=False)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(calls), done.stderr[-3000:]
    return found


def filled(root: Path, methods: int, seeds: int) -> tuple[Plan, Store]:
    return write_store(root / "results" / "made-up", methods, range(seeds), size=16, epochs=3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("whole")
    filled(root, 3, 2)
    return root


def replaced(file: Path, put: Put) -> None:
    file.unlink(missing_ok=True)
    file.parent.mkdir(parents=True, exist_ok=True)
    put(file)


def records() -> Iterator[tuple[str, Put]]:
    yield from ANYTHING.items()
    for kind, (path, value) in hostile.RECORD_CHANGES.items():
        yield kind, lambda file, path=path, value=value: file.write_bytes(hostile.resealed(RAW[0], path, value))


RAW: list[bytes] = []


def artifacts() -> Iterator[tuple[str, str, Put]]:
    """Yield the name of the file, the kind, and what puts it there."""
    for name in ("history.jsonl", "scores.parquet", "images.npz", "traces.npz", "log.txt", "running.json"):
        for kind, put in ANYTHING.items():
            yield name, kind, put
    own = {
        "images.npz": {**hostile.ARRAYS, **hostile.PICTURES},
        "traces.npz": hostile.ARRAYS,
        "scores.parquet": hostile.SCORES,
        "history.jsonl": hostile.HISTORIES,
    }
    for name, contents in own.items():
        for kind, content in contents.items():
            yield name, f"{kind} (own)", written(content)


def judged(calls: Sequence[list[str]], found: Sequence[Outcome]) -> None:
    wrong = []
    for arguments, outcome in zip(calls, found, strict=True):
        if outcome["broken"] or "Traceback" in outcome["err"]:
            wrong.append(f"{arguments}: {outcome['broken'][-1500:] or outcome['err']}")
        elif outcome["code"] not in ALLOWED[arguments[0]]:
            wrong.append(f"{arguments}: {outcome['code']}: {outcome['err'][-600:]}")
    assert not wrong, "\n\n".join(wrong)


def test_records_that_cannot_be_used(tmp_path: Path, whole: Path) -> None:
    kinds = dict(records())
    plan, store = filled(tmp_path, 4, 2 + len(kinds) // 2)
    bad = {}
    for planned, (kind, put) in zip([job for job in plan.jobs if job.method in (0, 1)], kinds.items(), strict=False):
        file = store.record_file(planned.id)
        RAW[:] = [file.read_bytes()]
        replaced(file, put)
        bad[planned.id] = kind
    assert len(bad) == len(kinds)
    calls = commands(tmp_path, whole)
    found = ended([(tmp_path, call) for call in calls])
    judged(calls, found)
    said = {call[0]: outcome["out"] + outcome["err"] for call, outcome in zip(calls, found, strict=True)}
    for job_id, kind in bad.items():
        if kind == "endless training":  # the board does not need what is wrong
            assert job_id in said["report"]
            continue
        for command in ("leaderboard", "status", "report", "export"):  # merge and compare end at the first
            assert job_id in said[command], (command, kind)


def test_artifacts_that_fit_their_records_but_are_hostile(tmp_path: Path, whole: Path) -> None:
    cases = list(artifacts())
    plan, store = filled(tmp_path, 4, 2 + len(cases) // 3)
    bad = {}
    for planned, (name, kind, put) in zip([job for job in plan.jobs if job.method < 3], cases, strict=False):
        folder = store.folder(planned.id)
        replaced(folder / name, put)
        raw = store.record_file(planned.id).read_bytes()
        if name in ALL and (folder / name).is_file() and (folder / name).stat().st_size < 1 << 30:
            files = {**json.loads(raw)["files"], **{n: f.model_dump() for n, f in describe(folder, [name]).items()}}
            store.record_file(planned.id).write_bytes(hostile.resealed(raw, "files", files))
        bad[planned.id] = (name, kind)
    assert len(bad) == len(cases)
    calls = commands(tmp_path, whole)
    found = ended([(tmp_path, call) for call in calls])
    judged(calls, found)
    report = next(outcome for call, outcome in zip(calls, found, strict=True) if call[0] == "report")
    page = (tmp_path / "results" / "made-up" / "report" / "index.html").read_text(encoding="utf-8")
    for job_id, (name, kind) in bad.items():
        readable = (name, kind) in (("history.jsonl", "empty"), ("scores.parquet", "no column (own)"))
        if name in ("history.jsonl", "scores.parquet") and not readable:
            assert f"job {job_id}: {name} is left out" in report["err"], (name, kind)
            assert f"job {job_id}: {name} is left out" in page


@pytest.mark.parametrize("name", ["plan.json", "suite.yaml", "statistics.json", "calibration.json", "executors/a.json"])
def test_files_of_the_suite(tmp_path: Path, whole: Path, name: str) -> None:
    calls, places = [], []
    for number, put in enumerate(ANYTHING.values()):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        replaced(folder / "results" / "made-up" / name, put)
        own = [call for call in commands(folder, whole) if call[0] not in ("report", "figure")]
        calls += own
        places += [folder] * len(own)
    found = ended(list(zip(places, calls, strict=True)))
    broken = [(call, outcome) for call, outcome in zip(calls, found, strict=True) if outcome["broken"]]
    assert not broken
    for call, outcome in zip(calls, found, strict=True):
        assert outcome["code"] in (0, 2), (call, outcome)
        if name == "plan.json":
            assert outcome["code"] == 2
            assert "plan.json" in outcome["err"] or "no results" in outcome["err"] or call[0] == "merge"
        if outcome["code"]:
            assert outcome["err"].startswith("error: "), outcome
            assert outcome["err"].count("\n") <= 3


def test_a_run_goes_on_without_what_it_cannot_use(finished_tiny: Path, recbench: Recbench) -> None:
    """Records of any kind, and links where the jobs would write: they are set aside, and the jobs run again."""
    root = finished_tiny.parent / "results" / "tiny"
    mine = finished_tiny.parent / "mine"
    mine.write_text("precious")
    jobs = sorted((root / "jobs").iterdir())
    before = {job.name: json.loads((job / "record.json").read_bytes())["scores"] for job in jobs}
    first, second, third, fourth = jobs
    replaced(first / "record.json", ANYTHING["a FIFO"])
    replaced(second / "record.json", ANYTHING["a dangling link"])
    for job in (third, fourth):
        (job / "record.json").unlink()
    (third / "checkpoint").mkdir()
    (third / "checkpoint" / "state.tmp").symlink_to(mine)
    (fourth / "lock").unlink(missing_ok=True)
    (fourth / "lock").symlink_to(mine)
    done = recbench("run", "tiny.yaml", "--plugin", TINY, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    said = " ".join(done.stderr.split())
    assert f"the record of job {first.name} cannot be used (cannot be read: it is a FIFO" in said
    assert f"the record of job {second.name} cannot be used (cannot be read: it is a link" in said
    assert f"the folder of job {third.name} cannot be used (checkpoint/state.tmp is a link)" in said
    assert f"the folder of job {fourth.name} cannot be used (lock is a link)" in said
    assert mine.read_text() == "precious"
    after = {job.name: json.loads((job / "record.json").read_bytes())["scores"] for job in (root / "jobs").iterdir()}
    assert after == before
    assert len([path for path in (root / "set-aside").iterdir() if path.is_dir()]) == len(jobs)


def test_verification_names_the_files_that_are_not_recorded(finished_tiny: Path, recbench: Recbench) -> None:
    root = finished_tiny.parent / "results" / "tiny"
    kinds = ["a FIFO", "a dangling link", "a terabyte", "noise"]
    jobs = sorted((root / "jobs").iterdir())
    for job, kind, name in zip(
        jobs, kinds, ["model.safetensors", "images.npz", "model.safetensors", "scores.parquet"], strict=True
    ):
        replaced(job / name, ANYTHING[kind])
    done = recbench("verify", "tiny", "--plugin", TINY, "--device", "cpu")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout.count(": not as recorded") == len(kinds)
    assert done.stdout.count("NOT verified") == len(kinds)


def test_a_lock_that_is_a_link_stops_cleaning_and_merging(finished_tiny: Path, recbench: Recbench) -> None:
    folder = finished_tiny.parent
    root = folder / "results" / "tiny"
    mine = folder / "mine"
    mine.write_text("precious")
    job = next((root / "jobs").iterdir())
    shutil.copytree(root, folder / "other" / "tiny")
    (job / "lock").unlink(missing_ok=True)
    (job / "lock").symlink_to(mine)
    (job / "checkpoint").mkdir()
    done = recbench("clean", "tiny", "--yes")
    assert done.returncode == 2
    assert f"{job.name}/lock cannot be used: it is a link, expected a regular file; remove it" in done.stderr
    done = recbench("merge", "other", "--into", "results")
    assert done.returncode == 2
    assert "lock is a link, where recbench writes; remove it" in done.stderr
    assert mine.read_text() == "precious"
    assert recbench("leaderboard", "tiny").returncode == 0


@pytest.mark.parametrize(
    "command",
    [
        ["leaderboard", "tiny", "--format", "csv", "--output"],
        ["figure", "tiers", "tiny", "--output"],
        ["export", "tiny", "-o"],
    ],
)
def test_outputs_never_replace_what_is_no_regular_file(
    finished_tiny: Path, recbench: Recbench, command: list[str]
) -> None:
    fifo = finished_tiny.parent / "fifo.pdf"
    ANYTHING["a FIFO"](fifo)
    done = recbench(*command, fifo)
    assert done.returncode == 2
    assert "fifo.pdf cannot be written: it is a FIFO, expected a regular file or a new name" in done.stderr
    assert fifo.is_fifo()
    assert not list(fifo.parent.glob("*.unfinished"))
