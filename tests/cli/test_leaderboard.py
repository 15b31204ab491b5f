"""``recbench leaderboard`` with statistics, on made-up and on real records."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbench.store.record import Cost, Score
from recbench.store.store import Store
from tests.conftest import TINY, Recbench
from tests.made_up import make_plan, make_record
from tests.synthetic import World


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Fill a store with two equal methods and a worse one, with scores per image."""
    plan = make_plan(["first", "second", "worse"], seeds=[0, 1, 2])
    store = Store(tmp_path / "results" / plan.suite)
    store.write_plan(plan, "")
    world = World([20.0, 20.0, 9.0], 3, 30, training=0.2, image=5.0, both=0.5, rest=0.5)
    scores = world.scores(np.random.default_rng(0))
    for planned in plan.jobs:
        mine = scores[planned.method][planned.seed]
        values = {"psnr": mine, "mse": np.exp(-mine / 10)}
        found = {n: Score(mean=float(v.mean()), std=float(v.std()), n=30) for n, v in values.items()}
        speed = Cost(images_per_second=8.0, step_milliseconds=2.0, peak_memory_bytes=2**30, parameters=9)
        store.add(make_record(plan, planned, found, cost=speed))
        pd.DataFrame(values).to_parquet(store.folder(planned.id) / "scores.parquet")
    return tmp_path / "results"


def test_the_terminal_shows_tiers_and_intervals(recbench: Recbench, results: Path) -> None:
    done = recbench("leaderboard")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "first and second do not differ significantly; both are better than worse."
    head, *rows = [line.split() for line in lines if "  " in line][:4]
    assert head[:3] == ["rank", "tier", "method"]
    assert {row[2]: (row[0], row[1]) for row in rows} == {
        "first": ("1–2", "a"),
        "second": ("1–2", "a"),
        "worse": ("3", "b"),
    }
    assert "mean [95 % confidence interval] over all trainings and images" in done.stdout
    wide = recbench("leaderboard", "--wide").stdout
    assert "[95 % confidence interval of the mean] over all trainings and images" in wide
    assert (results / "made-up" / "statistics.json").is_file()
    assert recbench("leaderboard").stdout == done.stdout


def test_csv_and_json_hold_the_same_statistics(recbench: Recbench, results: Path) -> None:
    board = json.loads(recbench("leaderboard", "--format", "json").stdout)["boards"][0]
    lines = list(csv.DictReader(io.StringIO(recbench("leaderboard", "--format", "csv").stdout)))
    assert board["confidence"] == 0.95
    for row, line in zip(board["rows"], lines, strict=True):
        cell = row["cells"]["psnr"]
        assert [float(line["psnr_low"]), float(line["psnr_high"])] == cell["interval"]
        assert line["psnr_rank_interval"] == "{} to {}".format(*cell["rank_interval"])
        assert (line["tier"], line["psnr_tier"]) == (row["tier"], cell["tier"])
        assert (float(line["borda"]), line["pareto"] == "True") == (row["borda"], row["pareto"])


@pytest.mark.slow
def test_options_change_what_is_ranked_and_how_sure_it_is(recbench: Recbench, results: Path) -> None:
    def board(*options: str) -> dict[str, object]:
        found: dict[str, object] = json.loads(recbench("leaderboard", "--format", "json", *options).stdout)["boards"][0]
        return found

    assert board("--metric", "mse")["ranking"] == ["mse"]
    assert board("--metric", "mse", "--metric", "psnr", "--metric", "mse")["ranking"] == ["mse", "psnr"]
    assert board("--confidence", "0.8")["confidence"] == 0.8
    bare = board("--no-statistics")
    assert (bare["confidence"], bare["verdicts"], bare["overall"]) == (None, {}, None)
    assert "tier" not in recbench("leaderboard", "--no-statistics").stdout


def test_time_to_a_score_is_a_cost(recbench: Recbench, results: Path) -> None:
    done = recbench("leaderboard", "--time-to", "psnr=15", "--format", "csv")
    times = {row["method"]: row["time_to"] for row in csv.DictReader(io.StringIO(done.stdout))}
    assert times == {"first": "12.0", "second": "12.0", "worse": "inf"}  # 3 epochs of 32 images at 8 a second
    assert "time_to" not in recbench("leaderboard", "--format", "csv").stdout
    shown = recbench("leaderboard", "--time-to", "psnr=15").stdout
    assert "psnr of 15 [s]" in shown
    assert "training [s]" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "method,psn"], "--columns psn: no such column; did you mean 'psnr'?"),
        (["--columns", "psnr", "--wide"], "give only one of them"),
        (["--columns", "psnr", "--format", "csv"], "which always holds everything"),
        (["--metric", "psn"], "has no such metric; did you mean 'psnr'?"),
        (["--time-to", "psnrr=3"], "'psnrr'; did you mean 'psnr'?"),
        (["--time-to", "psnr"], "expected a number after '='"),
        (["--time-to", "psnr=nan"], "expected a number after '='"),
        (["--confidence", "1"], "--confidence"),
        (["--confidence", "0.2"], "--confidence"),
    ],
)
def test_options_that_cannot_be(recbench: Recbench, results: Path, arguments: list[str], message: str) -> None:
    done = recbench("leaderboard", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) < 10


@pytest.mark.slow
def test_real_jobs_have_intervals_and_tiers(recbench: Recbench, finished_tiny: Path, tmp_path: Path) -> None:
    """The same command prints the same again from cached statistics; a truncated cache is rebuilt."""
    done = recbench("run", finished_tiny, "--plugin", TINY)
    assert done.returncode == 0, done.stderr
    assert "tier" in done.stdout
    folder = tmp_path / "results" / "tiny"
    first = (folder / "leaderboard.json").read_bytes()
    board = json.loads(first)["boards"][0]
    assert {verdict["basis"] for verdict in board["verdicts"].values()} == {"seeds and images"}
    assert all(verdict["by_image"] for verdict in board["verdicts"].values())
    for row in board["rows"]:
        assert row["tier"]
        for cell in row["cells"].values():
            low, high = cell["interval"]
            assert low < cell["mean"] < high
    (folder / "statistics.json").write_text("{")
    assert recbench("run", finished_tiny, "--plugin", TINY).stdout == done.stdout
    assert (folder / "leaderboard.json").read_bytes() == first
    assert recbench("leaderboard", "--format", "json").stdout.encode() == first
