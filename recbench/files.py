"""Files that survive a crash: locks, atomic writes, and errors that name a full disk. Imports nothing heavy."""

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
    """The process of this machine that holds a job's folder, or None; asks without touching the lock.

    Not for the process that holds it itself: to close any handle of a file gives up all locks on it.
    A holder on another machine is seen where the file system carries locks, as process 0 or less.
    """
    try:
        with (folder / "lock").open("rb+") as stream:
            asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            kind, _, _, _, process = struct.unpack(_FLOCK, fcntl.fcntl(stream, fcntl.F_GETLK, asked))
    except OSError:  # no such file, or not ours to open; who is to run the job finds out
        return None
    return None if kind == fcntl.F_UNLCK else process


_FLOCK = "hhqqi0q"
"""struct flock of 64-bit Linux: kind, whence, start, length, process."""


@contextmanager
def lock(folder: Path) -> Iterator[bool]:
    """Hold a job's folder for this process; yields False where another process holds it.

    A POSIX record lock: it dies with the process, however that dies, and works on NFS. It does not keep out the
    process that holds it, and the inner of two locks of one process would release both.
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
    """Temporary files in a folder, of writes under way or of writers that were killed."""
    return sorted(folder.glob(f".*{UNFINISHED}"))


def write_atomically(file: Path, content: bytes, *, new: bool = False, durable: bool = True) -> None:
    """Write a file so that it is there whole, or as it was before: temporary file, fsync, rename, fsync of the folder.

    Args:
        new: do not replace a file, not even one that appears while this one is being written.
        durable: wait for the disk. Without, a power cut may leave the file damaged, which is good enough for what is
            compared and written anew before it is used, and a hundred times as fast.

    Raises:
        FileExistsError: it is there already, and should be new.
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
            if new and file.exists():  # whoever wrote it, out of a lock's reach, has taken our file for a leftover
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
    """Give a file its name, unless that is taken: a rename would replace what has it."""
    try:
        file.hardlink_to(temporary)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        _rename_to_new(temporary, file)  # no hard links on this file system


def _rename_to_new(temporary: Path, file: Path) -> None:
    """Rename, unless the new name is taken; as one step where the file system can do that."""
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None:
        failed = renameat2(_HERE, os.fsencode(temporary), _HERE, os.fsencode(file), _NO_REPLACE)
        if not failed:
            return
        number = ctypes.get_errno()
        if number not in (*_CANNOT, errno.EINVAL):
            raise OSError(number, os.strerror(number), str(file))
    if file.exists():  # the best that is left; on one machine the job's lock keeps others out
        raise FileExistsError(f"{file} exists already")
    temporary.replace(file)


_CANNOT = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS)
_HERE = -100  # AT_FDCWD
_NO_REPLACE = 1  # RENAME_NOREPLACE


def update(file: Path, text: str, *, durable: bool = True) -> None:
    """Write a file, unless it holds this text already."""
    content = text.encode()
    if not (file.is_file() and file.read_bytes() == content):
        write_atomically(file, content, durable=durable)


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn "no space left" into an error that says where."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise OutOfSpaceError(
            f"no space left on the device that holds {folder}; all finished jobs are safe there: "
            "make room and run the same command again"
        ) from error
