"""The suite that newcomers run first, on fewer images: its losses, network and photographs are the real ones."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import ROOT, Recbench

pytestmark = pytest.mark.slow(seconds=60)


def test_the_quickstart_ranks_five_losses_with_three_seeds(tmp_path: Path, recbench: Recbench) -> None:
    shutil.copy(ROOT / "suites" / "quickstart.yaml", tmp_path)
    few = ("--set", "datasets.photos.params.train=512", "--set", "datasets.photos.params.test=32")
    free = ("--set", "metrics=[psnr, ssim]", "--set", "ranking.metrics=[psnr, ssim]")  # st_lpips needs weights
    done = recbench("run", "quickstart.yaml", *few, *free, "--set", "training.epochs=2")
    assert done.returncode == 0, done.stderr
    (board,) = json.loads((tmp_path / "results/quickstart/leaderboard.json").read_text())["boards"]
    assert {row["loss"] for row in board["rows"]} == {"l2", "l1", "ce", "ssim", "wiener"}
    assert all(row["status"] == "ranked" and row["seeds_done"] == 3 for row in board["rows"])
    for row in board["rows"]:
        assert 8 < row["cells"]["psnr"]["mean"] < 30
        assert row["loss"] in done.stdout
        assert row["tier"].isalpha()
    histories = [
        [json.loads(line) for line in file.read_text().splitlines()]
        for file in tmp_path.glob("results/quickstart/jobs/*/history.jsonl")
    ]
    assert len(histories) == 15
    kernels = [[line["auxiliary"] for line in lines] for lines in histories if lines[-1]["auxiliary"]]
    assert len(kernels) == 3  # wiener's, one for each seed: G learns its blur from the first epoch on
    assert all(first > last > 0 for first, last in kernels)
