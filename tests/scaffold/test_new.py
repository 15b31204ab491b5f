"""``recbench new``: what it writes works as it is."""

from __future__ import annotations

import importlib
import sys
import unittest
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from recbench import UserError, testing
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.scaffold import KINDS, NewPlugin, write_new
from tests.conftest import Recbench

NAMES = {"loss": "my_loss", "metric": "my_metric", "architecture": "my_net", "dataset": "my_images"}


def cases(kind: str, source: object) -> list[object]:
    found: list[object] = getattr(testing, f"{kind}_cases")(source)
    return found


def run(case: object) -> None:
    with suppress(unittest.SkipTest):  # without a GPU
        case.run()  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_file_passes_the_conformance_tests(kind: str, tmp_path: Path) -> None:
    plugin = NewPlugin(kind, NAMES[kind])
    write_new(plugin.single_file(tmp_path))
    registry = Registry(load_plugins([tmp_path / f"{plugin.name}.py"]))
    entry = registry.get(plugin.plural, plugin.name).entry
    found = cases(kind, [entry])
    assert len(found) >= 4
    for case in found:
        run(case)


@pytest.mark.parametrize("kind", KINDS)
def test_a_distribution_passes_the_conformance_tests(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin = NewPlugin(kind, f"{NAMES[kind]}_of_{kind}")
    write_new(plugin.whole_distribution(tmp_path))
    root = tmp_path / plugin.distribution
    monkeypatch.syspath_prepend(root)
    module: ModuleType = importlib.import_module(plugin.package)
    for case in cases(kind, module):
        run(case)
    monkeypatch.setenv("PYTHONPATH", str(root))
    testing.imports_no_torch(module)
    text = (root / "pyproject.toml").read_text()
    assert f'{plugin.distribution} = "{plugin.package}"' in text
    for file in root.rglob("*.py"):
        compile(file.read_text(), str(file), "exec")


@pytest.mark.slow
def test_all_four_make_a_suite_of_their_own(tmp_path: Path, recbench: Recbench) -> None:
    options: list[object] = []
    for kind, name in NAMES.items():
        done = recbench("new", kind, name)
        assert done.returncode == 0 and done.stdout == f"{name}.py\n", done.stderr
        assert f"recbench check {name}.py" in done.stderr
        options += ["--plugin", f"{name}.py"]
    suite = {
        "datasets": [{"name": "my_images", "params": {"size": 16, "train": 32, "validation": 0, "test": 8}}],
        "architectures": ["my_net"],
        "losses": ["my_loss", "l2"],
        "metrics": ["my_metric", "psnr"],
        "seeds": [0],
        "training": {"epochs": 1, "batch_size": 8},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(suite))
    done = recbench("run", "own.yaml", *options, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "my_loss" in done.stdout and "my_metric" in done.stdout


def test_nothing_is_overwritten_and_names_are_checked(tmp_path: Path, recbench: Recbench) -> None:
    (tmp_path / "mine.py").write_text("precious")
    (tmp_path / "recbench-whole").mkdir()
    (tmp_path / "recbench-whole" / "README.md").write_text("precious")
    for arguments, message in [
        (("loss", "mine"), "mine.py is there already; nothing was written"),
        (("loss", "whole", "--distribution"), "README.md is there already; nothing was written"),
        (("loss", "l2"), "there is a loss 'l2' already, of recbench"),
        (("loss", "My-Loss"), "'My-Loss' must be lower case letters, digits and underscores"),
        (("loss", "../up"), "must be lower case letters"),
        (("metric", "class"), "'class' is a word of Python"),
        (("metric", "torch"), "torch.py would hide the installed module 'torch'"),
        (("metrc", "mine"), "metrc"),
        (("loss", "fine", "--folder", "mine.py"), "mine.py"),
    ]:
        done = recbench("new", *arguments)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "mine.py").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["README.md", "mine.py", "recbench-whole"]


def test_names_of_classes_and_packages() -> None:
    plugin = NewPlugin("loss", "log_cosh_2")
    assert (plugin.class_name, plugin.package, plugin.distribution) == (
        "LogCosh2",
        "recbench_log_cosh_2",
        "recbench-log-cosh-2",
    )
    with pytest.raises(UserError, match="cannot write a 'executor'"):
        NewPlugin("executor", "mine")
    assert "recbench_log_cosh_2" not in sys.modules
