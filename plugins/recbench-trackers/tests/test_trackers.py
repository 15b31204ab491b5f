"""The output of the trackers is read back with the reference reader of each format."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbench.contracts.tracker import Run, Tracker
from recbench_trackers import contents, recbench_trackers

JOB = {
    "dataset": {"name": "photos", "params": {"size": 32}, "code": "a"},
    "architecture": {"name": "vae_bredell", "params": {"widths": [16, 32]}, "code": "b"},
    "loss": {"name": "wiener", "params": {"C": 0.025, "σ": 2.0}, "code": "c"},
    "kl_weight": 0.5,
    "training": {"epochs": 4, "compile": False},
    "split": "test",
    "seed": 3,
}
LINES = [
    {"epoch": epoch, "step": 10 * epoch, "objective": 100.0 / epoch, "learning_rate": 1e-3} for epoch in range(1, 5)
]
IMAGES = {
    name: np.random.default_rng(seed).integers(0, 256, (16, 3, 8, 8), dtype=np.uint8)
    for seed, name in enumerate(("target", "decoded", "samples"))
}
DONE = {
    "status": "done",
    "job": JOB,
    "scores": {"psnr": {"mean": 21.5, "std": 1.0, "n": 8}, "mse σ": {"mean": "Infinity", "std": None, "n": 8}},
    "evaluated": {"kl": 12.25},
    "cost": {"step_milliseconds": 7.5, "parameters": 99},
    "trained": {"steps": 40},
}
FAILED = {"status": "failed", "job": JOB, "scores": {}, "trained": None}


def make(name: str, **params: Any) -> Tracker:
    import importlib

    entry = next(entry for entry in recbench_trackers() if entry.name == name)
    module, _, attribute = str(entry.factory).partition(":")
    tracker: Tracker = getattr(importlib.import_module(module), attribute)(**entry.complete(params))
    return tracker


def run(folder: Path, *, continued: bool = False, number: str = "") -> Run:
    return Run(
        id="0123456789abcdef" + number,
        title="wiener C=0.025/x, seed 3",
        suite="made-up",
        job_id="0123456789abcdef",
        job=JOB,
        folder=folder / "tracking",
        continued=continued,
    )


def track(name: str, folder: Path, **params: Any) -> None:
    """A job that is interrupted after two epochs, and continues in another process."""
    first = make(name, **params)
    first.start(run(folder))
    first.epoch(LINES[0])
    first.epoch(LINES[1])
    first.pause()
    second = make(name, **params)
    second.start(run(folder, continued=True))
    second.epoch(LINES[2])
    second.epoch(LINES[3])
    second.end(DONE, IMAGES)


def test_settings_are_flat_and_scores_are_numbers() -> None:
    found = contents.settings(JOB)
    assert found["loss"] == "wiener"
    assert found["loss.C"] == 0.025
    assert found["architecture.widths"] == "[16, 32]"
    assert found["training.compile"] is False
    scores = contents.scores(DONE)
    assert scores["test/psnr"] == 21.5
    assert scores["test/mse σ"] == float("inf")
    assert scores["test/kl"] == 12.25
    assert contents.scores(FAILED) == {}


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_the_picture_has_images_above_reconstructions_above_samples(channels: int) -> None:
    images = {name: value[:, :channels] for name, value in IMAGES.items()}
    picture = contents.picture(images)
    assert picture is not None
    assert picture.shape == (3 * 8, contents.SHOWN * 8, 3)
    np.testing.assert_array_equal(picture[8:16, 8:16, 0], IMAGES["decoded"][1, 0])
    blue = IMAGES["samples"][2, 2 if channels == 3 else 0]
    np.testing.assert_array_equal(picture[16:24, 16:24, 2], blue)
    assert contents.picture({}) is None


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    track("tensorboard", tmp_path)
    (folder,) = (tmp_path / "tracking").iterdir()
    assert folder.name == "wiener_C=0.025_x,_seed_3_0123456789abcdef"
    assert len(list(folder.iterdir())) == 2
    read = EventAccumulator(str(folder)).Reload()
    assert [(event.step, event.value) for event in read.Scalars("objective")] == [
        (line["step"], pytest.approx(line["objective"], rel=1e-6)) for line in LINES
    ]
    assert [(event.step, event.value) for event in read.Scalars("test/psnr")] == [(40, 21.5)]
    assert read.Scalars("test/mse σ")[0].value == float("inf")
    (image,) = read.Images("reconstructions")
    assert (image.step, image.width, image.height) == (40, 64, 24)
    started = metadata.parse_session_start_info_plugin_data(
        read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    )
    assert started.hparams["loss"].string_value == "wiener"
    assert started.hparams["kl_weight"].number_value == 0.5
    ended = metadata.parse_session_end_info_plugin_data(
        read.SummaryMetadata("_hparams_/session_end_info").plugin_data.content
    )
    assert ended.status == 1  # STATUS_SUCCESS


def test_tensorboard_takes_a_folder_and_a_failure(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker = make("tensorboard", folder=str(tmp_path / "elsewhere"), images=False)
    tracker.start(run(tmp_path))
    tracker.epoch(LINES[0])
    tracker.end(FAILED, {})
    (folder,) = (tmp_path / "elsewhere").iterdir()
    tags = EventAccumulator(str(folder)).Reload().Tags()
    assert "objective" in tags["scalars"]
    assert not [name for name in tags["scalars"] if name.startswith("test/")]


def records(file: Path) -> Iterator[Any]:
    """The records of a .wandb file: the log format of LevelDB around W&B's own messages."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, block, header = file.read_bytes(), 32768, 7
    assert data[:4] == b":W&B"
    place, message = header, b""
    while place + header <= len(data):
        if block - place % block < header:
            place += block - place % block
            continue
        _, size, kind = struct.unpack("<IHB", data[place : place + header])
        message += data[place + header : place + header + size]
        place += header + size
        if kind in (1, 4):  # a whole one, or the last part of one
            yield Record.FromString(message)
            message = b""


@pytest.mark.slow
def test_wandb_reads_what_was_written_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path))
    track("wandb", tmp_path)
    files = sorted((tmp_path / "tracking" / "wandb").glob("offline-run-*/run-0123456789abcdef.wandb"))
    history: list[tuple[int, dict[str, Any]]] = []
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    codes, names, preempting = [], set(), 0
    for file in files:
        for record in records(file):
            if record.HasField("history"):
                items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
                history.append((record.history.step.num, items))
            elif record.HasField("run"):
                names.add((record.run.run_id, record.run.project, record.run.display_name))
                config.update({item.key: json.loads(item.value_json) for item in record.run.config.update})
            elif record.HasField("summary"):
                summary.update(
                    {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.summary.update}
                )
            elif record.HasField("exit"):
                codes.append(record.exit.exit_code)
            preempting += record.HasField("preempting")
    assert names == {("0123456789abcdef", "made-up", "wiener C=0.025/x, seed 3")}
    losses = [(step, items["objective"]) for step, items in history if "objective" in items]
    assert losses == [(line["step"], pytest.approx(line["objective"])) for line in LINES]
    assert config["loss.C"] == 0.025
    assert summary["test/psnr"] == 21.5
    assert summary["status"] == "done"
    assert any(name.startswith("reconstructions") for _, items in history for name in items), history
    assert (codes, preempting) == ([1, 0], 1)


@pytest.mark.slow
def test_mlflow_reads_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    track("mlflow", tmp_path)
    other = make("mlflow")
    other.start(run(tmp_path, number="-2"))
    other.end(FAILED, {})
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/tracking/mlflow.db")
    experiment = client.get_experiment_by_name("made-up")
    assert experiment is not None
    runs = {found.data.tags["recbench.run"]: found for found in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"0123456789abcdef", "0123456789abcdef-2"}
    found = runs["0123456789abcdef"]
    assert found.info.run_name == "wiener C=0.025/x, seed 3"
    assert found.info.status == "FINISHED"
    assert runs["0123456789abcdef-2"].info.status == "FAILED"
    history = client.get_metric_history(found.info.run_id, "objective")
    assert [(metric.step, metric.value) for metric in history] == [(line["step"], line["objective"]) for line in LINES]
    assert found.data.metrics["test/psnr"] == 21.5
    assert found.data.params["loss"] == "wiener"
    assert found.data.params["loss.C"] == "0.025"
    assert [file.path for file in client.list_artifacts(found.info.run_id)] == ["reconstructions.png"]
    assert (tmp_path / "tracking" / "files" / found.info.run_id / "artifacts" / "reconstructions.png").is_file()


def test_the_module_with_the_entries_imports_none_of_the_packages() -> None:
    import subprocess
    import sys

    code = (
        "import sys, recbench_trackers; sys.exit(bool({'wandb', 'mlflow', 'tensorboard', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
