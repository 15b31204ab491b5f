"""The families under plugins/ are distributions of their own and part of the root's wheel: both must say the same."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

from recbench.plugin.manager import load_plugins
from tests.conftest import ROOT
from tests.readme import table

FAMILIES = sorted(path.name for path in (ROOT / "plugins").iterdir() if path.is_dir() and path.name[0] not in "._")


def read(folder: Path) -> dict[str, Any]:
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


ROOT_PROJECT = read(ROOT)


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def project(family: str) -> dict[str, Any]:
    return read(ROOT / "plugins" / family)


def package(family: str) -> str:
    return family.replace("-", "_")


def test_there_are_families() -> None:
    assert "recbench-losses-pixel" in FAMILIES


def test_a_family_is_named_after_its_folder(family: str, project: dict[str, Any]) -> None:
    assert project["project"]["name"] == family
    assert (ROOT / "plugins" / family / package(family) / "__init__.py").is_file()
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == [package(family)]


def test_a_family_has_a_readme_and_tests(family: str) -> None:
    folder = ROOT / "plugins" / family
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {family}\n")
    assert list((folder / "tests").glob("test_*.py"))


def test_the_readme_lists_what_the_family_offers(family: str) -> None:
    """In its table, and nothing else there."""
    found = next(plugin for plugin in load_plugins().found if plugin.name == family)
    offered = {entry.name for entries in found.entries.values() for entry in entries}
    listed = table((ROOT / "plugins" / family / "README.md").read_text(encoding="utf-8"))
    assert offered
    assert set(listed) == offered


def test_facts_are_the_roots(project: dict[str, Any]) -> None:
    for key in ("version", "license", "requires-python"):
        assert project["project"][key] == ROOT_PROJECT["project"][key], key
    assert project["build-system"] == ROOT_PROJECT["build-system"]
    assert f"recbench>={ROOT_PROJECT['project']['version']}" in project["project"]["dependencies"]


def test_dependencies_are_among_the_roots(project: dict[str, Any]) -> None:
    own = {text for text in project["project"]["dependencies"] if not text.startswith("recbench>=")}
    assert own <= set(ROOT_PROJECT["project"]["dependencies"])
    for extra, wanted in project["project"].get("optional-dependencies", {}).items():
        assert wanted == ROOT_PROJECT["project"]["optional-dependencies"][extra]


def test_dependencies_are_what_the_family_imports(family: str, project: dict[str, Any]) -> None:
    imported = set()
    for file in (ROOT / "plugins" / family / package(family)).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
            elif isinstance(node, ast.Call) and getattr(node.func, "id", "") == "files":
                (argument,) = node.args
                if isinstance(argument, ast.Constant):  # data of a package
                    imported.add(str(argument.value).partition(".")[0])
    foreign = imported - set(sys.stdlib_module_names) - {package(family), "recbench"}
    distributions = packages_distributions()
    # An optional package may be missing here; its module is named as it is.
    needed = {distributions.get(name, [name])[0].lower().replace("_", "-") for name in foreign} | {"recbench"}
    declared = {re.split(r"[<>=!~ ]", text)[0] for text in project["project"]["dependencies"]}
    sources = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "plugins" / family).rglob("*.py"))
    carriers = set(re.findall(r"pypi:([\w.-]+)==", sources))  # packages that are wanted for the files they carry
    extras = project["project"].get("optional-dependencies", {}).values()
    optional = {re.split(r"[<>=!~ ]", text)[0] for extra in extras for text in extra}
    assert needed - optional <= declared <= needed | carriers


def test_entry_points_are_the_roots(family: str, project: dict[str, Any]) -> None:
    points = project["project"]["entry-points"]["recbench"]
    assert points == {family: package(family)}
    assert ROOT_PROJECT["project"]["entry-points"]["recbench"][family] == package(family)


def test_the_root_lists_every_family_and_nothing_else() -> None:
    wheel = ROOT_PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    folders = [f"plugins/{family}" for family in FAMILIES]
    assert wheel["packages"] == [
        "recbench",
        *(f"plugins/{family}/{package(family)}" for family in FAMILIES),
        "results/reference",
        "suites",
    ]
    assert wheel["dev-mode-dirs"] == [".", *folders]
    assert sorted(ROOT_PROJECT["project"]["entry-points"]["recbench"]) == FAMILIES
    assert ROOT_PROJECT["tool"]["mypy"]["mypy_path"] == folders
    assert ROOT_PROJECT["tool"]["importlinter"]["root_packages"] == ["recbench", *map(package, FAMILIES)]


@pytest.mark.slow
def test_the_wheel_holds_the_core_and_every_family(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", tmp_path, ROOT], check=True)
    (wheel,) = tmp_path.glob("recbench-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    needed = {
        "recbench/__init__.py",
        "recbench/cli/__init__.py",
        "recbench/py.typed",
        "recbench/store/record.schema.json",
    }
    for family in FAMILIES:
        sources = (ROOT / "plugins" / family / package(family)).rglob("*.py")
        needed |= {path.relative_to(ROOT / "plugins" / family).as_posix() for path in sources}
    assert not needed - names
    assert not [name for name in names if "tests/" in name or name.startswith("plugins/")]
