"""Results that an earlier version has written, in schema 1, become results of the present schema without training.

``tests/golden/schema-1-here.zip`` and ``schema-1-there.zip`` are exports by the commit 5cc2002, of the same arrays
under two roots: ``l2`` scored by psnr, and ``l1`` scored by psnr and ssim, with two seeds each.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from recbench.analysis.ranking import rank_stored
from recbench.errors import UserError
from recbench.plan.model import SCHEMA
from recbench.store.merge import merge
from recbench.store.sources import sources
from recbench.store.store import Store
from recbench.store.upgrade import UpgradedSource
from tests.conftest import ROOT, Recbench

OLD = [ROOT / "tests" / "golden" / f"schema-1-{name}.zip" for name in ("here", "there")]
PLACES = {"arrays": ("root",)}


def unpacked(tmp_path: Path) -> list[Path]:
    """The two exports as folders of a suite."""
    folders = []
    for number, archive in enumerate(OLD):
        folder = tmp_path / f"old{number}" / "same"
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
        folders.append(folder)
    return folders


def upgrade(into: Path, *paths: Path) -> list[UpgradedSource]:
    with sources(paths) as found:
        upgraded = [UpgradedSource(source, PLACES) for source in found]
        merge(upgraded, into)
    return upgraded


def test_records_of_two_roots_become_one_board(tmp_path: Path) -> None:
    folders = unpacked(tmp_path)
    before = {path: path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}
    for _ in range(2):  # the second time, nothing is left to do
        assert [(one.upgraded, one.unusable) for one in upgrade(tmp_path / "new", *folders)] == [(2, []), (2, [])]
    assert {path: path.read_bytes() for path in before} == before

    store = Store(tmp_path / "new" / "same")
    plan = store.read_plan()
    assert plan.schema_version == SCHEMA
    assert len(plan.settings) == 1
    assert all(plan.id_of(planned) == planned.id for planned in plan.jobs)
    (board,) = rank_stored(plan, store, store.scan(plan).records).boards
    assert [(row.status, row.seeds_done) for row in board.rows] == [("ranked", 2), ("ranked", 2)]

    old = Store(folders[0])
    for planned in old.read_plan().jobs:
        was = old.read(planned.id)
        assert was is not None
        (now,) = (
            one
            for one in map(store.read, [job.id for job in plan.jobs])
            if one is not None and (one.job.loss, one.job.seed) == (was.job.loss, was.job.seed)
        )
        assert (was.schema_version, now.schema_version) == (1, 2)
        assert now.job.dataset.locations == {"root": "here"}
        assert "root" not in now.job.dataset.params
        for name in ("scores", "trained", "cost", "data", "evaluated", "provenance", "files"):
            assert getattr(now, name) == getattr(was, name)
        raw = (old.folder(planned.id) / "scores.parquet").read_bytes()
        assert (store.folder(now.job_id) / "scores.parquet").read_bytes() == raw


def test_schema_1_and_the_present_one_are_not_mixed(tmp_path: Path) -> None:
    upgrade(tmp_path / "new", OLD[0])
    with sources([tmp_path / "new", OLD[1]]) as found, pytest.raises(UserError, match="recbench upgrade"):
        merge(found, tmp_path / "both")
    with sources([tmp_path / "new"]) as found, pytest.raises(UserError, match="schema 2 already"):
        UpgradedSource(found[0], PLACES)
    with sources(OLD) as found, pytest.raises(UserError, match="no plugin offers its data set arrays"):
        UpgradedSource(found[0], {})


def test_a_record_that_cannot_be_upgraded_is_named_and_left_out(tmp_path: Path) -> None:
    folder, _ = unpacked(tmp_path)
    torn, changed = sorted((folder / "jobs").iterdir())
    (torn / "record.json").write_bytes((torn / "record.json").read_bytes()[:-40])
    (changed / "scores.parquet").write_bytes(b"other")
    (source,) = upgrade(tmp_path / "new", folder)
    assert source.upgraded == 0
    assert f"job {torn.name} (l2, seed" in source.unusable[0] + source.unusable[1]
    assert any("scores.parquet is not the file that the record describes" in line for line in source.unusable)


def test_places_in_one_plan_stay_apart(tmp_path: Path) -> None:
    """Two data sets of a suite that differ only in where they are have other images, and other jobs."""
    folder, _ = unpacked(tmp_path)
    plan = json.loads((folder / "plan.json").read_text())
    other = json.loads(json.dumps(plan["settings"][0]))
    other["dataset"]["params"]["root"], other["label"] = "elsewhere", "more · linear"
    plan["settings"].append(other)
    plan["jobs"] += [{**job, "setting": 1, "id": job["id"][::-1]} for job in plan["jobs"]]
    plan.pop("checksum", None)
    (folder / "plan.json").write_text(json.dumps(plan))
    upgrade(tmp_path / "new", folder)
    found = Store(tmp_path / "new" / "same").read_plan()
    assert [setting.dataset.variant for setting in found.settings] == ["arrays", "more"]
    assert len({job.id for job in found.jobs}) == 4


@pytest.mark.slow
def test_older_results_are_upgraded_from_the_command_line(tmp_path: Path, recbench: Recbench) -> None:
    for archive in OLD:
        shutil.copy(archive, tmp_path)
    read = recbench("merge", OLD[0].name, "--into", "as-it-is")  # what can be read stays readable
    assert read.returncode == 0, read.stderr
    assert "l2" in recbench("leaderboard", "same", "--results", "as-it-is").stdout
    done = recbench("upgrade", *(archive.name for archive in OLD), "--into", "results")
    assert done.returncode == 0, done.stderr
    assert "same: 4 records upgraded to schema 2; 4 of 4 jobs are done" in done.stdout
    assert "not with jobs that run now" in done.stderr
    board = json.loads(recbench("leaderboard", "same", "--format", "json").stdout)
    assert [sorted(row["label"] for row in one["rows"]) for one in board["boards"]] == [["l1", "l2"]]
    compared = recbench("compare", "same:l1", "same:l2")
    assert compared.returncode == 0, compared.stderr
    again = recbench("upgrade", "results", "--into", "more")
    assert again.returncode == 2
    assert "is of schema 2 already; there is nothing to upgrade" in again.stderr
