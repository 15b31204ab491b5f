"""The benchmarks still run; what they measure is for docs/benchmarks.md, and no test's business."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import ROOT, SOAK

pytestmark = pytest.mark.slow(seconds=20)
LONG = [pytest.mark.soak, pytest.mark.skipif(not SOAK, reason="takes long: make soak")]


@pytest.mark.parametrize(
    ("script", "arguments", "shown"),
    [
        ("leaderboard.py", ["--seeds", "1", "--weights", "1", "--repeats", "1"], "100 jobs, 20 boards of 5 methods"),
        ("startup.py", ["--repeats", "1"], "run, all done"),
        pytest.param("training.py", ["--steps", "3", "4", "4", "--repeats", "1"], "tiny, 16 px", marks=LONG),
        (
            "losses.py",
            ["--sizes", "2x3x32x32", "--rounds", "1", "--only", "l2", "ffl", "wiener", "--step"],
            "authors' in ours",
        ),
        ("data.py", ["--images", "300", "--rounds", "1", "--batches", "2"], "recbench's cache"),
        pytest.param(
            "settings.py",
            ["--rounds", "1", "--steps", "1", "--network", "tiny, 16 px"],
            "not channels last",
            marks=LONG,
        ),
        ("gpu_check.py", ["--rehearse", "--only", "machine", "host"], "all is well"),
        ("scale.py", ["--jobs", "100", "--real", "3"], "a coordinator of 100 jobs"),
        ("verdicts.py", ["--methods", "3", "--images", "50", "--metrics", "2", "--boards", "3"], "peak of memory"),
    ],
)
def test_a_benchmark_runs(script: str, arguments: list[str], shown: str, environment: dict[str, str]) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / script), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert shown in done.stdout
