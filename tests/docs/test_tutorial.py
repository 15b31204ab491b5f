"""The tutorial runs as it is committed: every cell, in a fresh folder, with outputs of the committed kinds."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.docs.notebook import code_cells

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"
MOST = 200_000
"""Bytes of a notebook that is pleasant to keep under version control."""


def committed() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    return found


def kinds(outputs: list[dict[str, Any]]) -> list[list[str]]:
    return [sorted(output.get("data", {output["output_type"]: ""})) for output in outputs]


def words(outputs: list[dict[str, Any]]) -> set[str]:
    """The words of an output that are no numbers: labels of methods and columns."""
    shown = "".join("".join(output.get("data", {}).get("text/html", [])) for output in outputs)
    return set(re.findall(r"<th>([a-z_0-9]*[a-z_][a-z_0-9]*)</th>", shown))


def test_links_of_the_notebook_lead_somewhere() -> None:
    text = "".join(line for cell in committed()["cells"] if cell["cell_type"] == "markdown" for line in cell["source"])
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    assert len(targets) >= 5
    for target in targets:
        assert (NOTEBOOK.parent / target).is_file(), target


def test_the_notebook_is_small_and_was_executed_from_top_to_bottom() -> None:
    assert NOTEBOOK.stat().st_size < MOST
    cells = list(code_cells(committed()))
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    text = NOTEBOOK.read_text(encoding="utf-8")
    assert "Traceback" not in text and str(Path.home()) not in text


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path, environment: dict[str, str]) -> None:
    command = [sys.executable, ROOT / "tests" / "docs" / "notebook.py", NOTEBOOK]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    fresh = json.loads(done.stdout)
    before = [cell["outputs"] for cell in code_cells(committed())]
    assert [kinds(outputs) for outputs in fresh] == [kinds(outputs) for outputs in before]
    assert [words(outputs) for outputs in fresh] == [words(outputs) for outputs in before]
    assert "9 of 9 jobs done" in json.dumps(fresh)
    boards = [outputs for outputs in fresh if "cauchy" in json.dumps(outputs)]
    assert len(boards) >= 2  # the leaderboard, and the ranks of the table
    assert len(list(tmp_path.glob("results/tutorial/jobs/*/record.json"))) == 12
