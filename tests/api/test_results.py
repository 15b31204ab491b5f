"""``recbench.load`` and ``recbench.run``: results as tables, models and figures, from scripts and notebooks."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import matplotlib.figure
import pytest
import torch

import recbench
from recbench import UserError
from recbench.analysis.tables import board_table
from recbench.api.running import assignments
from tests.conftest import TINY, TINY_SUITE, Recbench


@pytest.fixture
def results(finished_tiny: Path) -> recbench.SuiteResults:
    return recbench.load("tiny", results=finished_tiny.parent / "results", plugins=[TINY])


def test_tables(results: recbench.SuiteResults) -> None:
    board = results.leaderboard()
    assert set(board["method"]) == {"l1", "l2"} == set(results.methods)
    assert board["psnr_mean"].dtype == float  # which plots and means need
    assert list(board.columns) == list(board_table(results._leaderboard).columns)
    scores = results.scores()
    assert len(scores) == 4 * 2 and set(scores["metric"]) == {"psnr", "ssim"}
    images = results.per_image()
    assert len(images) == 4 * 32
    means = images.groupby(["method", "seed"])["psnr"].mean()
    told = scores[scores["metric"] == "psnr"].set_index(["method", "seed"])["mean"]
    assert means.to_dict() == pytest.approx(told.to_dict())
    history = results.history()
    assert list(history["epoch"]) == [1, 2] * 4 and history["objective"].dtype == float
    by_ssim = results.leaderboard(metrics=["ssim"], confidence=0.9, cost=True)
    assert "images_per_second" in by_ssim.columns


def test_images_model_and_figures(results: recbench.SuiteResults) -> None:
    kept = results.images("l1")
    assert kept["target"].shape == kept["decoded"].shape == (16, 3, 16, 16)
    model = results.model("l1", 0)
    with torch.no_grad():
        again = model(torch.from_numpy(kept["target"]))
    pixels = again.clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    assert (abs(pixels.astype(int) - kept["decoded"]) <= 1).all()  # another batch size may round otherwise
    assert not model.training and model.sample(2).shape == (2, 3, 16, 16)
    assert model.encode(torch.zeros(1, 3, 16, 16)).mean.shape == (1, model.latent_size)
    figure = results.figure("tiers")
    assert isinstance(figure, matplotlib.figure.Figure)
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[attr-defined]
    assert isinstance(results.figure("reconstructions"), matplotlib.figure.Figure)


def test_a_suite_is_found_by_name_file_folder_and_export(finished_tiny: Path, recbench_: Recbench) -> None:
    folder = finished_tiny.parent / "results"
    recbench_("export", "tiny", "-o", "tiny.zip")
    for given in (folder / "tiny", finished_tiny, finished_tiny.parent / "tiny.zip"):
        found = recbench.load(given, results=folder)
        assert len(found.scores()) == 8, given
        assert found.name == "tiny" and "4 of 4 jobs done" in repr(found)


@pytest.fixture
def recbench_(recbench: Recbench) -> Recbench:
    return recbench


def test_values_that_leave_out_finished_jobs_keep_the_suite_as_it_is(
    finished_tiny: Path, cache: Path, recbench_: Recbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RECBENCH_CACHE", str(cache))  # where it is noted which plugin files later commands load
    folder, lines = finished_tiny.parent / "results", list[str]()
    before = (folder / "tiny" / "plan.json").read_bytes()
    found = recbench.run(
        finished_tiny,
        set={"losses": ["l2"]},
        plugins=[TINY],
        results=folder,
        cache=cache,
        device="cpu",
        preflight=False,
        tell=lines.append,
    )
    assert found.methods == ("l2",) and found.name.startswith("tiny-")
    assert "set leaves out 2 finished jobs of tiny (l1)" in " ".join(lines)
    assert (folder / "tiny" / "plan.json").read_bytes() == before
    assert f"loading {TINY}, as {found.name} was run with" in recbench_("verify", found.name).stderr


def test_a_reference_board_is_loaded_by_name(tmp_path: Path, cache: Path) -> None:
    for name in ("tiny-reference", "reference:tiny-reference"):
        results = recbench.load(name, results=tmp_path, cache=cache)
        board = results.leaderboard()
        assert (board["status"] == "ranked").all() and results.name == "tiny-reference"
    assert {*board["method"]} == {*results.per_image()["method"]} <= {*results.history()["method"]}
    ranked = recbench.rank(results.per_image(), metric="psnr").set_index("method")
    for row in board.itertuples():
        assert ranked.loc[row.method, "low"] == pytest.approx(row.psnr_low)
    results.images(board["method"][0])
    with pytest.raises(UserError, match="reference boards and exports come without models"):
        results.model(board["method"][0])
    with pytest.raises(UserError, match="recbench ships no reference board of 'x'"):
        recbench.load("reference:x")
    with pytest.raises(UserError, match="recbench ships no suite 'quikstart'; did you mean 'quickstart'"):
        recbench.run("quikstart")


def test_bad_names_are_one_sentence(results: recbench.SuiteResults, finished_tiny: Path) -> None:
    folder = finished_tiny.parent / "results"
    broken = finished_tiny.parent / "broken.zip"
    broken.write_bytes(b"PK nothing")
    for call, message in [
        (lambda: recbench.load("tinny", results=folder), "no results of the suite 'tinny'"),
        (lambda: recbench.load("a/b", results=folder), "is neither a folder of results, an export, nor the name"),
        (lambda: recbench.load(broken, results=folder), "broken.zip"),
        (lambda: recbench.load(7), "expected the name or the path of a suite, got 7"),  # type: ignore[arg-type]
        (lambda: recbench.run(None), "expected the name or the path of a suite, got None"),  # type: ignore[arg-type]
        (lambda: results.images("l3"), "tiny has no method 'l3'; "),
        (lambda: results.images("l1", 7), "l1 has no seed 7; choose from: 0, 1"),
        (lambda: results.images("l1", setting="x"), "tiny has no setting 'x'"),
        (lambda: results.model("l1", device="gpu"), "device 'gpu' cannot be used"),
        (lambda: results.figure("tirs"), "unknown figure 'tirs'; did you mean 'tiers'?"),
        (lambda: results.figure("tiers", board=2), "board 2: tiny has 1 leaderboards"),
        (lambda: results.leaderboard(metrics=["lpips"]), "the suite tiny has no metric 'lpips'"),
        (lambda: results.leaderboard(confidence=95), "confidence must be between 0 and 1, got 95"),
        (lambda: results.model("l1")(torch.zeros(1, 1, 16, 16)), "images must be a tensor (B, 3, 16, 16)"),
    ]:
        with pytest.raises(UserError) as error:
            call()
        assert message in str(error.value)
    record = next((folder / "tiny" / "jobs").glob("*/images.npz"))
    for file in folder.glob("tiny/jobs/*/scores.parquet"):
        file.write_bytes(b"nothing")
    record.unlink()
    with pytest.raises(UserError, match=r"scores\.parquet cannot be read: it is not the file that the record"):
        results.per_image()


def test_values_become_assignments() -> None:
    import numpy as np

    assert assignments({"seeds": np.arange(2), "training.epochs": np.int64(3), "a": (1, "no")}) == [
        "seeds=[0, 1]",
        "training.epochs=3",
        "a=[1, 'no']",
    ]
    with pytest.raises(UserError, match="set: a: object is no value of a suite"):
        assignments({"a": object()})
    with pytest.raises(UserError, match="set must be values by dotted key"):
        assignments(["a=1"])  # type: ignore[arg-type]


SCRIPT = """
import recbench
print("this script runs")
results = recbench.run("tiny.yaml", set={{"seeds": [0], "training.epochs": 1}}, plugins=[{tiny!r}], device="cpu")
print(len(results.scores()), "scores")
"""


def _run(code: str, folder: Path, environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    (folder / "tiny.yaml").write_text(TINY_SUITE)
    text = textwrap.dedent(code).format(tiny=str(TINY))
    if not command:
        (folder / "script.py").write_text(text)
        command = (sys.executable, "script.py")
    else:
        command = (*command, text)
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_a_script_without_a_guard_is_executed_once(tmp_path: Path, environment: dict[str, str]) -> None:
    done = _run(SCRIPT, tmp_path, environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["this script runs", "4 scores"]
    assert "2/2 done: " in done.stderr and "this script runs" not in done.stderr
    assert not any("this script" in log.read_text() for log in tmp_path.glob("results/tiny/jobs/*/log.txt"))
    again = _run(SCRIPT, tmp_path, environment)
    assert again.returncode == 0 and "done: " not in again.stderr
    assert (tmp_path / "results" / "tiny" / "leaderboard.csv").is_file()


def test_a_suite_runs_outside_of_the_main_thread_and_without_a_file(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """As in a notebook: its ``__main__`` has no file. And as in a web service: no handler of signals can be set."""
    code = """
    import recbench, threading
    lines = []
    def work():
        recbench.run("tiny.yaml", set={{"losses": ["l2"], "seeds": [0]}}, plugins=[{tiny!r}], device="cpu", tell=lines.append)
    thread = threading.Thread(target=work); thread.start(); thread.join()
    print(lines[-1])
    """  # noqa: E501
    done = _run(code, tmp_path, environment, sys.executable, "-c")
    assert done.stdout.startswith("1/1 done: l2, seed 0"), done.stderr
    assert done.stderr == ""


def test_failures_and_mistakes(tmp_path: Path, environment: dict[str, str]) -> None:
    code = """
    import recbench
    losses = [{{"name": "misbehaving", "params": {{"what": "raise"}}}}]
    results = recbench.run("tiny.yaml", set={{"losses": losses, "seeds": [0]}}, plugins=[{tiny!r}], device="cpu")
    print(results.leaderboard()["status"].tolist(), len(results.scores()))
    for arguments in ({{"suite": "nowhere.yaml"}}, {{"set": {{"training.epoch": 1}}}}, {{"executor": "locl"}},
                      {{"executor_options": {{"job": 1}}}}, {{"device": "tpu"}}):
        try:
            recbench.run(**{{"suite": "tiny.yaml", "plugins": [{tiny!r}], "tell": print, **arguments}})
        except recbench.UserError as error:
            print(str(error).splitlines()[0])
    """
    done = _run(code, tmp_path, environment)
    lines = done.stdout.splitlines()
    assert lines[0] == "['failed'] 0", done.stderr
    for line, message in zip(lines[1:], ("nowhere.yaml", "epoch", "locl", "job", "tpu"), strict=True):
        assert message in line, lines
    assert "recbench logs" in done.stderr and "Traceback" not in done.stderr
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["tiny"]
