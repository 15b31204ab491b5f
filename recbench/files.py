"""Crash-safe files: locks, atomic writes, and errors that name a full disk. Imports nothing heavy.

Results come from other people too, so nothing here follows a link or opens anything but a regular file: neither what is
read nor what is written.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import secrets
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from recbench.errors import OutOfSpaceError, UserError

_KINDS = {
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_UNFOLLOWED = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Flags for opening a file that may be anything: a FIFO must not be waited for."""


def open_regular(path: str | Path, flags: int = os.O_RDONLY, *, folder: int | None = None) -> int:
    """Open a regular file, and nothing else, without following a link.

    Args:
        path: the file; links in the folders above it are followed.
        flags: as of ``os.open``.
        folder: descriptor of the folder that ``path`` is relative to.

    Returns:
        A descriptor.

    Raises:
        OSError: there is no such file, or it is not a regular file; ``strerror`` says what it is.
    """
    try:
        handle = os.open(path, flags | _UNFOLLOWED, 0o666, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EEXIST):
            raise
        raise _irregular(path, os.lstat(path, dir_fd=folder).st_mode) or error from None
    wrong = _irregular(path, os.fstat(handle).st_mode)
    if wrong is not None:
        os.close(handle)
        raise wrong
    return handle


def _irregular(path: str | Path, mode: int) -> OSError | None:
    """Return the error for a file of this mode; None if it is regular."""
    if stat.S_ISREG(mode):
        return None
    return OSError(errno.EINVAL, f"it is {_kind(mode)}, expected a regular file", str(path))


def read_regular(path: str | Path, most: int) -> bytes:
    """Return the content of a regular file, whose size is checked before it is read.

    Args:
        path: the file; it is not followed if it is a link.
        most: largest size in bytes.

    Raises:
        OSError: there is no such file, it is not a regular file, or it is larger; ``strerror`` says why.
    """
    handle = open_regular(path)
    try:
        size = os.fstat(handle).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"it has {size:,} bytes, expected at most {most:,}", str(path))
        found = os.read(handle, size)  # a record in one call: there may be ten thousand
        while len(found) < size and (more := os.read(handle, size - len(found))):  # one call reads at most 2 GiB
            found += more
        return found
    finally:
        os.close(handle)


def append_regular(path: Path, text: str) -> None:
    """Append text to a regular file, which is created if necessary.

    Raises:
        OSError: it is not a regular file, or cannot be written.
    """
    with os.fdopen(open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a", encoding="utf-8") as stream:
        stream.write(text)


def misplaced(folder: Path) -> str:
    """Return what recbench did not put into a folder of its own, and would write through: a link or a special file,
    as ``lock is a link``; empty if there is nothing. Folders in it are searched, links are not followed."""
    try:
        if folder.is_symlink() or not folder.is_dir():
            return f"{folder.name} is {_kind(folder.lstat().st_mode)}" if os.path.lexists(folder) else ""
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.is_dir(follow_symlinks=False):
                found = misplaced(Path(entry.path))
                if found:
                    return f"{entry.name}/{found}"
            elif not entry.is_file(follow_symlinks=False):
                return f"{entry.name} is {_kind(entry.stat(follow_symlinks=False).st_mode)}"
    except FileNotFoundError:  # it has just been removed
        return ""
    return ""


def _kind(mode: int) -> str:
    return "a file" if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "no regular file")


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
        with os.fdopen(open_regular(folder / "lock", os.O_RDONLY), "rb") as stream:  # of people who may only read, too
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
        UserError: the folder or the file is a link, or not what it should be.
        OutOfSpaceError: the file system is full.
    """
    with full_disk_named(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            above = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (FileExistsError, NotADirectoryError):
            what = _kind(folder.lstat().st_mode) if os.path.lexists(folder) else "below a file"
            raise UserError(f"{folder} is {what}, expected a folder of recbench's own; remove or rename it") from None
        try:
            stream = os.fdopen(open_regular("lock", os.O_WRONLY | os.O_CREAT, folder=above), "w")
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise UserError(f"{folder / 'lock'} cannot be used: {error.strerror}; remove it") from None
        finally:
            os.close(above)
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
        temporary = file.parent / f".{file.name[:100]}.{secrets.token_hex(6)}{UNFINISHED}"
        try:
            with os.fdopen(open_regular(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as stream:
                stream.write(content)
                stream.flush()
                if durable:
                    os.fsync(stream.fileno())
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
            sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def writable_output(output: Path) -> Path:
    """Return the path that a file named by the user is to be written to: a regular file that may be replaced, or a new
    name. A link is followed, so that the file that it leads to is replaced, not the link.

    Raises:
        UserError: it is a folder, a device or anything else that must not be replaced, or links lead nowhere.
    """
    try:
        target = output.resolve()
        mode = target.lstat().st_mode
    except FileNotFoundError:
        return target
    except (OSError, RuntimeError) as error:  # resolve raises RuntimeError for loops of links
        raise UserError(f"{output} cannot be written: {getattr(error, 'strerror', error)}") from None
    if not stat.S_ISREG(mode):
        raise UserError(f"{output} cannot be written: it is {_kind(mode)}, expected a regular file or a new name")
    return target


def write_output(output: Path, content: bytes) -> None:
    """Write a file that the user named, completely or not at all.

    ``/dev/stdout`` and its like are written to; no other device, FIFO or folder is touched.

    Raises:
        UserError: it is no regular file and no new name, or cannot be written.
        OutOfSpaceError: the file system is full.
    """
    try:
        if str(output).startswith(_STREAMS):
            with output.open("wb") as stream:
                stream.write(content)
        else:
            write_atomically(writable_output(output), content)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror or error}") from None


_STREAMS = ("/dev/stdout", "/dev/stderr", "/dev/fd/")


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
    with suppress(OSError):
        if read_regular(file, len(content)) == content:
            return
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
