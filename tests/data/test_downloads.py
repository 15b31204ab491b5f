"""Files from a real server, whatever it does, and archives, whatever is in them."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import inspect
import io
import os
import stat
import sys
import threading
import time
import types
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from recbench.contracts.entries import Download
from recbench.data import downloads
from recbench.data.downloads import DownloadError, fetch
from recbench.data.unpacking import unpack

CONTENT = bytes(range(256)) * 5000  # more than a block


@dataclass
class Server:
    """What a server does. Each answer takes the next of ``drops``: after how many bytes it hangs up; None for never."""

    body: bytes = CONTENT
    ranges: bool = True
    drops: list[int | None] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    announced: int | None = None
    kind: str = "application/gzip"
    wrong_range: bool = False
    asked: list[str | None] = field(default_factory=list)
    address: str = ""
    drip: float = 0.0
    """Seconds between any two bytes."""


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Server], Server]]:
    """``serve(Server(…))`` starts one, and gives it with its address. Nobody waits between attempts."""
    monkeypatch.setattr(downloads, "pause", lambda failures: 0.0)
    running = []

    def start(facts: Server) -> Server:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                facts.asked.append(asked)
                status = facts.statuses.pop(0) if facts.statuses else 200
                first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and facts.ranges else 0
                if status == 200 and first >= len(facts.body) > 0:
                    status = 416
                if status != 200:
                    self.send_response(status)
                    self.end_headers()
                    return
                body = facts.body[first:]
                self.send_response(206 if asked and facts.ranges else 200)
                if asked and facts.ranges:
                    told = first + facts.wrong_range
                    self.send_header("Content-Range", f"bytes {told}-{len(facts.body) - 1}/{len(facts.body)}")
                self.send_header("Content-Length", str(len(body) if facts.announced is None else facts.announced))
                self.send_header("Content-Type", facts.kind)
                self.end_headers()
                drop = facts.drops.pop(0) if facts.drops else None
                with contextlib.suppress(OSError):  # the other side has heard enough
                    for start in range(0, len(body) if facts.drip else 0, 2):
                        self.wfile.write(body[start : start + 2])
                        time.sleep(facts.drip)
                    if not facts.drip:
                        self.wfile.write(body if drop is None else body[:drop])

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        running.append(server)
        facts.address = f"http://127.0.0.1:{server.server_address[1]}/made.tar.gz"
        return facts

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def wanted(address: str, content: bytes = CONTENT) -> Download:
    return Download(
        file="made.tar.gz",
        address=address,
        size=len(content),
        md5=hashlib.md5(content, usedforsecurity=False).hexdigest(),
    )


def everything(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


PART = ".made.tar.gz.part"

# Fetching


def test_a_file_is_fetched_and_then_found(tmp_path, serve):
    server = serve(Server())
    seen: list[tuple[int, int]] = []
    place = fetch(wanted(server.address), tmp_path / "new", lambda done, total: seen.append((done, total)))
    assert place == tmp_path / "new" / "made.tar.gz"
    assert place.read_bytes() == CONTENT
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert everything(tmp_path) == ["made.tar.gz", "new"]
    fetch(wanted(server.address), tmp_path / "new")
    assert len(server.asked) == 1


def test_sha256_is_checked_where_it_is_known(tmp_path, serve):
    server = serve(Server())
    right = replace(wanted(server.address), sha256=hashlib.sha256(CONTENT).hexdigest())
    with pytest.raises(DownloadError, match=f"its SHA-256 is {right.sha256}, not {'0' * 64}"):
        fetch(replace(right, sha256="0" * 64), tmp_path)
    assert everything(tmp_path) == []
    fetch(right, tmp_path)


@pytest.mark.parametrize("drops", [[300_000], [300_000, 0, 0, 200_000], [0]])
def test_a_dropped_connection_is_taken_up_where_it_was_lost(tmp_path, serve, drops):
    server = serve(Server(drops=list(drops)))
    assert fetch(wanted(server.address), tmp_path).read_bytes() == CONTENT
    done = 0
    for asked, drop in zip(server.asked, [*drops, None], strict=True):
        assert asked == (f"bytes={done}-" if done else None)
        done += drop or 0


def test_a_server_without_ranges_starts_over(tmp_path, serve):
    server = serve(Server(ranges=False, drops=[300_000, 900_000]))
    assert fetch(wanted(server.address), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=900000-"]


def test_a_server_that_is_out_of_order_for_a_moment_is_asked_again(tmp_path, serve):
    server = serve(Server(drops=[300_000], statuses=[200, 503, 500]))
    assert fetch(wanted(server.address), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=300000-", "bytes=300000-"]


def test_a_server_that_gives_another_part_is_not_believed(tmp_path, serve):
    server = serve(Server(drops=[300_000], wrong_range=True))
    assert fetch(wanted(server.address), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", None]


def test_a_server_that_drips_is_given_up_and_what_came_is_kept(tmp_path, serve, monkeypatch):
    """Its connection never times out, since there is always another byte."""
    monkeypatch.setattr(downloads, "_WINDOW", 0.05)
    server = serve(Server(drip=0.01))
    with pytest.raises(DownloadError, match=r"5 times, last after \d+ of 1280000 bytes \(only \d+ bytes came in"):
        fetch(wanted(server.address), tmp_path)
    assert everything(tmp_path) == [PART]
    server.drip = 0.0
    monkeypatch.setattr(downloads, "_WINDOW", 60.0)
    assert fetch(wanted(server.address), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] is not None, "taken up where it ended"


def test_a_connection_that_always_drops_is_given_up_and_later_taken_up(tmp_path, serve):
    server = serve(Server(drops=[300_000, 0, 0, 0, 0]))
    with pytest.raises(DownloadError, match=r"5 times, last after 300000 of 1280000 bytes"):
        fetch(wanted(server.address), tmp_path)
    assert everything(tmp_path) == [PART]
    assert fetch(wanted(server.address), tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=300000-"
    assert everything(tmp_path) == ["made.tar.gz"]


def test_attempts_are_counted_anew_when_something_came(tmp_path, serve):
    """Ten blocks in as many connections, with one that brings nothing after each but the last."""
    body = bytes(10 << 20)
    server = serve(Server(body=body, drops=[1 << 20, 0] * 10))
    assert fetch(wanted(server.address, body), tmp_path).stat().st_size == len(body)
    assert len(server.asked) == 19


def test_an_interrupted_download_goes_on(tmp_path, serve):
    server = serve(Server())

    def interrupt(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(wanted(server.address), tmp_path, interrupt)
    assert everything(tmp_path) == [PART]
    came = (tmp_path / PART).stat().st_size
    assert 0 < came < len(CONTENT)
    assert fetch(wanted(server.address), tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={came}-"]


@pytest.mark.parametrize("begun", [b"something else", CONTENT[:-1] + b"x", CONTENT + b"more", bytes(len(CONTENT))])
def test_a_beginning_of_something_else_is_thrown_away(tmp_path, serve, begun):
    server = serve(Server())
    (tmp_path / PART).write_bytes(begun)
    assert fetch(wanted(server.address), tmp_path).read_bytes() == CONTENT


def test_a_whole_part_needs_no_server(tmp_path):
    (tmp_path / PART).write_bytes(CONTENT)
    assert fetch(wanted("http://127.0.0.1:9/made.tar.gz"), tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("server", "reason"),
    [
        (Server(body=CONTENT[:-1] + b"x"), r"made\.tar\.gz: its MD5 is [0-9a-f]{32}, not [0-9a-f]{32}$"),
        (Server(body=CONTENT[:-1]), "ended after 1279999 of 1280000 bytes"),
        (Server(body=CONTENT + b"x"), "expected the 1280000 bytes of .*, got more"),
        (Server(body=b""), "ended after 0 of"),
        (Server(statuses=[404]), "cannot be fetched: HTTP Error 404"),
        (Server(statuses=[503]), "cannot be fetched: HTTP Error 503"),
        (Server(kind="text/html; charset=utf-8"), "got a web page"),
    ],
    ids=["corrupted", "truncated", "too long", "empty", "not there", "out of order", "a page to log in"],
)
def test_what_is_not_the_file_is_not_kept(tmp_path, serve, server, reason):
    with pytest.raises(DownloadError, match=reason):
        fetch(wanted(serve(replace(server, asked=[])).address), tmp_path)
    assert everything(tmp_path) == []


def test_an_endless_answer_is_cut_off(tmp_path, serve, monkeypatch):
    """A server that says nothing of a length: the file on the disk never grows over its size."""
    monkeypatch.setattr(downloads, "_BLOCK", 1000)
    server = serve(Server(body=CONTENT * 10))
    monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "send_header", lambda *_: None)
    largest = 0

    def watch(done: int, total: int) -> None:
        nonlocal largest
        largest = max(largest, done)

    with pytest.raises(DownloadError, match="expected the 1280000 bytes of"):
        fetch(wanted(server.address), tmp_path, watch)
    assert largest <= len(CONTENT)


def test_a_file_that_is_there_is_never_replaced(tmp_path, serve):
    server = serve(Server())
    (tmp_path / "made.tar.gz").write_bytes(b"the user's own")
    with pytest.raises(DownloadError, match=r"is not the published file: .*14 bytes instead of 1280000"):
        fetch(wanted(server.address), tmp_path)
    assert (tmp_path / "made.tar.gz").read_bytes() == b"the user's own"
    assert not server.asked


def test_two_processes_do_not_fetch_one_file(tmp_path, serve):
    import fcntl

    server = serve(Server())
    with (tmp_path / PART).open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(DownloadError, match="another process is fetching"):
            fetch(wanted(server.address), tmp_path)
    fetch(wanted(server.address), tmp_path)


def test_no_room_is_told_before_anything_comes(tmp_path, serve):
    server = serve(Server())
    huge = replace(wanted(server.address), size=1 << 60)
    with pytest.raises(DownloadError, match=f"has {1 << 60} bytes, .* has room for"):
        fetch(huge, tmp_path)
    assert not server.asked


# Google Drive


@pytest.fixture
def drive(monkeypatch):
    """A module that behaves as gdown documents: to be given a function ``download``."""
    module = types.ModuleType("gdown")
    module.exceptions = types.SimpleNamespace(DownloadError=type("DownloadError", (Exception,), {}))
    monkeypatch.setitem(sys.modules, "gdown", module)
    return module


def test_a_file_on_google_drive_comes_through_gdown(tmp_path, drive):
    def give(*, output, progress, resume, **others):
        assert others["id"] == "0B7-x_Y"
        assert resume
        progress(10, len(CONTENT))
        Path(output).write_bytes(CONTENT)

    drive.download = give
    assert fetch(wanted("gdrive:0B7-x_Y"), tmp_path).read_bytes() == CONTENT
    assert everything(tmp_path) == ["made.tar.gz"]


def test_google_drives_refusal_is_told(tmp_path, drive):
    def refuse(**_):
        raise drive.exceptions.DownloadError("Too many users have viewed\n\n   this file recently.")

    drive.download = refuse
    with pytest.raises(DownloadError, match=r"made\.tar\.gz .* Google Drive: Too many users have viewed this"):
        fetch(wanted("gdrive:0B7"), tmp_path)
    assert everything(tmp_path) == []


def test_more_than_the_file_is_not_taken_from_google_drive(tmp_path, drive):
    drive.download = lambda progress, **_: progress(10, len(CONTENT) + 1)
    with pytest.raises(DownloadError, match="got more"):
        fetch(wanted("gdrive:0B7"), tmp_path)


def test_without_gdown_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gdown", None)
    with pytest.raises(DownloadError, match=r"needs gdown: pip install 'recbench\[drive\]'"):
        fetch(wanted("gdrive:0B7"), tmp_path)


def test_gdown_takes_the_arguments_that_it_is_called_with():
    gdown = pytest.importorskip("gdown", reason="gdown, the extra 'drive', is not installed")
    known = inspect.signature(gdown.download).parameters
    assert {"id", "output", "quiet", "use_cookies", "resume", "retries", "timeout", "progress"} <= set(known)
    assert issubclass(gdown.exceptions.FileURLRetrievalError, gdown.exceptions.DownloadError)


# Facts


@pytest.mark.parametrize(
    "facts",
    [
        {"file": "../made"},
        {"file": "a/b"},
        {"file": ".hidden"},
        {"address": "ftp://x/y"},
        {"address": "gdrive:a/b"},
        {"size": 0},
        {"md5": ""},
        {"md5": "A" * 32},
        {"sha256": "0" * 63},
    ],
    ids=str,
)
def test_facts_that_cannot_be(facts):
    with pytest.raises(ValueError):
        replace(wanted("https://x/y"), **facts)


# Unpacking


def pack(file: Path, members: dict[str, bytes], **modes: int) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.filename = info.orig_filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = modes.get("mode", 0o644 | stat.S_IFREG) << 16
            archive.writestr(info, content)
    return file


def noise(size: int) -> bytes:
    return os.urandom(size)


def test_an_archive_is_unpacked(tmp_path):
    members = {"faces/1.jpg": noise(100), "faces/deep/2.jpg": noise(2000), "read me.txt": b"text"}
    archive = pack(tmp_path / "a.zip", members)
    seen: list[tuple[int, int]] = []
    unpack(archive, tmp_path / "root", 3, lambda done, total: seen.append((done, total)))
    for name, content in members.items():
        assert (tmp_path / "root" / name).read_bytes() == content
    assert seen[-1] == (2104, 2104)
    assert sorted(path.name for path in (tmp_path / "root").iterdir()) == ["faces", "read me.txt"]


@pytest.mark.parametrize(
    "name", ["../out", "a/../../out", "/etc/out", "a\\..\\out", "C:out", "..", "a/../..", "line\nbreak", "nul\0.jpg"]
)
def test_nothing_is_written_outside_of_the_folder(tmp_path, name):
    archive = pack(tmp_path / "a.zip", {"good": b"1", name: b"2"})
    with pytest.raises(DownloadError, match=r"is not a relative path within the folder|damaged"):
        unpack(archive, tmp_path / "deep" / "root", 10)
    assert everything(tmp_path) == ["a.zip", "deep", "root"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFBLK, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path, kind):
    archive = pack(tmp_path / "a.zip", {"link": b"/etc/passwd"}, mode=0o777 | kind)
    with pytest.raises(DownloadError, match="'link' is a link"):
        unpack(archive, tmp_path / "root", 10)
    assert everything(tmp_path) == ["a.zip", "root"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a")], ids=str)
def test_a_name_that_is_taken_in_the_archive(tmp_path, names):
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as opened:
        for name in names:
            opened.writestr(name, b"x")
    with pytest.raises(DownloadError, match="twice"):
        unpack(archive, tmp_path / "root", 10)
    assert everything(tmp_path) == ["a.zip", "root"]


def test_too_many_files(tmp_path):
    archive = pack(tmp_path / "a.zip", {str(number): b"" for number in range(11)})
    with pytest.raises(DownloadError, match="at most 10 files, got 11"):
        unpack(archive, tmp_path / "root", 10)


def test_a_bomb_is_refused_before_it_goes_off(tmp_path):
    archive = pack(tmp_path / "a.zip", {"bomb": bytes(20_000_000)})
    with pytest.raises(DownloadError, match=r"at most \d+ bytes, got 20000000"):
        unpack(archive, tmp_path / "root", 10)


def test_a_bomb_that_lies_about_its_size_is_refused(tmp_path):
    """Its table of contents says 10 bytes, its data unpack to 20 million."""
    archive = pack(tmp_path / "a.zip", {"bomb": bytes(20_000_000)})
    raw = archive.read_bytes()
    archive.write_bytes(raw.replace((20_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(DownloadError, match=r"damaged|refused"):
        unpack(archive, tmp_path / "root", 10)
    assert everything(tmp_path) == ["a.zip", "root"]


def test_an_encrypted_archive(tmp_path):
    archive = pack(tmp_path / "a.zip", {"secret": b"text"})
    raw = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    archive.write_bytes(raw)
    with pytest.raises(DownloadError, match="'secret' is encrypted"):
        unpack(archive, tmp_path / "root", 10)


@pytest.mark.parametrize("damage", ["cut", "flipped", "no archive"])
def test_a_damaged_archive_leaves_nothing(tmp_path, damage):
    archive = pack(tmp_path / "a.zip", {"one": noise(1000), "two": noise(1000)})
    raw = bytearray(archive.read_bytes())
    if damage == "flipped":
        raw[1200] ^= 0xFF
    archive.write_bytes({"cut": raw[:-50], "flipped": raw, "no archive": b"text"}[damage])
    with pytest.raises(DownloadError, match=r"a\.zip is damaged or not a \.zip archive"):
        unpack(archive, tmp_path / "root", 10)
    assert everything(tmp_path) == ["a.zip", "root"]


def test_nothing_that_is_there_is_replaced(tmp_path):
    archive = pack(tmp_path / "a.zip", {"faces/1.jpg": b"new", "other": b"new"})
    mine = tmp_path / "root" / "faces" / "1.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"already there: .*faces"):
        unpack(archive, tmp_path / "root", 10)
    assert mine.read_bytes() == b"mine"
    assert everything(tmp_path / "root") == ["1.jpg", "faces"]


def test_what_a_killed_process_left_is_removed(tmp_path):
    left = tmp_path / ".a.zip.xyz.unpacking"
    (left / "faces").mkdir(parents=True)
    unpack(pack(tmp_path / "a.zip", {"one": b"1"}), tmp_path, 10)
    assert everything(tmp_path) == ["a.zip", "one"]


def test_an_archive_made_elsewhere_is_unpacked(tmp_path):
    """Without Unix modes, and with entries for folders."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.mkdir("faces")
        info = zipfile.ZipInfo("faces/1.jpg")
        info.create_system = 0
        archive.writestr(info, b"one")
    (tmp_path / "a.zip").write_bytes(content.getvalue())
    unpack(tmp_path / "a.zip", tmp_path / "root", 1)
    assert (tmp_path / "root" / "faces" / "1.jpg").read_bytes() == b"one"
