"""The command line: output, streams and exit codes of each command."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

import recbench
from recbench.cli import COMMANDS, cli
from recbench.errors import UserError
from recbench.plugin.manager import KINDS, load_plugins
from recbench.plugin.registry import SINGULAR, Registry
from tests.command_line import CommandLine
from tests.conftest import TINY, environment_with

HEAVY = {"torch", "torchvision", "skimage", "pandas"}


def invoke(*arguments: object) -> Result:
    """Run a command in this process; usage errors are raised."""
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


# Without torch


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        ("list", "losses"),
        ("show", "loss", "wiener"),
        ("plugins",),
        ("validate", "tiny.yaml", "--plugin", TINY),
        ("run", "tiny.yaml", "--plugin", TINY, "--dry-run"),
        ("run", "--help"),
    ],
    ids=lambda arguments: " ".join(map(str, arguments[:2])),
)
def test_commands_that_need_no_torch_import_none(recbench, tiny, arguments):
    done = recbench(*arguments, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0, done.stderr
    assert not HEAVY & modules(done.stderr)


def modules(profile: str) -> set[str]:
    found = {line.rpartition("|")[2].strip() for line in profile.splitlines() if line.startswith("import time:")}
    assert "recbench.errors" in found
    return found


def test_help_imports_no_command(recbench):
    assert not {"pydantic", "rich", "yaml", "numpy"} & modules(recbench("--help", PYTHONPROFILEIMPORTTIME="1").stderr)


# Help, and being misunderstood


def test_help_names_every_command_and_the_exit_codes():
    text = invoke("--help").output
    for name in COMMANDS:
        assert f"  {name} " in text
    assert "Exit codes: 0 all done, 1 some jobs failed" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help(name):
    assert invoke(name, "--help").exit_code == 0


def test_version():
    assert invoke("--version").output.strip() == f"recbench, version {recbench.__version__}"


def test_an_unknown_command_gets_a_suggestion(recbench):
    done = recbench("valdate", "x.yaml")
    assert done.returncode == 2
    assert "no such command 'valdate'; did you mean 'validate'?" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [("run",), ("run", "x", "--bogus"), ("list",), ("list", "lossses"), ("show", "loss"), ("validate", "a", "b"), ()],
)
def test_errors_of_usage_exit_with_2(recbench, arguments):
    done = recbench(*arguments)
    assert done.returncode == 2
    assert "Usage: recbench" in done.stderr
    assert "Traceback" not in done.stderr


# Catalogue


@pytest.mark.parametrize("kind", KINDS)
def test_list(kind):
    registry = Registry(load_plugins())
    lines = invoke("list", kind).output.splitlines()
    assert [line.split()[0] for line in lines] == registry.names(kind)
    assert all(entry.entry.summary in line for entry, line in zip(registry.all(kind), lines, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_show(kind):
    for registered in Registry(load_plugins()).all(kind):
        entry = registered.entry
        text = invoke("show", SINGULAR[kind], entry.name).output
        assert text.startswith(f"{entry.name}: {entry.summary}\n")
        assert registered.plugin.provider in text
        for parameter in entry.parameters:
            assert f"  {parameter.name}: {parameter.type_name}, default {parameter.default}" in text
            assert parameter.doc in text
        assert entry.citation in text
        assert entry.notes in text


def test_list_and_show_take_plugins_from_files():
    assert re.search(r"^misbehaving +L2 until", invoke("list", "losses", "--plugin", TINY).output, re.MULTILINE)
    assert "tiny_plugin.py" in invoke("show", "loss", "misbehaving", "--plugin", TINY).output


def test_plugin_options_also_come_from_the_environment(recbench, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(
        "from recbench import LossEntry, hookimpl\n@hookimpl\ndef recbench_losses():\n"
        "    yield LossEntry(name='other', factory='a:A', summary='')\n"
    )
    listed = recbench("list", "losses", RECBENCH_PLUGINS=f"{TINY}{os.pathsep}{other}").stdout
    assert "misbehaving" in listed
    assert "other" in listed
    listed = recbench("list", "losses", RECBENCH_BLOCK="recbench-losses-pixel recbench-losses-likelihood").stdout
    names = {line.split()[0] for line in listed.splitlines()}
    assert "ssim" in names
    assert not names & {"l2", "l1", "wiener", "barron"}


def test_plugins_lists_distribution_version_and_status(recbench, install):
    site = install("recbench-broken", "broken = broken_plugin", broken_plugin="raise RuntimeError('on purpose')\n")
    done = recbench("plugins", "--block", "recbench-losses-pixel", "--plugin", TINY, PYTHONPATH=str(site))
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines()}
    assert rows["recbench-metrics"][1:4] == ["recbench", recbench_version(), "loaded"]
    assert rows["recbench-losses-pixel"][3] == "blocked"
    assert rows["broken"][1:] == ["recbench-broken", "1.0", "broken", "RuntimeError:", "on", "purpose"]
    assert rows["tiny_plugin.py"][1:3] == ["(file)", "loaded"]
    assert "broken_plugin.py" in done.stderr
    assert done.stderr.count("Traceback") == 1
    assert done.returncode == 0


def recbench_version() -> str:
    from importlib.metadata import version

    return version("recbench")


def test_plugins_shows_what_is_wrong_with_a_file_and_goes_on(recbench, tmp_path):
    (tmp_path / "bad.py").write_text("def f(n):\n    return f(n - 1) if n else 1 / 0\nf(30)\n")
    short, whole = recbench("plugins", "--plugin", "bad.py"), recbench("plugins", "--plugin", "bad.py", "--details")
    assert short.returncode == whole.returncode == 0
    assert "ZeroDivisionError" in short.stdout
    assert "recbench plugins --details shows full tracebacks" in short.stderr
    assert "line 3, in <module>" not in short.stderr
    assert "line 3, in <module>" in whole.stderr


def test_plugins_shows_conflicts(recbench, install):
    source = (
        "from recbench import LossEntry, hookimpl\n@hookimpl\ndef recbench_losses():\n"
        "    yield LossEntry(name='l2', factory='a:A', summary='')\n"
    )
    site = install("recbench-mine", "mine = mine_plugin", mine_plugin=source)
    done = recbench("plugins", PYTHONPATH=str(site))
    assert done.returncode == 0
    assert "conflict: the loss 'l2' is claimed by recbench-mine 1.0 (mine) and by recbench " in done.stderr
    assert recbench("plugins", "--strict", PYTHONPATH=str(site)).returncode == 2
    assert "l2" in recbench("list", "losses", "--block", "recbench-mine", PYTHONPATH=str(site)).stdout


def test_a_broken_plugin_is_a_warning_and_with_strict_an_error(recbench, install):
    site = install("recbench-broken", "broken = broken_plugin", broken_plugin="raise RuntimeError('on purpose')\n")
    done = recbench("list", "losses", PYTHONPATH=str(site))
    assert done.returncode == 0
    assert "l2" in done.stdout
    assert done.stderr.startswith("warning: plugin recbench-broken 1.0 (broken) is not used: RuntimeError: on purpose")
    strict = recbench("list", "losses", "--strict", PYTHONPATH=str(site))
    assert strict.returncode == 2
    assert "broken_plugin.py" in strict.stderr


# Suites


def test_validate_says_what_a_suite_spans(recbench, tiny):
    done = recbench("validate", "tiny.yaml", "--plugin", TINY, "--set", "seeds=[1,2,3]")
    assert done.stdout == "tiny.yaml is valid: 6 jobs (2 methods x 1 settings x 3 seeds)\n"


def test_a_dry_run_prints_the_jobs_and_writes_nothing(recbench, tiny, tmp_path, cache):
    before = sorted(tmp_path.rglob("*"))
    in_cache = sorted(cache.rglob("*"))
    done = recbench("run", "tiny.yaml", "--plugin", TINY, "--dry-run")
    assert done.returncode == 0
    assert sum("missing" in line for line in done.stdout.splitlines()) == 4
    assert "0 done, 4 to run; nothing was run" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before, "no results folder appears"
    assert sorted(cache.rglob("*")) == in_cache


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--device", "gpu"), "--device gpu: expected auto, cpu, cuda or cuda:N"),
        (("--device", "cuda:x"), "--device cuda:x: expected"),
        (("--device", "cuda:²"), "--device cuda:²: expected"),
        (("--executor", "locl"), "there is no executor 'locl'; did you mean 'local'?"),
        (("--executor-option", "jobs"), "--executor-option jobs: expected KEY=VALUE"),
        (("--executor-option", "jbs=1"), "local has no parameter 'jbs'; did you mean 'jobs'?"),
        (("--executor-option", "jobs=x"), "--executor-option jobs=x: 'x' is not of type int"),
        (("--executor-option", "jobs=-1"), "--executor-option jobs=-1: -1 is below the minimum 0"),
        (("--executor-option", "jobs=["), "--executor-option jobs=[: jobs: is not valid YAML"),
        (("--checkpoint-seconds", "-1"), "-1"),
        (("--checkpoint-seconds", "x"), "'x' is not a valid float"),
        (("--max-jobs", "0"), "0 is not in the range"),
        (("--max-jobs", "1"), "tiny.yaml:1: spans 4 jobs, more than 1; --max-jobs raises the limit"),
        (("--set", "x"), "--set x: is not of the form KEY=VALUE"),
        (("--block", "recbench-metricks"), "there is no such distribution or plugin; did you mean 'recbench-metrics'?"),
    ],
    ids=str,
)
def test_bad_options_are_errors_even_of_a_dry_run(tiny, tmp_path, option, message):
    for more in (("--dry-run",), ()):
        result = invoke("run", tiny, "--plugin", TINY, "--results", tmp_path / "results", *option, *more)
        assert isinstance(result.exception, UserError) or result.exit_code == 2
        assert message in (str(result.exception) if isinstance(result.exception, UserError) else result.output)
        assert not (tmp_path / "results").exists()


# Leaderboards that are not there


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: no results in results; 'recbench run SUITE' "),
        (("quickstart",), "error: no results of the suite 'quickstart' in results"),
        (("../x",), "error: '../x' is not the name of a suite"),
        (("/etc/passwd",), "error: '/etc/passwd' is not the name of a suite"),
        (("..",), "error: '..' is not the name of a suite"),
        (("nope.yaml",), "nope.yaml: cannot be read: No such file or directory"),
        (("--format", "xlsx"), "'xlsx' is not one of 'terminal', "),
    ],
)
def test_leaderboards_that_are_not_there(recbench, arguments, message):
    done = recbench("leaderboard", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""


# A run, from its beginning to its leaderboards


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, cache: Path, command_line: CommandLine) -> Path:
    """Return a folder in which the tiny suite was run, with one method that fails."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "tiny.yaml").write_text(
        "name: tiny\ndatasets: [blobs]\narchitectures: [linear]\nlosses: [l2, l1]\nseeds: [0]\n"
        "training: {epochs: 1, batch_size: 16}\nmetrics: [psnr, mse]\n"
    )
    arguments = ("run", "tiny.yaml", "--plugin", TINY, "--device", "cpu")
    done = command_line.run(*arguments, cwd=folder, environment=environment_with(cache))
    assert done.returncode == 0, done.stderr
    return folder


def at(folder: Path) -> tuple[str, str]:
    return ("--results", str(folder / "results"))


@pytest.mark.slow
def test_run_prints_results_to_stdout_and_talk_to_stderr(recbench, ran):
    done = recbench("run", ran / "tiny.yaml", "--plugin", TINY, *at(ran))
    assert done.returncode == 0
    assert "all 2 jobs are done; nothing to run" in done.stderr
    assert "psnr" in done.stdout
    assert "nothing to run" not in done.stdout


@pytest.mark.slow
def test_a_run_with_nothing_to_do_imports_no_torch(recbench, ran):
    done = recbench("run", ran / "tiny.yaml", "--plugin", TINY, *at(ran), PYTHONPROFILEIMPORTTIME="1")
    assert "nothing to run" in done.stderr
    assert not HEAVY & modules(done.stderr)


@pytest.mark.slow
def test_a_dry_run_shows_what_is_done(recbench, ran):
    arguments = ("run", ran / "tiny.yaml", "--plugin", TINY, *at(ran), "--dry-run")
    done = recbench(*arguments, "--set", "seeds=[0, 1]")
    states = [line.split()[1] for line in done.stdout.splitlines()[2:]]
    assert sorted(states) == ["done", "done", "missing", "missing"]
    assert "2 done, 2 to run; nothing was run" in done.stderr


@pytest.mark.slow
def test_the_leaderboard_in_every_format(recbench, ran, tmp_path):
    board = json.loads(recbench("leaderboard", *at(ran), "--format", "json").stdout)
    assert (board["jobs"], board["done"]) == (2, 2)
    rows = list(csv.DictReader(io.StringIO(recbench("leaderboard", "tiny", *at(ran), "--format", "csv").stdout)))
    assert {row["method"] for row in rows} == {"l1", "l2"}
    assert recbench("leaderboard", ran / "tiny.yaml", *at(ran), "--format", "markdown").stdout.startswith("# tiny")
    assert "\\toprule" in recbench("leaderboard", *at(ran), "--format", "latex").stdout
    assert "method" in recbench("leaderboard", *at(ran)).stdout
    done = recbench("leaderboard", *at(ran), "--format", "csv", "--output", "sub/board.csv")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "sub" / "board.csv").read_text().startswith("suite,")


@pytest.mark.slow
def test_a_suite_that_never_ran_gets_a_suggestion(recbench, ran):
    done = recbench("leaderboard", "tyny", *at(ran))
    assert done.returncode == 2
    assert "no results of the suite 'tyny'" in done.stderr
    assert "did you mean 'tiny'?" in done.stderr


@pytest.mark.slow
def test_output_that_cannot_be_written(recbench, ran, tmp_path):
    (tmp_path / "file").write_text("kept")
    for target in ("file/board.csv", ".", "/proc/board.csv", "/dev/full"):
        done = recbench("leaderboard", *at(ran), "--format", "csv", "--output", target)
        assert done.returncode == 2, target
        assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "kept"


def test_validate_looks_for_the_images_where_the_suite_says(recbench, tmp_path):
    """``root`` is a location and no part of a job, and still what a data set is created with."""
    for split in ("train", "test"):
        (tmp_path / "mine" / split).mkdir(parents=True)
        for number in range(4):
            image = np.full((16, 16, 3), 40 * number + 20 * (split == "test"), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "mine" / split / f"{number}.png")
    (tmp_path / "own.yaml").write_text(
        "name: own\ndatasets: [{name: image_folder, params: {root: mine, size: 16}}]\n"
        "architectures: [{name: vae_bredell, params: {widths: [8], latent_size: 4, hidden: 16}}]\n"
        "losses: [{name: l2, kl_weight: 0.1}]\nseeds: [0]\ntraining: {epochs: 1}\nmetrics: [psnr]\n"
    )
    assert recbench("validate", "own.yaml").returncode == 0
    (tmp_path / "mine").rename(tmp_path / "elsewhere")
    assert "there is no folder mine" in recbench("validate", "own.yaml").stderr


@pytest.mark.slow
def test_output_to_a_device_or_link_does_not_replace_it(recbench, ran, tmp_path):
    fifo, target, link = tmp_path / "fifo", tmp_path / "target.csv", tmp_path / "link.csv"
    os.mkfifo(fifo)
    link.symlink_to(target)
    assert recbench("leaderboard", *at(ran), "--format", "csv", "--output", fifo).returncode == 2
    assert fifo.is_fifo()
    assert recbench("leaderboard", *at(ran), "--format", "csv", "--output", link).returncode == 0
    assert link.is_symlink()
    assert target.read_text().startswith("suite,")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["terminal", "csv", "json"])
def test_a_leaderboard_into_a_closed_pipe(ran, environment, form):
    assert closed_pipe(environment, "leaderboard", *at(ran), "--format", form) == ""


@pytest.mark.slow
def test_a_failed_job_exits_with_1_and_is_a_row(recbench, tiny):
    done = recbench(
        "run", "tiny.yaml", "--plugin", TINY, "--device", "cpu",
        "--set", "losses=[l2, {name: misbehaving, params: {what: raise}}]", "--set", "seeds=[0]",
        "--set", "training.epochs=1",
    )  # fmt: skip
    assert done.returncode == 1
    assert "misbehaving" in done.stdout
    assert "1 of 2 jobs have no scores; failed ones run again with the same command" in done.stderr


# Signals and pipes


def closed_pipe(environment: dict[str, str], *arguments: str) -> str:
    """Return the stderr of a command whose stdout is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "recbench", *arguments]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=environment, text=True, check=False)
    os.close(writer)
    assert done.returncode not in (0, 2)
    return done.stderr


@pytest.mark.parametrize("arguments", [("list", "losses"), ("plugins",), ("show", "loss", "wiener"), ("--help",)])
def test_a_closed_pipe_is_no_reason_for_a_traceback(environment, arguments):
    assert closed_pipe(environment, *arguments) == ""


def test_a_full_device_behind_stdout(environment):
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-m", "recbench", "list", "losses"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, env=environment, text=True, check=False)
    assert done.returncode == 2
    assert "no space left on the device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_terminal_without_arrows_shows_question_marks(recbench):
    done = recbench("list", "losses", PYTHONIOENCODING="cp1251")  # Cyrillic, without ²
    assert done.returncode == 0
    assert "sqrt(difference? + epsilon?)" in done.stdout


def test_ctrl_c_exits_with_130(tmp_path, environment):
    """At any time, even while a plugin is being imported."""
    (tmp_path / "slow.py").write_text("import time\nopen('ready', 'w').close()\ntime.sleep(60)\n")
    command = [sys.executable, "-m", "recbench", "list", "losses", "--plugin", "slow.py"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "ready").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


# Comparisons


def test_compare_says_once_which_results_are_shown_and_what_a_difference_is_of(tmp_path: Path) -> None:
    sides = ("cifar10-small:l2", "cifar10-small:wiener")
    done = invoke("compare", *sides, "--results", tmp_path)
    assert done.stderr.count("showing the reference board of cifar10-small") == 1
    assert re.search(r"^ +before +after +difference +95 % interval +p$", done.stdout, re.MULTILINE)
    assert "the difference of sharpness_recon is that of distances from 1" in done.stdout
