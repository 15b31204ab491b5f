"""What all tests share: a tiny suite that runs in a second, the command line, and the shared reference data."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbench.data.weights import missing
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from tests.command_line import CommandLine

# Each worker has a core, and so has each process that a test starts: threads would only get in each other's way.
for _threads in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

# What is tested with plugins that fail on purpose runs without preflight, but for the tests of preflight itself.
os.environ.setdefault("RECBENCH_PREFLIGHT", "0")

# A shell that starts something in the background lets it ignore Ctrl-C, and what it starts inherits that.
signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent
TINY = Path(__file__).parent / "tiny_plugin.py"
GOLDEN = Path(__file__).parent / "golden"
"""Image pairs with the values of other people's code on them, and the numbers that the papers print."""

SOAK = bool(os.environ.get("RECBENCH_SOAK"))
"""True for the long forms of simulations and of tests of crashes, which ``make soak`` runs (marker ``soak``)."""

TINY_SUITE = """\
name: tiny
datasets: [blobs]
architectures: [linear]
losses:
  - {name: l2, kl_weight: 0.001}
  - {name: l1, kl_weight: 0.001}
seeds: [0, 1]
training: {epochs: 2, batch_size: 16, learning_rate: 1e-2}
metrics: [psnr, ssim]
"""

Recbench = Callable[..., "subprocess.CompletedProcess[str]"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs data that may not be redistributed, so that ``-m shared`` runs it where they are; and have files
    whose slow tests take longest come first, so that no worker is left with one of them at the end."""
    for item in items:
        if {"shared", "learned_weights", "czolbe"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.shared)
    slow: Counter[Path] = Counter()
    for item in items:
        if marker := item.get_closest_marker("slow"):
            slow[item.path] += marker.kwargs.get("seconds", 5)
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(scope="session")
def golden() -> dict[str, Any]:
    """Four image pairs, ``target`` and ``pred``, float32 (4, 3, 64, 64) in 0 to 1, and values of other code on them."""
    with np.load(GOLDEN / "pairs_64.npz") as pairs:
        images = {name: pairs[name] for name in ("target", "pred")}
    return {**json.loads((GOLDEN / "pairs_64.json").read_text(encoding="utf-8")), **images}


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data that may not be redistributed; tests that need it are skipped elsewhere."""
    folder = os.environ.get("RECBENCH_SHARED")
    if not folder or not Path(folder).is_dir():
        pytest.skip(
            "RECBENCH_SHARED names no folder with real data (CIFAR-10: recbench data prepare cifar10; brain scans: "
            "docs/datasets.md says where they are given out)"
        )
    return Path(folder)


@pytest.fixture
def learned_weights(monkeypatch: pytest.MonkeyPatch) -> str:
    """The value of RECBENCH_WEIGHTS with which losses find the parameters that Czolbe et al. published."""
    folder = os.environ.get("RECBENCH_SHARED")
    if folder:
        monkeypatch.setenv("RECBENCH_WEIGHTS", str(Path(folder, "data", "weights")))
    losses = Registry(load_plugins())
    needed = [one for name in ("watson_dft", "watson_dct") for one in losses.get("losses", name).entry.weights]
    absent = missing(needed)
    if absent:
        pytest.skip(absent)
    return os.environ.get("RECBENCH_WEIGHTS", "")


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One image cache for the whole session."""
    return tmp_path_factory.mktemp("cache")


def environment_with(cache: Path) -> dict[str, str]:
    """Return an environment of command lines: no settings of the person who runs the tests, no colours."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RECBENCH_")}
    return {**clean, "RECBENCH_CACHE": str(cache), "RECBENCH_PREFLIGHT": "0", "NO_COLOR": "1", "COLUMNS": "160"}


@pytest.fixture
def environment(cache: Path) -> dict[str, str]:
    """The environment of command lines in a test."""
    return environment_with(cache)


@pytest.fixture(scope="session")
def command_line() -> Iterator[CommandLine]:
    """Runs the command line in any folder, with any environment."""
    with closing(CommandLine()) as commands:
        yield commands


@pytest.fixture
def recbench(tmp_path: Path, environment: dict[str, str], command_line: CommandLine) -> Recbench:
    """Run the command line in ``tmp_path``: ``recbench("run", "suite.yaml")`` gives the completed process."""

    def call(*arguments: object, timeout: float = 300, **extra: str) -> subprocess.CompletedProcess[str]:
        return command_line.run(*arguments, cwd=tmp_path, environment={**environment, **extra}, timeout=timeout)

    return call


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """The tiny suite as ``tiny.yaml`` in ``tmp_path``; to be run with ``--plugin TINY``."""
    file = tmp_path / "tiny.yaml"
    file.write_text(TINY_SUITE)
    return file


@pytest.fixture(scope="session")
def _tiny_results(tmp_path_factory: pytest.TempPathFactory, cache: Path, command_line: CommandLine) -> Path:
    """The results folder of the tiny suite, run once."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(TINY_SUITE)
    arguments = ("run", "tiny.yaml", "--plugin", TINY, "--device", "cpu")
    done = command_line.run(*arguments, cwd=folder, environment=environment_with(cache))
    assert done.returncode == 0, done.stderr
    return folder / "results"


@pytest.fixture
def finished_tiny(_tiny_results: Path, tiny: Path) -> Path:
    """The tiny suite as ``tiny.yaml`` in ``tmp_path``, with a copy of its results next to it."""
    shutil.copytree(_tiny_results, tiny.parent / "results")
    return tiny


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., Path]:
    """Install a plugin as pip leaves it: ``install("dist", "plugin = module", module="source")`` gives the folder,
    which is to be put on the path."""

    def write(distribution: str, *points: str, version: str = "1.0", folder: str = "site", **modules: str) -> Path:
        site = tmp_path / folder
        facts = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
        facts.mkdir(parents=True)
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")
        (facts / "entry_points.txt").write_text("\n".join(["[recbench]", *points, ""]))
        for name, source in modules.items():
            (site / f"{name}.py").write_text(source)
        return site

    return write
