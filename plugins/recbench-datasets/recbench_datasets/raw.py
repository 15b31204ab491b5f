"""Raw files: places, states, copies, and lists of those that cannot be used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from recbench.contracts.dataset import SPLITS, Split
from recbench.errors import UserError

_NAMED = 10
_PROBED = 16  # files of a folder of which parts are read
_PARTS, _PART = 9, 4096  # parts of a file, and the bytes of each

RawItem = TypeVar("RawItem")


def existing_folder(root: str) -> Path:
    """Return the folder that a parameter names, with ``~`` expanded.

    Raises:
        UserError: there is none.
    """
    folder = Path(root).expanduser()
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    return folder


def visible_files(root: Path, *, empty_folders: bool = True) -> list[Path]:
    """Return all files below ``root`` but hidden ones, in the order of their names, whatever the file system's.

    Args:
        empty_folders: whether there may be folders without anything visible in them when others hold files.

    Raises:
        UserError: links are broken, or folders are empty that must not be.
    """
    found: list[Path] = []
    lost: list[Path] = []
    empty: list[Path] = []
    _walk(root, [root.resolve()], found, lost, empty)
    if lost:
        links = [f"{path}: leads to {path.readlink()}" for path in sorted(lost)]
        raise UserError(f"{len(lost)} of the links in {root} are broken:\n  {listed(links)}")
    if found and empty and not empty_folders:
        raise UserError(f"{len(empty)} of the folders in {root} are empty:\n  {listed(sorted(map(str, empty)))}")
    return sorted(found, key=lambda path: path.parts)


def _walk(folder: Path, above: list[Path], found: list[Path], lost: list[Path], empty: list[Path]) -> None:
    """``above`` are the folders that one came through, links resolved. No link to or above them is followed."""
    bare = True
    with os.scandir(folder) as entries:  # tells files from folders without a call for each
        for entry in entries:
            if entry.name.startswith("."):
                continue
            bare = False
            if entry.is_file():
                found.append(folder / entry.name)
            elif entry.is_dir():
                inner = folder / entry.name
                real = inner.resolve()
                if not any(one.is_relative_to(real) for one in above):
                    _walk(inner, [*above, real], found, lost, empty)
            elif entry.is_symlink():
                lost.append(folder / entry.name)
    if bare:
        empty.append(folder)


def stamp(root: Path, files: Iterable[Path]) -> str:
    """Return a digest of names below ``root``, sizes and times, which changes when the files do.

    It is the same wherever ``root`` is. Files of other content may have the same names, sizes and times in another
    place, where all times were set to one; so parts of a few files are read too.
    """
    digest = hashlib.sha256()
    start = len(os.fsencode(root))
    paths = [os.fsencode(path) for path in files]  # names need not be UTF-8
    for path in paths:
        facts = os.stat(path)  # noqa: PTH116 - a third faster than Path.stat, which counts with 200,000 files
        digest.update(path[start:])
        digest.update(f" {facts.st_size} {facts.st_mtime_ns}\0".encode())
    for path in paths[:: max(1, len(paths) // _PROBED)]:
        digest.update(_probe(path))
    return digest.hexdigest()


def _probe(path: bytes) -> bytes:
    """Return parts of a file: its beginning, parts between, and its end; nothing if it cannot be read."""
    parts = []
    with suppress(OSError), open(path, "rb", buffering=0) as stream:  # noqa: PTH123
        size = os.fstat(stream.fileno()).st_size
        for part in range(_PARTS):
            stream.seek(max(0, size - _PART) * part // (_PARTS - 1))
            parts.append(stream.read(_PART))
    return b"".join(parts)


def listed(lines: Sequence[str]) -> str:
    """Return the lines below each other, indented; of many, the first ten and how many more there are."""
    more = [f"… and {len(lines) - _NAMED} more"] if len(lines) > _NAMED else []
    return "\n  ".join([*lines[:_NAMED], *more])


@dataclass(frozen=True)
class RawDuplicate(Generic[RawItem]):
    """An item whose content is also in a split that goes before its own (test before validation before train)."""

    item: RawItem
    split: Split
    other: RawItem
    other_split: Split


def copies(
    splits: Mapping[Split, Sequence[RawItem]], content: Callable[[RawItem], Hashable]
) -> list[RawDuplicate[RawItem]]:
    """Return items of the training and validation splits whose ``content`` another split holds as well.

    Two equal items of one split do not count: nothing is tested on what was trained on.
    """
    first: dict[Hashable, tuple[Split, RawItem]] = {}
    found = []
    for split in reversed(SPLITS):
        for item in splits[split]:
            other_split, other = first.setdefault(content(item), (split, item))
            if other_split != split:
                found.append(RawDuplicate(item, split, other, other_split))
    return found


def file_contents(files: Sequence[Path]) -> Callable[[Path], Hashable]:
    """Return a function that gives equal keys to files of equal content; it reads only files of a size that recurs."""
    sizes = {path: path.stat().st_size for path in files}
    shared: dict[int, int] = {}
    for size in sizes.values():
        shared[size] = shared.get(size, 0) + 1

    def content(path: Path) -> Hashable:
        size = sizes[path]
        return (size, _digest(path)) if shared[size] > 1 else size

    return content


def _digest(path: Path) -> bytes:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).digest()
