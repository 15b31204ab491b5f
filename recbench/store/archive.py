"""Exports: the records of a suite in one file, written reproducibly and read without trust.

An export is a .zip archive with a manifest of checksums, the plan, the suite, and the jobs' folders. The same content
gives the same bytes (for one version of zlib): members are sorted and have no time stamps. A reader accepts known names
only, reads no more bytes than the manifest states, and neither unpickles anything nor unpacks anything to disk.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from recbench.errors import UserError
from recbench.files import UNFINISHED, full_disk_named, open_regular, read_regular, writable_output
from recbench.plan.model import SUITE_NAME, Frozen
from recbench.plan.plan import Plan, parse_plan
from recbench.store import artifacts
from recbench.store.artifacts import EPOCHS, HISTORY, IMAGES, MODEL, SCORES, TRACES
from recbench.store.record import File, Record, parse_record
from recbench.store.store import Store

ALWAYS = (HISTORY, SCORES)
"""Artifacts that every export contains."""
EXTRAS = {"images": (IMAGES, EPOCHS), "models": (MODEL,), "traces": (TRACES,)}
"""Artifacts that an export contains on request."""

_NAMES = "|".join(map(re.escape, ("record.json", *artifacts.ALL)))
_MEMBER = re.compile(rf"plan\.json|suite\.yaml|jobs/[0-9a-f]{{16}}/({_NAMES})")
_MANIFEST = "manifest.json"
MOST_SUITE = 1 << 24
"""Largest size of ``suite.yaml`` in bytes."""
_LONGEST_MANIFEST = 1 << 28
_EXPANSION = 50
"""An archive may unpack to this many times its own size; for the text of records the ratio is about ten."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


class ArchiveError(UserError):
    """A file is not an export, or cannot be trusted; the text says why."""


class Manifest(Frozen):
    """The manifest of an export: every other member with its size and SHA-256."""

    format: Literal["recbench export"] = "recbench export"
    version: Literal[1] = 1
    suite: str
    files: dict[str, File]


@dataclass(frozen=True)
class Exported:
    """The outcome of an export.

    Attributes:
        jobs: number of exported jobs, and of jobs in the plan.
        left_out: one line for each job whose record or files are damaged.
        lacking: number of jobs without an artifact that was wanted, by its name.
    """

    jobs: tuple[int, int]
    left_out: tuple[str, ...]
    lacking: dict[str, int]


def export(store: Store, file: Path, extras: Collection[str] = ()) -> Exported:
    """Write the records of a store's plan into one file, which is replaced if it exists.

    Args:
        store: the suite's records.
        file: the .zip file to write.
        extras: names of ``EXTRAS``.

    Raises:
        UserError: there is no plan or no record to export, or the file cannot be written.
        OutOfSpaceError: the disk is full.
    """
    plan = store.read_plan()
    wanted = [*ALWAYS, *(artifact for name in extras for artifact in EXTRAS[name])]
    jobs: list[str] = []
    left_out: list[str] = []
    lacking: dict[str, int] = {}
    file = writable_output(file)
    contents = {"plan.json": plan.model_dump_json().encode()}  # without its seal: the manifest has its checksum
    try:
        contents["suite.yaml"] = read_regular(store.root / "suite.yaml", MOST_SUITE)
    except FileNotFoundError:
        pass  # of a folder that was merged from several
    except OSError as error:
        raise UserError(f"{store.root / 'suite.yaml'} cannot be read: {error.strerror}") from None
    members = {name: File.of(content) for name, content in contents.items()}
    for planned in plan.jobs:
        try:
            record = store.read(planned.id)
            if record is None:
                continue
            found = _files_of(store, record, wanted)
        except ValueError as error:
            left_out.append(f"job {planned.id}: {error}")
            continue
        jobs.append(planned.id)
        folder = f"jobs/{planned.id}"
        members[f"{folder}/record.json"] = _described(store.record_file(planned.id))
        members.update({f"{folder}/{name}": described for name, described in found.items()})
        for name in wanted:
            expected = name in record.files or name in artifacts.ALWAYS
            if record.status == "done" and name not in found and expected:
                lacking[name] = lacking.get(name, 0) + 1
    if not jobs:
        raise UserError("\n".join([f"there is no record in {store.root} to export", *left_out]))
    manifest = Manifest(suite=plan.suite, files=dict(sorted(members.items())))
    _write(store.root, manifest, contents, file)
    return Exported((len(jobs), len(plan.jobs)), tuple(left_out), lacking)


def _described(path: Path, expected: File | None = None) -> File:
    """Return size and checksum of a regular file; the checksum is empty if the size is not the expected one.

    Raises:
        OSError: there is no such file, or it is not a regular one.
    """
    with os.fdopen(open_regular(path), "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        if expected is not None and expected.bytes != size:
            return File(bytes=size, sha256="")
        return File(bytes=size, sha256=hashlib.file_digest(stream, "sha256").hexdigest())


def _files_of(store: Store, record: Record, wanted: Collection[str]) -> dict[str, File]:
    """Return size and checksum of those wanted files that exist.

    Raises:
        ValueError: one is not the file that the record describes.
    """
    found = {}
    for name in wanted:
        if name not in record.files:
            continue
        try:
            described = _described(store.folder(record.job_id) / name, record.files[name])
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ValueError(f"{name} cannot be read: {error.strerror}") from None
        if described != record.files[name]:
            raise ValueError(f"{name} is not the file that the record describes")
        found[name] = described
    return found


def _write(root: Path, manifest: Manifest, contents: Mapping[str, bytes], file: Path) -> None:
    if not file.parent.is_dir():
        raise UserError(f"{file} cannot be written: the folder {file.parent} does not exist")
    with full_disk_named(file.parent):
        temporary = file.parent / f".{file.name[:100]}.{secrets.token_hex(6)}{UNFINISHED}"
        try:
            with os.fdopen(open_regular(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL), "w+b") as stream:
                with zipfile.ZipFile(stream, "w") as archive:
                    _add(archive, _MANIFEST, manifest.model_dump_json(indent=1).encode())
                    for name, described in manifest.files.items():
                        content = contents.get(name) or read_regular(root / name, described.bytes)
                        if hashlib.sha256(content).hexdigest() != described.sha256:
                            raise UserError(f"{root / name} changed during the export; export again")
                        _add(archive, name, content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, date_time=_EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.create_system = 3  # Unix, wherever this runs
    member.external_attr = (stat.S_IFREG | 0o644) << 16
    archive.writestr(member, content, compresslevel=6)


class Archive:
    """An open export."""

    def __init__(self, file: Path) -> None:
        """Open an export and check its list of members; their contents are checked when they are read.

        Raises:
            ArchiveError: the file is not an export, or contains something that exports do not.
        """
        self.file = file
        try:
            self.stream = os.fdopen(open_regular(file.resolve()), "rb")
        except (OSError, RuntimeError) as error:  # resolve raises RuntimeError for loops of links
            raise ArchiveError(f"{file} cannot be read: {getattr(error, 'strerror', None) or error}") from None
        try:
            self.archive = zipfile.ZipFile(self.stream)
        except OSError as error:
            self.stream.close()
            raise ArchiveError(f"{file} cannot be read: {error.strerror or error}") from None
        except (zipfile.BadZipFile, NotImplementedError, ValueError, MemoryError) as error:
            self.stream.close()
            raise ArchiveError(f"{file}: expected an export of recbench: {error}") from None
        try:
            self.manifest = self._check()
            self.plan = self._plan()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self.archive.close()
        self.stream.close()

    @property
    def jobs(self) -> list[str]:
        """The ids of the jobs with a record."""
        return [name.split("/")[1] for name in self.manifest.files if name.endswith("/record.json")]

    def has(self, name: str) -> bool:
        """Return whether there is a member of this name."""
        return name in self.manifest.files

    def read(self, name: str) -> bytes:
        """Return the content of a member.

        Raises:
            ArchiveError: it is damaged, or its size or SHA-256 is not what the manifest states.
        """
        described = self.manifest.files[name]
        content = self._bytes(name, described.bytes)
        if len(content) != described.bytes or hashlib.sha256(content).hexdigest() != described.sha256:
            raise self._refused(f"{name} is not what its manifest says")
        return content

    def record(self, job_id: str) -> Record:
        """Return the record of a job.

        Raises:
            ArchiveError: it cannot be used.
        """
        try:
            return parse_record(job_id, self.read(f"jobs/{job_id}/record.json"))
        except ValueError as error:
            raise self._refused(f"the record of job {job_id} is {error}") from None

    def _check(self) -> Manifest:
        members = self.archive.infolist()
        names = [member.orig_filename for member in members]
        if names[:1] != [_MANIFEST]:
            raise ArchiveError(f"{self.file}: expected an export of recbench, which begins with a manifest")
        if len(set(names)) != len(names):
            raise self._refused("a name occurs twice")
        for member in members[1:]:
            if not _MEMBER.fullmatch(member.orig_filename):
                raise self._refused(f"{member.orig_filename[:200]!r} does not belong in an export")
        for member in members:
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG) or member.flag_bits & 1:
                raise self._refused(f"{member.orig_filename} is a link, encrypted, or not a regular file")
        total = sum(member.file_size for member in members)
        if total > _EXPANSION * self.file.stat().st_size:
            raise self._refused(f"it claims to unpack to {total} bytes, more than {_EXPANSION} times its own size")
        try:
            manifest = Manifest.model_validate_json(self._bytes(_MANIFEST, _LONGEST_MANIFEST))
        except ValidationError as error:
            what = error.errors(include_url=False)[0]
            raise self._refused(f"its manifest: {'.'.join(map(str, what['loc']))}: {what['msg']}") from None
        if sorted(manifest.files) != sorted(names[1:]) or "plan.json" not in manifest.files:
            raise self._refused("its manifest does not list what it holds")
        sizes = {member.orig_filename: member.file_size for member in members[1:]}
        wrong = [name for name, described in manifest.files.items() if described.bytes != sizes[name]]
        if wrong:
            raise self._refused(f"{wrong[0]} is not what its manifest says")
        return manifest

    def _plan(self) -> Plan:
        try:
            plan = parse_plan(self.read("plan.json"))
        except ValueError as error:
            raise self._refused(f"its plan: {error}") from None
        if not SUITE_NAME.fullmatch(plan.suite):  # it becomes the name of a folder
            raise self._refused(f"{plan.suite[:200]!r} is not a valid name of a suite")
        if plan.suite != self.manifest.suite:
            raise self._refused(f"its manifest names the suite {self.manifest.suite!r}, but its plan {plan.suite!r}")
        return plan

    def _bytes(self, name: str, most: int) -> bytes:
        """Return the content of a member, but at most one byte more than ``most``."""
        try:
            with self.archive.open(name) as stream:
                return stream.read(most + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError, RuntimeError) as error:
            raise self._refused(f"{name} is damaged: {error}") from None

    def _refused(self, reason: str) -> ArchiveError:
        return ArchiveError(f"{self.file} is refused: {reason}")


@contextmanager
def opened(file: Path) -> Iterator[Archive]:
    """Open an export, and close it at the end."""
    archive = Archive(file)
    try:
        yield archive
    finally:
        archive.close()
