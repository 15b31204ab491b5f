"""``recbench suites``, and suites that are named instead of given by file."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY_SUITE, Recbench


def test_a_copy_is_made_once(recbench: Recbench, tmp_path: Path) -> None:
    assert recbench("suites", "copy", "quickstart").returncode == 0
    text = (ROOT / "suites" / "quickstart.yaml").read_text(encoding="utf-8")
    assert (tmp_path / "quickstart.yaml").read_text(encoding="utf-8") == text
    (tmp_path / "quickstart.yaml").write_text("mine")
    again = recbench("suites", "copy", "quickstart")
    assert again.returncode == 2 and "quickstart.yaml exists already; give another name with -o FILE" in again.stderr
    assert (tmp_path / "quickstart.yaml").read_text() == "mine"
    other = recbench("suites", "copy", "quickstart", "-o", "nowhere/mine.yaml")
    assert other.returncode == 2 and "the folder nowhere does not exist" in other.stderr
    unknown = recbench("suites", "copy", "quickstrat")
    assert unknown.returncode == 2
    assert "recbench ships no suite 'quickstrat'; did you mean 'quickstart'?" in unknown.stderr


def test_a_name_is_looked_for_here_and_then_among_the_shipped(recbench: Recbench, tmp_path: Path) -> None:
    shipped = recbench("run", "quickstart", "--dry-run")
    assert shipped.returncode == 0 and "0 done, 15 to run" in shipped.stderr
    assert (
        recbench("validate", "quickstart").stdout == "quickstart is valid: 15 jobs (5 methods x 1 settings x 3 seeds)\n"
    )
    (tmp_path / "quickstart.yaml").write_text(TINY_SUITE.replace("blobs", "nothing"))
    here = recbench("validate", "quickstart")
    assert "using quickstart.yaml of this folder, not the suite quickstart that recbench ships" in here.stderr
    assert here.returncode == 2 and "quickstart.yaml:2: datasets[0]" in here.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("quickstrat", "there is no file 'quickstrat' or 'quickstrat.yaml', and no such shipped suite; did you mean"),
        ("suites/quickstart.yaml", "recbench ships a suite of this name: give quickstart without a path"),
        ("suites/nothing.yaml", "suites/nothing.yaml: cannot be read: No such file or directory"),
    ],
)
def test_a_suite_that_is_not_there_is_named(recbench: Recbench, name: str, message: str) -> None:
    for command in ("run", "validate", "calibrate"):
        done = recbench(command, name)
        assert done.returncode == 2 and message in done.stderr and not done.stdout
