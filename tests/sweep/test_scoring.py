"""Metrics are apart from training: new and edited ones score stored models, and train nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.conftest import TINY, Recbench

pytestmark = pytest.mark.slow(seconds=25)

SUITE = """\
name: scored
datasets: [blobs]
architectures: [linear]
losses: [{{name: l2, kl_weight: 0.001}}, {{name: l1, kl_weight: 0.001}}]
seeds: [0]
training: {{epochs: 2, batch_size: 16, learning_rate: 1e-2}}
metrics: [{metrics}]
"""

METRIC = """\
from recbench import MetricEntry, hookimpl


def __getattr__(name):
    if name != "Offset":
        raise AttributeError(name)
    import torch
    from recbench.contracts.metric import ImageMetric

    class Offset(ImageMetric):
        def __init__(self, shape):
            super().__init__()

        def forward(self, decoded, target):
            {body}

    return Offset


@hookimpl
def recbench_metrics():
    yield MetricEntry(name="offset", factory=f"{{__name__}}:Offset", summary="a mean error", direction="lower")
"""
SOUND = "return (decoded - target).mean((1, 2, 3)).abs()"
OTHER = "return 2 * (decoded - target).mean((1, 2, 3)).abs()"
RAISES = 'raise RuntimeError("this metric raises on purpose")'
NAN = "return torch.full((len(target),), torch.nan)"

UNTRAINED = ("history.jsonl", "model.safetensors", "images.npz", "epochs.npz")
"""Files that training or its pictures make, and that scoring must leave alone."""


def write(folder: Path, metrics: str, body: str = SOUND) -> None:
    (folder / "scored.yaml").write_text(SUITE.format(metrics=metrics))
    (folder / "offset.py").write_text(METRIC.format(body=body))


def command(name: str = "run", *more: str) -> tuple[str, ...]:
    return (name, "scored.yaml", "--plugin", str(TINY), "--plugin", "offset.py", "--device", "cpu", *more)


def jobs(folder: Path, results: str = "results") -> list[Path]:
    return sorted(folder.glob(f"{results}/scored/jobs/*"))


def facts(job: Path) -> dict[str, Any]:
    """What training has left: bytes and times of files, as nothing may write them again."""
    return {name: ((job / name).read_bytes(), (job / name).stat().st_mtime_ns) for name in UNTRAINED}


def record(job: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((job / "record.json").read_text())
    return found


def test_a_new_metric_trains_nothing_and_leaves_the_other_scores(tmp_path: Path, recbench: Recbench) -> None:
    write(tmp_path, "psnr")
    first = recbench(*command())
    assert first.returncode == 0, first.stderr
    before = {job: (facts(job), record(job), pd.read_parquet(job / "scores.parquet")) for job in jobs(tmp_path)}
    assert len(before) == 2

    write(tmp_path, "psnr, sharpness_recon, offset")
    planned = recbench(*command("run", "--dry-run"))
    assert "2 done, 0 to run, 2 to score" in planned.stderr
    added = recbench(*command())
    assert added.returncode == 0, added.stderr
    assert "2 of 2 stored models to score" in added.stderr
    assert jobs(tmp_path) == sorted(before)
    for job, (files, old, scores) in before.items():
        new = record(job)
        assert facts(job) == files
        assert new["scores"].keys() == {"psnr", "sharpness_recon", "offset"}
        for name in ("trained", "cost", "provenance", "evaluated", "data", "protocol"):
            assert new[name] == old[name]
        assert new["scores"]["psnr"] == old["scores"]["psnr"]
        assert [again["metrics"] for again in new["rescored"]] == [["sharpness_recon", "offset"]]
        table = pd.read_parquet(job / "scores.parquet")
        assert set(table) == {*scores, "offset"}
        assert all((table[name] == scores[name]).all() for name in scores)
    assert "nothing to run" in recbench(*command()).stderr
    verified = recbench("verify", "scored", "--plugin", str(TINY), "--plugin", "offset.py", "--device", "cpu")
    assert verified.returncode == 0, verified.stdout + verified.stderr

    write(tmp_path, "sharpness_recon, offset")
    assert "nothing to run" in recbench(*command()).stderr
    write(tmp_path, "psnr, sharpness_recon")
    assert "nothing to run" in recbench(*command()).stderr
    assert record(jobs(tmp_path)[0])["scores"].keys() == {"psnr", "sharpness_recon", "offset"}


def test_an_edited_metric_scores_again_and_the_other_scores_stay(tmp_path: Path, recbench: Recbench) -> None:
    write(tmp_path, "psnr, offset")
    assert recbench(*command()).returncode == 0
    before = {job: (facts(job), record(job)) for job in jobs(tmp_path)}

    write(tmp_path, "psnr, offset", OTHER)
    stale = recbench("run", *command()[1:], "--dry-run")
    assert "2 done, 0 to run, 2 to score" in stale.stderr
    scored = recbench(*command("evaluate"))
    assert scored.returncode == 0, scored.stderr
    for job, (files, old) in before.items():
        new = record(job)
        assert facts(job) == files
        assert new["scores"]["psnr"] == old["scores"]["psnr"]
        assert new["scores"]["offset"]["mean"] == pytest.approx(2 * old["scores"]["offset"]["mean"])
        assert new["job"]["metrics"]["offset"]["code"] != old["job"]["metrics"]["offset"]["code"]
        assert new["job_id"] == old["job_id"]
    board = json.loads(recbench("leaderboard", "scored", "--format", "json").stdout)
    assert all(row["cells"].keys() == {"psnr", "offset"} for row in board["boards"][0]["rows"])


def test_a_model_that_is_gone_is_named_and_only_run_trains_it_again(tmp_path: Path, recbench: Recbench) -> None:
    write(tmp_path, "psnr")
    assert recbench(*command()).returncode == 0
    gone, kept = jobs(tmp_path)
    (gone / "model.safetensors").unlink()
    files = facts(kept)

    write(tmp_path, "psnr, offset")
    scored = recbench(*command("evaluate"))
    assert scored.returncode == 1
    assert f"job {gone.name}" in scored.stderr
    assert "its model.safetensors is not there" in scored.stderr
    assert "offset does not rank, since" in scored.stdout + scored.stderr
    assert record(gone)["scores"].keys() == {"psnr"}
    assert record(kept)["scores"].keys() == {"psnr", "offset"}

    run = recbench(*command())
    assert run.returncode == 0, run.stderr
    assert "1 of 2 jobs to run" in run.stderr
    assert record(gone)["scores"].keys() == {"psnr", "offset"}
    assert facts(kept) == files


def test_stores_in_which_a_metric_has_other_code_make_one_board(tmp_path: Path, recbench: Recbench) -> None:
    """Two machines ran one method each, with other lists of metrics, and one of them with an edited metric."""
    for name, loss, metrics, body in (("one", "l2", "psnr, offset", SOUND), ("two", "l1", "offset, psnr, ssim", OTHER)):
        write(tmp_path, metrics, body)
        done = recbench(*command("run", "--set", f"losses=[{{name: {loss}, kl_weight: 0.001}}]", "--results", name))
        assert done.returncode == 0, done.stderr
    merged = recbench("merge", "one", "two", "--into", "both")
    assert merged.returncode == 0, merged.stderr
    assert "note: the metric offset is not the same in one/scored and two/scored (code " in merged.stderr
    board = json.loads(recbench("leaderboard", "scored", "--results", "both", "--format", "json").stdout)
    (found,) = board["boards"]
    rows = {row["label"]: row for row in found["rows"]}
    assert {row["status"] for row in rows.values()} == {"ranked"}
    (apart,) = rows["l1"]["cells"].keys() - {"psnr", "ssim"}
    assert rows["l2"]["cells"].keys() == {"psnr", "offset"}
    assert apart.startswith("offset@")
    (job,) = (job for job in jobs(tmp_path, "two"))
    assert rows["l1"]["cells"][apart]["mean"] == record(job)["scores"]["offset"]["mean"]

    compared = recbench("compare", "one/scored:l2", "two/scored:l1")
    assert compared.returncode == 0, compared.stderr
    assert "other metric: metrics.offset: its code has changed" in compared.stdout
    assert "psnr" in compared.stdout


@pytest.mark.parametrize(("body", "status"), [(RAISES, "failed"), (NAN, "diverged")])
def test_a_metric_that_fails_keeps_the_model(tmp_path: Path, recbench: Recbench, body: str, status: str) -> None:
    write(tmp_path, "psnr, offset", body)
    failed = recbench(*command())
    assert failed.returncode == 1
    found = record(jobs(tmp_path)[0])
    assert (found["status"], found["failure"]["metric"]) == (status, "offset")
    assert {"history.jsonl", "model.safetensors"} <= found["files"].keys()
    trained = {job: [(job / name).read_bytes() for name in UNTRAINED[:2]] for job in jobs(tmp_path)}
    times = {job: (job / "history.jsonl").stat().st_mtime_ns for job in jobs(tmp_path)}

    write(tmp_path, "psnr, offset")
    mended = recbench(*command())
    assert mended.returncode == 0, mended.stderr
    assert "2 of 2 stored models to score" in mended.stderr
    for job, files in trained.items():
        assert [(job / name).read_bytes() for name in UNTRAINED[:2]] == files
        assert (job / "history.jsonl").stat().st_mtime_ns == times[job]
        assert (record(job)["status"], record(job)["trained"]) == ("done", found["trained"] | record(job)["trained"])
        assert (job / f"{status}-1.json").is_file()


def test_a_new_metric_that_fails_takes_no_score_away(tmp_path: Path, recbench: Recbench) -> None:
    write(tmp_path, "psnr")
    assert recbench(*command()).returncode == 0
    before = {job: (facts(job), record(job)["scores"]["psnr"]) for job in jobs(tmp_path)}
    write(tmp_path, "psnr, ssim, offset", RAISES)
    failed = recbench(*command())
    assert failed.returncode == 1
    assert "it could not be scored by offset" in failed.stderr
    assert "this metric raises on purpose" in failed.stderr
    for job, (files, psnr) in before.items():
        assert facts(job) == files
        assert record(job)["status"] == "done"
        assert record(job)["scores"].keys() == {"psnr", "ssim"}
        assert record(job)["scores"]["psnr"] == psnr


def test_a_damaged_model_is_not_scored_but_trained_again(tmp_path: Path, recbench: Recbench) -> None:
    write(tmp_path, "psnr")
    assert recbench(*command()).returncode == 0
    job, _ = jobs(tmp_path)
    model = job / "model.safetensors"
    content = bytearray(model.read_bytes())
    content[-1] ^= 1
    model.write_bytes(content)
    write(tmp_path, "psnr, offset")
    scored = recbench(*command("evaluate"))
    assert scored.returncode == 1
    assert "is not the file that the record describes" in scored.stderr
    assert record(job)["scores"].keys() == {"psnr"}

    run = recbench(*command())
    assert run.returncode == 0, run.stderr
    assert "its model.safetensors is not the file that the record describes, so it cannot be scored" in run.stderr
    assert "the job runs again" in run.stderr
    assert record(job)["scores"].keys() == {"psnr", "offset"}
    assert len(list((tmp_path / "results" / "scored" / "set-aside").iterdir())) == 1


def test_an_interrupted_scoring_is_finished(tmp_path: Path, recbench: Recbench) -> None:
    """The process died between the new record and its scores per image, which are in the attempt's folder."""
    write(tmp_path, "psnr")
    assert recbench(*command()).returncode == 0
    job, _ = jobs(tmp_path)
    old = tmp_path / "old.parquet"
    shutil.copy(job / "scores.parquet", old)
    write(tmp_path, "psnr, offset")
    assert recbench(*command()).returncode == 0
    whole = (job / "scores.parquet").read_bytes()
    attempt = job / "attempt-01234567"
    attempt.mkdir()
    (job / "scores.parquet").rename(attempt / "scores.parquet")
    shutil.copy(old, job / "scores.parquet")
    again = recbench(*command())
    assert "nothing to run" in again.stderr
    assert (job / "scores.parquet").read_bytes() == whole
    assert not attempt.exists()


TUNED = """\
name: scored
datasets: [blobs]
architectures: [linear]
losses: [{{name: l2, scale: 1}}]
seeds: [0, 1]
training: {{epochs: 2, batch_size: 16, learning_rate: 1e-2}}
metrics: [{metrics}]
tuning: {{budget: 2, kl_weight: {{low: 1e-3, high: 1}}, select: {{metric: {select}}}}}
"""


def test_what_is_chosen_is_not_trained_again_and_another_metric_selects_without_training(
    tmp_path: Path, recbench: Recbench
) -> None:
    write(tmp_path, "psnr")
    (tmp_path / "scored.yaml").write_text(TUNED.format(metrics="psnr", select="psnr"))
    first = recbench(*command())
    assert first.returncode == 0, first.stderr
    found = {job.name: record(job) for job in jobs(tmp_path)}
    assert len(found) == 4
    by_split = {split: {i for i, one in found.items() if one["job"]["split"] == split} for split in SPLITS}
    (chosen,) = (i for i in by_split["test"] if found[i]["job"]["seed"] == 0)
    trained_by = found[chosen]["trained"]["job"]
    assert trained_by in by_split["validation"]
    assert found[trained_by]["trained"] | {"job": trained_by} == found[chosen]["trained"]
    assert found[trained_by]["files"]["model.safetensors"] == found[chosen]["files"]["model.safetensors"]
    assert found[trained_by]["files"]["epochs.npz"] == found[chosen]["files"]["epochs.npz"]
    assert found[trained_by]["scores"] != found[chosen]["scores"]
    (other,) = by_split["test"] - {chosen}
    assert found[other]["trained"]["job"] == ""

    before = {job: facts(job) for job in jobs(tmp_path)}
    (tmp_path / "scored.yaml").write_text(TUNED.format(metrics="psnr, offset", select="offset"))
    again = recbench(*command())
    assert again.returncode == 0, again.stderr
    assert all(facts(job) == files for job, files in before.items())
    trials = [record(job) for job in jobs(tmp_path) if record(job)["job"]["split"] == "validation"]
    assert all(trial["scores"].keys() == {"psnr", "offset"} for trial in trials)


SPLITS = ("validation", "test")
