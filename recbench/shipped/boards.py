"""The reference boards that come with recbench: ``<suite>.zip``, an export, and ``<suite>.json`` with its checksum.

A board is read from a copy in the cache folder, which is unpacked once for each checksum and appears whole or not at
all. Nothing writes into the shipped files.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from recbench.errors import UserError, did_you_mean, quoted
from recbench.files import UNFINISHED, full_disk_named, read_regular
from recbench.plan.model import Frozen
from recbench.shipped import place
from recbench.store.archive import Archive, opened
from recbench.store.record import File
from recbench.store.store import Store

MOST = 5_000_000
"""The largest size of all reference boards together, in bytes."""


class BoardFacts(Frozen):
    """The content of ``<suite>.json``: size and checksum of the export, and how its scores per image are rounded.

    ``steps`` is the number of steps that a standard deviation over images is divided into; null if nothing is rounded.
    """

    format: Literal["recbench reference board"] = "recbench reference board"
    version: Literal[1] = 1
    suite: str
    export: File
    steps: int | None = None


@dataclass(frozen=True)
class ReferenceBoard:
    """A reference board.

    Attributes:
        name: of its suite.
        file: the export.
    """

    name: str
    file: Path

    @property
    def facts(self) -> BoardFacts:
        """The facts next to the export.

        Raises:
            UserError: there are none, or they cannot be read.
        """
        path = self.file.with_suffix(".json")
        try:
            facts = BoardFacts.model_validate_json(read_regular(path, 1 << 16))
        except OSError as error:
            raise UserError(
                f"{path}, with the checksum of {self.file.name}, cannot be read: {error.strerror}"
            ) from None
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise UserError(f"{path}: {where + ': ' if where else ''}{first['msg']}") from None
        if facts.suite != self.name:
            raise UserError(f"{path}: suite: expected {quoted(self.name)}, got {quoted(facts.suite)}")
        return facts

    def verify(self) -> BoardFacts:
        """Check the export and every file in it by their checksums, and return the facts.

        Raises:
            UserError: one is not what it should be.
        """
        facts = self._checked()
        with opened(self.file) as archive:
            self._check_suite(archive)
            for name in archive.manifest.files:
                archive.read(name)
            for job_id in archive.jobs:
                archive.record(job_id)
        return facts

    def store(self, cache: Path) -> Store:
        """Return the board's records, unpacked in the cache folder.

        Raises:
            UserError: the export is not what its checksum says.
            OutOfSpaceError: the disk of the cache is full.
        """
        facts = self._checked()
        folder = cache / "reference" / facts.export.sha256[:16] / self.name
        with opened(self.file) as archive:
            self._check_suite(archive)
            if not _whole(folder, archive):
                _unpack(archive, folder)
        return Store(folder)

    def _checked(self) -> BoardFacts:
        facts = self.facts
        try:
            content = read_regular(self.file, MOST)
        except OSError as error:
            raise UserError(f"{self.file} cannot be read: {error.strerror}") from None
        if File.of(content) != facts.export:
            found = hashlib.sha256(content).hexdigest()
            raise UserError(
                f"{self.file} is damaged: its SHA-256 is {found[:16]}…, expected {facts.export.sha256[:16]}…; "
                "install recbench again, or check the file out again"
            )
        return facts

    def _check_suite(self, archive: Archive) -> None:
        if archive.plan.suite != self.name:
            raise UserError(f"{self.file} is an export of the suite {archive.plan.suite}, expected {self.name}")


def _whole(folder: Path, archive: Archive) -> bool:
    """Return whether an unpacked copy has all files, in their sizes; what they hold is checked where they are read."""
    try:
        return all((folder / name).lstat().st_size == file.bytes for name, file in archive.manifest.files.items())
    except OSError:
        return False


def _unpack(archive: Archive, folder: Path) -> None:
    """Unpack an export into a folder that appears when it is whole."""
    work = folder.with_name(f".{secrets.token_hex(6)}{UNFINISHED}")
    try:
        work.mkdir(parents=True)
        with full_disk_named(work):
            for name in archive.manifest.files:
                path = work / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(name))
            old = work.with_name(f"{work.name}-old")
            if folder.exists():  # damaged, or unpacked by another process meanwhile
                folder.rename(old)
            try:
                work.rename(folder)
            except OSError:
                if not _whole(folder, archive):
                    raise
            shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise UserError(f"the reference board cannot be unpacked into {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def boards() -> dict[str, ReferenceBoard]:
    """Return all shipped reference boards by the name of their suite, sorted."""
    return {file.stem: ReferenceBoard(file.stem, file) for file in sorted(place.boards_folder().glob("*.zip"))}


def find_board(name: str) -> ReferenceBoard:
    """Return the reference board of a suite.

    Raises:
        UserError: none is shipped.
    """
    known = boards()
    if name not in known:
        raise UserError(f"recbench ships no reference board of {quoted(name)}; {did_you_mean(name, list(known))}")
    return known[name]
