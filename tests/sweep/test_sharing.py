"""How many jobs share a device: what is chosen from what was measured, and the measurement itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from recbench.contracts.executor import ChosenDevice
from recbench.errors import UserError
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.suite.suite import load_suite
from recbench.sweep import sharing
from recbench.sweep.sharing import Shared, best_sharing, measured
from tests.conftest import TINY, TINY_SUITE, Recbench


@pytest.mark.parametrize(
    ("rates", "most", "chosen", "tried"),
    [
        ({1: 100, 2: 190, 3: 270, 4: 300, 6: 290}, 8, 4, [1, 2, 3, 4, 6]),
        ({1: 100, 2: 103}, 8, 1, [1, 2]),  # not worth a second job
        ({1: 100, 2: 190}, 2, 2, [1, 2]),  # no further cores
        ({1: 100, 2: 190, 3: None}, 8, 2, [1, 2, 3]),  # a third one dies
        ({1: 100, 2: 150, 3: 156}, 8, 2, [1, 2, 3]),
    ],
)
def test_the_fewest_jobs_that_train_as_fast_as_any_are_chosen(
    rates: dict[int, float | None], most: int, chosen: int, tried: list[int]
) -> None:
    seen = []

    def measure(jobs: int) -> Shared | None:
        seen.append(jobs)
        rate = rates[jobs]
        return None if rate is None else Shared(jobs, rate, 1e9, 0)

    assert best_sharing(measure, most)[0] == chosen
    assert seen == tried


def test_jobs_that_do_not_fit_into_memory_are_not_tried() -> None:
    found = best_sharing(lambda jobs: Shared(jobs, 100.0 * jobs, 30e9, 80e9), 8)
    assert found[0] == 2 and [each.jobs for each in found[1]] == [1, 2]


def test_a_device_that_runs_no_job_is_an_error() -> None:
    with pytest.raises(UserError, match="no job can run"):
        best_sharing(lambda _: None, 8)


@pytest.mark.slow
def test_jobs_on_this_machine_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "SECONDS", 0.2)
    suite = tmp_path / "tiny.yaml"
    suite.write_text(TINY_SUITE)
    plan = load_suite(suite, Registry(load_plugins((str(TINY),)))).plan
    jobs, found = measured(plan, plugin_files=(str(TINY),), blocked=(), chosen=ChosenDevice("cpu"), cores=2)
    assert jobs in (1, 2) and [each.jobs for each in found] == [1, 2]
    assert all(each.rate > 0 and each.memory > 1e7 and each.total == 0 for each in found)
    with pytest.raises(UserError, match="no job can run"):
        measured(plan, plugin_files=("missing.py",), blocked=(), chosen=ChosenDevice("cpu"), cores=2)


@pytest.mark.slow
def test_auto_says_what_was_measured_and_runs(recbench: Recbench, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY_SUITE)
    done = recbench("run", "tiny.yaml", "--jobs-per-device", "auto", "--plugin", str(TINY))
    assert done.returncode == 0, done.stderr
    assert "jobs per device: 1 train " in done.stderr
    refused = recbench("evaluate", "tiny.yaml", "--jobs-per-device", "auto", "--plugin", str(TINY))
    assert refused.returncode == 2 and "'recbench run' with the executor local" in refused.stderr
    wrong = recbench("run", "tiny.yaml", "--jobs-per-device", "few", "--plugin", str(TINY))
    assert wrong.returncode == 2 and "few" in wrong.stderr


def test_the_gpu_is_measured_that_jobs_would_have(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a stand-in for nvidia-smi that lists two, with the variables that jobs get."""
    listing = tmp_path / "bin" / "nvidia-smi"
    listing.parent.mkdir()
    listing.write_text("#!/bin/sh\necho 'GPU 0: A (UUID: GPU-a)'\necho 'GPU 1: A (UUID: GPU-b)'\n")
    listing.chmod(0o755)
    monkeypatch.setenv("PATH", str(listing.parent), prepend=":")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    local = Registry(load_plugins()).get("executors", "local")
    for devices, device, place in (
        ("1", "auto", ChosenDevice("cuda", {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"})),
        ("", "cuda:1", ChosenDevice("cuda", {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"})),
        ("", "cpu", ChosenDevice("cpu", {"CUDA_VISIBLE_DEVICES": ""})),
    ):
        assert local.create(local.entry.complete({"devices": devices})).chosen_device(device) == place
    seen = []
    monkeypatch.setattr(sharing, "_process", lambda _, variables: seen.append(variables) or 1 / 0)
    plan = load_suite(tiny, Registry(load_plugins((str(TINY),)))).plan
    with pytest.raises(ZeroDivisionError):
        measured(plan, plugin_files=(), blocked=(), chosen=ChosenDevice("cuda", {"CUDA_VISIBLE_DEVICES": "1"}), cores=2)
    assert seen == [{"CUDA_VISIBLE_DEVICES": "1"}]
