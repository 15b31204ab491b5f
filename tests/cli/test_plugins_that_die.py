"""Plugins that raise or end the process, in commands that run them in the foreground: one sentence, exit code 2."""

from __future__ import annotations

import numpy as np
import pytest

from recbench.plugin.isolation import call_in_fork
from tests.conftest import TINY, TINY_SUITE

LOSS = """\
import os, sys
from recbench import LossEntry, MetricEntry, hookimpl
from recbench.contracts.loss import Loss
from recbench.contracts.metric import ImageMetric, SetMetric

class Bad(Loss):
    def __init__(self, setting):
        super().__init__()

    def forward(self, decoded, target, context):
        {body}

class Set(SetMetric):
    def __init__(self, shape):
        super().__init__()

    def update(self, decoded, target):
        pass

    def compute(self):
        {body}

@hookimpl
def recbench_losses():
    yield LossEntry(name="bad", factory=Bad, summary="bad")

@hookimpl
def recbench_metrics():
    yield MetricEntry(name="badset", factory=Set, summary="bad", direction="lower")
"""
BODIES = {
    "exit code 0": ("os._exit(0)", "ended the process (exit code 0)"),
    "exit code 1": ("os._exit(1)", "ended the process (exit code 1)"),
    "sys.exit": ("sys.exit(0)", "raised SystemExit: 0"),
    "a signal": ("os.kill(os.getpid(), 9)", "crashed the process (SIGKILL)"),
    "an error": ("return undefined", "NameError: name 'undefined' is not defined"),
    "nothing": ("return None", "None"),
    "a list": ("return [1.0]", " list"),
}


@pytest.fixture
def images(tmp_path):
    for name in ("a.npy", "b.npy"):
        np.save(tmp_path / name, np.zeros((4, 3, 8, 8), dtype=np.uint8))


@pytest.mark.parametrize(("body", "what"), BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("part", [("loss", "bad"), ("metric", "badset")], ids=["loss", "metric"])
def test_score(recbench, tmp_path, images, part, body, what):
    (tmp_path / "bad.py").write_text(LOSS.format(body=body))
    done = recbench("score", *part, "a.npy", "b.npy", "--plugin", "bad.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert what in done.stderr
    assert f"{part[1]} of the plugin file {tmp_path / 'bad.py'}" in done.stderr.replace("'", "")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(("body", "what"), [BODIES["exit code 0"], BODIES["a signal"], BODIES["an error"]])
def test_calibrate(recbench, tmp_path, body, what):
    (tmp_path / "bad.py").write_text(LOSS.format(body=body))
    (tmp_path / "tiny.yaml").write_text(TINY_SUITE.replace("name: l1", "name: bad"))
    done = recbench("calibrate", "tiny.yaml", "--plugin", "bad.py", "--plugin", TINY, "--device", "cpu", "--steps", "2")
    assert (done.returncode, done.stdout) == (2, "")
    assert what in done.stderr
    assert "bad" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["calibrate", "verify"])
def test_a_device_that_is_none(recbench, tmp_path, command):
    (tmp_path / "tiny.yaml").write_text(TINY_SUITE)
    done = recbench(command, "tiny.yaml", "--device", "gpu", "--plugin", TINY)
    assert done.returncode == 2
    assert done.stderr == "error: --device gpu: expected auto, cpu, cuda or cuda:N\n"


def test_a_result_of_a_forked_process_is_handed_on_whole():
    content = bytes(range(256)) * 10_000  # more than a pipe holds
    assert call_in_fork(lambda: content) == content


@pytest.mark.slow
def test_a_suite_says_which_plugin_file_it_was_run_with(recbench, finished_tiny):
    """Only its name: the folder may be on another machine."""
    words = "earlier jobs of tiny were run with the plugin file tiny_plugin.py, not loaded now: give --plugin tiny_plug"
    for command in ("run", "validate", "calibrate"):
        done = recbench(command, "tiny.yaml")
        assert done.returncode == 2
        assert "there is no dataset 'blobs'" in done.stderr
        assert f"tiny.yaml: {words}" in done.stderr
    done = recbench("verify", "tiny")
    assert done.returncode != 0
    assert f"note: {words}" in done.stderr
    assert "not loaded" not in recbench("validate", "tiny.yaml", "--plugin", TINY).stderr
