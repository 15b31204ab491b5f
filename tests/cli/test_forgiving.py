"""Names that are taken as they are meant, plugins that are remembered, and overrides that destroy nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from recbench.plan.search import grow
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registry
from recbench.suite.suite import load_suite
from recbench.sweep.apart import _searched
from tests.conftest import ROOT, TINY, Recbench

LOSSES = "losses=[l2, charbonnier]"


def plan_of(folder: Path) -> dict[str, float]:
    """The KL weight of each method of a plan."""
    plan = json.loads((folder / "plan.json").read_text().splitlines()[0])
    return {method["label"]: method["kl_weight"] for method in plan["methods"]}


# --set


def test_names_in_a_new_list_stand_for_the_losses_of_the_suite(tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(
        "datasets: [photos]\narchitectures: [vae_bredell]\nmetrics: [psnr]\nseeds: [0]\n"
        "training: {epochs: 1}\nlosses:\n"
        "  - {name: l2, kl_weight: 0.25}\n  - {name: charbonnier, label: soft, kl_weight: 3, params: {epsilon: 0.5}}\n"
        "  - {name: charbonnier, label: hard, kl_weight: 4}\n"
    )
    registry = Registry(load_plugins())

    def methods(losses: str) -> dict[str, tuple[float, object]]:
        plan = load_suite(file, registry, [f"losses={losses}"]).plan
        return {each.label: (each.kl_weight, each.loss.params.get("epsilon")) for each in plan.methods}

    assert methods("[l2, l1]") == {"l2": (0.25, None), "l1": (1.0, None)}
    assert methods("[soft]") == {"soft": (3, 0.5)}
    assert methods("[charbonnier]") == {"soft": (3, 0.5), "hard": (4, 0.001)}
    assert methods("[{name: charbonnier, label: soft, params: {epsilon: 2}}]") == {"soft": (3, 2.0)}
    assert methods("[{name: l2, kl_weight: 7}]") == {"l2": (7, None)}


def test_other_losses_leave_plan_board_and_jobs_of_the_suite_alone(recbench: Recbench, finished_tiny: Path) -> None:
    results = finished_tiny.parent / "results"
    before = {path: path.read_bytes() for path in sorted((results / "tiny").rglob("*")) if path.is_file()}
    done = recbench("run", "tiny.yaml", "--plugin", TINY, "--device", "cpu", "--set", LOSSES)
    assert done.returncode == 0, done.stderr
    (apart,) = [folder for folder in results.iterdir() if folder.name.startswith("tiny-")]
    said = " ".join(done.stderr.split())
    assert f"--set leaves out 2 finished jobs of tiny (l1): this run is kept apart from it as {apart.name}" in said
    assert "2 jobs were already done for other suites, and were taken over from tiny" in said
    assert "charbonnier: the KL weight is 1, the default, and that of the other losses 0.001" in said
    assert plan_of(apart) == {"l2": 0.001, "charbonnier": 1.0}
    changed = [path for path, content in before.items() if not path.is_file() or path.read_bytes() != content]
    assert [path.name for path in changed if path.name not in ("lock", "statistics.json")] == []
    assert "nothing to remove" in recbench("clean", "tiny").stderr
    again = recbench("run", "tiny.yaml", "--plugin", TINY, "--device", "cpu", "--set", LOSSES)
    assert f"{apart.name}: all 4 jobs are done; nothing to run" in again.stderr


def test_more_seeds_go_on_in_place_and_a_suite_that_lost_jobs_says_so(recbench: Recbench, finished_tiny: Path) -> None:
    more = recbench("run", "tiny.yaml", "--plugin", TINY, "--set", "seeds=[0, 1, 2]", "--dry-run")
    assert "4 done, 2 to run" in more.stderr
    assert "kept apart" not in more.stderr
    text = finished_tiny.read_text()
    finished_tiny.write_text(text.replace("  - {name: l1, kl_weight: 0.001}\n", ""))
    fewer = recbench("run", "tiny.yaml", "--plugin", TINY, "--dry-run")
    assert "2 finished jobs of tiny (l1) are not in the suite any more" in fewer.stderr


def test_trials_stay_when_another_metric_selects_among_them(tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(
        "datasets: [photos]\narchitectures: [vae_bredell]\nmetrics: [psnr, ssim]\nseeds: [0]\n"
        "training: {epochs: 1}\nlosses: [{name: l2, scale: 1}]\n"
        "tuning: {budget: 2, kl_weight: {low: 0.1, high: 1}, select: {metric: psnr}}\n"
    )
    registry = Registry(load_plugins())

    def gone(*overrides: str) -> int:
        before, after = (load_suite(file, registry, list(given)).plan for given in ((), overrides))
        return len(_searched(grow(before, {}), after))

    assert gone("tuning.select.metric=ssim") == 0
    assert gone("tuning.budget=3") == 2


# Names


@pytest.mark.parametrize("kind", ["loss", "losses", "metric", "executors"])
def test_kinds_have_a_singular_and_a_plural(recbench: Recbench, kind: str) -> None:
    done = recbench("list", kind)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) >= 3


def test_an_entry_is_shown_without_its_kind(recbench: Recbench) -> None:
    assert recbench("show", "wiener").stdout == recbench("show", "loss", "wiener").stdout
    both = recbench("show", "ssim").stdout
    assert both.count("ssim: ") >= 2
    assert ("kind          loss" in both, "kind          metric" in both) == (True, True)
    unknown = recbench("show", "wienr")
    assert (unknown.returncode, unknown.stdout) == (2, "")
    assert "there is no entry 'wienr'; did you mean 'wiener'?" in unknown.stderr


def test_figure_alone_lists_the_figures(recbench: Recbench) -> None:
    done = recbench("figure")
    assert done.returncode == 0
    assert "reconstructions  " in done.stdout


def test_weights_are_named_by_entry_or_file_and_nothing_is_fetched_unasked(recbench: Recbench) -> None:
    nothing = recbench("weights", "fetch", RECBENCH_WEIGHTS="", TORCH_HOME="/nowhere")
    assert nothing.returncode == 2
    assert "nothing was fetched: give the names of those that you need, or --yes for all" in nothing.stderr
    assert "squeezenet1_1-b8a52dc0.pth  5.0 MB  for loss lpips, loss vqgan, metric lpips" in nothing.stderr
    wrong = recbench("weights", "fetch", "st_lpip")
    assert "did you mean 'st_lpips'?" in wrong.stderr


def test_names_of_weights() -> None:
    from recbench.cli.weights import _named
    from recbench.contracts.entries import Weights
    from recbench.errors import UserError

    first, second = (
        Weights(file=f"{name}.pth", size=1, sha256="0" * 64, address="https://example.org", citation="", licence="")
        for name in ("one", "two")
    )
    users = {first: ["loss st_lpips", "metric st_lpips"], second: ["metric st_lpips"]}
    assert _named(users, ("st_lpips",)) == [first, second]
    assert _named(users, ("two", "two.pth")) == [second]
    with pytest.raises(UserError, match="no entry needs weights 'onee'"):
        _named(users, ("onee",))


def test_the_log_of_a_job_that_printed_nothing_is_its_epochs(recbench: Recbench, finished_tiny: Path) -> None:
    job = next((finished_tiny.parent / "results" / "tiny" / "jobs").iterdir())
    done = recbench("logs", job.name[:8])
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[1] for line in lines[:2]] == ["1/2", "2/2"]
    assert lines[2].startswith("done: psnr ")
    (job / "log.txt").unlink()
    assert recbench("logs", job.name[:8]).stdout == done.stdout
    (job / "log.txt").write_text("printed\n")
    assert recbench("logs", job.name[:8]).stdout == "printed\n"


# Remembered plugins


def test_retry_and_verify_remember_plugin_files(recbench: Recbench, tiny: Path) -> None:
    shutil.copy(TINY, tiny.parent / "mine.py")
    few = ["--set", "seeds=[0]", "--set", "losses.1={name: misbehaving, params: {what: raise}}", "--device", "cpu"]
    assert recbench("run", tiny, "--plugin", "mine.py", *few).returncode == 1
    verified = recbench("verify", "tiny")
    assert "1 of 1 jobs are verified" in verified.stdout
    assert f"loading {tiny.parent / 'mine.py'}, as tiny was run with" in verified.stderr
    retried = recbench("retry", "tiny", "--device", "cpu")
    assert "1 of 2 jobs to run" in retried.stderr
    (tiny.parent / "mine.py").unlink()
    assert "give --plugin mine.py" in recbench("retry", "tiny", "--device", "cpu").stderr


def test_results_from_elsewhere_name_no_code_to_load(recbench: Recbench, finished_tiny: Path) -> None:
    """Only a run of this user notes plugin files, and not in the folder of results."""
    assert "loading" not in recbench("verify", "tiny").stderr
    assert not list((finished_tiny.parent / "results").rglob("*plugins*"))


# One problem, and before anything is printed


def test_data_that_are_not_there_are_one_problem_with_its_cause_first(recbench: Recbench, tmp_path: Path) -> None:
    shutil.copy(ROOT / "suites" / "celeba64.yaml", tmp_path)
    done = recbench("validate", "celeba64.yaml")
    assert done.stderr.startswith("error: 1 problem found")
    assert "there is no folder data/celeba; 'recbench data prepare celeba' fetches its files" in done.stderr


def test_matched_kl_without_curves_prints_no_board(recbench: Recbench, finished_tiny: Path) -> None:
    done = recbench("leaderboard", "tiny", "--matched-kl")
    assert (done.returncode, done.stdout) == (2, "")
    assert "fewer than two losses with curves" in done.stderr
