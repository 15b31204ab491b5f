"""Who may import whom: the layers of the core, and the door that plugins come in by."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CORE = sorted((ROOT / "recbench").rglob("*.py"))
FAMILIES = sorted(path for path in (ROOT / "plugins").glob("*/recbench_*") if path.is_dir())
PUBLIC = ("recbench", "recbench.errors", "recbench.testing")
"""What a plugin may import of recbench, besides the modules of ``recbench.contracts``: what its documentation names."""


def imported(file: Path) -> Iterator[str]:
    """Every module that a file imports, also within functions."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide where things come from"
            yield node.module or ""


def test_layers():
    """The order of the layers stands in pyproject.toml."""
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    if command is None:
        pytest.skip("import-linter is not installed (pip install -e '.[lint]')")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_core_imports_no_plugin():
    strays = [(file.name, name) for file in CORE for name in imported(file) if name.startswith("recbench_")]
    assert not strays


@pytest.mark.parametrize("family", FAMILIES, ids=lambda path: path.name)
def test_a_family_uses_nothing_that_a_stranger_could_not(family):
    for file in family.rglob("*.py"):
        for name in imported(file):
            top = name.partition(".")[0]
            if top == "recbench":
                assert name in PUBLIC or name.startswith("recbench.contracts."), (
                    f"{file.relative_to(ROOT)} imports {name}"
                )
            assert not top.startswith("recbench_") or top == family.name, f"{file.relative_to(ROOT)} imports {name}"


def test_every_module_of_the_core_has_its_layer():
    """A new module that no layer names would escape the check."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    layers = text[text.index("layers = [") :]
    for path in (ROOT / "recbench").iterdir():
        name = path.stem
        if (path.suffix == ".py" or path.is_dir()) and not name.startswith("_"):
            assert f"recbench.{name}" in layers, f"recbench.{name} stands in no layer of pyproject.toml"


@pytest.mark.parametrize("room", ["contracts", "plugin", "plan", "suite", "store", "data", "sweep"])
def test_no_heavy_import_at_the_top(room):
    """Listing and checking must not wait for torch; the contracts that are torch modules are read by jobs only."""
    torch_modules = (
        {"architecture.py", "loss.py", "metric.py", "checked.py", "checked_scores.py", "last_layer.py", "numerics.py"}
        if room == "contracts"
        else set()
    )
    for file in (ROOT / "recbench" / room).glob("*.py"):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        top = {alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names}
        top |= {node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)}
        heavy = {"torch", "torchvision", "numpy", "pandas", "skimage", "PIL"}
        found = {name.partition(".")[0] for name in top} & heavy
        assert not found or file.name in torch_modules, f"{file.relative_to(ROOT)} imports {found}"
