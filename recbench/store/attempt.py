"""The folder of an attempt, ``attempt-<random>/`` in its job's folder: all that an attempt writes is written there.

Between machines that share a folder a lock may have no effect, and a process that was stopped for a while may wake up
when others have taken over its job, or finished it. Therefore nothing but a move out of its folder gives a file of an
attempt a name that others read, and a new attempt moves the folder of the one before into its own, in one step. From
then on the earlier attempt finds its folder no more, and can change nothing.

The record comes first: it is linked out of the folder unless there is one already, so that the first one stands. The
other files follow; where that was cut short, :func:`finish` goes on, and takes only files that the record describes.
Imports no torch.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterable, Set
from contextlib import suppress
from pathlib import Path

from recbench.errors import RecbenchError
from recbench.files import UNFINISHED, full_disk_named, link_new, sync_folder
from recbench.store.artifacts import HISTORY
from recbench.store.record import File, JobStatus, Record, sealed
from recbench.store.store import Store

PREFIX = "attempt-"
RECORD = "record.json"
CHECKPOINT = "checkpoint"
WARNINGS = "warnings.log"
_BEFORE = "before-"
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)


class SupersededError(RecbenchError):
    """Another process has taken over the job, or has finished it."""


class AttemptFolder:
    """The folder of one attempt at a job, made or taken over from the attempt before.

    Attributes:
        job: the job's folder.
        path: the folder; another attempt may rename it at any time.
    """

    def __init__(self, job: Path, path: Path) -> None:
        self.job = job
        self.path = path
        self._identity = _identity(path)

    @classmethod
    def begin(cls, job: Path) -> AttemptFolder:
        """Begin an attempt at a job, which ends all earlier ones. What is in their folders stays, for :func:`finish`.

        Raises:
            OutOfSpaceError: the file system is full.
            FileNotFoundError: the job has no folder.
            SupersededError: another attempt was begun at the same time.
        """
        path = job / f"{PREFIX}{secrets.token_hex(4)}"
        with full_disk_named(job):
            path.mkdir()
            try:
                attempt = cls(job, path)
                for number, other in enumerate(other for other in attempts(job) if other != path):
                    # Into a new folder: a machine that remembers the old one by its handle, as NFS does, must find
                    # nothing of ours in it.
                    with suppress(FileNotFoundError):
                        other.rename(path / f"{_BEFORE}{number}")
            except FileNotFoundError:
                raise SupersededError("another process has begun to run the job") from None
        attempt.check()
        return attempt

    @property
    def held(self) -> bool:
        """False once another attempt has taken over, or the job is finished."""
        try:
            return _identity(self.path) == self._identity
        except OSError:
            return False

    def check(self) -> None:
        """Raise a SupersededError unless the attempt still owns its job."""
        if not self.held:
            raise SupersededError("another process has taken over the job")

    def clear(self) -> None:
        """Remove what earlier attempts left."""
        for other in attempts(self.job):
            if other != self.path:
                discard(other)
        for file in self.path.iterdir():
            if file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            else:
                file.unlink()

    def replace(self, record: Record) -> None:
        """Put a record with more scores, of the same training, in the place of the job's record, which the caller knows
        since it has begun; then the files that it describes, and remove the folder.

        Raises:
            SupersededError: another attempt has taken over.
            OutOfSpaceError: the file system is full.
        """
        self.check()
        with full_disk_named(self.job):
            try:
                _write(self.path / RECORD, sealed(record.model_dump_json(indent=1)))
                (self.path / RECORD).replace(self.job / RECORD)  # fails where another attempt has moved the folder
            except FileNotFoundError:
                raise SupersededError("another process has taken over the job") from None
            sync_folder(self.job)
            _place(self.path, self.job, record.files)
            sync_folder(self.job)
        discard(self.path)

    def publish(self, store: Store, record: Record, aside: Set[JobStatus] = frozenset({"failed"})) -> None:
        """Write the record, bring the files that it describes to their places, and remove the folder.

        Args:
            store: of the job.
            record: the record.
            aside: an earlier record with one of these statuses is kept under another name.

        Raises:
            SupersededError: another attempt has taken over, or the job has a record that is not a failure.
            ValueError: the job has a record that cannot be used.
            OutOfSpaceError: the file system is full.
        """
        self.adopt(store, record, sealed(record.model_dump_json(indent=1)), aside)

    def adopt(self, store: Store, record: Record, raw: bytes, aside: Set[JobStatus] = frozenset({"failed"})) -> None:
        """Publish a record as the bytes that were written elsewhere; see :meth:`publish`."""
        self.check()
        kept = None
        with full_disk_named(self.job):
            try:
                _write(self.path / RECORD, raw)
                if store.read(record.job_id) is not None:
                    kept = store.keep_aside(record.job_id, aside)
                link_new(self.path / RECORD, self.job / RECORD)
            except (FileExistsError, FileNotFoundError):
                if kept is not None:
                    with suppress(OSError):
                        link_new(kept, self.job / RECORD)
                        kept.unlink()
                if self.held:
                    discard(self.path)
                raise SupersededError("another process has finished the job") from None
            sync_folder(self.job)
            for other in attempts(self.job):
                if other != self.path:
                    discard(other)
            _place(self.path, self.job, record.files or (HISTORY,))
            sync_folder(self.job)
        discard(self.path)


def attempts(job: Path) -> list[Path]:
    """Return the folders of attempts in a job's folder: normally one, or none if the job is finished."""
    found = []
    with suppress(OSError), os.scandir(job) as entries:
        found = [entry.name for entry in entries if _is_attempt(entry)]
    return [job / name for name in sorted(found)]


def _is_attempt(entry: os.DirEntry[str]) -> bool:
    return entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False)


def discard(path: Path) -> None:
    """Remove the folder of an attempt, or a checkpoint: first its name, by which an attempt knows itself."""
    gone = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    with suppress(OSError):
        path.rename(gone)
        if gone.is_dir() and not gone.is_symlink():
            shutil.rmtree(gone, ignore_errors=True)
        else:
            gone.unlink()


def finish(job: Path, record: Record) -> None:
    """Bring the files of a job to their places where the process that wrote its record did not get that far, and remove
    what is left of attempts.

    Args:
        record: that of the job, on which nobody works now; if it failed, its model was kept.
    """
    for path in attempts(job):
        for work in (path, *path.rglob(f"{_BEFORE}*")):
            _place(work, job, [name for name, file in record.files.items() if _holds(work / name, file)])
        sync_folder(job)
        discard(path)
    discard(job / CHECKPOINT)


def _holds(path: Path, described: File) -> bool:
    try:
        return path.stat().st_size == described.bytes and File.of(path.read_bytes()) == described
    except OSError:
        return False


def show(name: str, work: Path, job: Path) -> None:
    """Give a file of an attempt its name in the job's folder too, so that others see it grow. Nothing happens on a file
    system without hard links: there it is seen when it is published."""
    shown = work / f".{name}{UNFINISHED}"
    try:
        shown.hardlink_to(work / name)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        shown.replace(job / name)


def warn(job: Path, text: str) -> None:
    """Add a line to ``warnings.log``, which the sweep shows when the job ends."""
    with (job / WARNINGS).open("a", encoding="utf-8") as stream:
        stream.write(" ".join(text.split()) + "\n")


def warnings(job: Path) -> list[str]:
    """Return the warnings of the last attempt at a job."""
    try:
        return (job / WARNINGS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _identity(path: Path) -> tuple[int, int]:
    facts = path.lstat()
    return facts.st_dev, facts.st_ino


def _place(work: Path, job: Path, names: Iterable[str]) -> None:
    for name in names:
        with suppress(FileNotFoundError):  # it is in its place already
            (work / name).replace(job / name)


def _write(file: Path, content: bytes) -> None:
    """Write a file in a folder that must exist, and flush both to the disk."""
    with file.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(file.parent)
