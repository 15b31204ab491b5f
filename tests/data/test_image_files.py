"""Image files that are not opened, whatever they are called."""

from __future__ import annotations

import struct
import subprocess
import warnings
import zlib
from pathlib import Path

import pytest
from PIL import Image

from recbench.data.image_files import FORMATS, UnusableImageError, open_image


def png(path: Path, width: int, height: int) -> Path:
    """Write a PNG file of any stated size, with hardly any pixels in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return path


@pytest.mark.parametrize("form", ["PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM", "TGA"])
def test_common_formats(tmp_path, form):
    Image.new("RGB", (5, 4), "red").save(tmp_path / "image", form)
    with open_image(tmp_path / "image") as opened:
        assert (opened.size, opened.format) == ((5, 4), form)
        opened.load()


@pytest.mark.parametrize("size", [(12_000, 12_000), (40_000, 40_000)], ids=["144 megapixels", "1.6 gigapixels"])
def test_too_many_pixels(tmp_path, size):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with (
            pytest.raises(UnusableImageError, match="has too many pixels to be decoded, expected at most 89 million"),
            open_image(png(tmp_path / "vast.png", *size)),
        ):
            pass


@pytest.mark.parametrize("name", ["a.eps", "a.png"])
def test_no_interpreter_is_started(tmp_path, monkeypatch, name):
    """Pillow gives PostScript to Ghostscript."""
    Image.new("RGB", (4, 4)).save(tmp_path / name, "EPS")

    def started(*arguments, **options):
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "check_call", started)
    with (
        pytest.raises(UnusableImageError, match=r"is not an image that can be read \(JPEG, PNG, "),
        open_image(tmp_path / name) as opened,
    ):
        opened.load()


def test_no_format_that_is_a_program():
    assert not {"EPS", "WMF", "PDF", "FITS", "MIC", "FPX", "GRIB", "BUFR", "HDF5"} & set(FORMATS)
