"""The template's README promises a loss of one's own in five steps. This takes them, word for word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT, TINY
from tests.readme import blocks

README = ROOT / "plugins" / "recbench-losses-pixel" / "README.md"

Shell = Callable[[str, Path], "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(tmp_path: Path, environment: dict[str, str]) -> Shell:
    """Runs shell commands in a throw-away environment that sees this one's packages but can be installed into.

    ``pip`` may not go to the network: what the plugin depends on is there already, as it is for whoever has recbench.
    """
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    site = next(venv.glob("lib/python*/site-packages"))
    here = sysconfig.get_path("purelib")
    (site / "outer.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    python = venv / "bin" / "python"
    prelude = f"""
set -euo pipefail
python() {{ {python} "$@"; }}
recbench() {{ {python} -m recbench "$@"; }}
pip() {{ {python} -m pip --disable-pip-version-check "$@" --no-deps --no-build-isolation --quiet; }}
"""

    def run(commands: str, folder: Path) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-c", prelude + commands], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.mark.slow
def test_five_steps_lead_to_a_ranked_loss(tmp_path: Path, shell: Shell, tiny: Path) -> None:
    checkout = tmp_path / "recbench"
    checkout.mkdir()
    (checkout / "plugins").symlink_to(ROOT / "plugins")
    folder = tmp_path / "recbench-losses-mine"

    code = [block for block in blocks(README) if block.language in ("sh", "python", "yaml")]
    copy, rename, install, use = (block.text for block in code if block.language == "sh")
    files = {block.file: block.text for block in code if block.file}
    assert sorted(files) == [
        "fair.yaml",
        "recbench_losses_mine/__init__.py",
        "recbench_losses_mine/losses.py",
        "tests/test_losses.py",
    ]

    shell(copy, checkout)
    shell(rename, folder)
    renamed = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert not [path for path in renamed if "losses_pixel" in path.read_text() or "losses-pixel" in path.read_text()]
    for name, text in files.items():
        assert name == "fair.yaml" or (folder / name).is_file(), f"{name} is not a file of the template"
        (folder / name).write_text(text)
    installed = shell(install, folder)
    assert " passed" in installed.stdout

    # Training the README's suite would take a minute: it is checked here, and the tiny suite is run in its place.
    assert use.splitlines()[-1] == "recbench run fair.yaml"
    shown = shell(use.replace("recbench run", "recbench validate"), folder).stdout
    lines = [line.split() for line in shown.splitlines()]
    assert ["recbench-losses-mine", "recbench-losses-mine", "0.1.0", "loaded"] in [line[:4] for line in lines]
    assert "fair" in [line[0] for line in lines if line]
    assert "scale: float, default 0.1, above 0" in shown
    assert "recbench-losses-mine 0.1.0 (recbench-losses-mine)" in shown
    assert "fair.yaml is valid: 8 jobs" in shown

    suite = tiny.read_text().replace("seeds:", "  - {name: fair, kl_weight: 0.001, params: {scale: 0.2}}\nseeds:")
    tiny.write_text(suite)
    shell(f"recbench run {tiny} --plugin {TINY} --device cpu", tmp_path)
    leaderboard = json.loads((tmp_path / "results" / "tiny" / "leaderboard.json").read_text())
    (row,) = [row for row in leaderboard["boards"][0]["rows"] if row["loss"] == "fair"]
    assert row["place"] in (1, 2, 3)
    assert row["seeds_done"] == 2


@pytest.mark.slow
def test_a_family_that_is_also_installed_separately_does_not_clash(tmp_path: Path, environment: dict[str, str]) -> None:
    """Installing recbench and one of its families gives the family once."""
    target = tmp_path / "installed"
    family = tmp_path / "family"
    subprocess.run(["cp", "-r", README.parent, family], check=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    subprocess.run([*command, target, family], check=True)
    listed = subprocess.run(
        [sys.executable, "-m", "recbench", "list", "losses", "--strict"],
        env={**environment, "PYTHONPATH": os.fspath(target)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.count("charbonnier") == 1
