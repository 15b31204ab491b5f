"""Reference boards: packing, checksums, the copy in the cache, and what commands show where there are no results."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from recbench.analysis.ranking import rank_stored
from recbench.cli import cli
from recbench.errors import UserError
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.render.columns import Excerpt
from recbench.render.leaderboard import FORMATS
from recbench.shipped import boards, find_board, place
from recbench.shipped.boards import MOST
from recbench.shipped.packing import STEPS, pack
from recbench.store.artifacts import read_images, read_scores
from recbench.store.merge import merge
from recbench.store.sources import sources
from recbench.store.store import Store
from recbench.suite.outline import outline
from tests.conftest import ROOT, Recbench


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished_tiny: Path) -> Path:
    """A folder of reference boards that holds that of the tiny suite, in the place of recbench's own."""
    folder = tmp_path / "shelf"
    pack(Store(tmp_path / "results" / "tiny"), folder)
    monkeypatch.setattr(place, "boards_folder", lambda: folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECBENCH_CACHE", str(tmp_path / "cache"))
    return folder


def called(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(cli, arguments)
    shown = f"{done.stderr}{done.exception if isinstance(done.exception, UserError) else ''}"
    return done.exit_code, done.stdout, shown


@pytest.mark.parametrize("name", boards())
def test_a_shipped_board_is_ranked_again_from_its_records(name: str, recbench: Recbench, tmp_path: Path) -> None:
    store = find_board(name).store(tmp_path / "copy")
    plan = store.read_plan()
    scan = store.scan(plan)
    assert not scan.damaged and not scan.stale and len(scan.records) == len(plan.jobs)
    for planned in plan.jobs:  # a score is the mean of the scores per image that are shipped with it
        record = scan.records[planned.id]
        if planned.split == "test" and record.status == "done":
            columns = read_scores(store.folder(planned.id), files=record.files)
            for metric in record.scores.keys() & columns.keys():
                score = record.scores[metric]
                assert np.isclose(columns[metric].mean(), score.mean, rtol=1e-9) or score.infinite
    again = FORMATS["json"][1](rank_stored(plan, store, scan.records), Excerpt(cost=False))
    done = recbench("leaderboard", name, "--format", "json")
    assert done.returncode == 0 and f"showing the reference board of {name} that recbench ships" in done.stderr
    assert done.stdout == again
    rows = [row for board in json.loads(done.stdout)["boards"] for row in board["rows"]]
    assert rows and all(row["seeds_done"] == row["seeds"] for row in rows)


def test_shipped_boards_are_small_and_right(recbench: Recbench) -> None:
    assert sum(file.stat().st_size for file in place.boards_folder().iterdir()) <= MOST
    done = recbench("reference")
    assert done.returncode == 0 and all(name in done.stdout for name in boards())


def test_the_readme_shows_a_shipped_board_as_it_is(recbench: Recbench) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    text = text[text.index("<!-- board: begin -->") : text.index("<!-- board: end -->")]
    command = re.search(r"`recbench (leaderboard [^`]*)`", text)
    shown = re.search(r"^```\n(.*?)\n```$", text, re.MULTILINE | re.DOTALL)
    assert command is not None and shown is not None
    done = recbench(*command.group(1).split(), COLUMNS="118")
    assert done.returncode == 0 and done.stdout.startswith(shown.group(1) + "\n\n")


@pytest.mark.slow
def test_one_job_of_the_tiny_reference_suite_gives_its_records_scores_again(recbench: Recbench, tmp_path: Path) -> None:
    store = find_board("tiny-reference").store(tmp_path / "copy")
    plan = store.read_plan()
    planned = next(job for job in plan.jobs if job.split == "test")
    record = store.read(planned.id)
    assert record is not None
    losses = f"losses=[{{name: {record.job.loss.name}, kl_weight: {record.job.kl_weight!r}}}]"
    options = ("--set", losses, "--set", f"seeds=[{planned.seed}]", "--set", "tuning=null", "--device", "cpu")
    done = recbench("run", "tiny-reference", *options, timeout=900)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "results/tiny-reference/leaderboard.json").read_text())["boards"][0]["rows"]
    for metric, score in record.scores.items():  # with other threads 96 steps give up to 0.2 %
        assert row["cells"][metric]["mean"] == pytest.approx(score.mean, rel=0.02), metric


def test_a_board_shows_where_there_are_no_results_and_results_win(shelf: Path, tmp_path: Path) -> None:
    own = called("leaderboard", "tiny")
    assert own[0] == 0 and "showing results/tiny; 'reference:tiny' is the reference board" in own[2]
    named = called("leaderboard", "reference:tiny")
    assert (named[0], named[1]) == (0, own[1])
    compared = called("compare", "tiny", "reference:tiny")
    assert compared[0] == 0 and "the same jobs" in compared[1]
    shutil.rmtree(tmp_path / "results")
    shipped = called("leaderboard", "tiny")
    assert (shipped[0], shipped[1]) == (0, own[1])
    assert "showing the reference board of tiny that recbench ships; there are no results in results" in shipped[2]
    assert "4 of 4 jobs done" in called("status", "tiny")[1]
    assert not (tmp_path / "results").exists()
    code, _, said = called("leaderboard", "tinny")
    assert code and "no results of the suite 'tinny' in results; did you mean 'tiny'?" in said
    code, _, said = called("export", "tiny")
    assert code and "its reference board has no models, and can only be read" in said


def test_a_report_of_a_reference_board_is_written_below_the_results(shelf: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "results")
    code, out, said = called("report", "tiny", "--no-models")
    assert code == 0, said
    assert (tmp_path / out.strip()).resolve() == tmp_path / "results/tiny/report/index.html"
    assert "showing the reference board" in called("leaderboard", "tiny")[2]  # a report alone is no result


def test_a_board_leaves_out_models_and_keeps_pictures_of_the_first_seed(shelf: Path, tmp_path: Path) -> None:
    store, whole = find_board("tiny").store(tmp_path / "cache"), Store(tmp_path / "results" / "tiny")
    plan = store.read_plan()
    pictured = [job for job in plan.jobs if (store.folder(job.id) / "images.npz").is_file()]
    assert {(job.method, job.seed) for job in pictured} == {(0, 0), (1, 0)}
    for job in pictured:
        few, all_of_them = (read_images(each.folder(job.id)) for each in (store, whole))
        for name, images in few.items():
            assert len(images) == 8 and np.array_equal(images, all_of_them[name][:8])
    assert not list(store.root.rglob("*.safetensors"))


def test_a_board_that_has_to_be_smaller_is_rounded_and_ranks_the_same(shelf: Path, tmp_path: Path) -> None:
    whole = Store(tmp_path / "results" / "tiny")
    exact = sum(file.stat().st_size for file in shelf.iterdir())
    assert find_board("tiny").facts.steps is None
    board = pack(whole, tmp_path / "small", exact - 1)
    assert board.facts.steps in STEPS[1:]
    assert sum(file.stat().st_size for file in (tmp_path / "small").iterdir()) < exact
    before = board.file.read_bytes()
    with pytest.raises(
        UserError, match=r"tiny does not fit: all boards would have .* bytes, at most 5,000 are allowed"
    ):
        pack(whole, tmp_path / "small", 5000)
    assert board.file.read_bytes() == before
    plan, small = whole.read_plan(), board.store(tmp_path / "cache")
    ranked = [
        [
            (row.label, row.mean_rank, row.rank_interval, row.tier)
            for row in rank_stored(plan, s, s.scan(plan).records).boards[0].rows
        ]
        for s in (whole, small)
    ]
    assert ranked[0] == ranked[1]


def test_an_incomplete_suite_is_no_reference_board(shelf: Path, tmp_path: Path) -> None:
    whole = Store(tmp_path / "results" / "tiny")
    gone = whole.read_plan().jobs[0].id
    shutil.rmtree(whole.folder(gone))
    before = (shelf / "tiny.zip").read_bytes()
    with pytest.raises(UserError, match=f"job {gone} has no record; 'recbench run tiny' completes the suite"):
        pack(whole, shelf)
    assert (shelf / "tiny.zip").read_bytes() == before


def test_a_board_is_an_ordinary_export(shelf: Path, tmp_path: Path) -> None:
    with sources([shelf / "tiny.zip"]) as found:
        (merged,) = merge(found, tmp_path / "merged")
    assert (len(merged.added), merged.done) == (4, 4)


def test_damage_is_named_and_a_damaged_copy_is_made_again(shelf: Path, tmp_path: Path) -> None:
    good = called("reference")
    assert good[0] == 0 and "right" in good[1]
    copy = find_board("tiny").store(tmp_path / "cache")
    (copy.root / "plan.json").unlink()
    assert find_board("tiny").store(tmp_path / "cache").read_plan().suite == "tiny"
    content = (shelf / "tiny.zip").read_bytes()
    (shelf / "tiny.zip").write_bytes(content[:-30] + b"x" + content[-29:])
    code, out, said = called("reference")
    assert code == 1 and "wrong" in out and "tiny.zip is damaged: its SHA-256 is" in said
    with pytest.raises(UserError, match="is damaged"):
        find_board("tiny").store(tmp_path / "cache")
    (shelf / "tiny.zip").write_bytes(content)
    (shelf / "tiny.json").write_text("{}")
    code, _, said = called("reference")
    assert code == 1 and "tiny.json: suite: Field required" in said
    (shelf / "tiny.json").unlink()
    assert called("reference")[0] == 1


def test_the_outline_counts_the_jobs_of_a_suite_whose_images_are_absent(tmp_path: Path, tiny: Path) -> None:
    registry = Registry(load_plugins())
    file = tmp_path / "two.yaml"
    file.write_text(
        "datasets: [{name: cifar10, params: {root: nowhere}}]\narchitectures: [vae_bredell]\nlosses: [l2, l1]\n"
        "seeds: [0, 1, 2]\ntraining: {epochs: 1}\nmetrics: [psnr]\n"
        "tuning: {budget: 5, kl_weight: {low: 0.01, high: 1}, select: {metric: psnr}, params: {}}\n"
    )
    found = outline(file, registry)
    assert (found.jobs, found.datasets, found.problems) == (2 * 5 + 2 * 3, ("cifar10",), ("images of cifar10",))
