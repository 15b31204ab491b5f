"""The tolerance of ``verify``, and what a record says of where its numbers come from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from recbench.job import provenance as facts
from recbench.job import verification
from recbench.job.verification import ELSEWHERE, verify
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.store.store import Store
from tests.conftest import TINY


@pytest.fixture
def registry() -> Registry:
    return Registry(load_plugins([TINY]))


@pytest.mark.parametrize(("deterministic", "allowed"), [(True, 0.0), (False, ELSEWHERE)])
def test_numbers_need_not_be_the_same_where_algorithms_were_not_deterministic(
    deterministic: bool,
    allowed: float,
    finished_tiny: Path,
    registry: Registry,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = Store(finished_tiny.parent / "results" / "tiny")
    job_id = store.read_plan().jobs[0].id
    record = store.read(job_id)
    assert record is not None
    assert record.provenance.precision == "float32"
    assert record.provenance.driver is record.provenance.cuda is record.provenance.cudnn is None
    training = record.job.training.model_copy(update={"deterministic": deterministic})
    job = record.job.model_copy(update={"training": training})
    monkeypatch.setattr(Store, "read", lambda *_: record.model_copy(update={"job": job}))
    monkeypatch.setattr(verification, "_environment", lambda *_: [])
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    try:
        found = verify(store, job_id, registry, cache, "cpu")
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
    assert found.tolerance == allowed
    assert all(score.verdict == "identical" for score in found.scores)


@pytest.mark.parametrize(
    "line",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.124.06  Wed Feb 26 02:04:26 UTC 2025",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.124.06  Release Build  (dvs-builder@U22)",
    ],
)
def test_the_driver_of_a_gpu_is_in_the_record(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "version").write_text(f"{line}\nGCC version:  gcc version 12.3.0\n")
    monkeypatch.setattr(facts, "Path", lambda _: tmp_path / "version")
    found = facts._of_gpu()
    assert found["driver"] == "570.124.06"
    assert found["cuda"] == torch.version.cuda
    (tmp_path / "version").unlink()
    assert facts._of_gpu()["driver"] is None
