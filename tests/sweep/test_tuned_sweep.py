"""Tuned suites from the command line: real jobs, what they are scored on, kills, and jobs that suites share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recbench.data.cache import prepare
from recbench.plan.plan import Plan
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.store.store import Store
from tests.command_line import CommandLine
from tests.conftest import SOAK, TINY, Recbench

pytestmark = pytest.mark.slow(seconds=25)

SUITE = """\
name: tiny
datasets: [blobs]
architectures: [linear]
losses: [l2, {name: l1, scale: 2}]
seeds: [0, 1]
training: {epochs: 2, batch_size: 16, learning_rate: 1e-2}
metrics: [psnr, ssim]
tuning: {budget: 2, kl_weight: {low: 1e-3, high: 1}, select: {metric: ssim}, calibration_steps: 4}
"""
RUN = ("run", "tiny.yaml", "--plugin", TINY)
SLOW = "losses=[{name: misbehaving, scale: 1, params: {what: slow}}]"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tiny.yaml").write_text(SUITE)
    return tmp_path


def plan_of(root: Path, name: str = "tiny") -> Plan:
    return Store(root / "results" / name).read_plan()


def outcome(root: Path) -> dict[str, Any]:
    """All that the jobs' results are, and what was chosen of them."""
    plan, store = plan_of(root), Store(root / "results" / "tiny")
    records = {planned.id: store.read(planned.id) for planned in plan.jobs}
    scores = {job_id: (r.status, r.scores, r.files["model.safetensors"]) for job_id, r in records.items() if r}
    return {"plan": plan, "scores": scores, "board": (store.root / "leaderboard.json").read_text()}


def test_a_suite_calibrates_tunes_and_scores_once_on_the_test_images(
    root: Path, recbench: Recbench, cache: Path
) -> None:
    before = recbench(*RUN, "--dry-run")
    assert "2 to run; nothing was run" in before.stderr
    assert "6 more follow once the scales of the losses are calibrated" in before.stderr
    done = recbench(*RUN)
    assert done.returncode == 0, done.stderr
    assert "calibrating the scale of l2, over 4 steps" in done.stderr
    assert "(4/4 jobs done)" in done.stdout
    assert "best of 2" in done.stdout
    assert "a better one may lie beyond" in done.stdout  # there are but two
    plan, store = plan_of(root), Store(root / "results" / "tiny")
    assert [search.scale for search in plan.searches] == [1.0, 2.0]
    assert [search.label for search in plan.searches if search.chosen is not None] == ["l2", "l1"]
    prepared = prepare(plan.settings[0].dataset, Registry(load_plugins([TINY])), cache)
    protocols: dict[str, set[str | None]] = {}
    for planned in plan.jobs:
        record = store.read(planned.id)
        assert record is not None
        assert (record.job.split, record.job.id) == (planned.split, planned.id)
        protocols.setdefault(planned.split, set()).add(record.protocol)
        with np.load(store.folder(planned.id) / "images.npz") as pictures:
            target = pictures["target"]
        assert np.array_equal(target, prepared.load(planned.split)[: len(target)])
        other = prepared.load("test" if planned.split == "validation" else "validation")
        assert not np.array_equal(target, other[: len(target)])
    assert len(protocols["validation"]) == len(protocols["test"]) == 1
    assert protocols["validation"] != protocols["test"]

    kept = outcome(root)
    again = recbench(*RUN)
    assert again.returncode == 0
    assert "all 8 jobs are done; nothing to run" in again.stderr
    assert "calibrating" not in again.stderr
    assert outcome(root) == kept
    assert "8 done, 0 to run" in recbench(*RUN, "--dry-run").stderr
    curves = recbench("curves", "tiny", "--format", "csv")
    assert len(curves.stdout.splitlines()) == 1 + 4
    assert all(",validation," in line for line in curves.stdout.splitlines()[1:])


def test_suites_share_jobs(root: Path, recbench: Recbench) -> None:
    assert recbench(*RUN).returncode == 0
    other = recbench(*RUN, "--set", "name=other", "--set", "seeds=[0, 1, 2]")
    assert other.returncode == 0, other.stderr
    assert "4 jobs were already done for other suites, and were taken over from tiny" in other.stderr
    plan, store = plan_of(root, "other"), Store(root / "results" / "other")
    names = {}
    for planned in plan.jobs:
        record = store.read(planned.id)
        assert record is not None
        names[planned.split, planned.seed] = record.suite
        for name, file in record.files.items():
            assert (store.folder(planned.id) / name).stat().st_size == file.bytes
    assert names == {("validation", 0): "tiny", ("test", 0): "tiny", ("test", 1): "tiny", ("test", 2): "other"}
    history = next(planned.id for planned in plan.jobs if planned.seed == 0)
    assert not (store.folder(history) / "history.jsonl").samefile(
        root / "results" / "tiny" / "jobs" / history / "history.jsonl"
    )


def test_what_is_wrong_with_another_suites_jobs_is_not_taken_over(root: Path, recbench: Recbench) -> None:
    one = ("--set", "losses=[{name: l2, scale: 1}]", "--set", "seeds=[0]")
    assert recbench(*RUN, *one).returncode == 0
    damaged = sorted((root / "results" / "tiny" / "jobs").iterdir())
    (damaged[0] / "record.json").write_text("{")
    (damaged[1] / "scores.parquet").write_bytes(b"short")
    (damaged[2] / "model.safetensors").unlink()
    (damaged[2] / "model.safetensors").symlink_to("/etc/passwd")
    other = recbench(*RUN, *one, "--set", "name=other")
    assert other.returncode == 0, other.stderr
    assert "taken over" not in other.stderr
    changed = recbench(*RUN, *one, "--set", "name=third", TINY_SOURCE="else", TINY_BRIGHT="120")
    assert changed.returncode == 0, changed.stderr
    assert "taken over" not in changed.stderr  # they are of other images


@pytest.mark.soak
def test_a_kill_at_any_moment_changes_nothing_in_the_end(
    root: Path,
    recbench: Recbench,
    command_line: CommandLine,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    undisturbed = tmp_path_factory.mktemp("undisturbed")
    (undisturbed / "tiny.yaml").write_text(SUITE)
    run = (*RUN, "--set", SLOW, "--checkpoint-seconds", "0.1")
    assert command_line.run(*run, cwd=undisturbed, environment=environment).returncode == 0
    for seconds in (0.5, 1.0, 2.0, 3.0, 4.0, 6.0) if SOAK else (1.0, 3.0):
        process = command_line.start(*run, cwd=root, environment=environment)
        time.sleep(seconds)
        process.kill()
        process.wait()
    assert recbench(*RUN, "--set", SLOW).returncode == 0
    assert outcome(root) == outcome(undisturbed)


def test_optuna_goes_one_by_one_and_comes_out_the_same(root: Path, recbench: Recbench) -> None:
    pytest.importorskip("optuna")
    one = ("--set", "tuning.strategy=optuna", "--set", "tuning.budget=3", "--set", "losses=[{name: l2, scale: 1}]")
    assert recbench(*RUN, *one).returncode == 0
    kept = outcome(root)
    assert len(kept["plan"].searches[0].trials) == 3
    assert kept["plan"].counts == (3, 2)
    assert "5 done, 0 to run" in recbench(*RUN, *one, "--dry-run").stderr
    second = [planned.id for planned in kept["plan"].jobs][1]
    (root / "results" / "tiny" / "jobs" / second / "record.json").unlink()
    assert recbench(*RUN, *one).returncode == 0
    assert {key: value for key, value in outcome(root).items() if key != "board"} == {
        key: value for key, value in kept.items() if key != "board"
    }


def test_candidates_that_crash_lose_and_the_others_go_on(root: Path, recbench: Recbench) -> None:
    """A method whose candidates all fail is a failed row; the other method is ranked."""
    broken = "losses=[l2, {name: misbehaving, scale: 1, params: {what: raise}}]"
    done = recbench(*RUN, "--set", broken)
    assert done.returncode == 1
    assert "0/2 failed" in done.stdout
    assert "raises on purpose" in done.stdout
    search = next(s for s in plan_of(root).searches if s.label == "misbehaving")
    assert [trial.status for trial in search.trials] == ["failed", "failed"]
    assert search.chosen is None
    again = recbench(*RUN, "--set", broken)
    assert "2 of" in again.stderr  # failures run again, and lose again
    assert again.returncode == 1


def test_a_loss_that_cannot_be_calibrated_ends_the_run_with_a_word(root: Path, recbench: Recbench) -> None:
    done = recbench(*RUN, "--set", "losses=[l2, {name: misbehaving, params: {what: nan}}]")
    assert done.returncode == 2
    assert "the losses could not be calibrated: misbehaving has no scale" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(root.glob("results/tiny/jobs/*/record.json"))


def test_nothing_of_tuning_brings_torch_into_the_coordinator(root: Path, environment: dict[str, str]) -> None:
    script = (
        "import sys; sys.argv = ['recbench', 'run', 'tiny.yaml', '--plugin', sys.argv[1], '--dry-run', '--set', "
        "'tuning.strategy=optuna', '--set', 'losses=[{name: l2, scale: 1}]']\n"
        "from recbench.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(TINY)], cwd=root, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0


def test_failed_candidates_run_again_before_anything_is_chosen(root: Path, recbench: Recbench) -> None:
    """A failure that another run mends does not keep its candidate from being chosen."""
    (root / "flaky.py").write_text(FLAKY)
    call = ("run", "tiny.yaml", "--plugin", TINY, "--plugin", "flaky.py", "--set", "losses=[{name: flaky, scale: 1}]")
    first = recbench(*call, FLAKY="1")
    assert first.returncode == 0, first.stderr  # the other candidate won
    (search,) = plan_of(root).searches
    assert [trial.status for trial in search.trials] == ["scored", "failed"]
    second = recbench(*call)
    assert second.returncode == 0, second.stderr
    (search,) = plan_of(root).searches
    assert [trial.status for trial in search.trials] == ["scored", "scored"]
    data = json.loads((root / "results" / "tiny" / "leaderboard.json").read_text())
    assert data["boards"][0]["rows"][0]["tuned"]["failed"] == 0


FLAKY = """
import os
from recbench import LossEntry, hookimpl

def __getattr__(name):
    if name != "Flaky":
        raise AttributeError(name)
    import json
    from pathlib import Path
    from recbench.contracts.loss import Loss

    class Flaky(Loss):
        def __init__(self, setting):
            super().__init__()

        def forward(self, decoded, target, context):
            return 0.5 * (decoded - target).square().sum((1, 2, 3))

        def trace(self, decoded, target, context):
            if os.environ.get("FLAKY") and any(
                frame.f_locals.get("model") is not None and getattr(frame.f_locals["model"], "kl_weight", 0) == 1.0
                for frame in _frames()
            ):
                raise RuntimeError("a bad day")
            return {}

    return Flaky

def _frames():
    import sys
    frame = sys._getframe()
    while frame:
        yield frame
        frame = frame.f_back

@hookimpl
def recbench_losses():
    yield LossEntry(name="flaky", factory=f"{__name__}:Flaky", summary="fails at the KL weight 1 on a bad day")
"""
