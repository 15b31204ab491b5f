"""Properties of every data set of this family."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module

import pytest

from recbench.contracts.entries import ImageShape
from recbench.errors import UserError
from recbench_datasets import recbench_datasets
from recbench_datasets.raw import stamp

ENTRIES = {entry.name: entry for entry in recbench_datasets()}
ROOTED = [name for name, entry in ENTRIES.items() if entry.parameter("root")]


def create(name, **params):
    module, _, factory = ENTRIES[name].factory.partition(":")
    return getattr(import_module(module), factory)(**ENTRIES[name].complete(params))


def test_listing_them_imports_nothing_heavy_and_making_them_no_torch():
    heavy = "{'torch', 'torchvision', 'numpy', 'PIL', 'nibabel', 'scipy'}"
    code = (
        f"import sys, recbench_datasets as d; es = list(d.recbench_datasets()); assert not {heavy} & set(sys.modules);"
        "from importlib import import_module; [import_module(e.factory.partition(':')[0]) for e in es];"
        f"assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ENTRIES)
def test_what_a_user_must_know_is_told(name):
    entry = ENTRIES[name]
    assert entry.notes
    assert entry.licence or name in ("image_folder", "arrays")
    assert entry.citation or name in ("photos", "shapes", "image_folder", "arrays")


@pytest.mark.parametrize("name", ENTRIES)
def test_the_defaults_contradict_nothing(name):
    entry = ENTRIES[name]
    assert not entry.refusals(ImageShape(3, 64, 64), entry.complete({}))


@pytest.mark.parametrize("name", ENTRIES)
def test_only_the_root_is_a_location(name):
    """Everything else decides which images there are."""
    assert ENTRIES[name].locations == (("root",) if name in ROOTED else ())


def test_a_stamp_tells_contents_apart_but_not_places(tmp_path):
    folders = [tmp_path / name for name in ("one", "same", "other")]
    for folder, content in zip(folders, (b"a" * 9000, b"a" * 9000, b"a" * 8999 + b"b"), strict=True):
        folder.mkdir()
        (folder / "train.npy").write_bytes(content)
        os.utime(folder / "train.npy", (1e9, 1e9))
    one, same, other = (stamp(folder, [folder / "train.npy"]) for folder in folders)
    assert one == same != other


@pytest.mark.parametrize("name", ROOTED)
def test_a_missing_root_is_named(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    default = ENTRIES[name].parameter("root").default
    with pytest.raises(UserError, match=f"there is no folder (or file )?{default}"):
        create(name)


@pytest.mark.parametrize("name", ROOTED)
def test_the_home_folder_may_be_written_as_a_tilde(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match=f"{tmp_path}/nowhere"):
        create(name, root="~/nowhere")


@pytest.mark.parametrize("name", [name for name in ROOTED if name not in ("image_folder", "arrays")])
def test_the_default_root_is_named_after_the_data_set(name):
    assert ENTRIES[name].parameter("root").default == f"data/{name}"
