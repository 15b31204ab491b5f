"""``recbench.rank``: a board's statistics for a table from anywhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import recbench
from recbench import UserError
from recbench.store.store import Store
from tests.conftest import Recbench
from tests.report_store import write_store


def table(means: dict[str, float], seeds: int = 3, images: int = 40, spread: float = 0.2) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    shared = rng.normal(0, 2, images)
    rows = [
        {"method": name, "seed": seed, "image": image, "score": mean + shared[image] + rng.normal(0, spread)}
        for name, mean in means.items()
        for seed in range(seeds)
        for image in range(images)
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ranked") / "made-up"
    write_store(root, methods=4, size=16)
    return root


def test_a_csv_of_scores_gives_the_intervals_of_the_board(stored: Path, tmp_path: Path, recbench_: Recbench) -> None:
    """Exactly, for every metric, from Python, a file and the command line."""
    results = recbench.load(stored)
    scores = results.per_image()
    for metric in ("psnr", "mse", "ssim", "lpips"):
        board = results.leaderboard().set_index("method")
        long = scores[["method", "seed", "image", metric]].rename(columns={metric: "score"})
        long.sample(frac=1, random_state=1).to_csv(tmp_path / "scores.csv", index=False)
        made_up = {c.name: c for c in Store(stored).read_plan().columns}[metric]  # not recbench's own: no ranges
        facts = {"direction": made_up.direction, "score_range": made_up.score_range}
        for source in (scores, tmp_path / "scores.csv"):
            found = recbench.rank(source, metric=metric, **facts).set_index("method")
            for method in board.index:
                for name in ("mean", "low", "high"):
                    assert found.loc[method, name] == pytest.approx(board.loc[method, f"{metric}_{name}"], rel=1e-9)
                for name in ("rank_interval", "tier"):
                    assert found.loc[method, name] == board.loc[method, f"{metric}_{name}"]
        done = recbench_("rank", tmp_path / "scores.csv", "--direction", made_up.direction, "--format", "json")
        rows = json.loads(done.stdout)["methods"]
        assert {row["method"]: (row["low"], row["tier"]) for row in rows} == {
            method: (pytest.approx(board.loc[method, f"{metric}_low"]), board.loc[method, f"{metric}_tier"])
            for method in board.index
        }


def test_scores_without_those_of_baselines_give_the_ranks_of_the_board(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A baseline has one seed, and the board does not rank it."""
    monkeypatch.chdir(tmp_path)
    results = recbench.load("reference:cifar10-small")
    board = results.leaderboard().set_index("method")
    ranked = board[board["psnr_rank_interval"].notna()]
    assert len(ranked) < len(board)
    found = recbench.rank(results.per_image(baselines=False), metric="psnr").set_index("method").loc[ranked.index]
    assert list(found["rank_interval"]) == list(ranked["psnr_rank_interval"])
    assert list(found["tier"]) == list(ranked["psnr_tier"])
    assert list(found["low"]) == pytest.approx(list(ranked["psnr_low"]), rel=1e-9)


@pytest.fixture
def recbench_(recbench: Recbench) -> Recbench:
    return recbench


def test_what_differs_is_told_apart() -> None:
    found = recbench.rank(table({"bad": 10.0, "good": 12.0, "equal": 12.0}))
    assert set(found["method"][:2]) == {"good", "equal"} and found["method"][2] == "bad"
    assert list(found["rank_interval"]) == ["1 to 2", "1 to 2", "3 to 3"]
    assert found.attrs["p"].loc["good", "bad"] < 0.001 < 0.05 < found.attrs["p"].loc["good", "equal"]
    assert list(recbench.rank(table({"bad": 10.0, "good": 12.0}), direction="lower")["method"]) == ["bad", "good"]
    nearest = recbench.rank(table({"far": 10.0, "near": 12.0}), direction=12)
    assert list(nearest["method"]) == ["near", "far"]


def test_an_infinite_score_counts_as_the_best_finite_one() -> None:
    scores = table({"a": 10.0, "b": 12.0})
    best = scores.loc[(scores.method == "a") & (scores.seed == 0), "score"].max()
    infinite, clipped = scores.copy(), scores.copy()
    infinite.loc[0, "score"], clipped.loc[0, "score"] = np.inf, best
    rest = scores[(scores.method == "a") & (scores.seed == 0)]["score"][1:].max()
    clipped.loc[0, "score"] = rest
    pd.testing.assert_frame_equal(recbench.rank(infinite), recbench.rank(clipped))
    infinite.loc[0, "score"] = -np.inf
    assert recbench.rank(infinite)["mean"].iloc[-1] == -np.inf


def test_one_seed_and_one_method_have_ranks_too() -> None:
    assert list(recbench.rank(table({"a": 1.0, "b": 9.0}, seeds=1))["place"]) == [1, 2]
    assert list(recbench.rank(table({"a": 1.0}))["rank_interval"]) == ["1 to 1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="image"), "the table has no column 'image': expected a table with the columns"),
        (lambda t: t.iloc[:0], "the table has no rows"),
        (lambda t: t.iloc[1:], "a, seed 0 has 39 of 40 images, and lacks image 0"),
        (lambda t: pd.concat([t, t.iloc[3:4]]), "row 241 is a second score of a, seed 0, image 3"),
        (lambda t: t.assign(score=t["score"].where(t.index != 7)), "row 8 has no number as score, but NaN"),
        (lambda t: t.assign(method=t["method"].where(t.index != 7)), "row 8 has no method"),
        (lambda t: 3, "expected a table with the columns method, seed, image and score, got int"),
    ],
)  # fmt: skip
def test_bad_tables_are_one_sentence(change, message) -> None:
    with pytest.raises(UserError) as error:
        recbench.rank(change(table({"a": 1.0, "b": 2.0})))
    assert message in str(error.value)


def test_bad_files_and_options_are_one_sentence(tmp_path: Path, recbench_: Recbench) -> None:
    file = tmp_path / "scores.csv"
    file.write_text("method,seed,image,score\na,0,0,1.5\nb,0,0,high\n")
    (tmp_path / "empty.csv").write_text("")
    for arguments, message in [
        ([file], "scores.csv: line 3 has no number as score, but 'high'"),
        (["nowhere.csv"], "nowhere.csv cannot be read"),
        (["empty.csv"], "empty.csv cannot be read as CSV"),
        ([file, "--metric", "psnrr"], "there is no metric 'psnrr'"),
        ([file, "--direction", "up"], "--direction up: expected higher, lower or the score that is best"),
        ([file, "--range", "1,0"], "--range 1,0: expected LOW,HIGH"),
    ]:
        done = recbench_("rank", *arguments)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_the_text_fits_80_columns(tmp_path: Path, recbench_: Recbench) -> None:
    table({"vgg": 1.0, "l2": 2.0}).to_csv(tmp_path / "t.csv", index=False)
    done = recbench_("rank", "t.csv", COLUMNS="80")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.splitlines()[1].split()[:3] == ["1", "1", "l2"]
