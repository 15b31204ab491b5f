"""A suite with maps, from the command line to the report: what is reported of them, and what is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import TINY, Recbench

SUITE = """\
name: maps
datasets: [blobs]
architectures:
  - {name: kl_f4, params: {channels: 4, multipliers: [1, 1, 1], blocks: 1, latent_channels: 2}}
  - {name: vq, params: {width: 4, codes: 8, dim: 3, blocks: 1}}
losses: [{name: l2, kl_weight: 0.001}]
seeds: [0]
training: {epochs: 2, batch_size: 16, learning_rate: 1e-2}
metrics: [psnr, bits_per_dim, kl, spectrum_gen]
"""


@pytest.mark.slow
def test_a_map_interpolates_in_the_report_and_a_codebook_has_no_divergence(recbench: Recbench, tmp_path: Path) -> None:
    (tmp_path / "maps.yaml").write_text(SUITE)
    done = recbench("run", "maps.yaml", "--plugin", TINY, RECBENCH_PREFLIGHT="1")
    assert done.returncode == 0, done.stderr
    records = [json.loads(file.read_text()) for file in tmp_path.glob("results/maps/jobs/*/record.json")]
    of_map, of_codes = sorted(records, key=lambda record: record["job"]["architecture"]["name"])
    assert of_map["evaluated"]["kl"] == of_map["scores"]["kl"]["mean"] > 0
    assert of_codes["evaluated"]["kl"] is None
    assert set(of_codes["scores"]) == {"psnr"}
    assert set(of_codes["without"]) == set(of_codes["reasons"]) == {"bits_per_dim", "kl", "spectrum_gen"}
    assert {"penalty", "usage", "perplexity"} <= of_codes["trained"]["final"].keys()

    shown = recbench("leaderboard", "maps")
    notes = " ".join((shown.stdout + shown.stderr).split())
    lacking = "does not rank, since l2 cannot have a value for it (the architecture has no"
    assert f"blobs · vq: spectrum_gen {lacking} prior" in notes
    assert f"blobs · vq: bits_per_dim {lacking} KL divergence)" in notes
    assert "blobs · kl_f4: bits_per_dim" not in notes
    boards = json.loads(recbench("leaderboard", "maps", "--format", "json").stdout)["boards"]
    assert [board["rows"][0]["kl"] is None for board in boards] == [False, True]

    done = recbench("report", "maps", "--plugin", TINY)
    assert done.returncode == 0, done.stderr
    report = tmp_path / "results" / "maps" / "report"
    for number in (1, 2):
        assert list((report / "images").glob(f"board-{number}-interpolations-*.png"))
    assert list((report / "images").glob("board-1-samples-*.png"))
    assert not list((report / "images").glob("board-2-samples-*.png"))
    assert "has no prior to draw samples from" in (report / "board-2.html").read_text(encoding="utf-8")
    head = (report / "data" / "training-curves.csv").read_text(encoding="utf-8").splitlines()[0]
    assert {"penalty", "perplexity", "usage"} <= set(head.split(","))

    done = recbench("verify", "maps", "--plugin", TINY)
    assert "2 of 2 jobs are verified" in done.stdout
