"""Artifacts are read back as they were written, and one that is damaged is an error of one line."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recbench.store import artifacts
from recbench.store.artifacts import ArtifactError
from recbench.store.epochs import EpochPictures, read_epochs, write_epochs

PICTURES = np.arange(2 * 2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 2, 3, 4, 4)
EPOCHS = [{"epoch": 1, "objective": 2.5}, {"epoch": 2, "objective": 1.25}]


def write_all(folder: Path) -> None:
    folder.mkdir()
    artifacts.start_history(folder)
    for epoch in EPOCHS:
        artifacts.append_history(folder, artifacts.history_line(epoch))
    artifacts.write_scores(folder, {"kl": np.array([1.0, 2.0]), "psnr": np.array([math.inf, 30.0])})
    artifacts.write_images(folder, {name: np.full((2, 3, 4, 4), 7, dtype=np.uint8) for name in artifacts.PICTURES})
    artifacts.write_model(folder, {"architecture": torch.nn.Linear(2, 3), "loss": torch.nn.Linear(1, 1)})
    artifacts.write_traces(folder, {"kernels": torch.ones(2, 5)})
    write_epochs(folder, EpochPictures(PICTURES[0], PICTURES, (1, 4)))


def test_they_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    folder = tmp_path / "job"
    write_all(folder)
    assert sorted(path.name for path in folder.iterdir()) == sorted(artifacts.ALL)
    assert artifacts.read_history(folder) == EPOCHS
    assert list(artifacts.written_epochs(folder)) == list(artifacts.readable_epochs(folder)) == EPOCHS
    scores = artifacts.read_scores(folder)
    assert {name: values.tolist() for name, values in scores.items()} == {"kl": [1.0, 2.0], "psnr": [math.inf, 30.0]}
    content = (folder / artifacts.SCORES).read_bytes()
    assert artifacts.read_scores(content, "kl")["kl"].tolist() == [1.0, 2.0]
    assert list(artifacts.read_images(folder)) == list(artifacts.PICTURES)
    assert list(artifacts.read_images(folder, ["decoded"])) == ["decoded"]
    assert artifacts.read_traces(folder)["kernels"].shape == (2, 5)
    found = read_epochs(folder, shape=(3, 4, 4))
    assert (found.target.tolist(), found.decoded.tolist()) == (PICTURES[0].tolist(), PICTURES.tolist())
    assert found.epochs == (1, 4)
    tensors = artifacts.read_model((folder / artifacts.MODEL).read_bytes())
    assert sorted(tensors) == ["architecture.bias", "architecture.weight", "loss.bias", "loss.weight"]
    described = artifacts.describe(folder, artifacts.ALL)
    assert described[artifacts.HISTORY].bytes == (folder / artifacts.HISTORY).stat().st_size


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"epochs": np.array([4, 1])}, "ascending"),
        ({"epochs": np.array([0, 1])}, "ascending"),
        ({"epochs": np.array([1.0, 2.0])}, "ascending"),
        ({"epochs": np.array([1])}, "as many"),
        ({"decoded": PICTURES[0]}, "as many"),
        ({"decoded": PICTURES.astype(np.float32)}, "as many"),
        ({"target": PICTURES[0, :, :2], "decoded": PICTURES[:, :, :2]}, "expected uint8"),
        ({"target": None}, "no array target"),
    ],
)
def test_pictures_of_epochs_that_cannot_be_are_refused(tmp_path: Path, changed: dict[str, Any], words: str) -> None:
    arrays = {"target": PICTURES[0], "decoded": PICTURES, "epochs": np.array([1, 4])} | changed
    arrays = {name: values for name, values in arrays.items() if values is not None}
    (tmp_path / artifacts.EPOCHS).write_bytes(artifacts.arrays_content(arrays))
    with pytest.raises(ArtifactError, match=words):
        read_epochs(tmp_path, shape=(3, 4, 4))


@pytest.mark.parametrize("content", [None, b"", b"nonsense\nin two lines"])
def test_what_cannot_be_read_is_an_error_of_one_line(tmp_path: Path, content: bytes | None) -> None:
    folder = tmp_path / "job"
    folder.mkdir()
    if content is not None:
        for name in artifacts.ALL:
            (folder / name).write_bytes(content)
    readers = [artifacts.read_scores, artifacts.read_images, artifacts.read_traces, read_epochs]
    readers += [artifacts.read_history] if content != b"" else []
    for read in readers:
        with pytest.raises(ArtifactError) as caught:
            read(folder)
        assert str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(ArtifactError):
        artifacts.read_model(content or b"")


def test_the_history_of_a_running_or_killed_job_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    artifacts.start_history(tmp_path, [artifacts.history_line(EPOCHS[0])])
    artifacts.append_history(tmp_path, '{"epoch": 2, "objec')
    assert list(artifacts.written_epochs(tmp_path)) == EPOCHS[:1]
    assert list(artifacts.readable_epochs(tmp_path)) == EPOCHS[:1]
    with pytest.raises(ArtifactError):
        artifacts.read_history(tmp_path)
    artifacts.append_history(tmp_path, '\n[]\n{"epoch": 3, "kl": NaN, "objective": 1}\n')
    assert list(artifacts.readable_epochs(tmp_path)) == [EPOCHS[0], {"epoch": 3.0, "objective": 1.0}]


def test_a_history_holds_finite_numbers_only(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        artifacts.history_line({"epoch": 1, "objective": math.nan})


def test_scores_are_read_without_threads_of_arrow(tmp_path: Path) -> None:
    """A thread that still starts while the interpreter ends aborts the process, now and then, on a busy machine."""
    artifacts.write_scores(tmp_path, {"psnr": np.arange(3.0), "kl": np.ones(3)})
    code = (
        "import os, sys, numpy, pyarrow.parquet\nfrom pathlib import Path\nfrom recbench.store import artifacts\n"
        "def threads(): return len(os.listdir('/proc/self/task'))\n"
        "before = threads(); assert len(artifacts.read_scores(Path(sys.argv[1]), 'psnr')['psnr']) == 3\n"
        "assert len(artifacts.read_scores(Path(sys.argv[1]))) == 2; print(threads() - before)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "0\n"
