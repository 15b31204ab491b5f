"""The image cache, and ``recbench data``: what is decoded, what is never read, and what is in two splits."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from functools import partial
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from recbench.cli.data import data_command
from recbench.contracts.dataset import SPLITS, Dataset
from recbench.contracts.entries import ImageShape
from recbench.data import cache as cache_module
from recbench.data.arrays import HEADER
from recbench.data.cache import default_cache, find, find_all, prepare
from recbench.errors import UserError
from recbench.plan.model import ComponentSpec
from tests.conftest import ROOT, Recbench
from tests.readme import section

# The cache


class Given(Dataset):
    """Images that are given as arrays (N, H, W, C)."""

    def __init__(self, splits, duplicates="error", state="", known=True):
        self.splits = splits
        self.duplicates = duplicates
        self.state = state
        self.known = known
        self.decoded = 0

    @property
    def shape(self):
        return ImageShape(self.splits["train"].shape[3], *self.splits["train"].shape[1:3])

    def source(self):
        return self.state

    def images(self, split):
        for image in self.splits[split]:
            self.decoded += 1
            yield image

    def image_count(self, split):
        return len(self.splits[split]) if self.known else None


class Only:
    """A registry of one data set."""

    def __init__(self, dataset):
        self.dataset = dataset

    def get(self, kind, name):
        return self

    def create(self, params):
        return self.dataset


def some(seed=0, counts=(20, 4, 8), shape=(5, 6, 3)):
    generator = np.random.default_rng(seed)
    return {
        split: generator.integers(0, 256, (count, *shape), dtype=np.uint8)
        for split, count in zip(SPLITS, counts, strict=True)
    }


def make(dataset, cache, **params):
    return prepare(ComponentSpec(name="given", params=params), Only(dataset), cache)


def test_the_cache_holds_every_image(tmp_path):
    splits = some()
    prepared = make(Given(splits), tmp_path)
    assert prepared.counts == {"train": 20, "validation": 4, "test": 8}
    for split in SPLITS:
        np.testing.assert_array_equal(prepared.load(split), splits[split].transpose(0, 3, 1, 2))
    assert sorted(path.name for path in prepared.folder.iterdir()) == sorted(
        ["facts.json", *(f"{s}.npy" for s in SPLITS)]
    )


def test_the_fingerprint_is_a_hash_of_shapes_splits_and_pixels(tmp_path):
    """Written down here, since records are compared by it: it may never change."""
    splits = some(counts=(600, 0, 3))
    hasher = hashlib.sha256()
    for split in SPLITS:
        images = splits[split].transpose(0, 3, 1, 2)
        hasher.update(f"{split} (5, 6, 3)".encode() + images.tobytes() + str(len(images)).encode())
    assert make(Given(splits), tmp_path).fingerprint == hasher.hexdigest()


@pytest.mark.parametrize("split", SPLITS)
def test_any_pixel_changes_the_fingerprint(tmp_path, split):
    splits = some()
    before = make(Given(splits), tmp_path / "a").fingerprint
    splits[split][-1, -1, -1, -1] ^= 1
    assert make(Given(splits), tmp_path / "b").fingerprint != before


def test_it_is_decoded_once(tmp_path):
    dataset = Given(some())
    first = make(dataset, tmp_path)
    assert dataset.decoded == 32
    assert make(dataset, tmp_path) == first
    assert find(ComponentSpec(name="given"), Only(dataset), tmp_path) == first
    assert dataset.decoded == 32


def test_a_cache_of_other_options_is_never_read(tmp_path):
    first = make(Given(some(0)), tmp_path, size=1)
    for other in (
        partial(make, Given(some(1)), tmp_path, size=2),
        partial(make, Given(some(1), state="newer"), tmp_path, size=1),
        partial(prepare, ComponentSpec(name="given", params={"size": 1}, code="newer"), Only(Given(some(1))), tmp_path),
    ):
        assert other().fingerprint != first.fingerprint
    assert find(ComponentSpec(name="given", params={"size": 3}), Only(Given(some(1))), tmp_path) is None


@pytest.mark.parametrize("damage", ["no facts", "half facts", "no array", "short array", "long array"])
def test_a_cache_that_is_not_whole_is_never_read(tmp_path, damage):
    dataset = Given(some())
    folder = make(dataset, tmp_path).folder
    file = folder / ("facts.json" if "facts" in damage else "train.npy")
    raw = file.read_bytes()
    file.write_bytes({"half": raw[:-20], "short": raw[:-1], "long": raw + b"x"}.get(damage.split()[0], raw))
    if damage.startswith("no"):
        file.unlink()
    assert find(ComponentSpec(name="given"), Only(dataset), tmp_path) is None
    prepared = make(dataset, tmp_path)
    assert dataset.decoded == 64
    np.testing.assert_array_equal(prepared.load("train"), dataset.splits["train"].transpose(0, 3, 1, 2))


@pytest.mark.parametrize("place", ["data", "cache"])
def test_it_is_said_what_may_not_be_used(tmp_path, place):
    dataset = Given(some())
    dataset.images = lambda split: (tmp_path / "data").iterdir()
    (tmp_path / place).write_text("a file")
    error, said = (UserError, "cache folder .* cannot be written") if place == "cache" else (OSError, "data'$")
    with pytest.raises(error, match=said):
        make(dataset, tmp_path / "cache")


def test_what_was_damaged_is_not_kept(tmp_path):
    folder = make(Given(some()), tmp_path).folder
    (folder / "train.npy").write_bytes(b"")
    make(Given(some()), tmp_path)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_copy_of_another_cache_is_never_read(tmp_path):
    """Whoever renames folders, or mixes up two of them when moving, gets the images that were asked for."""
    one, other = make(Given(some(0)), tmp_path, size=1), make(Given(some(1)), tmp_path, size=2)
    shutil.rmtree(other.folder)
    shutil.copytree(one.folder, other.folder)
    assert find(ComponentSpec(name="given", params={"size": 2}), Only(Given(some(1))), tmp_path) is None
    assert make(Given(some(1)), tmp_path, size=2).fingerprint == other.fingerprint


def test_everything_in_the_cache_is_found_with_its_parameters(tmp_path):
    made = [make(Given(some()), tmp_path, size=size) for size in (1, 2)]
    (made[0].folder.with_name("given-0123456789abcdef")).mkdir()
    assert sorted(prepared.spec.params["size"] for prepared in find_all("given", tmp_path)) == [1, 2]
    assert {prepared.size for prepared in find_all("given", tmp_path)} == {32 * 5 * 6 * 3}
    assert find_all("give", tmp_path) == []


def test_another_process_that_prepares_the_same_is_waited_for(tmp_path):
    key = make(Given(some()), tmp_path / "other").folder.name
    holds = "with __import__('recbench.files').files.lock(__import__('pathlib').Path({!r})): print(flush=True), input()"
    command = [sys.executable, "-c", holds.format(str(tmp_path / "locks" / key))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        timer = threading.Timer(0.5, process.communicate, [b"\n"])
        timer.start()
        assert make(Given(some()), tmp_path).counts["train"] == 20
        timer.join()
        assert process.returncode == 0


def test_the_variable_may_name_a_folder_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RECBENCH_CACHE", "~/cache")
    assert default_cache() == tmp_path / "cache"


def test_what_a_killed_process_left_is_removed_and_never_read(tmp_path):
    folder = make(Given(some()), tmp_path).folder
    left = folder.with_name(f".{folder.name}.abc")
    folder.rename(left)
    make(Given(some()), tmp_path)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_error_leaves_nothing(tmp_path):
    splits = some()
    splits["test"] = splits["test"].astype(np.int16)
    with pytest.raises(UserError, match=r"given, test image 0: expected uint8 \(5, 6, 3\), got int16 \(5, 6, 3\)"):
        make(Given(splits), tmp_path)
    assert not list((tmp_path / "images").iterdir())


@pytest.mark.parametrize("known", [True, False])
def test_progress_is_told(tmp_path, known):
    seen = []
    dataset = Given(some(counts=(600, 10, 20)), known=known)
    prepare(ComponentSpec(name="given"), Only(dataset), tmp_path, lambda done, total: seen.append((done, total)))
    assert seen[0][0] == 0
    assert seen[-1][0] == 630
    assert len(seen) > 3
    assert {total for _, total in seen} == {630 if known else None}


# Images in two splits


def with_copies():
    """Two training images and one for validation are also for testing, and one for training also for validation."""
    splits = some()
    splits["train"][3] = splits["test"][5]
    splits["train"][7] = splits["test"][0]
    splits["train"][9] = splits["validation"][2]
    splits["validation"][1] = splits["test"][5]
    return splits


def test_images_in_two_splits_are_counted_and_named(tmp_path):
    with pytest.raises(UserError) as caught:
        make(Given(with_copies()), tmp_path)
    assert str(caught.value).splitlines() == [
        "4 of the images of given are in two splits, pixel by pixel:",
        "  train image 3 is the same as test image 5",
        "  train image 7 is the same as test image 0",
        "  train image 9 is the same as validation image 2",
        "  validation image 1 is the same as test image 5",
    ]
    assert not list((tmp_path / "images").iterdir())


def test_of_many_the_first_ten_are_named(tmp_path):
    splits = some(counts=(20, 0, 20))
    splits["test"][:] = splits["train"][::-1]
    with pytest.raises(UserError, match="20 of the images") as caught:
        make(Given(splits), tmp_path)
    assert len(str(caught.value).splitlines()) == 12
    assert str(caught.value).endswith("  … and 10 more")


def test_copies_are_left_out_where_the_data_set_says_so(tmp_path):
    splits = with_copies()
    prepared = make(Given(splits, duplicates="drop"), tmp_path)
    assert prepared.counts == {"train": 17, "validation": 3, "test": 8}
    rest = {
        "train": np.delete(splits["train"], [3, 7, 9], axis=0),
        "validation": np.delete(splits["validation"], 1, axis=0),
        "test": splits["test"],
    }
    for split in SPLITS:
        np.testing.assert_array_equal(prepared.load(split), rest[split].transpose(0, 3, 1, 2))
    assert prepared.fingerprint == make(Given(rest), tmp_path / "other").fingerprint
    assert len(list(prepared.folder.iterdir())) == 4


def test_copies_are_kept_where_the_data_set_says_so(tmp_path):
    assert make(Given(with_copies(), duplicates="keep"), tmp_path).counts == {"train": 20, "validation": 4, "test": 8}


def test_equal_images_within_one_split_are_kept(tmp_path):
    splits = some()
    splits["train"][3] = splits["train"][4]
    splits["test"][1] = splits["test"][2]
    assert make(Given(splits), tmp_path).counts["train"] == 20


def test_equal_hashes_are_no_proof(tmp_path, monkeypatch):
    """With a hash that takes all images for one, those that are equal are still the only ones that are found."""
    constant = type("Constant", (), {"digest": lambda self: bytes(8)})
    monkeypatch.setattr("recbench.data.duplicates.hashlib.blake2b", lambda raw, digest_size: constant())
    make(Given(some()), tmp_path)
    with pytest.raises(UserError, match=r"^4 of the images of given"):
        make(Given(with_copies()), tmp_path / "other")


# The command

PLUGIN = """\
from recbench import DatasetEntry, Parameter, hookimpl
from recbench.contracts.entries import RawFile
from recbench_datasets import recbench_datasets

ENTRIES = {{entry.name: entry for entry in recbench_datasets()}}

@hookimpl
def recbench_datasets():
    for name, file, members in (("made", "train.npy", 0), ("faces", "img_align_celeba.zip", 20)):
        base = ENTRIES["arrays" if name == "made" else "celeba"]
        yield DatasetEntry(
            name=name, factory=base.factory, summary="made up", parameters=base.parameters,
            licence="MIT, as it is mine", obtain="Ask its maker.",
            files=(RawFile(file=file, address={address!r} + file, members=members, **{facts!r}[file]),),
        )
"""


@pytest.fixture
def files() -> dict[str, bytes]:
    """What the server has: an array of images, and an archive of photographs."""
    from PIL import Image

    generator = np.random.default_rng(0)
    array, archive = io.BytesIO(), io.BytesIO()
    np.save(array, generator.integers(0, 256, (50, 8, 8, 3), dtype=np.uint8))
    with zipfile.ZipFile(archive, "w") as opened:
        for number in range(20):
            picture = io.BytesIO()
            Image.fromarray(generator.integers(0, 256, (218, 178, 3), dtype=np.uint8)).save(picture, "PNG")
            opened.writestr(f"img_align_celeba/{number + 1:06}.png", picture.getvalue())
    return {"train.npy": array.getvalue(), "img_align_celeba.zip": archive.getvalue()}


@pytest.fixture
def plugin(tmp_path: Path, files: dict[str, bytes]) -> Path:
    """A plugin with two data sets whose files a real server gives."""
    folder = tmp_path / "served"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    handler = type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=folder))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    facts = {
        name: {"size": len(content), "md5": hashlib.md5(content, usedforsecurity=False).hexdigest()}
        for name, content in files.items()
    }
    file = tmp_path / "made_up.py"
    file.write_text(PLUGIN.format(address=f"http://127.0.0.1:{server.server_address[1]}/", facts=facts))
    yield file
    server.shutdown()
    server.server_close()


@pytest.fixture
def data(tmp_path: Path, plugin: Path, monkeypatch: pytest.MonkeyPatch):
    """``data("list")`` gives what the command prints, and raises what it raises."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RECBENCH_CACHE", str(tmp_path / "cache"))

    def call(*arguments: object) -> str:
        words = [*map(str, arguments), "--plugin", str(plugin)]
        done = CliRunner().invoke(data_command, words, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return call


def test_a_data_set_is_fetched_decoded_and_found_again(tmp_path, data, files):
    shown = data("prepare", "made", "--root", "here")
    folder = re.search(r"^in (.*)$", shown, re.MULTILINE)[1]
    assert shown.startswith("made: 35 train, 5 validation, 10 test images\nin ")
    assert Path(folder).is_relative_to(tmp_path / "cache" / "images")
    assert f"fingerprint {json.loads((Path(folder) / 'facts.json').read_text())['fingerprint']}\n" in shown
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["train.npy"]
    (tmp_path / "served" / "train.npy").unlink()
    assert data("prepare", "made", "-p", "root=here") == shown
    assert data("prepare", "made", "--root", "here", "--cache", "elsewhere").startswith("made: 35 train")
    assert (tmp_path / "elsewhere" / "images").is_dir()


def test_an_archive_is_unpacked_and_decoded(tmp_path, data):
    shown = data("prepare", "faces", "--root", "faces", "-p", "count=20", "-p", "size=32")
    assert shown.startswith("faces: 15 train, 1 validation, 4 test images\n")
    assert sorted(path.name for path in (tmp_path / "faces").iterdir()) == ["img_align_celeba", "img_align_celeba.zip"]


def test_an_archive_that_the_user_put_there_is_unpacked(tmp_path, data, files):
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "img_align_celeba.zip").write_bytes(files["img_align_celeba.zip"])
    (tmp_path / "served" / "img_align_celeba.zip").unlink()
    assert data("prepare", "faces", "--root", "faces", "-p", "count=20").startswith("faces: 15 train")


def test_nothing_is_fetched_into_a_folder_with_other_things(tmp_path, data):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "test.npy").write_bytes(b"something")
    with pytest.raises(UserError, match=r"\nnothing was fetched into here, since it has other files"):
        data("prepare", "made", "--root", "here")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["test.npy"]


def test_another_file_of_that_name_is_told(tmp_path, data):
    (tmp_path / "here").mkdir()
    np.save(tmp_path / "here" / "train.npy", np.zeros((9, 8, 8, 3), dtype=np.uint8))
    with pytest.raises(UserError, match=r"here/train\.npy is not the published file: its MD5"):
        data("prepare", "made", "--root", "here")


def test_what_cannot_be_fetched_is_told_with_the_way_out(tmp_path, data):
    (tmp_path / "served" / "train.npy").unlink()
    with pytest.raises(UserError, match=r"(?s)train\.npy cannot be fetched: HTTP Error 404.*\nAsk its maker\.$"):
        data("prepare", "made")


@pytest.mark.parametrize(
    ("name", "way"), [("celeba_hq", "CelebAMask-HQ"), ("hcp", "Register at"), ("selfie2anime", "UGATIT")]
)
def test_data_that_cannot_be_fetched_come_with_instructions(data, name, way):
    with pytest.raises(UserError, match=rf"there is no folder data/{name}\n.*{way}"):
        data("prepare", name)


def test_a_data_set_without_files(data):
    assert data("prepare", "shapes", "-p", "size=8", "-p", "train=9", "-p", "test=3").startswith("shapes: 9 train")
    with pytest.raises(UserError, match="shapes does not read files"):
        data("prepare", "shapes", "--root", "here")


def test_what_is_left_out_is_counted_and_named(tmp_path, data):
    """Equal files are found before they are decoded, equal pixels in other files afterwards."""
    from PIL import Image

    for number, name in enumerate(("train/a.png", "train/b.png", "train/c.png", "test/d.png", "test/e.bmp")):
        file = tmp_path / "images" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (0, 0, 50 * (number % 3))).save(file)
    for _ in range(2):
        done = CliRunner().invoke(data_command, ["prepare", "image_folder", "-p", "size=8", "-p", "duplicates=drop"])
        assert done.stdout.startswith("image_folder: 1 train, 0 validation, 2 test images\n")
        assert "left out: 2 of the images of image_folder are in two splits, pixel by pixel:\n" in done.stderr
        assert "images/train/a.png (train) is the same as images/test/d.png (test)\n" in done.stderr
        assert "images/train/b.png (train) is the same as images/test/e.bmp (test)\n" in done.stderr
    (tmp_path / "images" / "train" / "a.png").unlink()
    with pytest.raises(UserError, match=r"(?s)^1 of the images of image_folder .*\nduplicates: drop leaves them out$"):
        data("prepare", "image_folder", "-p", "size=8")


def test_arrays_may_be_one_file(tmp_path, data):
    np.save(tmp_path / "all.npy", np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8))
    assert data("prepare", "arrays", "--root", "all.npy").startswith("arrays: 14 train, 2 validation, 4 test images")
    with pytest.raises(UserError, match=r"there is no folder all\.npy"):
        data("prepare", "cifar10", "--root", "all.npy")


def test_the_folder_is_named_once(data):
    with pytest.raises(UserError, match="set the same parameter"):
        data("prepare", "made", "--root", "here", "-p", "root=there")


def test_what_is_here_and_what_is_missing_is_listed(tmp_path, data, files):
    listed = data("list")
    assert re.search(
        r"^made  made up\n  licence   MIT, as it is mine\n  missing   there is no .*data/arrays$", listed, re.M
    )
    assert re.search(r"^  to fetch  9\.7 kB: recbench data prepare made$", listed, re.M)
    assert re.search(r"^celeba_hq  .*\n  licence .*\n  missing .*\n  to get    Get CelebAMask-HQ", listed, re.M)
    data("prepare", "made")
    listed = data("list")
    assert re.search(
        r"^made  .*\n.*\n  here      data/arrays\n  decoded   35 train, .* images, 9\.6 kB, /", listed, re.M
    )
    data("prepare", "made", "--root", "elsewhere", "-p", "validation=0.5")
    listed = data("list")
    assert re.search(
        r"^  decoded   with root=elsewhere, validation=0\.5: 15 train, .* images, 9\.6 kB, /", listed, re.M
    )


def test_it_reads_the_cache_that_a_run_reads(tmp_path, data):
    """The same part of a plan, so the same folder."""
    from recbench.plugin.manager import load_plugins
    from recbench.plugin.registry import Registry
    from recbench.suite.suite import load_suite

    shown = data("prepare", "photos", "-p", "size=32", "-p", "train=10", "-p", "test=5")
    suite = tmp_path / "suite.yaml"
    suite.write_text(
        "datasets: [{name: photos, params: {size: 32, train: 10, test: 5}}]\n"
        "architectures: [vae_bredell]\nlosses: [l2]\nmetrics: [psnr]\nseeds: [0]\ntraining: {epochs: 1}\n"
    )
    registry = Registry(load_plugins())
    setting = load_suite(suite, registry).plan.settings[0]
    found = find(setting.dataset, registry, tmp_path / "cache")
    assert found is not None
    assert f"in {found.folder}\n" in shown


@pytest.mark.slow
def test_the_command_line(recbench: Recbench, plugin: Path) -> None:
    done = recbench("data", "prepare", "made", "--plugin", plugin)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("licence of made: MIT, as it is mine\ntrain.npy, 9.7 kB, from http://127.0.0.1")
    shown = recbench("show", "dataset", "made", "--plugin", plugin).stdout
    assert "  licence       MIT, as it is mine\n" in shown
    assert "  train.npy, 9.7 kB, http://127.0.0.1" in shown
    done = recbench("data", "prepare", "mad", "--plugin", plugin)
    assert done.returncode == 2
    assert "did you mean 'made'?" in done.stderr


@pytest.mark.parametrize("name", ["list", "prepare"])
def test_every_option_is_in_the_docs_and_no_other(name: str) -> None:
    command = data_command.get_command(click.Context(data_command), name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    described = section(ROOT / "docs" / "cli.md", f"### `recbench data {name}`")
    assert set(re.findall(r"--[a-z][a-z-]*", described)) == options


@pytest.mark.parametrize(("umask", "mode"), [(0o077, 0o700), (0o022, 0o755), (0o002, 0o775)])
def test_the_umask_says_who_may_read_the_images(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        folder = make(Given(some()), tmp_path).folder
    finally:
        os.umask(before)
    assert folder.stat().st_mode & 0o777 == mode
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {mode & 0o666}


# What is in the cache is verified


def forget(monkeypatch):
    """As in a new process."""
    monkeypatch.setattr(cache_module, "_verified", set())


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_in_the_cache_are_named_and_it_is_made_again(tmp_path, monkeypatch, seed):
    dataset = Given(some())
    first = make(dataset, tmp_path)
    chance = random.Random(seed)
    for number in range(12):
        split = chance.choice(SPLITS)
        file = first.folder / f"{split}.npy"
        content = bytearray(file.read_bytes())
        content[chance.randrange(len(content)) if number else 11 + seed] ^= 1 << chance.randrange(8)
        file.write_bytes(content)
        forget(monkeypatch)
        again = make(dataset, tmp_path)
        assert again.fingerprint == first.fingerprint
        np.testing.assert_array_equal(again.load(split), dataset.splits[split].transpose(0, 3, 1, 2))
        # bytes of the header that change nothing that is read from it, such as blanks, may be any
        if again.replaced:
            assert str(first.folder) in again.replaced
            assert "were damaged" in again.replaced
        else:
            assert file.read_bytes()[HEADER:] == bytes(content)[HEADER:]


def test_zeroed_pixels_and_another_fingerprint_are_damage(tmp_path, monkeypatch):
    dataset = Given(some())
    folder = make(dataset, tmp_path).folder
    with (folder / "test.npy").open("r+b") as stream:
        stream.seek(HEADER + 50)
        stream.write(bytes(600))
    forget(monkeypatch)
    assert "were damaged" in make(dataset, tmp_path).replaced
    facts = (folder / "facts.json").read_text()
    known = json.loads(facts)["fingerprint"]
    (folder / "facts.json").write_text(facts.replace(known, "0" + known[1:] if known[0] != "0" else "1" + known[1:]))
    forget(monkeypatch)
    assert "were damaged" in make(dataset, tmp_path).replaced
    assert json.loads((folder / "facts.json").read_text())["fingerprint"] == known


def test_the_cache_is_verified_once_in_a_process(tmp_path, monkeypatch):
    dataset, read = Given(some()), []
    fingerprint = cache_module.fingerprint
    monkeypatch.setattr(cache_module, "fingerprint", lambda folder: read.append(folder) or fingerprint(folder))
    forget(monkeypatch)
    folder = make(dataset, tmp_path).folder
    assert len(read) == 1  # when it was made
    for _ in range(3):
        make(dataset, tmp_path)
    assert len(read) == 1
    forget(monkeypatch)
    for _ in range(3):
        make(dataset, tmp_path)
    assert read[1:] == [folder]
