"""``recbench try``: a new loss among the methods of a finished board, of which none is trained again."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from tests.command_line import CommandLine
from tests.conftest import TINY, environment_with
from tests.readme import blocks

SUITE = """\
name: board
datasets: [{name: blobs, params: {size: 8, count: 48}}]
architectures: [{name: linear, params: {latent_size: 3}}]
losses: [l2, l1]
seeds: [0, 1]
training: {epochs: 2, batch_size: 8, learning_rate: 0.01}
metrics: [psnr, mse]
tuning: {strategy: grid, budget: 2, kl_weight: {low: 0.001, high: 0.1}, params: {}, select: {metric: psnr}}
"""
BROKEN = """
from recbench import LossEntry, hookimpl
from recbench.contracts.loss import Loss

class Broken(Loss):
    def __init__(self, setting):
        super().__init__()

    def forward(self, decoded, target, context):
        raise RuntimeError("it broke")

@hookimpl
def recbench_losses():
    yield LossEntry(name="broken", factory=Broken, summary="raises")
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, cache: Path, command_line: CommandLine) -> Path:
    """The results of the suite above, run once."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "board.yaml").write_text(SUITE)
    arguments = ("run", "board.yaml", "--plugin", TINY, "--device", "cpu")
    done = command_line.run(*arguments, cwd=folder, environment=environment_with(cache))
    assert done.returncode == 0, done.stderr
    return folder / "results" / "board"


@pytest.fixture
def board(made: Path, tmp_path: Path) -> Path:
    """A copy of these results, with cauchy.py of the tutorial in the working folder."""
    tutorial = blocks(Path(__file__).parents[2] / "docs" / "tutorial.md")
    (tmp_path / "cauchy.py").write_text(next(block.text for block in tutorial if block.file == "cauchy.py"))
    return Path(shutil.copytree(made, tmp_path / "results" / "board"))


def attempt(recbench, *arguments, suite="results/board", **extra):
    return recbench("try", "cauchy.py", "--suite", suite, "--plugin", TINY, "--device", "cpu", *arguments, **extra)


def content(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def jobs(folder: Path) -> set[str]:
    return {path.parent.name for path in folder.glob("jobs/*/record.json")}


def test_a_loss_is_ranked_among_those_of_a_board_and_nothing_else_is_trained(recbench, board):
    before, mine = content(board), board.parent / "board-try"
    first = attempt(recbench)
    assert first.returncode == 0, first.stderr
    assert len(jobs(mine)) == 4  # two trials and two seeds
    assert not jobs(mine) & jobs(board)
    assert content(board) == before
    lines = first.stdout.splitlines()
    methods = {"cauchy", "l1", "l2"}
    ranked = [line.split()[2] for line in lines[4:7]]
    assert set(ranked) == methods
    said = next(line for line in lines if line.startswith("cauchy on the board of board"))
    assert f"place {1 + ranked.index('cauchy')} of 3, tier " in said
    told = {line.split(":")[0].strip(): line.split(":")[1] for line in lines if line.startswith("  ") and ":" in line}
    against = [told[name] for name in ("significantly better than", "significantly worse than", "undecided against")]
    named = [label for text in against for label in text.replace("none", "").replace(",", " ").split()]
    assert sorted(named) == ["l1", "l2"]  # each of them once
    assert "× l2 on this machine" in first.stdout
    assert "at equal KL" in first.stdout
    assert "cauchy gets what each loss of the board had: 2 trials" in first.stderr
    assert "3 trainings and 4 evaluations" in first.stderr  # one seed was trained as a trial
    stamps = {path: path.stat().st_mtime_ns for path in mine.glob("jobs/*/record.json")}
    second = attempt(recbench)
    assert second.returncode == 0, second.stderr
    assert "nothing is left to train" in second.stderr
    assert [line.split()[2] for line in recbench("leaderboard", "board-try").stdout.splitlines()[4:7]] == ranked
    written = recbench("report", "board-try")
    assert written.returncode == 0, written.stderr
    assert f"{board.parents[1] / 'cauchy.py'}, as board-try was run with" in written.stderr
    page = (mine / "report" / "index.html").read_text()
    for section in ("images", "training"):  # every method has its reconstructions and curves
        shown = page.partition(f'<section id="{section}">')[2].partition("</section>")[0]
        assert all(f'data-method="{method}"' in shown for method in methods), section
    assert not (board / "report").exists()
    assert {path: path.stat().st_mtime_ns for path in mine.glob("jobs/*/record.json")} == stamps
    assert second.stdout.partition("cauchy on the board")[0] == first.stdout.partition("cauchy on the board")[0]


@pytest.mark.slow
def test_what_differs_from_the_board_is_said_before_anything_is_trained(recbench, board):
    other = ("--set", "datasets.blobs.params.salt=1", "--set", "training.epochs=1")
    refused = attempt(recbench, *other)
    assert refused.returncode == 2
    for part in ("salt 0 and 1", "epochs 2 and 1", "fingerprint", "--anyway", "nothing was trained"):
        assert part in refused.stderr
    assert not jobs(board.parent / "board-try")
    forced = attempt(recbench, *other, "--anyway")
    assert forced.returncode == 0, forced.stderr
    assert "not to be published" in forced.stderr
    assert "of 3, tier" in forced.stdout  # one board, in spite of all


def test_other_images_behind_the_same_parameters_are_noticed(recbench, board, tmp_path):
    refused = attempt(recbench, TINY_SOURCE="brighter", TINY_BRIGHT="250")
    assert refused.returncode == 2
    assert "the images of blobs here are not those of the board" in refused.stderr
    assert not jobs(board.parent / "board-try")


def test_what_it_costs_can_be_asked_for(recbench, board):
    asked = attempt(recbench, "--dry-run")
    assert asked.returncode == 0, asked.stderr
    assert "ms a step; l2" in asked.stderr
    assert not (board.parent / "board-try").exists()


@pytest.mark.slow
def test_a_quick_try_says_what_it_cannot_tell(recbench, board):
    done = attempt(recbench, "--quick")
    assert done.returncode == 0, done.stderr
    assert "one seed over 1 of 2 epochs" in done.stderr
    assert "It cannot tell the place of cauchy" in done.stdout
    assert len(jobs(board.parent / "board-try-quick")) == 2  # cauchy and l2
    assert "1/1" in done.stdout


def test_a_board_is_found_by_name(recbench, board):
    done = attempt(recbench, "--dry-run", suite="board")
    assert done.returncode == 0, done.stderr
    unknown = attempt(recbench, "--dry-run", suite="bord")
    assert unknown.returncode == 2
    assert "no reference board of 'bord'" in unknown.stderr


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x =", "SyntaxError"),
        ("import recbench\n\n@recbench.hookimpl\ndef recbench_metrics():\n    return []\n", "offers no loss"),
        (BROKEN, "it broke"),
    ],
    ids=["syntax", "no loss", "raises"],
)
def test_a_file_that_is_wrong_is_one_sentence(recbench, board, tmp_path, source, message):
    (tmp_path / "cauchy.py").write_text(source)
    done = attempt(recbench, "--yes")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not jobs(board.parent / "board-try")


def test_one_loss_of_several_is_chosen_by_name(recbench, board, tmp_path):
    (tmp_path / "cauchy.py").write_text(
        (tmp_path / "cauchy.py").read_text() + '    yield LossEntry(name="other", factory=Cauchy, summary="the same", '
        'parameters=(Parameter("scale", float, 1.0, "scale"),))\n'
    )
    done = attempt(recbench, "--dry-run")
    assert "cauchy, other get what" in done.stderr
    done = attempt(recbench, "--dry-run", "--loss", "other")
    assert "other gets what" in done.stderr
    done = attempt(recbench, "--dry-run", "--loss", "othr")
    assert done.returncode == 2
    assert "did you mean" in done.stderr or "other" in done.stderr


def test_a_board_without_tuning_has_no_budget_to_give(recbench, finished_tiny, board):
    refused = attempt(recbench, suite="results/tiny")
    assert refused.returncode == 2
    assert "without tuning" in refused.stderr
