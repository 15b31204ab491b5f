"""Pretrained weights: where they are found, how they are fetched, and how they are loaded without running their code.

A file is looked for by name in the folders of ``RECBENCH_WEIGHTS`` (and below them), in the package that carries it, if
that is installed, and in torch hub's cache; it counts only with the right SHA-256. Nothing is fetched unasked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING

from recbench.contracts.entries import Weights
from recbench.data.downloads import DownloadError, DownloadProgress, download, is_whole, silent, wheel_member
from recbench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

VARIABLE = "RECBENCH_WEIGHTS"


class WeightsError(UserError):
    """Weights are missing, damaged, or cannot be fetched."""


def hub_folder() -> Path:
    """Torch hub's folder of checkpoints, found as torch finds it, without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def candidates(weights: Weights) -> Iterator[Path]:
    """Files of that name, in the order in which they are tried."""
    for folder in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        root = Path(folder).expanduser()
        yield from sorted(path for path in root.rglob(weights.file) if path.is_file())
    carried = _carried(weights)
    if carried is not None and carried.is_file():
        yield carried
    if (hub_folder() / weights.file).is_file():
        yield hub_folder() / weights.file


def find(weights: Weights) -> Path | None:
    """The file, or None if there is none with the right content."""
    return next((path for path in candidates(weights) if is_whole(path, weights)), None)


def missing(needed: Iterable[Weights]) -> str | None:
    """What to say about needed weights that are not there, with the way out; None if all are there."""
    absent = [weights for weights in needed if find(weights) is None]
    if not absent:
        return None
    files = ", ".join(weights.file for weights in absent)
    ways = [f"fetch with 'recbench weights fetch {' '.join(weights.file for weights in absent)}'"]
    ways.append(f"or put the file into a folder that {VARIABLE} names")
    ways += [f"or choose {alternative}" for alternative in dict.fromkeys(w.alternative for w in absent) if alternative]
    damaged = [str(path) for weights in absent for path in candidates(weights)]
    aside = f" ({', '.join(damaged)} has other content than it should have)" if damaged else ""
    return f"needs pretrained weights that are not here: {files}{aside}; {', '.join(ways)}"


def load_weights(weights: Weights) -> dict[str, Tensor]:
    """The tensors of the file, on the CPU.

    Raises:
        WeightsError: it is nowhere, or holds anything but tensors.
    """
    import torch

    path = find(weights)
    if path is None:
        raise WeightsError(missing([weights]) or weights.file)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]  # torch goes on to advise against its own guard
        raise WeightsError(f"{path} cannot be read as weights: {reason}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path} holds something else than named tensors")
    return dict(state)


def fetch(weights: Weights, folder: Path | None = None, progress: DownloadProgress = silent) -> Path:
    """Give the file's place, after fetching it into ``folder`` (default: torch hub's cache) if it has to be.

    Without ``folder``, a whole file found anywhere is enough. With it, the file will be there: copied, if it is found
    elsewhere. It appears under its name only when it is whole; whatever happens, nothing else stays behind.

    Args:
        progress: called with bytes done and bytes in all while the file comes. Pip tells nothing of its downloads.

    Raises:
        WeightsError: it cannot be fetched or written, or what came is not the file.
    """
    target = (folder or hub_folder()) / weights.file
    found = find(weights)
    if found is not None and (folder is None or (target.exists() and found.samefile(target))):
        return found
    if target.is_file() and is_whole(target, weights):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{weights.file}.") as scratch:
            part = Path(scratch) / "part"  # under another name, or a search at the same time would come upon it
            if found is not None:
                shutil.copyfile(found, part)
            else:
                download(weights, part, progress)
            part.replace(target)
    except DownloadError as error:
        raise WeightsError(str(error)) from error
    except OSError as error:
        raise WeightsError(f"{target} cannot be written: {error}") from error
    return target


def _carried(weights: Weights) -> Path | None:
    """The file inside the installed package that carries it, whatever its version."""
    found = wheel_member(weights)
    if found is None:
        return None
    name, _, member = found
    with contextlib.suppress(PackageNotFoundError):
        return Path(str(distribution(name).locate_file(member)))
    return None
