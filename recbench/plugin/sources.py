"""The places of modules, found without importing anything, and the sources that were imported.

The source of a module may be edited while a process runs. :func:`record_imports` keeps what Python really read, so that
a job can tell the code that ran from the code that is on the disk now.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

CORE = "recbench"
"""The core, whose numbers are versioned by NUMERICS; plugins do not follow their imports into it."""

_STANDARD = tuple({sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")})
_INSTALLED = re.compile(r"[/\\](site|dist)-packages([/\\]|$)")


@dataclass(frozen=True)
class Location:
    """The place of a module.

    Attributes:
        file: its file; None for a package without one, or a module built into Python.
        folders: where the modules of a package are; empty for a module that is none.
    """

    file: Path | None
    folders: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        """The folder that holds the module's file, or the package's first folder."""
        return self.file.parent if self.file is not None else Path(self.folders[0] if self.folders else "/")


class Locations:
    """Places of modules, each looked for once."""

    def __init__(self) -> None:
        self._known: dict[str, Location | None] = {}

    def find(self, module: str) -> Location | None:
        """Return where a module is, without importing it or its parents; None if it cannot be found."""
        if module not in self._known:
            self._known[module] = self._loaded(module) or self._search(module)
        return self._known[module]

    def _loaded(self, module: str) -> Location | None:
        spec = getattr(sys.modules.get(module), "__spec__", None)
        return _location(spec, ()) if isinstance(spec, ModuleSpec) else None

    def _search(self, module: str) -> Location | None:
        parent, _, name = module.rpartition(".")
        folders: Sequence[str] | None = None
        if parent:
            above = self.find(parent)
            if above is None or not above.folders:
                return None
            folders = above.folders
        for finder in sys.meta_path:
            try:
                spec = finder.find_spec(module, folders)
            except Exception:  # noqa: BLE001, S112 - finders are anybody's; the next one may know better
                continue
            if spec is not None:
                return _location(spec, [f"{folder}/{name}" for folder in folders or ()])
        return None


def _location(spec: ModuleSpec, folders: Sequence[str]) -> Location | None:
    inner = spec.submodule_search_locations
    if inner is not None:
        try:
            folders = list(inner)
        except (KeyError, AttributeError):  # a package without a file within one that is not imported
            folders = [folder for folder in folders if Path(folder).is_dir()]
    file = Path(spec.origin) if spec.origin and spec.has_location else None
    return Location(file, tuple(folders) if inner is not None else ()) if file or folders else Location(None)


# What belongs to whom


def is_standard(location: Location) -> bool:
    """Return whether a module is one of Python's own."""
    if location.file is None and not location.folders:
        return True
    where = str(location.folder)
    return where.startswith(_STANDARD) and not _INSTALLED.search(where)


def is_foreign(top: str, location: Location, own: str) -> bool:
    """Return whether a top-level module belongs to an installed distribution other than ``own``.

    A module in a folder of anybody's, such as one named by PYTHONPATH or the source of an editable installation,
    belongs to none, unless an installed distribution there says that it is its own.
    """
    folder = str(location.folder.parent if location.folders else location.folder)
    if _INSTALLED.search(folder):
        return top not in _tops_of(own)
    return any(top in tops for name, tops in _claims(folder) if name != normal(own))


def normal(name: str) -> str:
    """Return the name of a distribution as all its spellings are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def _tops_of(name: str) -> frozenset[str]:
    try:
        return frozenset(_tops(distribution(name)))
    except (PackageNotFoundError, ValueError):
        return frozenset()


@cache
def _claims(folder: str) -> tuple[tuple[str, frozenset[str]], ...]:
    if not any(Path(folder or ".").glob("*.dist-info")):
        return ()
    found = []
    for each in distributions(path=[folder]):
        try:
            found.append((normal(each.metadata["Name"] or ""), frozenset(_tops(each))))
        except Exception:  # noqa: BLE001, S112 - metadata may be damaged in any way
            continue
    return tuple(found)


def _tops(found: Distribution) -> Iterator[str]:
    """Yield the names of a distribution's top-level modules."""
    yield from (found.read_text("top_level.txt") or "").split()
    for line in (found.read_text("RECORD") or "").splitlines():
        yield re.split(r"[/,]", line, maxsplit=1)[0].removesuffix(".py")
    for point in found.entry_points:
        yield re.split(r"[.:]", point.value, maxsplit=1)[0]
    yield (found.metadata["Name"] or "").replace("-", "_")


# What was imported

_recorded: dict[str, bytes] = {}


def read(file: Path) -> bytes:
    """Return a source as this process imported it; as it is now, if that is not known."""
    known = _recorded.get(str(file))
    return known if known is not None else file.read_bytes()


def record_imports() -> None:
    """From now on, compile the modules of plugins from their sources, and keep these: compiled files may be older than
    an edit within the same second."""
    if not any(isinstance(finder, _Recorder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Recorder())


def recording() -> bool:
    """Return whether imports are recorded in this process."""
    return any(isinstance(finder, _Recorder) for finder in sys.meta_path)


class RecordedFile(SourceFileLoader):
    """Imports a module from its source, and keeps the source."""

    def get_code(self, fullname: str) -> CodeType:
        source = self.get_data(self.path)
        _recorded[str(Path(self.path))] = source
        code: CodeType = self.source_to_code(source, self.path)
        return code


class _Recorder:
    """Finds modules as Python does, and has those that may be a plugin's recorded."""

    def __init__(self) -> None:
        self.own = {
            re.split(r"[.:]", point.value, maxsplit=1)[0] for each in distributions() for point in _points(each)
        }

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        top = name.partition(".")[0]
        if top == CORE:
            return None
        for finder in sys.meta_path:
            if finder is self:
                continue
            spec = finder.find_spec(name, path, target) if hasattr(finder, "find_spec") else None
            if spec is not None:
                return self._recorded(spec, top)
        return None

    def _recorded(self, spec: ModuleSpec, top: str) -> ModuleSpec:
        loader, where = spec.loader, spec.origin or ""
        mine = top in self.own or not _INSTALLED.search(where)
        if type(loader) is SourceFileLoader and mine and not (where.startswith(_STANDARD) and top not in self.own):
            spec.loader = RecordedFile(loader.name, loader.path)
        return spec


def _points(found: Distribution) -> Any:
    try:
        return found.entry_points.select(group=CORE)
    except Exception:  # noqa: BLE001 - reported where plugins are loaded
        return ()
