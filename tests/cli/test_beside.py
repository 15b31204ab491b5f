"""Commands that show what ``recbench try`` trained show it among the methods of its board."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from recbench.cli.beside import with_board
from recbench.cli.report import ranked
from recbench.plan.plan import Plan
from recbench.report.epochs import over_epochs
from recbench.report.sections import Sources, pictures
from recbench.store.artifacts import read_images, write_images
from recbench.store.record import File
from recbench.store.remembered import remember, remembered_board, remembered_files
from recbench.store.store import Store
from tests.report_store import write_store


@pytest.fixture
def tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Results of a board of three methods, which kept fewer images, and of a fourth that was tried."""
    monkeypatch.setenv("RECBENCH_CACHE", str(tmp_path / "cache"))
    whole, found = write_store(tmp_path / "whole", methods=4, seeds=[0, 1], epochs=3, settings=("photos · vae",))
    for name, first, last in (("made-up", 0, 3), ("made-up-try", 3, 4)):
        store = Store(tmp_path / name)
        store.write_plan(part(whole, name, first, last), "name: made-up\n")
        for planned in store.read_plan().jobs:
            shutil.copytree(found.folder(planned.id), store.folder(planned.id))
    return store


def part(plan: Plan, name: str, first: int, last: int) -> Plan:
    jobs = (job.model_copy(update={"method": job.method - first}) for job in plan.jobs if first <= job.method < last)
    return plan.model_copy(update={"suite": name, "methods": plan.methods[first:last], "jobs": tuple(jobs)})


def fewer_images(store: Store) -> None:
    """Let the jobs of a store keep 8 images, as those of a reference board do."""
    for planned in store.read_plan().jobs:
        record, folder = store.read(planned.id), store.folder(planned.id)
        assert record is not None
        write_images(folder, {name: images[:8] for name, images in read_images(folder).items()})
        (folder / "record.json").unlink()
        described = File.of((folder / "images.npz").read_bytes())
        store.add(record.model_copy(update={"files": {**record.files, "images.npz": described}}))


def test_a_try_is_shown_among_the_methods_of_its_board(tried: Store, tmp_path: Path) -> None:
    fewer_images(Store(tmp_path / "made-up"))
    with with_board(tried, tmp_path, tmp_path) as found:
        assert found.plan.suite == "made-up-try"
        (view,) = ranked(found).boards
        assert len(view.methods) == 4
        assert all(row.status == "ranked" for row in view.board.rows)
        shown = {
            sheet.name: sheet for own in pictures(view, Sources(found.store, None, tmp_path)) for sheet in own.sheets
        }
        for name in ("images", "samples"):
            rows = [row for row in shown[name].rows if row.method]
            assert len(rows) == 4
            assert {len(row.images) for row in rows} == {8}
        sheet = over_epochs(view)
        assert sheet is not None
        assert len(sheet.rows) == 3  # one of the made-up methods has kept none


def test_a_board_that_is_gone_is_named(tried: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(tmp_path / "made-up")
    with with_board(tried, tmp_path, tmp_path) as found:
        assert len(found.plan.methods) == 1
    assert "made-up-try is shown without the board of made-up" in capsys.readouterr().err


def test_the_board_in_another_folder_is_remembered(tried: Store, tmp_path: Path) -> None:
    (tmp_path / "made-up").rename(tmp_path / "elsewhere")
    remember(tried, (), str(tmp_path / "elsewhere"))
    remember(tried, [__file__])
    assert (remembered_files(tried), remembered_board(tried)) == ((__file__,), str(tmp_path / "elsewhere"))
    with with_board(tried, tmp_path, tmp_path) as found:
        assert len(found.plan.methods) == 4
    assert remembered_files(Store(tmp_path / "elsewhere")) == ()
