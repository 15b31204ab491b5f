"""The folders of shipped files: package data in an installation, folders of the repository in a clone."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_ROOT = _PACKAGE.parent.parent


def suites_folder() -> Path:
    """Return the folder of the suite files."""
    return _folder("suites", _ROOT / "suites")


def boards_folder() -> Path:
    """Return the folder of the reference boards; it need not exist."""
    return _folder("reference", _ROOT / "results" / "reference")


def _folder(name: str, in_clone: Path) -> Path:
    packaged = _PACKAGE / name
    return packaged if packaged.is_dir() or not (_ROOT / "pyproject.toml").is_file() else in_clone
