"""The site of the documentation is built, its reference has what is public, and a link that leads nowhere fails."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import recbench
from tests.conftest import ROOT

pytestmark = [
    pytest.mark.slow(seconds=15),
    pytest.mark.skipif(
        not (importlib.util.find_spec("mkdocs") and importlib.util.find_spec("mkdocstrings")),
        reason="needs mkdocs: pip install -c constraints.txt -e '.[docs]'",
    ),
]


def build(repository: Path, site: Path) -> subprocess.CompletedProcess[str]:
    config = repository / "docs" / "site" / "mkdocs.yml"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", config, "-d", site]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT, folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_of_the_repository_is_in_the_site(site: Path) -> None:
    for page in ROOT.glob("docs/*.md"):
        assert (site / "docs" / page.stem / "index.html").is_file(), page
    for page in (
        "index.html",
        "CHANGELOG/index.html",
        "plugins/recbench-losses-pixel/index.html",
        "docs/tutorial.ipynb",
    ):
        assert (site / page).is_file(), page


def test_the_notebook_is_a_page_that_the_tutorial_leads_to(site: Path) -> None:
    assert 'href="../notebook/"' in (site / "docs" / "tutorial" / "index.html").read_text()
    page = (site / "docs" / "notebook" / "index.html").read_text()
    cells = json.loads((ROOT / "docs" / "tutorial.ipynb").read_text())["cells"]
    kinds = [kind for cell in cells for output in cell.get("outputs", ()) for kind in output.get("data", {})]
    assert page.count('src="data:image/png;base64,') == kinds.count("image/png")
    assert page.count('class="dataframe"') == kinds.count("text/html")
    assert 'href="../tutorial.ipynb"' in page


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    reference = (site / "docs" / "reference" / "index.html").read_text()
    # Markers and versions have no docstring; the others are there with their own.
    missing = [name for name in recbench.__all__ if f".{name}&#34;" not in reference and f'.{name}"' not in reference]
    assert set(missing) <= {"__version__", "hookimpl", "image_files"}
    assert ":class:" not in reference
    assert ".. versionadded" not in reference


def test_every_option_of_the_command_line_is_in_the_site(site: Path) -> None:
    assert 'id="recbench-try"' in (site / "docs" / "cli" / "index.html").read_text()


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    for page in (site / "index.html", site / "docs" / "reference" / "index.html"):
        for tag in ('<script src="http', '<link rel="stylesheet" href="http', "fonts.g"):
            assert tag not in page.read_text(), page


def test_links_that_lead_nowhere_fail(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "CITATION.cff", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for name in ("plugins", "recbench", "results", "suites"):
        (tmp_path / name).symlink_to(ROOT / name)
    with (tmp_path / "docs" / "glossary.md").open("a") as page:
        page.write("\n[one](nowhere.md), [two](cli.md#no-such-heading), [three](../recbench/nothing.py)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    for culprit in ("nowhere.md", "no-such-heading", "nothing.py"):
        assert culprit in done.stderr, done.stderr


def test_every_page_is_in_the_contents() -> None:
    def pages(nav: object) -> list[str]:
        if isinstance(nav, str):
            return [nav]
        return [page for each in (nav.values() if isinstance(nav, dict) else nav) for page in pages(each)]  # type: ignore[attr-defined]

    text = (ROOT / "docs" / "site" / "mkdocs.yml").read_text()
    listed = pages(yaml.safe_load(text[text.index("\nnav:") :])["nav"])
    there = {
        str(page.relative_to(ROOT)) for pattern in ("docs/*.md", "plugins/*/README.md") for page in ROOT.glob(pattern)
    }
    assert there <= set(listed)
    assert len(listed) == len(set(listed))


def test_docstrings_are_shown_as_markdown() -> None:
    spec = importlib.util.spec_from_file_location("docstrings", ROOT / "docs" / "site" / "docstrings.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.as_markdown("See :class:`recbench.Task`.\n\n>>> 1 + 1\n2\n\n``x``") == (
        "See `Task`.\n\n```pycon\n>>> 1 + 1\n2\n```\n\n`x`"
    )
    assert module.as_markdown("Example::\n\n    run()\n\n.. versionadded:: 0.1") == (
        "Example:\n\n    run()\n\n*Since version 0.1.*"
    )
