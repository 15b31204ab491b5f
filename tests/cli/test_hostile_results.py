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
        for command in ("leaderboard", "status", "report", "export", "merge"):
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
        if name in ("history.jsonl", "scores.parquet"):
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
