"""A month of a cluster of 64 GPUs in which everything goes wrong that does: nothing is lost, nothing is done twice.

``RECBENCH_SOAK_JOBS`` and ``RECBENCH_SOAK_HARSHER`` make it longer and worse, ``RECBENCH_SOAK_SEED`` another one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from recbench.analysis.ranking import rank
from recbench.render.leaderboard import FORMATS
from recbench.store.store import Store
from recbench.sweep.state import inspect
from tests.conftest import ROOT, SOAK
from tests.simulated_cluster import MONTH, RATES, faults_of_a_month, record_of

JOBS = int(os.environ.get("RECBENCH_SOAK_JOBS", "20000" if SOAK else "400"))
HARSHER = float(os.environ.get("RECBENCH_SOAK_HARSHER", "10"))
SEED = int(os.environ.get("RECBENCH_SOAK_SEED", "1"))


def test_the_faults_of_a_month_follow_from_its_seed_and_the_published_rates() -> None:
    assert faults_of_a_month(3, 10) == faults_of_a_month(3, 10) != faults_of_a_month(4, 10)
    months = 300
    counts = Counter(fault.kind for seed in range(months) for fault in faults_of_a_month(seed, 10))
    for kind, rate in RATES.items():
        # ten times the rate; at 0.2 a month the one fault that every month has adds to the mean
        assert counts[kind] / months == pytest.approx(10 * rate, rel=0.15 if rate < 0.5 else 0.1)
    assert all(0 <= fault.time <= MONTH for fault in faults_of_a_month(0, 100))
    assert {fault.kind for fault in faults_of_a_month(0, 0.001)} == set(RATES)


@pytest.mark.slow(seconds=60)
@pytest.mark.soak
def test_a_month_of_faults_loses_nothing_and_does_nothing_twice(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.simulated_cluster", str(tmp_path)]
    options = ["--jobs", str(JOBS), "--harsher", str(HARSHER), "--seed", str(SEED)]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RECBENCH_")}
    clean["RECBENCH_PREFLIGHT"] = "0"
    done = subprocess.run([*command, *options], cwd=ROOT, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    month = json.loads(done.stdout)
    assert month["jobs"] == JOBS
    assert set(month["faults"]) == set(RATES), "the month met every kind of fault"
    assert month["coordinators"]["finished"] >= 1
    assert month["coordinators"]["killed"] >= 1
    assert month["coordinators"]["disk full"] >= 1

    store = Store(tmp_path / "results" / "month")
    plan = store.read_plan()
    state = inspect(plan, store)
    assert not state.to_run
    assert not state.unusable
    jobs = {planned.id: plan.job(planned) for planned in plan.jobs}
    assert len(jobs) == JOBS
    for job_id, job in jobs.items():
        record = store.read(job_id)
        assert record is not None
        assert record == record_of(job, plan.suite, record.data.fingerprint if record.data else "")
        again = month["damaged"].get(job_id, 0)
        assert month["written"].get(job_id, 0) <= 1 + again, "a job with a whole record was run again"
    aside = list((store.root / "set-aside").iterdir())
    assert len(aside) == sum(month["damaged"].values()), "damaged records, and no others, were set aside"
    assert all((folder / "why.txt").is_file() for folder in aside)

    disturbed = rank(plan, state.records, state.unusable)
    fingerprint = next(iter(state.records.values())).data
    assert fingerprint is not None
    undisturbed = rank(plan, {key: record_of(job, plan.suite, fingerprint.fingerprint) for key, job in jobs.items()})
    assert FORMATS["json"][1](disturbed) == FORMATS["json"][1](undisturbed)
