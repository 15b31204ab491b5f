"""All that is done on fake CUDA tensors, in a process of its own: autograd counts the GPUs at its first backward pass,
and other tests have made theirs where there is none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.fake_cuda import unavailable

REASON = unavailable()


@pytest.mark.slow(seconds=150)
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_training_and_evaluation_on_fake_cuda_tensors() -> None:
    steps = Path(__file__).with_name("fake_cuda_steps.py")
    arguments = ("-q", "-p", "no:cacheprovider", "-m", "not shared", "--no-header", "--tb=short")
    command = [sys.executable, "-m", "pytest", *arguments, steps]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
