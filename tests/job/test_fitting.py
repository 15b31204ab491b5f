"""A suite with baselines from the file to the board: fitted, scored, scored again, verified and shown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from recbench.contracts.entries import ImageShape
from recbench.contracts.loss import Loss
from recbench.job.fitting import NotFitted, fit
from recbench.job.parts import Model
from recbench.store.artifacts import read_history, read_images
from recbench.store.store import Store
from recbench_architectures.baselines import PCA
from tests.conftest import TINY, Recbench

SUITE = """\
name: proportion
datasets: [{name: blobs, params: {size: 16, count: 64}}]
architectures: [{name: linear, params: {latent_size: 4}}]
losses: [{name: l2, kl_weight: 0.1}]
baselines: [pca]
seeds: [0]
training: {epochs: 3, batch_size: 16, learning_rate: 1e-3}
metrics: [psnr, mse%s]
ranking: {metrics: [psnr, mse]}
"""


def test_from_the_suite_to_the_board(recbench: Recbench, tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(SUITE % "")
    assert "2 jobs (1 methods x 1 settings x 1 seeds and 1 of baselines)" in (
        recbench("validate", "p.yaml", "--plugin", TINY).stdout
    )
    done = recbench("run", "p.yaml", "--plugin", TINY, "--device", "cpu")
    assert done.returncode == 0, done.stderr + done.stdout
    assert "1/1 baseline" in done.stdout and "⚠ l2: its psnr of" in done.stdout
    board = json.loads(recbench("leaderboard", "proportion", "--format", "json").stdout)["boards"]
    assert len(board) == 1
    (pca,) = board[0]["baselines"]
    store = Store(tmp_path / "results/proportion")
    plan = store.read_plan()
    record = store.read(plan.jobs[-1].id)
    assert record is not None and record.trained is not None and record.files
    assert (record.trained.epochs, record.trained.steps, record.health) == (0, 0, ())
    assert read_history(store.folder(record.job_id), record.files) == []
    pictures = read_images(store.folder(record.job_id), files=record.files)
    errors = (pictures["target"].astype(float) - pictures["decoded"]) ** 2
    assert errors.mean() < 255**2 * 2 * pca["cells"]["mse"]["mean"], "its images are those that it was scored by"
    checks = [warned["check"] for warned in board[0]["rows"][0]["health"]]
    trained = store.read(plan.jobs[0].id)
    assert trained is not None and [symptom.check for symptom in trained.health] == checks[:-1]
    assert checks[-1] == "below_pca" and "undertrained" in checks

    (tmp_path / "p.yaml").write_text(SUITE % ", l1")
    again = recbench("run", "p.yaml", "--plugin", TINY, "--device", "cpu")
    assert again.returncode == 0, again.stderr + again.stdout
    rescored = store.read(record.job_id)
    assert rescored is not None and rescored.scores["psnr"] == record.scores["psnr"] and "l1" in rescored.scores
    assert rescored.health == record.health
    assert recbench("verify", "proportion", "--plugin", TINY).returncode == 0
    assert recbench("report", "proportion", "--plugin", TINY).returncode == 0
    page = (tmp_path / "results/proportion/report/index.html").read_text()
    assert 'id="health"' in page and 'data-method="pca"' in page


def test_too_few_images_are_said() -> None:
    class Nothing(Loss):
        def forward(self, decoded, target, context):  # type: ignore[no-untyped-def]
            raise AssertionError("nothing is trained")

    network = PCA(ImageShape(1, 4, 4), latent_size=2)
    model = Model(network, Nothing(), (-1.0, 1.0), (0.0, 1.0), 0.0, "pca of here")
    with pytest.raises(NotFitted, match="pca of here: pca needs at least 2 training images, not 1"):
        fit(model, torch.zeros(1, 1, 4, 4, dtype=torch.uint8), Path("nowhere"))


def test_all_images_are_fitted_in_the_range_of_the_entry(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (2500, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network = PCA(ImageShape(1, 2, 2), latent_size=2)
    model = Model(network, torch.nn.Module(), (-1.0, 1.0), (0.0, 1.0), 0.0)  # type: ignore[arg-type]
    trained = fit(model, images, tmp_path)
    expected = images.flatten(1).double().mean(0) / 127.5 - 1
    np.testing.assert_allclose(network.mean, expected, atol=1e-6)
    assert trained.parameters == 4 + 2 * 4 + 2
