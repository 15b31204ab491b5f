"""``recbench check``: the conformance tests without pytest, and a card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from recbench.cli.check import _card
from recbench.testing.card import Card, Response
from tests.conftest import Recbench

LOSS = """
from recbench import LossEntry, MetricEntry, hookimpl
from recbench.contracts.loss import Loss


class Mine(Loss):
    def __init__(self, setting):
        super().__init__()

    def forward(self, decoded, target, context):
        {body}


@hookimpl
def recbench_losses():
    yield LossEntry(name="mine", factory=Mine, summary="")
"""
SOUND = "return (decoded - target).square().sum((1, 2, 3))"


@pytest.fixture
def write(tmp_path: Path):
    def written(body: str) -> Path:
        file = tmp_path / "mine.py"
        file.write_text(LOSS.format(body=body))
        return file

    return written


def test_a_sound_loss_has_a_card_that_fits_80_columns(write, recbench: Recbench) -> None:
    done = recbench("check", write(SOUND), COLUMNS="80")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("loss mine, of the plugin file ")
    assert "36 of 36 conformance tests passed" in lines[1]
    assert max(map(len, lines[1:])) <= 80
    for kind in ("blur", "noise", "shift", "contrast", "JPEG"):
        assert sum(line.strip().startswith(kind) for line in lines) == 3
    assert "mine weighs these distortions as l2 does" in done.stdout
    assert "equal images    0, gradient 0; no distortion is rated better" in done.stdout
    assert "bit for bit the same from one seed; draws no random numbers" in done.stdout
    assert "ms an image" in done.stdout and "MB an image kept for the gradient" in done.stdout
    assert "frequencies     low ██████ high: 1 1 1 1 1 1; l2 is 1" in done.stdout


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return (decoded - target).square().mean()", "one value for each image"),
        ("return -(decoded - target).square().sum((1, 2, 3))", "FAILED mine 3x16x16"),
        ("raise RuntimeError('on purpose')", "RuntimeError: on purpose (mine.py, line 11)"),
        ("decoded.data.zero_(); " + SOUND, "leave its inputs as they are"),
    ],
    ids=["mean", "negative", "raises", "writes"],
)
def test_a_failed_test_is_one_sentence(body, message, write, recbench: Recbench) -> None:
    done = recbench("check", write(body))
    assert done.returncode == 1, done.stderr
    assert "FAILED mine" in done.stdout and "Traceback" not in done.stdout + done.stderr
    assert message.replace("mine.py", str(write(body))) in done.stdout


def test_a_loss_that_ends_the_process_is_named(write, recbench: Recbench) -> None:
    done = recbench("check", write("import os; os._exit(3)"))
    assert done.returncode == 2
    assert "mine of the plugin file" in done.stderr and "ended the process (exit code 3)" in done.stderr


def test_entries_by_name(recbench: Recbench) -> None:
    done = recbench("check", "l1", "--format", "json")
    assert done.returncode == 0, done.stderr
    found = {one["kind"]: one for one in json.loads(done.stdout)}
    assert found.keys() == {"losses", "metrics"}  # both are called l1
    card = found["losses"]["card"]
    assert card["lowest"] and card["at_identity"] == 0 and len(card["responses"]) == 15
    assert found["metrics"]["card"]["saved_bytes"] is None
    done = recbench("check", "shapes", "-p", "size=16")
    assert done.returncode == 0 and "images               3x16x16" in done.stdout
    done = recbench("check", "wiener", "--no-card", "-p", "kernel=gaussian")
    assert "kernel=gaussian" in done.stdout and "distortion" not in done.stdout


ERRORS = """
from recbench import ImageMetric, MetricEntry, MetricScore, hookimpl


class Errors(ImageMetric):
    def __init__(self, shape):
        super().__init__()

    def forward(self, decoded, target):
        errors = (decoded - target).abs().flatten(1)
        sharp = decoded.diff().square().flatten(1).mean(1)
        mean = (decoded.mean((1, 2, 3)) - target.mean((1, 2, 3))).abs() > 1
        return {"mean_error": errors.mean(1), "sharpness_of_all": sharp, "far_mean": mean.float()}


@hookimpl
def recbench_metrics():
    scores = MetricScore(name="mean_error"), MetricScore(name="sharpness_of_all", direction="higher")
    scores += (MetricScore(name="far_mean"),)
    yield MetricEntry(name="errors", factory=Errors, summary="", direction="lower", scores=scores)
"""


def test_every_score_of_a_metric_is_shown(tmp_path: Path, recbench: Recbench) -> None:
    (tmp_path / "errors.py").write_text(ERRORS)
    done = recbench("check", "errors.py", COLUMNS="80")
    assert "no card" not in done.stdout, done.stdout + done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    starts = [lines.index(f"score {name}") for name in ("mean_error", "sharpness_of_all", "far_mean")]
    assert "no distortion changes far_mean" in lines[starts[2] :]
    assert max(map(len, lines[starts[0] :])) <= 78
    for start, end, better in zip(starts, starts[1:], ("lower", "higher"), strict=False):
        own = lines[start:end]
        assert sum(line.startswith(("blur", "noise", "shift", "contrast", "JPEG")) for line in own) == 15
        assert own.count(f"better          {better}") == 1
        assert sum(line.startswith("punishes more") for line in own) == 1
        assert sum(line.startswith("frequencies") for line in own) == 1
    assert "equal images    0; no distortion is rated better" in lines
    assert any("NO: some distortion is rated better: noise" in line for line in lines[starts[1] :])
    for once in ("determinism", "cost", "images  "):
        assert sum(line.startswith(once) for line in lines) == 1
    (found,) = json.loads(recbench("check", "errors.py", "--format", "json").stdout)
    assert found["card"] is None and list(found["cards"]) == ["mean_error", "sharpness_of_all", "far_mean"]
    assert [len(card["responses"]) for card in found["cards"].values()] == [15] * 3
    assert found["cards"]["sharpness_of_all"]["direction"] == "higher"


def test_what_a_score_ignores_is_said() -> None:
    """By the verdict of a card where contrast changes nothing, and no other is heavier than the others."""
    kinds = {"blur": 0.1, "contrast": 0.0}
    responses = tuple(
        Response(kind, "1", 1.0, change, 1.0, ratio=1.0 if change else 0.0) for kind, change in kinds.items()
    )
    card = Card((3, 8, 8), 1.0, None, True, True, True, responses, (1.0,) * 6, 1.0, 1.0, None, 0, "lower")
    lines = list(_card("made_up", card))
    assert "ignores         contrast" in lines and not any("as l2 does" in line for line in lines)


def test_weights_that_are_missing_are_said(recbench: Recbench, tmp_path: Path) -> None:
    done = recbench("check", "lpips", RECBENCH_WEIGHTS=str(tmp_path), TORCH_HOME=str(tmp_path))
    assert done.returncode == 0
    assert "skipped: lpips needs" in done.stdout and "no card: it needs" in done.stdout


def test_bad_input_is_one_sentence(write, tmp_path: Path, recbench: Recbench) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_that_name")
    (tmp_path / "tracker.py").write_text(
        "from recbench import hookimpl\n@hookimpl\ndef recbench_executors():\n    yield\n"
    )
    (tmp_path / "none.py").write_text(
        "from recbench import hookimpl\n@hookimpl\ndef recbench_losses():\n    return []\n"
    )
    for arguments, message in [
        (("wienr",), "there is no entry and no file 'wienr'; did you mean 'wiener'?"),
        (("nowhere.py",), "nowhere.py"),
        (("broken.py",), "No module named 'nothing_of_that_name'"),
        (("none.py",), "none.py offers no loss, metric, architecture or dataset"),
        (("l2", "-p", "scale=1"), "l2 has no parameter 'scale'"),
        (("vae_bredell", "-p", "latent_size=0"), "latent_size"),
    ]:
        done = recbench("check", *arguments)
        assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr, done.stderr
