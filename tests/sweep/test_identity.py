"""What a job is: images by their content wherever they are, and code by what it does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, TINY, Recbench

pytestmark = pytest.mark.slow(seconds=25)

SUITE = """\
name: same
datasets: [{{name: arrays, params: {{root: {root}}}}}]
architectures: [linear]
losses: [{losses}]
seeds: [0, 1]
training: {{epochs: 2, batch_size: 16, learning_rate: 1e-2}}
metrics: [psnr]
"""


def write_arrays(folder: Path, seed: int = 0) -> None:
    generator = np.random.default_rng(seed)
    folder.mkdir()
    for split, count in (("train", 48), ("validation", 16), ("test", 16)):
        np.save(folder / f"{split}.npy", generator.integers(0, 255, (count, 16, 16, 3), dtype=np.uint8))


def suite(folder: Path, root: str, losses: str = "{name: l2, kl_weight: 0.001}") -> str:
    (folder / "same.yaml").write_text(SUITE.format(root=root, losses=losses))
    return "same.yaml"


def records(results: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in sorted(results.glob("same/jobs/*/record.json"))]


def test_images_are_the_same_wherever_they_are(tmp_path: Path, recbench: Recbench) -> None:
    """Two machines with the same arrays under different names make one board, and moved data are no other data."""
    write_arrays(tmp_path / "here")
    write_arrays(tmp_path / "there")
    run = ("--plugin", TINY, "--device", "cpu")
    first = recbench("run", suite(tmp_path, "here"), *run, "--results", "one")
    other = recbench("run", suite(tmp_path, "there", "{name: l1, kl_weight: 0.001}"), *run, "--results", "two")
    assert (first.returncode, other.returncode) == (0, 0), first.stderr + other.stderr
    assert {record["job"]["dataset"]["locations"]["root"] for record in records(tmp_path / "one")} == {"here"}
    assert len({record["protocol"] for name in ("one", "two") for record in records(tmp_path / name)}) == 1

    merged = recbench("merge", "one/same", "two/same", "--into", "both")
    assert merged.returncode == 0, merged.stderr
    board = json.loads(recbench("leaderboard", "same", "--results", "both", "--format", "json").stdout)
    assert [sorted(row["label"] for row in one["rows"]) for one in board["boards"]] == [["l1", "l2"]]
    compared = recbench("compare", "one/same:l2", "two/same:l1")
    assert compared.returncode == 0, compared.stderr

    (tmp_path / "here").rename(tmp_path / "moved")
    (tmp_path / "link").symlink_to("moved")
    for root in ("moved", "./moved/", "link", str(tmp_path / "moved")):
        again = recbench("run", suite(tmp_path, root), *run, "--results", "one")
        assert "all 2 jobs are done; nothing to run" in again.stderr, again.stderr
    assert len(records(tmp_path / "one")) == 2


def test_other_images_in_the_same_place_are_never_mixed_in(tmp_path: Path, recbench: Recbench) -> None:
    write_arrays(tmp_path / "data")
    write_arrays(tmp_path / "other", seed=1)
    for file in [*tmp_path.glob("data/*"), *tmp_path.glob("other/*")]:
        os.utime(file, (1e9, 1e9))  # as some archives and file systems set the times of all files
    arguments = ("run", "same.yaml", "--plugin", TINY, "--device", "cpu", "--set", "seeds=[0]")
    suite(tmp_path, "data")
    assert recbench(*arguments).returncode == 0
    (first,) = records(tmp_path / "results")
    (tmp_path / "data").rename(tmp_path / "old")
    (tmp_path / "other").rename(tmp_path / "data")
    again = recbench(*arguments)
    assert "the images of arrays have changed since it was made" in again.stderr
    (second,) = records(tmp_path / "results")
    assert first["job_id"] == second["job_id"]
    assert first["data"]["fingerprint"] != second["data"]["fingerprint"]


def test_two_places_in_one_suite_are_told_apart_by_their_labels(tmp_path: Path, recbench: Recbench) -> None:
    write_arrays(tmp_path / "cats")
    write_arrays(tmp_path / "dogs", seed=1)
    suite(tmp_path, "cats")
    both = "[{name: arrays, label: cats, params: {root: cats}}, {name: arrays, label: dogs, params: {root: dogs}}]"
    run = ("run", "same.yaml", "--plugin", TINY, "--device", "cpu", "--set", "seeds=[0]")
    done = recbench(*run, "--set", f"datasets={both}")
    assert done.returncode == 0, done.stderr
    first, second = records(tmp_path / "results")
    assert first["data"]["fingerprint"] != second["data"]["fingerprint"]
    assert "nothing to run" in recbench(*run, "--set", f"datasets={both}").stderr
    grid = recbench(*run, "--set", "datasets=[{name: arrays, params: {root: {grid: [cats, dogs]}}}]")
    assert "root is in no label: write an item with a label for each place" in grid.stderr
    same = "[{name: arrays, label: a, params: {root: cats}}, {name: arrays, label: b, params: {root: ./cats}}]"
    assert "is the same as datasets[0], under another label" in recbench(*run, "--set", f"datasets={same}").stderr


HELPER = "SCALE = {scale}\nUNUSED = {unused}\n\n\ndef scaled(value):\n    return SCALE * value\n"

PLUGIN = '''\
"""Losses whose value and helper the tests edit."""

from recbench import LossEntry, hookimpl


def slow(setting):
    import time

    from helping import scaled
    from recbench.contracts.loss import Loss

    class Slow(Loss):
        def forward(self, decoded, target, context):
            time.sleep(0.05)
            return scaled((decoded - target).square().sum((1, 2, 3)))

    return Slow()


def plain(setting):
    from recbench.contracts.loss import Loss

    class Plain(Loss):
        def forward(self, decoded, target, context):
            return (decoded - target).abs().sum((1, 2, 3))

    return Plain()


@hookimpl
def recbench_losses():
    yield LossEntry(name="slow", factory=f"{__name__}:slow", summary="scaled by its helper")
    yield LossEntry(name="plain", factory=plain, summary="without a helper")
'''


def write_plugin(folder: Path, scale: float = 1.0, unused: int = 0) -> None:
    (folder / "lib").mkdir(exist_ok=True)
    (folder / "lib" / "helping.py").write_text(HELPER.format(scale=scale, unused=unused))
    (folder / "losses.py").write_text(PLUGIN)


def missing(shown: str) -> list[str]:
    return sorted(line.split()[2] for line in shown.splitlines() if " missing " in line)


def test_code_counts_by_what_it_does(tmp_path: Path, recbench: Recbench) -> None:
    write_plugin(tmp_path)
    write_arrays(tmp_path / "data")
    suite(tmp_path, "data", "slow, plain")
    run = ("run", "same.yaml", "--plugin", TINY, "--plugin", "losses.py", "--device", "cpu", "--set", "seeds=[0]")

    def to_run() -> list[str]:
        shown = recbench(*run, "--dry-run", PYTHONPATH=str(tmp_path / "lib"))
        assert shown.returncode == 0, shown.stderr
        return missing(shown.stdout)

    assert recbench(*run, PYTHONPATH=str(tmp_path / "lib")).returncode == 0
    assert to_run() == []
    (tmp_path / "losses.py").write_text(PLUGIN.replace("def plain(", "# note\ndef plain( ").replace('"scaled', '"x'))
    assert to_run() == []
    write_plugin(tmp_path, unused=7)
    assert to_run() == []
    write_plugin(tmp_path, scale=2.0)
    assert to_run() == ["slow"]
    write_plugin(tmp_path)
    (tmp_path / "losses.py").write_text(PLUGIN.replace(".abs()", ".square()"))
    assert to_run() == ["plain"]
    (tmp_path / "losses.py").write_text(PLUGIN)
    assert to_run() == []


def test_a_comment_in_a_built_in_family_changes_no_job(tmp_path: Path, recbench: Recbench) -> None:
    """The family is a copy, which is found first."""
    family = tmp_path / "lib" / "recbench_losses_pixel"
    shutil.copytree(ROOT / "plugins" / "recbench-losses-pixel" / "recbench_losses_pixel", family)
    write_arrays(tmp_path / "data")
    suite(tmp_path, "data", "{name: l2, kl_weight: 0.001}, {name: charbonnier, kl_weight: 0.001}")
    path = {"PYTHONPATH": str(tmp_path / "lib")}
    run = ("run", "same.yaml", "--plugin", TINY, "--device", "cpu", "--set", "seeds=[0]")
    assert recbench(*run, **path).returncode == 0
    for file in family.rglob("*.py"):
        file.write_text(file.read_text().replace("\n\n\n", "\n\n\n# A comment, and a space more\n\n") + "\n\n")
    again = recbench(*run, "--dry-run", **path)
    assert "2 done, 0 to run" in again.stderr, again.stderr
    losses = family / "losses.py"
    value = "charbonnier(decoded, target, self.epsilon)"
    assert value in losses.read_text()
    losses.write_text(losses.read_text().replace(value, f"2 * {value}"))
    changed = recbench(*run, "--dry-run", **path)
    assert missing(changed.stdout) == ["charbonnier"], changed.stderr


@pytest.mark.parametrize("edited", ["the helper", "the plugin"])
def test_no_record_is_of_code_that_did_not_run(tmp_path: Path, environment: dict[str, str], edited: str) -> None:
    """A file is edited while a sweep runs, to code that gives a hundred times the values."""
    write_plugin(tmp_path)
    write_arrays(tmp_path / "data")
    suite(tmp_path, "data", "slow")
    run = ["run", "same.yaml", "--plugin", str(TINY), "--plugin", "losses.py", "--device", "cpu"]
    command = [sys.executable, "-m", "recbench", *run, "--set", "seeds=[0, 1, 2, 3, 4, 5]"]
    environment["PYTHONPATH"] = str(tmp_path / "lib")
    sweep = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    while sweep.poll() is None and not records(tmp_path / "results"):
        time.sleep(0.02)
    if edited == "the helper":
        write_plugin(tmp_path, scale=100.0)
    else:
        (tmp_path / "losses.py").write_text(PLUGIN.replace("scaled((", "100 * scaled(("))
    told = sweep.communicate(timeout=300)[0].decode()

    assert sweep.returncode == 0, told
    assert "planning again with the code as it is now" in told
    codes: dict[str, list[dict[str, Any]]] = {}
    for record in records(tmp_path / "results"):
        codes.setdefault(record["job"]["loss"]["code"], []).append(record)
    assert sorted(map(len, codes.values())) == [6, 6], told
    (old,) = (found for found in codes.values() if {one["status"] for one in found} == {"done", "failed"})
    (new,) = (found for found in codes.values() if found is not old)
    for record in old:
        if record["status"] == "done":
            assert record["trained"]["final"]["reconstruction"] < 3e3
        else:
            assert "the code of the loss slow was edited after this job was planned" in record["failure"]["message"]
    assert {record["status"] for record in new} == {"done"}
    assert all(record["trained"]["final"]["reconstruction"] > 3e3 for record in new)
    plan = json.loads((tmp_path / "results" / "same" / "plan.json").read_text())
    assert {job["id"] for job in plan["jobs"]} == {record["job_id"] for record in new}


EDITED = """\
from pathlib import Path

import numpy as np
from recbench import Dataset, DatasetEntry, ImageShape, hookimpl


class Edited(Dataset):
    duplicates = "keep"
    shape = ImageShape(3, 16, 16)

    def source(self):
        return "drawn"

    def images(self, split):
        import drawing

        Path(drawing.__file__).write_text("BRIGHT = 9")
        yield np.full((16, 16, 3), drawing.BRIGHT, dtype=np.uint8)


@hookimpl
def recbench_datasets():
    yield DatasetEntry(name="edited", factory=Edited, summary="edited by somebody while it is decoded")
"""


def test_no_images_are_kept_of_code_that_was_edited_meanwhile(tmp_path: Path, recbench: Recbench) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "drawing.py").write_text("BRIGHT = 8")
    (tmp_path / "edited.py").write_text(EDITED)
    suite(tmp_path, "data")
    run = ("run", "same.yaml", "--plugin", TINY, "--plugin", "edited.py", "--set", "datasets=[edited]")
    path = {"PYTHONPATH": str(tmp_path / "lib"), "RECBENCH_CACHE": str(tmp_path / "cache")}
    done = recbench(*run, **path)
    assert done.returncode == 2
    assert "the code of the dataset edited was edited while it was decoded; run the suite again" in done.stderr
    assert not list(tmp_path.glob("cache/images/*"))
