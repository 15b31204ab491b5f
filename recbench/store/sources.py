"""Results of suites wherever they are: in folders, and in exports."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from recbench.errors import UserError
from recbench.files import read_regular
from recbench.plan.model import SUITE_NAME
from recbench.plan.plan import Plan
from recbench.store.archive import MOST_SUITE, Archive, opened
from recbench.store.record import MOST_BYTES, File, Record
from recbench.store.store import Store


class RecordSource(ABC):
    """The results of one suite, in a folder or in an export.

    Attributes:
        name: its path, for messages.
        plan: the plan of the suite.
    """

    name: str
    plan: Plan

    @abstractmethod
    def resolved(self) -> bytes | None:
        """Return its ``suite.yaml``; None if it has none."""

    @abstractmethod
    def raw(self, job_id: str) -> bytes | None:
        """Return the bytes of a job's record; None if it has none.

        Raises:
            ValueError: it cannot be read.
        """

    @abstractmethod
    def _file(self, job_id: str, name: str, size: int) -> bytes | None:
        """Return a file of a job; None if it has none of that name.

        Raises:
            OSError: it is larger than ``size``, or not a regular file.
        """

    def file(self, record: Record, name: str) -> bytes | None:
        """Return an artifact of a job; None if it has none of that name.

        Raises:
            ValueError: it is not the file that the record describes.
        """
        described = record.files.get(name)
        if described is None:
            return None
        try:
            content = self._file(record.job_id, name, described.bytes)
        except OSError as error:
            raise ValueError(f"{name} is not the file that the record describes: {error.strerror}") from None
        if content is not None and File.of(content) != described:
            raise ValueError(f"{name} is not the file that the record describes")
        return content


class FolderSource(RecordSource):
    """A folder ``results/<suite>``."""

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self.store = Store(folder)
        self.plan = self.store.read_plan()
        if not SUITE_NAME.fullmatch(self.plan.suite):  # it becomes the name of a folder
            raise UserError(f"{folder}: {self.plan.suite[:200]!r} is not a valid name of a suite")

    def resolved(self) -> bytes | None:
        path = self.store.root / "suite.yaml"
        try:
            return self._bytes(path, MOST_SUITE)
        except OSError as error:
            raise UserError(f"{path} cannot be read: {error.strerror}") from None

    def raw(self, job_id: str) -> bytes | None:
        try:
            return self._bytes(self.store.record_file(job_id), MOST_BYTES)
        except OSError as error:
            raise ValueError(f"cannot be read: {error.strerror}") from None

    def _file(self, job_id: str, name: str, size: int) -> bytes | None:
        return self._bytes(self.store.folder(job_id) / name, size)

    def _bytes(self, path: Path, most: int) -> bytes | None:
        if path.is_symlink():
            raise UserError(f"{path} is a link; give a folder without links")
        try:
            return read_regular(path, most)
        except (FileNotFoundError, NotADirectoryError):
            return None


class ArchiveSource(RecordSource):
    """An export."""

    def __init__(self, archive: Archive) -> None:
        self.name = str(archive.file)
        self.archive = archive
        self.plan = archive.plan

    def resolved(self) -> bytes | None:
        return self._bytes("suite.yaml")

    def raw(self, job_id: str) -> bytes | None:
        return self._bytes(f"jobs/{job_id}/record.json")

    def _file(self, job_id: str, name: str, size: int) -> bytes | None:
        return self._bytes(f"jobs/{job_id}/{name}")

    def _bytes(self, name: str) -> bytes | None:
        return self.archive.read(name) if self.archive.has(name) else None


@contextmanager
def sources(paths: Sequence[Path]) -> Iterator[list[RecordSource]]:
    """Open the results at these paths: exports, folders of a suite, or folders that contain folders of suites.

    Raises:
        UserError: a path is none of these.
    """
    with ExitStack() as stack:
        found: list[RecordSource] = []
        for path in paths:
            if path.is_file():
                found.append(ArchiveSource(stack.enter_context(opened(path))))
            elif path.is_dir() and os.path.lexists(path / "plan.json"):
                found.append(FolderSource(path))
            else:
                below = sorted(file.parent for file in path.glob("*/plan.json"))
                if not below:
                    raise UserError(f"{path}: expected an export or a folder with the results of a suite")
                found += [FolderSource(folder) for folder in below]
        yield found
