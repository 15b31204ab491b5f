"""The live view, the time left, and estimates."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from recbench.cli.estimating import text
from recbench.cli.live import LiveView
from recbench.cli.time_left import expected, seconds_left
from recbench.contracts.executor import Ended, JobProgress
from recbench.store.record import Cost
from recbench.store.store import Store
from recbench.sweep.estimate import Known, Usage, estimate
from recbench.sweep.state import inspect
from tests.conftest import TINY, Recbench
from tests.made_up import make_plan, make_record, make_trouble


def seconds(text: str) -> int:
    """The seconds of a printed duration."""
    total = 0
    for part in text.split(":"):
        total = 60 * total + int(part)
    return total


@pytest.fixture
def view(tmp_path: Path) -> LiveView:
    """A view of two methods with two seeds each, of which nothing has run."""
    plan = make_plan(["l2", "wiener"])
    found = LiveView()
    found.begin(plan, inspect(plan, Store(tmp_path / plan.suite)), "two side by side")
    return found


def job(view: LiveView, number: int) -> str:
    assert view.plan is not None
    return view.plan.jobs[number].id


def test_the_time_left_is_never_less_than_that_of_a_running_job(view: LiveView) -> None:
    assert view.left() == "…"
    view.event(JobProgress(job(view, 0), 1, 9, 1.0, 100.0, 60.0, 0.5), None)
    view.event(JobProgress(job(view, 2), 1, 9, 1.0, 100.0, 167.0, 0.2), None)
    # One more l2 of 120 s follows the first one, and one more wiener of 209 s the first that is free after it.
    assert seconds(view.left()) == 60 + 120 + 0 or seconds(view.left()) == 167 + 208
    assert seconds(view.left()) >= 167


def test_the_last_jobs_end_when_they_say(view: LiveView) -> None:
    assert view.plan is not None
    for number in (0, 2):
        planned = view.plan.jobs[number]
        view.event(Ended(planned.id, "recorded"), make_record(view.plan, planned))
    view.event(JobProgress(job(view, 1), 2, 9, 1.0, 100.0, 60.0, 0.5), None)
    view.event(JobProgress(job(view, 3), 2, 9, 1.0, 100.0, 167.0, 0.2), None)
    assert view.left() == "2:47"


def test_jobs_that_are_done_already_tell_how_long_others_take(tmp_path: Path) -> None:
    """Three epochs of 32 images at 8 a second, and a tenth of a second for evaluation: 12 s."""
    plan = make_plan(["l2", "wiener"], seeds=[0, 1])
    store = Store(tmp_path / plan.suite)
    cost = Cost(images_per_second=8.0, step_milliseconds=2.0, peak_memory_bytes=2**30, parameters=9)
    store.add(make_record(plan, plan.jobs[0], cost=cost))
    view = LiveView()
    view.begin(plan, inspect(plan, store), "one by one")
    assert view.left() == "0:36"


def test_bars_move_within_the_first_epoch(view: LiveView) -> None:
    found = []
    for done in (0.01, 0.04, 0.09):
        view.event(JobProgress(job(view, 0), 1, 9, 1.0, 100.0, 100 * (1 - done), done), None)
        found.append(view.work())
    assert found == pytest.approx([0.01, 0.04, 0.09])


def test_an_executor_that_does_not_say_how_far_a_job_is_has_bars_too(view: LiveView) -> None:
    view.event(JobProgress(job(view, 0), 1, 9, 1.0, 100.0, 1e-6), None)
    time.sleep(0.01)
    view.event(JobProgress(job(view, 0), 1, 9, 1.0, 100.0, 1e-6), None)
    assert view.work() > 0.5


def test_a_failed_job_names_its_log(view: LiveView, capsys: pytest.CaptureFixture[str]) -> None:
    assert view.plan is not None
    planned = view.plan.jobs[0]
    view.event(Ended(planned.id, "recorded"), make_trouble(view.plan, planned, message="it [broke]"))
    assert f"failed   l2, seed 0  it [broke] (recbench logs {planned.id[:8]})" in capsys.readouterr().err


def test_slots_take_the_next_job() -> None:
    assert seconds_left([], [10.0, 10.0, 10.0], 2) == 20
    assert seconds_left([5.0], [10.0], 1) == 15
    assert expected({}, 0, 0) is None
    assert expected({(0, 1): [4.0], (1, 0): [8.0]}, 1, 1) == 8


@pytest.mark.parametrize(("options", "lines"), [([], 1), (["-q"], 0), (["-v"], 2)])
def test_quiet_and_verbose(recbench: Recbench, tiny: Path, options: list[str], lines: int) -> None:
    done = recbench("run", tiny, "--plugin", TINY, "--device", "cpu", "--set", "seeds=[0]", *options)
    assert done.returncode == 0, done.stderr
    assert ("  done  " in done.stderr) == (lines > 0)
    assert ("jobs to run" in done.stderr) == (lines > 0)
    assert "rank  tier  method" in done.stdout


# Estimates


def test_what_is_known_of_a_method_counts_before_what_is_known_of_others() -> None:
    plan = make_plan(["l2", "wiener", "ssim"])
    known = Known()
    known.add(0, 0, Usage(10.0, 100.0, 1.0))
    known.add(0, 1, Usage(40.0, 200.0, 2.0))
    found = estimate(plan, plan.jobs, known, "from a test")
    assert found is not None
    assert found.seconds == 2 * (10 + 40 + 25)
    assert (found.memory, found.disk, found.unknown) == (200.0, 9.0, 0)
    assert estimate(plan, plan.jobs, Known(), "nothing") is None
    assert text(found) == (
        "6 jobs will take about 2:30 one after the other, up to 0.2 kB of memory each, and 0.0 kB on disk (from a test)"
    )


def test_dry_run_and_validate_say_what_jobs_take_and_how_they_know(recbench: Recbench, finished_tiny: Path) -> None:
    dry = recbench("run", finished_tiny, "--plugin", TINY, "--set", "seeds=[0, 1, 2]", "--dry-run")
    assert "2 jobs will take about 0:0" in dry.stderr
    assert "from the records of 4 finished jobs of this suite" in dry.stderr
    valid = recbench("validate", finished_tiny, "--plugin", TINY)
    assert "4 jobs will take about 0:0" in valid.stderr
    fresh = recbench("validate", finished_tiny, "--plugin", TINY, "--set", "name=fresh")
    assert "no job of this suite has finished yet; --estimate times a few steps" in fresh.stderr


def test_a_few_steps_are_timed(recbench: Recbench, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text(
        "datasets: [{name: shapes, params: {size: 32, train: 64, validation: 8, test: 8}}]\n"
        "architectures: [vae_bredell_small]\nlosses: [l2]\nmetrics: [psnr]\nseeds: [0]\ntraining: {epochs: 1}\n"
    )
    done = recbench("validate", "small.yaml", "--estimate", "--device", "cpu")
    assert "1 job will take about 0:" in done.stderr
    assert "from a few timed steps of 1 methods on made-up images" in done.stderr


# Help and completion


def test_help_groups_all_commands_and_has_examples(recbench: Recbench) -> None:
    from recbench.cli import COMMANDS, GROUPS

    listed = [name for names in GROUPS.values() for name in names]
    assert len(listed) == len(set(listed))
    assert set(listed) <= set(COMMANDS)
    help_text = recbench("--help").stdout
    assert all(f"{title}:" in help_text for title in (*GROUPS, "Examples"))
    assert all(f"\n  {name} " in help_text for name in COMMANDS)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["show", "wien"], {"wiener"}),
        (["show", "loss", "wien"], {"wiener"}),
        (["list", "los"], {"losses"}),
        (["leaderboard", "ti"], {"tiny", "tiny.yaml", "tiny-reference"}),
        (["run", "ti"], {"tiny.yaml", "tiny-reference"}),
        (["figure", "rec"], {"reconstructions"}),
        (["compare", "tiny", "ti"], {"tiny", "tiny.yaml", "tiny-reference"}),
        (["leaderboard", "celebahq"], set()),  # a suite that was not run, and has no board
        (["check", "wien"], {"wiener"}),
        (["check", "./mi"], {"./mine.py"}),
        (["score", "loss", "ms_"], {"ms_ssim"}),
        (["data", "prepare", "cifar100"], {"cifar100"}),
        (["weights", "fetch", "st_"], {"st_lpips"}),
        (["suites", "copy", "quickstart-"], {"quickstart-tuned"}),
        (["try", "--suite", "tiny-"], {"tiny-reference"}),
        (["run", "tiny.yaml", "--track", "tens"], {"tensorboard"}),
    ],
)
def test_shells_offer_suites_and_entries(
    recbench: Recbench, finished_tiny: Path, typed: list[str], offered: set[str]
) -> None:
    (finished_tiny.parent / "mine.py").touch()
    words = " ".join(["recbench", *typed])
    done = recbench(_RECBENCH_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(typed)))
    assert {line.partition(",")[2] for line in done.stdout.split()} == offered
