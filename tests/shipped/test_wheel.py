"""The wheel: suites and reference boards come with it, and are found from an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recbench.shipped import boards, suites
from tests.conftest import ROOT

_LEFT_OUT = (".*", "build", "dist", "__pycache__")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel of this tree installs; what recbench depends on is there already."""
    folder = tmp_path_factory.mktemp("wheel")
    source, site = folder / "source", folder / "site"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*_LEFT_OUT))
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "wheel", *options, "-w", folder, source], check=True)
    subprocess.run([*pip, "install", *options, "--target", site, *folder.glob("*.whl")], check=True)
    shutil.rmtree(source)
    return site


@pytest.mark.slow
def test_a_wheel_in_an_empty_folder_has_suites_and_boards(installed: Path, tmp_path: Path) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("RECBENCH_", "PYTHON"))}
    (tmp_path / "cache").mkdir()
    (tmp_path / "empty").mkdir()
    extra = {"RECBENCH_CACHE": str(tmp_path / "cache"), "RECBENCH_PREFLIGHT": "0", "NO_COLOR": "1"}

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "recbench", *arguments],
            cwd=tmp_path / "empty",
            env={**clean, **extra, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )

    where = subprocess.run(
        [sys.executable, "-c", "import recbench.shipped.place as p; print(p.suites_folder(), p.boards_folder())"],
        cwd=tmp_path / "empty", env={**clean, "PYTHONPATH": str(installed)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.split() == [str(installed / "recbench/shipped" / name) for name in ("suites", "reference")]
    listed = call("suites")
    assert listed.returncode == 0 and all(name in listed.stdout for name in suites()), listed.stderr
    verified = call("reference")
    assert verified.returncode == 0 and all(name in verified.stdout for name in boards()), verified.stderr
    board = call("leaderboard", "tiny-reference")
    assert board.returncode == 0 and "charbonnier" in board.stdout, board.stderr
    copied = call("suites", "copy", "tiny-reference")
    assert copied.returncode == 0 and (tmp_path / "empty" / "tiny-reference.yaml").is_file()
    (tmp_path / "empty" / "tiny-reference.yaml").unlink()
    once = ("--set", "losses=[{name: l2, kl_weight: 1}]", "--set", "tuning=null", "--set", "training.epochs=1")
    ran = call("run", "tiny-reference", *once, "--device", "cpu")
    assert ran.returncode == 0, ran.stderr
    own = call("leaderboard", "tiny-reference")
    assert "showing results/tiny-reference; 'reference:tiny-reference' is the reference board" in own.stderr
    assert "charbonnier" not in own.stdout
