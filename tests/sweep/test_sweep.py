"""Sweeps from the command line: what happens when jobs, processes or the user misbehave."""

from __future__ import annotations

import json
import random
import signal
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from recbench.files import lock
from tests.command_line import CommandLine, ended
from tests.conftest import SOAK, TINY, TINY_SUITE, Recbench, environment_with

pytestmark = pytest.mark.slow(seconds=25)

RUN = ("run", "tiny.yaml", "--plugin", TINY)
MISBEHAVING = "losses=[l2, {{name: misbehaving, params: {{what: {what}, step: 3}}}}]"


def records(root: Path) -> dict[tuple[str, int], dict[str, Any]]:
    found = [json.loads(file.read_text()) for file in root.glob("results/tiny/jobs/*/record.json")]
    return {(record["job"]["loss"]["name"], record["job"]["seed"]): record for record in found}


def test_a_suite_runs_once_and_then_has_nothing_to_do(tiny: Path, recbench: Recbench) -> None:
    first = recbench(*RUN)
    assert first.returncode == 0, first.stderr
    assert "4/4 jobs done" in first.stdout
    root = tiny.parent
    files = {path: path.stat().st_mtime_ns for path in root.glob("results/tiny/jobs/*/*")}
    second = recbench(*RUN)
    assert second.returncode == 0
    assert "all 4 jobs are done; nothing to run" in second.stderr
    assert second.stdout == first.stdout == recbench("leaderboard").stdout
    assert files == {path: path.stat().st_mtime_ns for path in root.glob("results/tiny/jobs/*/*")}
    names = {
        "record.json",
        "job.json",
        "history.jsonl",
        "scores.parquet",
        "images.npz",
        "epochs.npz",
        "model.safetensors",
    }
    for folder in root.glob("results/tiny/jobs/*"):
        assert names <= {path.name for path in folder.iterdir()}
        assert not (folder / "checkpoint").exists()
    assert (root / "results/tiny/reconstructions.png").read_bytes().startswith(b"\x89PNG")


def test_only_what_is_missing_runs(tiny: Path, recbench: Recbench) -> None:
    recbench(*RUN, "--set", "seeds=[0]")
    more = recbench(*RUN)
    assert "2 of 4 jobs to run (2 done before)" in more.stderr


BAD_ENDS = {
    "raise": ("failed", "RuntimeError", "raises on purpose"),
    "exit": ("failed", "ProcessDied", "exit code 3"),
    "kill": ("failed", "ProcessDied", "SIGKILL"),
    "nan": ("diverged", "Diverged", "nan in epoch 1, step 3"),
    "inf": ("diverged", "Diverged", "inf in epoch 1, step 3"),
}


def test_a_job_that_ends_badly_costs_only_itself(tiny: Path, recbench: Recbench) -> None:
    """One suite with every bad end: each has its record, and only failures run again."""
    grid = f"{{grid: [{', '.join(BAD_ENDS)}]}}"
    arguments = (*RUN, "--set", MISBEHAVING.format(what=grid), "--set", "seeds=[0]")
    done = recbench(*arguments)
    assert done.returncode == 1
    jobs = tiny.parent / "results/tiny/jobs"
    found = {
        r["job"]["loss"]["params"].get("what", "l2"): r
        for r in map(json.loads, map(Path.read_text, jobs.glob("*/record.json")))
    }
    assert found.pop("l2")["status"] == "done"
    assert found.keys() == BAD_ENDS.keys()
    for what, (status, failure, words) in BAD_ENDS.items():
        bad = found[what]
        assert (bad["status"], bad["failure"]["type"]) == (status, failure)
        assert words in bad["failure"]["message"]
        assert (bad["failure"]["epoch"], bad["failure"]["step"]) == ((1, 3) if status == "diverged" else (None, None))
        assert f"0/1 {status}" in done.stdout
        assert words in done.stdout
    assert 'raise RuntimeError("this loss raises on purpose")' in found["raise"]["failure"]["traceback"]

    again = recbench(*arguments)
    assert again.returncode == 1
    assert "3 of 6 jobs to run (3 done before)" in again.stderr
    for bad in found.values():
        name = "failed-1.json" if bad["status"] == "failed" else "record.json"
        assert json.loads((jobs / bad["job_id"] / name).read_text()) == bad


LONG = ("--set", "training.epochs=6", "--set", "losses=[{name: misbehaving, params: {what: slow}}]")
PER_JOB_FILES = ("model.safetensors", "images.npz", "epochs.npz")


def running(commands: CommandLine, root: Path, environment: dict[str, str]) -> AbstractContextManager[Any]:
    """``recbench run`` of a slow suite in the background; nothing of it is left afterwards."""
    return ended(commands.start(*RUN, *LONG, "--checkpoint-seconds", "0.1", cwd=root, environment=environment))


def wait_for_checkpoint(root: Path, process: Any) -> None:
    deadline = time.monotonic() + 120
    while not list(root.glob("results/tiny/jobs/*/checkpoint/state.pt")):
        assert process.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def workers(root: Path) -> list[int]:
    """Processes with an open file in the results of this test: the jobs."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            links = [str(link.readlink()) for link in (folder / "fd").iterdir()] if folder.name.isdigit() else []
        except OSError:
            continue
        if any(link.startswith(str(root / "results")) for link in links):
            found.append(int(folder.name))
    return found


def outcome(root: Path) -> dict[tuple[str, int], Any]:
    """All that a job's result is: scores, history without speeds, and the checksums of model and images."""
    return {
        key: (
            record["scores"],
            {k: v for k, v in record["trained"]["final"].items() if k != "images_per_second"},
            [record["files"][name]["sha256"] for name in PER_JOB_FILES],
        )
        for key, record in records(root).items()
    }


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory, cache: Path, command_line: CommandLine
) -> tuple[dict[tuple[str, int], Any], str]:
    """Return the results of the slow suite without interruptions, and its leaderboard."""
    root = tmp_path_factory.mktemp("undisturbed")
    (root / "tiny.yaml").write_text(TINY_SUITE)
    done = command_line.run(*RUN, *LONG, cwd=root, environment=environment_with(cache))
    assert done.returncode == 0, done.stderr
    return outcome(root), (root / "results/tiny/leaderboard.json").read_text()


def test_ctrl_c_stops_cleanly_and_the_same_command_continues(
    tiny: Path,
    recbench: Recbench,
    command_line: CommandLine,
    environment: dict[str, str],
    undisturbed: tuple[dict[Any, Any], str],
) -> None:
    root = tiny.parent
    with running(command_line, root, environment) as process:
        wait_for_checkpoint(root, process)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues" in errors
    assert "Traceback" not in errors
    assert not records(root)
    assert len(list(root.glob("results/tiny/jobs/*/checkpoint/state.pt"))) == 2
    assert not workers(root)
    assert "missing" in recbench(*RUN, *LONG, "--dry-run").stdout
    assert recbench(*RUN, *LONG).returncode == 0
    assert outcome(root) == undisturbed[0]
    assert (root / "results/tiny/leaderboard.json").read_text() == undisturbed[1]


@pytest.mark.soak
def test_sigkill_at_any_moment_changes_nothing_in_the_end(
    tiny: Path,
    recbench: Recbench,
    command_line: CommandLine,
    environment: dict[str, str],
    undisturbed: tuple[dict[Any, Any], str],
) -> None:
    root = tiny.parent
    moments = random.Random(0)
    for _ in range(60 if SOAK else 3):
        with running(command_line, root, environment) as process:
            time.sleep(moments.uniform(0.5, 6))
            process.kill()
        deadline = time.monotonic() + 10
        while workers(root):
            assert time.monotonic() < deadline, "jobs outlive a coordinator that was killed"
            time.sleep(0.05)
    assert recbench(*RUN, *LONG).returncode == 0
    assert outcome(root) == undisturbed[0]
    assert (root / "results/tiny/leaderboard.json").read_text() == undisturbed[1]


def test_a_job_that_another_process_holds_is_left_to_it(tiny: Path, recbench: Recbench) -> None:
    one = (*RUN, "--set", "seeds=[0]")
    jobs = [line.split()[0] for line in recbench(*one, "--dry-run").stdout.splitlines() if " missing " in line]
    assert len(jobs) == 2
    with lock(tiny.parent / "results/tiny/jobs" / jobs[0]) as mine:
        assert mine
        done = recbench(*one)
    assert done.returncode == 1
    assert f"job {jobs[0]} is being run by another process" in done.stderr
    assert len(records(tiny.parent)) == 1
    assert recbench(*one).returncode == 0


def test_records_of_other_images_are_set_aside_and_their_jobs_run_again(tiny: Path, recbench: Recbench) -> None:
    assert recbench(*RUN, "--set", "seeds=[0]").returncode == 0
    other = recbench(*RUN, "--set", "seeds=[0]", TINY_SOURCE="other", TINY_BRIGHT="150")
    assert other.returncode == 0
    assert "the images of blobs have changed" in other.stderr
    aside = list((tiny.parent / "results/tiny/set-aside").iterdir())
    assert len(aside) == 2
    assert all((folder / "record.json").is_file() and (folder / "why.txt").is_file() for folder in aside)
    assert "2/2 jobs done" in other.stdout


OBSERVER = """
from pathlib import Path
from recbench import hookimpl

@hookimpl
def recbench_job_started(job, job_id):
    Path("seen.txt").open("a").write(f"started {job['loss']['name']}\\n")

@hookimpl
def recbench_epoch_ended(job_id, epoch, values):
    Path("seen.txt").open("a").write(f"epoch {epoch} {values['objective'] > 0}\\n")

@hookimpl
def recbench_job_ended(job_id, record):
    Path("seen.txt").open("a").write(f"ended {record['status']}\\n")
"""

BROKEN_OBSERVER = """
from recbench import hookimpl

@hookimpl
def recbench_epoch_ended(job_id, epoch, values):
    raise RuntimeError("no connection to the tracker")
"""


def test_trackers_see_everything_and_a_broken_one_stops_nothing(tiny: Path, recbench: Recbench) -> None:
    root = tiny.parent
    (root / "good.py").write_text(OBSERVER)
    (root / "bad.py").write_text(BROKEN_OBSERVER)
    one = ("--set", "seeds=[0]", "--set", "losses=[l2]")
    done = recbench(*RUN, *one, "--plugin", "good.py", "--plugin", "bad.py")
    assert done.returncode == 0, done.stderr
    seen = (root / "seen.txt").read_text().splitlines()
    assert seen == ["started l2", "epoch 1 True", "epoch 2 True", "ended done"]
    (log,) = root.glob("results/tiny/jobs/*/observers.log")
    assert log.read_text().count("was disabled") == 1
    assert "RuntimeError: no connection to the tracker" in log.read_text()


def test_per_image_scores_and_set_metrics(tiny: Path, recbench: Recbench) -> None:
    import pandas
    from safetensors import safe_open

    done = recbench(*RUN, "--set", "seeds=[0]", "--set", "losses=[l2]", "--set", "metrics=[psnr, mean_error]")
    assert done.returncode == 0, done.stderr
    (record,) = records(tiny.parent).values()
    folder = tiny.parent / "results/tiny/jobs" / record["job_id"]
    table = pandas.read_parquet(folder / "scores.parquet")
    assert list(table) == ["kl", "psnr"]
    assert len(table) == 32
    assert record["scores"]["psnr"]["mean"] == pytest.approx(table["psnr"].mean())
    assert record["scores"]["psnr"]["std"] == pytest.approx(table["psnr"].std(ddof=0))
    assert record["evaluated"]["kl"] == pytest.approx(table["kl"].mean())
    assert record["evaluated"]["images"] == "rounded to 8 bits"
    assert record["scores"]["mean_error"]["std"] is None
    with safe_open(folder / "model.safetensors", "pt") as model:
        assert "architecture.encoder.weight" in model.keys()  # noqa: SIM118 - not a dictionary


def test_several_settings_have_boards_of_their_own(tiny: Path, recbench: Recbench) -> None:
    grid = "architectures=[{name: linear, params: {latent_size: {grid: [2, 4]}}}]"
    done = recbench(*RUN, "--set", grid, "--set", "seeds=[0]")
    assert done.returncode == 0, done.stderr
    assert "blobs · linear latent_size=2" in done.stdout
    assert "blobs · linear latent_size=4" in done.stdout
    board = json.loads((tiny.parent / "results/tiny/leaderboard.json").read_text())
    assert len(board["boards"]) == 2
    assert (tiny.parent / "results/tiny/reconstructions-2.png").is_file()
