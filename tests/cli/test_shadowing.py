"""Files of the working folder that are called like a module shadow none, in no process that recbench starts."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT, TINY, TINY_SUITE

NAMES = ["random", "numpy", "torch", "statistics", "pandas", "json", "socket", "tempfile", "pydantic", "yaml"]


@pytest.fixture
def installed(tmp_path, environment):
    """Run the command as it is installed: a script in another folder."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "recbench"
    script.write_text("from recbench.cli import main\nif __name__ == '__main__':\n    main()\n")

    def call(*arguments: object):
        command = [sys.executable, str(script), *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)

    return call


@pytest.mark.slow
def test_files_in_the_working_folder(installed, tmp_path):
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported a file of the working folder')\n")
    tuning = "tuning: {budget: 1, kl_weight: {low: 1e-3, high: 1e-2}, select: {metric: psnr}, calibration_steps: 1}\n"
    untuned = TINY_SUITE.replace(", kl_weight: 0.001", "").replace("[0, 1]", "[0]")
    (tmp_path / "tiny.yaml").write_text(untuned + tuning)
    done = installed("run", "tiny.yaml", "--plugin", TINY, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    done = installed("report", "tiny", "--plugin", TINY)
    assert done.returncode == 0, done.stderr


def test_a_module_that_is_run(environment, tmp_path):
    """``python -m`` puts the working folder first, and recbench takes it away before it imports more."""
    (tmp_path / "click.py").write_text("raise SystemExit('imported a file of the working folder')\n")
    command = [sys.executable, "-m", "recbench", "--version"]
    assert subprocess.run(command, cwd=tmp_path, env=environment, check=False).returncode == 0


def test_every_process_leaves_the_working_folder_out():
    sources = [*ROOT.glob("recbench/**/*.py"), *ROOT.glob("plugins/*/recbench_*/**/*.py")]
    started = {
        f"{file.name}: {match[0]}": match[1]
        for file in sources
        if file.parent.name != "testing"  # whose process imports the author's module
        and file.name != "again.py"  # which repeats the command that was typed, with the options that Python had
        for match in re.finditer(r"(?:\[sys\.executable, |\{python\} )(\S+)", file.read_text(encoding="utf-8"))
    }
    assert len(started) >= 4
    assert {name: first for name, first in started.items() if first.strip('",') != "-P"} == {}
