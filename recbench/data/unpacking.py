"""Unpacking of fetched .zip archives, which are not trusted."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from recbench.data.downloads import DownloadError, copy_limited
from recbench.data.progress import DownloadProgress, no_progress

_EXPANSION = 10  # an archive of images holds hardly more than its own size
_UNPACKING = ".unpacking"


def unpack(archive: Path, folder: Path, most_members: int, progress: DownloadProgress = no_progress) -> None:
    """Unpack a .zip archive into a folder: all of it, or nothing.

    Existing files are not replaced, and nothing is written outside of the folder. Links, devices, absolute names, names
    with ``..`` and encrypted files are refused; so is an archive with more than ``most_members`` files, or one that
    unpacks to more than ten times its own size, whatever sizes it states.

    Args:
        archive: the file.
        folder: is created if necessary.
        most_members: the most files that are accepted.
        progress: called with the bytes unpacked so far, and their total number.

    Raises:
        DownloadError: it is damaged, not a .zip archive, or refused; or a file of that name is there already.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f".{archive.name}.*{_UNPACKING}"):  # of a process that was killed
        shutil.rmtree(leftover)
    scratch = Path(tempfile.mkdtemp(prefix=f".{archive.name}.", suffix=_UNPACKING, dir=folder))
    try:
        with zipfile.ZipFile(archive) as opened:
            _unpack(opened, archive, scratch, most_members, progress)
        tops = sorted(scratch.iterdir())
        existing = [str(folder / top.name) for top in tops if os.path.lexists(folder / top.name)]
        if existing:
            raise DownloadError(f"{archive} cannot be unpacked: already there: {', '.join(existing)}")
        for top in tops:
            top.rename(folder / top.name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DownloadError(f"{archive} is damaged or not a .zip archive: {error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unpack(
    opened: zipfile.ZipFile, archive: Path, scratch: Path, most_members: int, progress: DownloadProgress
) -> None:
    most_bytes = _EXPANSION * archive.stat().st_size
    members = [member for member in opened.infolist() if not member.is_dir()]
    total = sum(member.file_size for member in members)
    if len(members) > most_members:
        raise DownloadError(f"{archive} is refused: expected at most {most_members} files, got {len(members)}")
    if total > most_bytes:
        raise DownloadError(f"{archive} is refused: expected to unpack to at most {most_bytes} bytes, got {total}")
    done = 0
    for member in members:
        target = _target(member, scratch, archive)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            stream = target.open("xb")
        except (FileExistsError, NotADirectoryError):
            raise DownloadError(f"{archive} is refused: it contains {member.filename!r} twice") from None
        with stream, opened.open(member) as source:
            done += copy_limited(source, stream, most_bytes - done, f"{archive}: {member.filename}")
        progress(done, total)


def _target(member: zipfile.ZipInfo, scratch: Path, archive: Path) -> Path:
    """Return the path to unpack a member to, if it may be unpacked at all."""
    name = member.orig_filename
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or not parts or any(c in "\\:" or not c.isprintable() for c in name):
        raise DownloadError(f"{archive} is refused: {name!r} is not a relative path within the folder")
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        raise DownloadError(f"{archive} is refused: {name!r} is a link or a device")
    if member.flag_bits & 1:
        raise DownloadError(f"{archive} is refused: {name!r} is encrypted")
    return scratch.joinpath(*parts)
