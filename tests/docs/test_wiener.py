"""docs/wiener.md: the script that writes its tables and draws its picture, and that no method of a suite is missing."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from PIL import Image

from tests.conftest import ROOT
from tests.report_store import write_store

DOCUMENT = ROOT / "docs" / "wiener.md"
LABELS = ["wiener", "b", "c", "d", "gradient through z"]  # the made-up store traces kernels of every fourth


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wiener_script", ROOT / "benchmarks" / "wiener.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("stores") / "made-up"
    write_store(root, methods=8, seeds=[0], size=16, labels=LABELS, epochs=6, test_images=16)
    return root


def test_every_method_has_a_row_and_its_kernels_have_widths(script: ModuleType, folder: Path) -> None:
    head, _, *rows = script.table(script.board_of(folder)).splitlines()
    assert len(rows) == 8
    cells = {row.split(" | ")[0].removeprefix("| "): [cell.strip() for cell in row.split("|")] for row in rows}
    heads = [cell.strip() for cell in head.split("|")]
    assert {len(own) for own in cells.values()} == {len(heads)}
    first, last = map(float, cells["wiener"][heads.index("width [px]")].split(" → "))
    assert first == pytest.approx(0.6, abs=0.02)  # as the made-up kernels are, which grow
    assert last > first
    assert cells["wiener"][heads.index("centre off [px]")] == "0.00"
    assert cells["wiener"][heads.index("largest rise of KL")] == "× 0.99"  # KL falls by a nat an epoch
    assert cells["b"][heads.index("width [px]")] == ""


def test_only_the_table_of_the_suite_is_replaced(script: ModuleType) -> None:
    marks = "<!-- table: {} -->\n\nold\n\n<!-- end of table -->\n"
    text = "before\n" + marks.format("one, by hand") + marks.format("one-more")
    found = script.written(text, "one", "new\n")
    assert found == "before\n" + marks.format("one, by hand").replace("old\n", "new\n") + marks.format("one-more")
    with pytest.raises(SystemExit, match="0 places for the table of two"):
        script.written(text, "two", "new\n")


def test_the_picture_is_small_and_needs_both_readings(script: ModuleType, folder: Path, tmp_path: Path) -> None:
    view = script.board_of(folder)
    script.draw(view, tmp_path / "wiener.png")
    with Image.open(tmp_path / "wiener.png") as picture:
        assert picture.width > 600
    write_store(tmp_path / "other", methods=3, seeds=[0], size=16, labels=["wiener"], epochs=2, test_images=16)
    with pytest.raises(SystemExit, match="'gradient through z'"):
        script.draw(script.board_of(tmp_path / "other"), tmp_path / "none.png")


@pytest.mark.parametrize("name", ["wiener-ablation-cifar10", "wiener-ablation-photos64"])
def test_the_document_has_a_row_for_every_method_of_the_suite(name: str) -> None:
    losses = yaml.safe_load((ROOT / "suites" / f"{name}.yaml").read_text(encoding="utf-8"))["losses"]
    found = re.search(rf"<!-- table: {name},.*?<!-- end of table -->", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    rows = [line.split(" | ")[0].removeprefix("| ") for line in found[0].splitlines() if line.startswith("| ")]
    assert sorted(rows[1:]) == sorted(loss.get("label", loss["name"]) for loss in losses)


def test_the_picture_is_below_150_kB() -> None:
    assert (ROOT / "docs" / "wiener.png").stat().st_size < 150_000
