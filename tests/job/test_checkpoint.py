"""Checkpoints: what is read back is what was written, or is named and never used; a full disk costs none."""

from __future__ import annotations

import errno
import os
import random
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from recbench.errors import OutOfSpaceError
from recbench.job.checkpoint import Checkpoint, Position
from recbench.store.attempt import warnings

SIZE = 8


def make(folder: Path, width: int = SIZE, origin: str = "a job") -> Checkpoint:
    module = nn.Linear(width, width)
    nn.init.zeros_(module.weight)
    optimizer = torch.optim.Adam(module.parameters())
    return Checkpoint(folder, module, [optimizer], origin=origin)


def saved(folder: Path, *steps: int, width: int = SIZE) -> Checkpoint:
    """A checkpoint that was written at these steps, with the step in its weights."""
    checkpoint = make(folder, width)
    for step in steps:
        with torch.no_grad():
            checkpoint.modules.weight.fill_(float(step))
        checkpoint.save(Position(step=step))
    return checkpoint


def load(folder: Path, width: int = SIZE, origin: str = "a job") -> int:
    """The step that a new process would go on from; its weights must be those of that step."""
    checkpoint = make(folder, width, origin)
    step = checkpoint.load().step
    assert bool((checkpoint.modules.weight == step).all())
    return step


def test_it_goes_on_from_the_last_one(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2, 3)
    assert load(tmp_path) == 3
    assert warnings(tmp_path) == []
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == ["previous.pt", "state.pt"]


def flipped(file: Path, place: int, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << bit
    file.write_bytes(content)


@pytest.mark.parametrize("seed", range(8))
def test_no_flipped_bit_goes_unnoticed(tmp_path: Path, seed: int) -> None:
    """Everywhere: bytes of the content, and each of the header by one of these tests."""
    file = saved(tmp_path, 1, 2).file
    whole, previous = file.read_bytes(), (tmp_path / "checkpoint" / "previous.pt").read_bytes()
    chance = random.Random(seed)
    places = [*range(seed, 200, 8), *chance.sample(range(len(whole)), len(whole) // 400)]
    for place in places:
        file.write_bytes(whole)
        flipped(file, place, chance.randrange(8))
        assert load(tmp_path) == 1, f"byte {place}"
        assert file.with_suffix(".damaged").exists()
        (tmp_path / "checkpoint" / "previous.pt").write_bytes(previous)
    assert len(warnings(tmp_path)) == len(places)
    assert all("state.pt cannot be used" in line and "went on from previous.pt" in line for line in warnings(tmp_path))


def test_of_two_damaged_ones_none_is_used(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, 1, 2)
    for file in (checkpoint.file, checkpoint.previous):
        flipped(file, 500, 0)
    assert load(tmp_path) == 0
    (line,) = warnings(tmp_path)
    assert "state.pt cannot be used (it is damaged" in line
    assert "previous.pt cannot be used" in line
    assert line.endswith("training began anew")


@pytest.mark.parametrize("damage", ["cut", "empty", "longer", "another job", "a link", "a folder"])
def test_what_is_no_checkpoint_of_this_job_is_not_used(tmp_path: Path, damage: str) -> None:
    file = saved(tmp_path, 1).file
    raw = file.read_bytes()
    if damage == "a link":
        file.rename(tmp_path / "mine")
        file.symlink_to(tmp_path / "mine")
    elif damage == "a folder":
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes({"cut": raw[:-1], "empty": b"", "longer": raw + b"x"}.get(damage, raw))
    assert load(tmp_path, origin="another" if damage == "another job" else "a job") == 0
    assert len(warnings(tmp_path)) == 1


# Full disks


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file may grow beyond this size: what a full disk looks like to a process, without one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


WIDE = 512
"""A layer whose checkpoint has over 3 MiB."""


def test_a_checkpoint_that_finds_no_room_is_named_and_the_last_one_stands(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, 1, 2, width=WIDE)
    assert checkpoint.file.stat().st_size > 2**20
    with files_up_to(2**20), pytest.raises(OutOfSpaceError, match=str(tmp_path)):
        checkpoint.save(Position(step=3))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["checkpoint", "previous.pt", "state.pt"]
    assert load(tmp_path, width=WIDE) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_disk_may_be_full_at_any_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    checkpoint = saved(tmp_path, 1)

    def full(*arguments: Any, **options: Any) -> Any:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        if call == "fsync":
            patched.setattr(os, "fsync", full)
        else:
            patched.setattr("recbench.job.checkpoint.open_regular", full)
        with pytest.raises(OutOfSpaceError, match="no space left"):
            checkpoint.save(Position(step=2))
    assert load(tmp_path) == 1
