"""Bad input of clumsy or hostile users: one screen of text, exit code 2, and no lost results."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from recbench.errors import OutOfSpaceError
from recbench.files import write_atomically
from tests.command_line import CommandLine
from tests.conftest import TINY, environment_with

SUITE = """\
name: tiny
datasets: [blobs]
architectures: [linear]
losses: [l2, l1]
seeds: [0]
training: {epochs: 1, batch_size: 16}
metrics: [psnr]
"""
RUN = ("run", "tiny.yaml", "--plugin", TINY, "--device", "cpu")
L2 = """\
from recbench import LossEntry, hookimpl

@hookimpl
def recbench_losses():
    yield LossEntry(name="l2", factory="a:A", summary="another")
"""

Refused = Callable[..., str]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cache: Path, command_line: CommandLine) -> Path:
    """Return a folder with a finished suite, to be copied."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "tiny.yaml").write_text(SUITE)
    done = command_line.run(*RUN, cwd=folder, environment=environment_with(cache))
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    """Return ``tmp_path`` with the finished suite in it."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return tmp_path


def contents(folder: Path) -> dict[str, str]:
    """Return the contents of all files, except the cache of statistics and bytecode."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "statistics.json" and path.suffix != ".pyc"
    }


@pytest.fixture
def refused(recbench: Callable[..., subprocess.CompletedProcess[str]]) -> Refused:
    """Run a command that must fail with a usage error, and return its error message."""

    def call(*arguments: object, **environment: str) -> str:
        result = recbench(*arguments, **environment)
        assert result.returncode == 2, result.stderr
        assert result.stdout == ""
        assert len(result.stderr.splitlines()) <= 25
        assert "recbench/cli" not in result.stderr, "a traceback of ours"
        return result.stderr

    return call


# Suites

BAD_SUITES = {
    "empty": ("", "tiny.yaml:1: expected a suite"),
    "malformed": ("name: [\n", "tiny.yaml:2: is not valid YAML"),
    "an unknown key": (SUITE + "lossess: []\n", "tiny.yaml:8: lossess: unknown key; did you mean 'losses'?"),
    "an unknown loss": (
        SUITE.replace("l1", "l11"),
        "tiny.yaml:4: losses[1].name: there is no loss 'l11'; did you mean",
    ),
    "an unknown parameter": (
        SUITE.replace("[blobs]", "[{name: blobs, params: {sise: 1}}]"),
        "tiny.yaml:2: datasets[0].params.sise: blobs has no such parameter; did you mean 'size'?",
    ),
    "a wrong type": (
        SUITE.replace("epochs: 1", "epochs: one"),
        "tiny.yaml:6: training.epochs: 'one' should be a valid",
    ),
    "an empty grid": (
        SUITE.replace("l1]", "{name: l1, kl_weight: {grid: []}}]"),
        "tiny.yaml:4: losses[1].kl_weight.grid: the grid is empty",
    ),
    "a name with ../ in it": (SUITE.replace("name: tiny", "name: ../tiny"), "tiny.yaml:1: name: '../tiny' must start"),
    "a label with ../ in it": (
        SUITE.replace("l1]", "{name: l1, label: ../../x}]"),
        "tiny.yaml:4: losses[1].label: '../../x' must start",
    ),
    "an object tag": (
        SUITE + "description: !!python/object/apply:os.system ['touch pwned']\n",
        "tiny.yaml:8: description: has the tag",
    ),
    "another object tag": ("!!python/object/new:os.system ['touch pwned']\n", "tiny.yaml:1: "),
    "an alias bomb": (
        "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{y}: &{y} [{', '.join([f'*{x}'] * 10)}]\n" for x, y in zip("abcdefgh", "bcdefghi", strict=True)),
        "expands too far: too many aliases?",
    ),
    "control characters": (SUITE.replace("l1]", '"\\e[2J\\e[31m"]'), "there is no loss '?[2J?[31m'"),
    "hundreds of problems": (SUITE + "".join(f"x{n}: 1\n" for n in range(300)), "300 problems"),
    "an endless name": (SUITE.replace("l1", "l" * 100_000), "there is no loss 'lll"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("text", "message"), BAD_SUITES.values(), ids=BAD_SUITES)
def test_a_bad_suite(refused, done, text, message):
    (done / "tiny.yaml").write_text(text)
    before = contents(done)
    error = refused(*RUN)
    assert message in error
    assert "\x1b" not in error
    assert contents(done) == before, "earlier records are untouched, and nothing was made"


def test_a_suite_that_is_not_there(refused, tmp_path):
    assert "nope.yaml: cannot be read: No such file or directory" in refused("run", "nope.yaml")
    assert ".: cannot be read: Is a directory" in refused("run", ".")
    assert list(tmp_path.iterdir()) == []


def test_a_suite_that_is_no_text(refused, tmp_path):
    (tmp_path / "s.yaml").write_bytes(b"name: \xff\xfe\n")
    assert "s.yaml:1: is not UTF-8 text" in refused("run", "s.yaml")


@pytest.mark.parametrize("arguments", [("leaderboard", "../x"), ("show", "loss", "../x"), ("show", "metric", "/etc/x")])
def test_names_with_dots_on_the_command_line(refused, arguments):
    assert arguments[-1] in refused(*arguments)


# Plugins


@pytest.mark.slow
def test_a_plugin_whose_import_raises(refused, recbench, install, done):
    """A broken plugin file is an error; a broken installed plugin is a warning, repeated if a name is unknown."""
    (done / "bad.py").write_text("raise RuntimeError('on purpose')\n")
    before = contents(done / "results")
    error = refused(*RUN, "--plugin", "bad.py")
    assert "bad.py cannot be used: RuntimeError: on purpose" in error
    site = install("recbench-broken", "broken = broken_plugin", broken_plugin="raise SystemExit('on purpose')\n")
    error = refused("validate", "tiny.yaml", "--plugin", TINY, "--set", "losses=[mine]", PYTHONPATH=str(site))
    assert "there is no loss 'mine'" in error
    assert (
        "recbench-broken 1.0 (broken): importing it ended the process (SystemExit: on purpose); see 'recbench plugins'"
        in error
    )
    assert contents(done / "results") == before
    result = recbench(*RUN, PYTHONPATH=str(site))
    assert result.returncode == 0, "what does not need it goes on"
    assert "warning: plugin recbench-broken 1.0 (broken) is not used" in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [RUN, ("validate", "tiny.yaml", "--plugin", TINY), ("list", "losses"), ("show", "loss", "l1")]
)
def test_two_plugins_claiming_one_name(refused, install, done, command):
    site = install("recbench-mine", "mine = mine_plugin", mine_plugin=L2)
    before = contents(done)
    error = refused(*command, PYTHONPATH=str(site))
    assert "the loss 'l2' is claimed by recbench-mine 1.0 (mine) and by recbench " in error
    assert "--block DISTRIBUTION" in error
    assert contents(done) == before


@pytest.mark.parametrize("name", ["nope.py", "folder", "suite.yaml"])
def test_a_plugin_file_that_is_none(refused, tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "suite.yaml").write_text(SUITE)
    assert f"{name} cannot be used: " in refused("list", "losses", "--plugin", name)


# Results


@pytest.mark.parametrize("results", ["file", "file/below", "/proc/results"])
def test_a_results_folder_that_cannot_be_written(refused, tmp_path, results):
    (tmp_path / "tiny.yaml").write_text(SUITE)
    (tmp_path / "file").write_text("kept")
    error = refused(*RUN, "--results", results)
    assert f"the results folder {results}/tiny cannot be written" in error
    assert "--results DIR sets another" in error
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("cache", ["file", "/proc/cache"])
def test_a_cache_that_cannot_be_written(refused, tmp_path, cache):
    (tmp_path / "tiny.yaml").write_text(SUITE)
    (tmp_path / "file").write_text("kept")
    assert cache in refused(*RUN, "--cache", cache)
    assert (tmp_path / "file").read_text() == "kept"


def damage_truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def damage_foreign(file: Path) -> None:
    file.write_text('{"hello": "world"}')


def damage_newer(file: Path) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema_version": 3, "new": "field"}))


DAMAGES = {
    "truncated": (damage_truncated, "truncated or damaged: not valid JSON"),
    "foreign": (damage_foreign, "foreign: not a record of recbench"),
    "newer": (damage_newer, "from a newer recbench: schema 3, this one reads 2"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES)
def test_a_record_that_cannot_be_used(recbench, done, damage, reason):
    """The leaderboard reports it and moves nothing; a run sets it aside, reports it, and runs the job again."""
    plan = json.loads((done / "results" / "tiny" / "plan.json").read_text())
    victim, other = (done / "results" / "tiny" / "jobs" / job["id"] / "record.json" for job in plan["jobs"])
    damage(victim)
    damaged, kept = victim.read_bytes(), other.read_bytes()
    before = contents(done)

    shown = recbench("leaderboard")
    assert shown.returncode == 0
    assert f"job {victim.parent.name}: its record cannot be used: {reason}" in shown.stderr
    assert "0/1 incomplete" in shown.stdout
    assert "Traceback" not in shown.stderr
    planned = recbench(*RUN, "--dry-run")
    assert "1 done, 1 to run" in planned.stderr
    assert contents(done) == before

    ran = recbench(*RUN)
    assert ran.returncode == 0, ran.stderr
    assert f"the record of job {victim.parent.name} cannot be used ({reason}" in ran.stderr
    aside = done / "results" / "tiny" / "set-aside" / f"{victim.parent.name}-1"
    assert str(aside.relative_to(done)) in ran.stderr
    assert (aside / "record.json").read_bytes() == damaged
    assert reason in (aside / "why.txt").read_text()
    assert json.loads(victim.read_text())["status"] == "done"
    assert other.read_bytes() == kept


def damage_plan_indices(plan: dict) -> dict:
    return {**plan, "jobs": [{**job, "setting": 7} for job in plan["jobs"]]}


def damage_plan_ids(plan: dict) -> dict:
    return {**plan, "jobs": [{**job, "id": "../../../etc"} for job in plan["jobs"]]}


def damage_plan_version(plan: dict) -> dict:
    return {**plan, "schema_version": 2}


def damage_plan_entirely(plan: dict) -> dict:
    return {"hello": "world"}


@pytest.mark.slow
@pytest.mark.parametrize("damage", [damage_plan_indices, damage_plan_ids, damage_plan_version, damage_plan_entirely])
def test_a_plan_that_cannot_be_used(refused, done, damage):
    file = done / "results" / "tiny" / "plan.json"
    file.write_text(json.dumps(damage(json.loads(file.read_text()))))
    before = contents(done)
    error = refused("leaderboard", "tiny")
    assert "results/tiny/plan.json cannot be used" in error
    assert "'recbench run SUITE' writes it" in error
    assert contents(done) == before


@pytest.mark.slow
def test_a_truncated_plan_is_written_anew(refused, recbench, done):
    file = done / "results" / "tiny" / "plan.json"
    plan = file.read_text()
    file.write_text(plan[: len(plan) // 2])
    assert "results/tiny/plan.json cannot be used" in refused("leaderboard")
    again = recbench(*RUN)
    assert again.returncode == 0
    assert "nothing to run" in again.stderr
    assert file.read_text() == plan


# Image folders


def images(folder: Path, count: int = 12) -> Path:
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(count):
        pixels = generator.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return folder


FOLDER = "datasets=[{name: image_folder, params: {root: images, size: 16}}]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("notes.txt", b"not an image", "is not an image"),
        ("empty.png", b"", "is not an image"),
        ("broken.png", None, "is broken"),
    ],
)
def test_an_image_folder_with_a_bad_file(refused, done, cache, name, content, why):
    folder = images(done / "images")
    whole = (folder / "00.png").read_bytes()
    (folder / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    before, in_cache = contents(done), {path.name for path in cache.rglob("*")}
    error = refused(*RUN, "--set", FOLDER)
    assert f"images/{name}" in error
    assert why in error
    assert contents(done) == before
    left = {path for path in cache.rglob("*") if path.name not in in_cache and path.suffix == ".npy"}
    assert not left, "no half-made cache is left behind"


def test_an_image_folder_that_is_not_there(refused, tmp_path):
    (tmp_path / "tiny.yaml").write_text(SUITE)
    error = refused(*RUN, "--set", FOLDER)
    assert "datasets[0]: there is no folder images" in error
    (tmp_path / "images").mkdir()
    assert "holds no images" in refused(*RUN, "--set", FOLDER)


# No space left


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


mounts = pytest.mark.skipif(not can_mount(), reason="mounting a small file system needs root")


@mounts
@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [48, 96])
def test_no_space_for_results(done, environment, kilobytes):
    """On a small real file system, full at different times: finished jobs stay; with space, the others run."""
    (done / "small").mkdir()
    options = "--results small --executor-option jobs=1"
    recbench = f"{sys.executable} -m recbench {' '.join(map(str, RUN))} {options}"
    script = f"""
        mount -t tmpfs -o size={kilobytes}k none small
        {recbench} >first.out 2>first.err; echo $? >first.rc
        find small -name record.json -not -path '*/attempt-*' -exec sha256sum {{}} + >before
        mount -o remount,size=20m small
        {recbench} >second.out 2>second.err; echo $? >second.rc
        sha256sum --quiet -c before >changed || true
    """
    subprocess.run(["unshare", "-m", "sh", "-c", script], cwd=done, env=environment, check=True, timeout=300)
    error = (done / "first.err").read_text()
    assert (done / "first.rc").read_text().strip() == "2", error
    assert "no space left on the device" in error
    assert "Traceback" not in error
    assert len(error.splitlines()) <= 25
    assert (done / "second.rc").read_text().strip() == "0", (done / "second.err").read_text()
    assert (done / "changed").read_text() == ""


@mounts
@pytest.mark.slow
def test_no_space_for_the_cache(done, environment):
    (done / "small").mkdir()
    recbench = f"{sys.executable} -m recbench {' '.join(map(str, RUN))} --cache small --set datasets.0.params.count=500"
    script = f"mount -t tmpfs -o size=64k none small; {recbench}; rc=$?; ls -A small/images >left; exit $rc"
    command = ["unshare", "-m", "sh", "-c", script]
    result = subprocess.run(
        command, cwd=done, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 2, result.stderr
    assert "no space left on the device of small" in result.stderr
    assert "Traceback" not in result.stderr
    assert (done / "left").read_text() == "", "no half-made cache takes up the room"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_file_is_whole_or_as_it_was(tmp_path, monkeypatch, number):
    file = tmp_path / "record.json"
    write_atomically(file, b"first")

    def full(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutOfSpaceError, match=f"no space left on the device of {tmp_path}"):
        write_atomically(file, b"second")
    assert file.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [file]
