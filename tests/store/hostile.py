"""Files as nobody should send them: what a folder of results may hold, whoever it comes from."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
from pyarrow import parquet

from recbench.store.record import sealed

Put = Callable[[Path], None]
Content = bytes | Callable[[], bytes]
"""The content of a file, or what makes it, if that takes a while."""


# Anything in place of a file


def fifo(file: Path) -> None:
    os.mkfifo(file)


def dangling(file: Path) -> None:
    file.symlink_to(file.parent / "nowhere")


def linked(file: Path) -> None:
    file.symlink_to("/etc/passwd")


def device(file: Path) -> None:
    file.symlink_to("/dev/zero")


def sparse(file: Path) -> None:
    with file.open("wb") as stream:
        stream.truncate(1 << 40)


def written(content: Content) -> Put:
    def put(file: Path) -> None:
        file.write_bytes(content if isinstance(content, bytes) else content())

    return put


ANYTHING: dict[str, Put] = {
    "a FIFO": fifo,
    "a dangling link": dangling,
    "a link": linked,
    "a device": device,
    "a folder": Path.mkdir,
    "a terabyte": sparse,
    "empty": written(b""),
    "noise": written(bytes(range(256)) * 40),
    "deep": written(b"[" * 100_000),
}


# NumPy


def header(shape: str, kind: str = "'|u1'") -> bytes:
    """Return the beginning of a .npy file with any claim."""
    text = f"{{'descr': {kind}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (63 - (len(text) + 10) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def array(*shape: int, kind: Any = np.uint8) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.zeros(shape, dtype=kind), allow_pickle=True)
    return stream.getvalue()


def npz(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return stream.getvalue()


def _twice() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("target.npy", array(2, 3, 16, 16))
        archive.writestr("target2npy", array(2, 3, 16, 16))
    return stream.getvalue().replace(b"target2npy", b"target.npy")


def _bomb() -> bytes:
    """Return an array that is as large as it says: half a gigabyte of zeros in two megabytes."""
    stream = io.BytesIO()
    zeros = bytes(1 << 20)
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("target.npy", "w", force_zip64=True) as member,
    ):
        member.write(header("(500, 1, 1024, 1024)"))
        for _ in range(500):
            member.write(zeros)
    return stream.getvalue()


ARRAYS: dict[str, Content] = {
    "a claim of a terabyte": npz(target=header("(1099511627776,)")),
    "a claim beyond all numbers": npz(target=header("(9223372036854775807, 9223372036854775807)")),
    "a negative shape": npz(target=header("(-1, 3, 16, 16)")),
    "a shape of text": npz(target=header("('a',)")),
    "a deep header": npz(target=header("(" * 4000 + ")" * 4000)),
    "objects": npz(target=array(2, 3, 16, 16, kind=object)),
    "records": npz(target=header("(4,)", "[('a', '<f4')]") + bytes(16)),
    "text": npz(target=header("(1,)", "'<U4'") + bytes(16)),
    "truncated": npz(target=array(2, 3, 16, 16)[:-1]),
    "too long": npz(target=array(2, 3, 16, 16) + b"x"),
    "no array": npz(target=b"hello"),
    "twice": _twice(),
    "a bomb": _bomb,
    "half": npz(target=array(2, 3, 16, 16))[:100],
}
PICTURES: dict[str, bytes] = {
    "floats": npz(**{name: array(2, 3, 16, 16, kind=np.float64) for name in ("target", "decoded", "samples")}),
    "no images": npz(**{name: array(0, 3, 16, 16) for name in ("target", "decoded", "samples")}),
    "no pixels": npz(**{name: array(2, 3, 0, 16) for name in ("target", "decoded", "samples")}),
    "flat": npz(**{name: array(1536) for name in ("target", "decoded", "samples")}),
    "another size": npz(**{name: array(2, 3, 8, 8) for name in ("target", "decoded", "samples")}),
    "two channels": npz(**{name: array(2, 2, 16, 16) for name in ("target", "decoded", "samples")}),
    "fewer decoded": npz(target=array(4, 3, 16, 16), decoded=array(2, 3, 16, 16), samples=array(2, 3, 16, 16)),
}


# Parquet


def table(**columns: Any) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(dict(columns)), stream)
    return stream.getvalue()


def _parquet_bomb() -> bytes:
    """Return 300 million scores in a few kilobytes."""
    part = pyarrow.table({"psnr": pyarrow.nulls(10_000_000, pyarrow.float64())})
    stream = io.BytesIO()
    with parquet.ParquetWriter(stream, part.schema) as writer:
        for _ in range(30):
            writer.write_table(part, row_group_size=10_000_000)
    return stream.getvalue()


SCORES: dict[str, Content] = {
    "a bomb": _parquet_bomb,
    "text": table(psnr=["a"] * 64),
    "lists": table(psnr=[[1.0, 2.0]] * 64),
    "nested": table(psnr=[{"a": 1.0}] * 64),
    "another number of images": table(psnr=[1.0] * 63),
    "no images": table(psnr=pyarrow.array([], pyarrow.float64())),
    "no column": table(other=[1.0] * 64),
    "an endless footer": table(psnr=[1.0] * 64)[:-8] + struct.pack("<I", (1 << 31) - 1) + b"PAR1",
    "half": table(psnr=[1.0] * 64)[:200],
}


# Histories and models

EPOCH = '{"epoch": 1, "step": 40, "objective": 4.5}\n'
HISTORIES: dict[str, Content] = {
    "deep": b'{"epoch": 1, "a": ' + b"[" * 50_000 + b"]" * 50_000 + b"}\n",
    "many lines": lambda: b"{}\n" * 3_000_000,
    "a long line": lambda: b'{"epoch": 1, "a": "' + b"x" * 60_000_000 + b'"}\n',
    "many values": (json.dumps({"epoch": 1, **{f"k{i}": i for i in range(5_000)}}) + "\n").encode(),
    "a huge number": b'{"epoch": 1' + b"0" * 4_000 + b"}\n",
    "a number too long to read": b'{"epoch": ' + b"1" * 10_000 + b"}\n",
    "no number": b'{"epoch": "1"}\n',
    "NaN": b'{"epoch": 1, "objective": NaN}\n',
    "infinity": b'{"epoch": 1, "objective": 1e999}\n',
    "true": b'{"epoch": true}\n',
    "a list": b"[1, 2]\n",
    "latin": b'{"epoch": 1, "\xff": 2}\n',
    "half a line": EPOCH.encode() + b'{"epoch": 2, "obj',
}
_HUGE = json.dumps({"architecture.w": {"dtype": "F32", "shape": [1 << 38], "data_offsets": [0, 1 << 40]}}).encode()
MODELS: dict[str, bytes] = {
    "a claim of a terabyte": struct.pack("<Q", len(_HUGE)) + _HUGE + bytes(64),
    "a header beyond the file": struct.pack("<Q", 1 << 62) + b"{}",
    "a header of megabytes": struct.pack("<Q", 1 << 25) + b"{" + b" " * (1 << 25),
    "a deep header": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "an unknown type": struct.pack("<Q", 60)
    + b'{"a":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}'.ljust(60)
    + bytes(4),
}


# Records with a fitting checksum


def changed(data: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return plain data in which the value at a dotted path is another."""
    first, _, rest = path.partition(".")
    return {**data, first: changed(data[first], rest, value) if rest else value}


RECORD_CHANGES: dict[str, tuple[str, Any]] = {
    "a huge count": ("evaluated.n", 10**30),
    "a negative count": ("evaluated.n", -1),
    "a huge number of parameters": ("cost.parameters", 10**4000),
    "endless training": ("trained.seconds", float("inf")),
    "speed that is no number": ("cost.images_per_second", float("nan")),
    "a mean that is no number": ("scores.psnr.mean", float("nan")),
    "a mean of text": ("scores.psnr.mean", "x"),
    "a file elsewhere": ("files", {"../../../secret": {"bytes": 1, "sha256": "a" * 64}}),
    "a file of a size beyond all": ("files", {"images.npz": {"bytes": 10**40, "sha256": "a" * 64}}),
    "scores of other metrics": ("scores", {}),
    "another job": ("job_id", "0" * 16),
    "another version": ("schema_version", 3),
    "no status": ("status", None),
}


def resealed(raw: bytes, path: str, value: Any) -> bytes:
    """Return the content of a record in which a value is another, with the checksum that fits."""
    data = json.loads(raw)
    del data["checksum"]
    return sealed(json.dumps(changed(data, path, value), indent=1))
