"""Crash-safe files: locks, atomic writes, and errors that name a full disk. Imports nothing heavy."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from recbench.errors import OutOfSpaceError


def holder(folder: Path) -> int | None:
    """Return the process that holds the lock of a job's folder, without touching the lock.

    Must not be called by the process that holds the lock: closing any handle of a file releases all its locks on it.

    Args:
        folder: the job's folder.

    Returns:
        The process id; 0 or less for a process of another machine, which is seen if the file system shares locks; None
        if nothing holds the lock.
    """
    try:
        with (folder / "lock").open("rb+") as stream:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, process = struct.unpack(_FLOCK, fcntl.fcntl(stream, fcntl.F_GETLK, asked))
    except OSError:  # no such file, or no permission, which is reported when the job is run
        return None
    return None if kind == fcntl.F_UNLCK else process


_FLOCK = "hhqqi0q"
"""struct flock of 64-bit Linux: kind, whence, start, length, process."""


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Lock a job's folder for this process; a context manager.

    A POSIX record lock: it is released when the process ends, in whatever way, and works on NFS. It does not exclude
    the process that holds it, and the inner of two nested locks would release both.

    Args:
        folder: is created if necessary; holds the file ``lock``.

    Yields:
        True if this process holds the lock, False if another one does.

    Raises:
        OutOfSpaceError: the file system is full.
    """
    with full_disk_named(folder):
        folder.mkdir(parents=True, exist_ok=True)
        stream = (folder / "lock").open("w")
    with stream as handle:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            yield False
            return
        yield True


UNFINISHED = ".unfinished"


def unfinished(folder: Path) -> list[Path]:
    """Return the temporary files in a folder, of writes in progress and of killed processes."""
    return sorted(folder.glob(f".*{UNFINISHED}"))


def write_atomically(file: Path, content: bytes, *, new: bool = False, durable: bool = True) -> None:
    """Write a file completely or not at all: temporary file, fsync, rename, fsync of the folder.

    Args:
        file: the path; its folder is created if necessary.
        content: the whole content.
        new: do not replace an existing file, not even one that appears during the write.
        durable: wait until the file is on disk. False is about a hundred times as fast, but a power cut may damage the
            file; use it for files that are checked and rewritten before use.

    Raises:
        FileExistsError: ``new`` is set and the file exists.
        OutOfSpaceError: the file system is full.
    """
    with full_disk_named(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=UNFINISHED, dir=file.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
            temporary.chmod(0o644)
            if new:
                link_new(temporary, file)
            else:
                temporary.replace(file)
        except FileNotFoundError:
            if new and file.exists():  # a writer that the lock does not reach removed our temporary file
                raise FileExistsError(f"{file} exists already") from None
            raise
        finally:
            temporary.unlink(missing_ok=True)
        if durable:
            folder = os.open(file.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


def link_new(temporary: Path, file: Path) -> None:
    """Give a temporary file its final name.

    Raises:
        FileExistsError: the name is taken; a plain rename would replace that file.
    """
    try:
        file.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        _rename_to_new(temporary, file)  # no hard links on this file system


def _rename_to_new(temporary: Path, file: Path) -> None:
    """Rename unless the new name is taken, atomically if the file system supports it."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        failed = renameat2(_HERE, os.fsencode(temporary), _HERE, os.fsencode(file), _NO_REPLACE)
        if not failed:
            return
        number = ctypes.get_errno()
        if number not in (*_CANNOT, errno.EINVAL):
            raise OSError(number, os.strerror(number), str(file))
    if file.exists():  # not atomic, but on one machine the job's lock excludes other writers
        raise FileExistsError(f"{file} exists already")
    temporary.replace(file)


_CANNOT = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_HERE = -100  # AT_FDCWD
_NO_REPLACE = 1  # RENAME_NOREPLACE


def update(file: Path, text: str, *, durable: bool = True) -> None:
    """Write a file, unless it already has this content."""
    content = text.encode()
    if not (file.is_file() and file.read_bytes() == content):
        write_atomically(file, content, durable=durable)


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk without room."""


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Convert "no space left on device", and a limit on the size of files, into an error that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EFBIG:
            raise OutOfSpaceError(
                f"a file in {folder} would be larger than the system allows (ulimit -f); all finished jobs are safe: "
                "raise the limit and run the same command again"
            ) from error
        if error.errno not in FULL:
            raise
        raise OutOfSpaceError(
            f"no space left on the device of {folder}; all finished jobs are safe: "
            "free some space and run the same command again"
        ) from error
