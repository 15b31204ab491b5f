"""Every reader, under a limit of memory, given files as nobody should send them: one sentence, and no memory taken."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from recbench.store.record import Cost, sealed
from tests.made_up import make_plan, make_record
from tests.store import hostile
from tests.store.hostile import ANYTHING, Put, written
from tests.store.hostile_child import READERS

PLAN = make_plan()
JOB = PLAN.jobs[0]
COST = Cost(images_per_second=1, step_milliseconds=1, peak_memory_bytes=1, parameters=1)
RECORD = sealed(make_record(PLAN, JOB, cost=COST).model_dump_json(indent=1))
ONLY_TOLD = {"readable history.jsonl", "running.json", "statistics.json"}
"""Readers of what may be missing: they return nothing instead of raising."""


def _contents() -> Iterator[tuple[str, str, Put]]:
    """Yield reader, name of the case, and what puts the file there."""
    for reader in READERS:
        for kind, put in ANYTHING.items():
            if (reader, kind) not in (("history.jsonl", "empty"), ("model.safetensors", "a link")):
                yield reader, kind, put
    own = {
        "images.npz": {**hostile.ARRAYS, **hostile.PICTURES},
        "traces.npz": {kind: content for kind, content in hostile.ARRAYS.items() if kind != "twice"},
        "scores.parquet": hostile.SCORES,
        "history.jsonl": hostile.HISTORIES,
        "readable history.jsonl": hostile.HISTORIES,
        "model.safetensors": hostile.MODELS,
    }
    for reader, contents in own.items():
        for kind, content in contents.items():
            yield reader, f"{kind} (own)", written(content)
    for kind, (path, value) in hostile.RECORD_CHANGES.items():
        yield "record.json", kind, lambda file, path=path, value=value: resealed(file, path, value)


def resealed(file: Path, path: str, value: Any) -> None:
    file.write_bytes(hostile.resealed(RECORD, path, value))


CASES = {f"{reader}: {kind}": (reader, put) for reader, kind, put in _contents()}


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What each reader said about each case, all of them asked in one process with little memory."""
    root = tmp_path_factory.mktemp("hostile")
    names = {}
    for number, (case, (reader, put)) in enumerate(CASES.items()):
        folder = root / f"{number:04d}"
        folder.mkdir()
        file = folder / (f"jobs/{JOB.id}/record.json" if reader == "record.json" else reader.removeprefix("readable "))
        file.parent.mkdir(parents=True, exist_ok=True)
        put(file)
        (folder / "reader").write_text(json.dumps(reader))
        names[folder.name] = case
    command = [sys.executable, "-m", "tests.store.hostile_child", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return {names[one["folder"]]: one for one in map(json.loads, done.stdout.splitlines())}


@pytest.mark.parametrize("case", CASES)
def test_a_hostile_file_is_one_sentence_and_takes_no_memory(said: dict[str, dict[str, Any]], case: str) -> None:
    found = said[case]
    if CASES[case][0] in ONLY_TOLD:
        assert found["kind"] == "value", found
    else:
        assert found["kind"] == "error", found
        assert found["says"]
        assert "\n" not in found["says"]
        assert len(found["says"]) < 600
    assert found["took"] < 500 << 20
