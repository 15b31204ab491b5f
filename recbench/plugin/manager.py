"""Loading of plugins, so that a broken one disables only itself.

Entry points of the group ``recbench`` are loaded one by one, in the order of their names, each in a guard that keeps
the traceback. The entries that a plugin yields are materialized inside that guard. A plugin that fails in any of this
is listed as broken and contributes nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import Distribution, EntryPoint, distributions
from inspect import isroutine
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pluggy

from recbench.contracts.entries import (
    ArchitectureEntry,
    DatasetEntry,
    Entry,
    ExecutorEntry,
    LossEntry,
    MetricEntry,
    TrackerEntry,
)
from recbench.errors import PluginError, did_you_mean, quoted
from recbench.plugin import spec as hooks
from recbench.plugin.isolation import TimeLimitExceeded, crash_in_fork, place_of, with_time_limit
from recbench.plugin.sources import RecordedFile, recording

GROUP = "recbench"
FILE = "(file)"
_UNKNOWN = "(unknown)"
FILE_MODULE_PREFIX = "recbench_file_plugin_"

KINDS: dict[str, type[Entry]] = {
    "losses": LossEntry,
    "architectures": ArchitectureEntry,
    "datasets": DatasetEntry,
    "metrics": MetricEntry,
    "executors": ExecutorEntry,
    "trackers": TrackerEntry,
}

_TRUSTED = "recbench"
"""The distribution whose plugins are not first imported in a forked process."""

_SITE = Path(pluggy.__file__).parent.parent
# The backport gives the entry points as soon as some library has imported it.
_MACHINERY = (
    __file__,
    *(str(folder) for folder in (_SITE / "pluggy", _SITE / "importlib_metadata", Path(importlib.__file__).parent)),
    "<frozen importlib",
)
"""Files whose frames are left out of tracebacks: those between recbench and the plugin."""


@dataclass
class Plugin:
    """A plugin and its state: loaded, broken or blocked.

    Attributes:
        name: name of its entry point, or of its file.
        origin: its module, or its file.
        distribution: the installed distribution that provides it, or ``"(file)"``.
        version: version of the distribution; empty for a file.
        status: ``"loaded"``, ``"broken"`` or ``"blocked"``.
        error: for a broken plugin, the reason in one line.
        place: for a broken plugin, file and line that raised the error, if they are known.
        details: for a broken plugin, the traceback.
        entries: its entries by kind.
        crashes_on_import: whether importing it crashed or hung the process.
    """

    name: str
    origin: str
    distribution: str
    version: str
    status: Literal["loaded", "broken", "blocked"] = "loaded"
    error: str = ""
    place: str = ""
    details: str = ""
    entries: dict[str, tuple[Entry, ...]] = field(default_factory=dict)
    crashes_on_import: bool = False

    @property
    def provider(self) -> str:
        """Name of the plugin in messages: ``distribution version (plugin)``, or its file."""
        if self.distribution == FILE:
            return f"the plugin file {self.origin}"
        return " ".join(filter(None, (self.distribution, self.version, f"({self.name})")))

    def fail(self, error: BaseException) -> None:
        """Mark the plugin as broken by an error."""
        self.status = "broken"
        self.entries = {}
        story = traceback.TracebackException.from_exception(error)
        if isinstance(error, PluginError):  # raised here: the text says it all
            self.error, self.details = str(error), ""
            return
        if isinstance(error, SystemExit | TimeLimitExceeded):
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            self.error, self.details = f"importing it ended the process ({why})", ""
            return
        frames = [frame for frame in story.stack if not frame.filename.startswith(_MACHINERY)]
        story.stack = traceback.StackSummary.from_list(frames)
        self.details = "".join(story.format())
        if not isinstance(error, SyntaxError):  # whose text says it
            self.place = place_of(frames)
        first = next(iter(str(story).strip().splitlines()), "")[:300]
        self.error = f"{type(error).__name__}: {first}" if first else type(error).__name__

    @property
    def reason(self) -> str:
        """The error on one line, with its place."""
        return f"{self.error} ({self.place})" if self.place else self.error

    def report(self, lines: int) -> str:
        """Return the error, with at most ``lines`` lines from the end of the traceback."""
        found = self.details.splitlines()
        left_out = ["  …"] if len(found) > lines else []
        return "\n".join([f"{self.provider} cannot be used: {self.error}", *left_out, *found[-lines:]])


@dataclass(frozen=True)
class Plugins:
    """All plugins of this process, and the pluggy manager that holds the loaded ones."""

    manager: pluggy.PluginManager
    found: tuple[Plugin, ...]

    @property
    def broken(self) -> tuple[Plugin, ...]:
        """The plugins that failed to load."""
        return tuple(plugin for plugin in self.found if plugin.status == "broken")


def load_plugins(files: Sequence[str | Path] = (), blocked: Iterable[str] = (), *, strict: bool = False) -> Plugins:
    """Load all installed plugins and the given files.

    Args:
        files: single-file plugins (``--plugin``). One that fails is an error, since it was requested explicitly.
        blocked: distributions or entry points whose plugins are not imported.
        strict: raise an error if any plugin is broken.

    Returns:
        The plugins, of which those of other distributions may be broken.

    Raises:
        PluginError: a file plugin failed; with ``strict``, any plugin failed; or a name in ``blocked`` is unknown.
    """
    plugins = find_plugins(files, blocked)
    refused = [plugin for plugin in plugins.broken if strict or plugin.distribution == FILE]
    if refused:
        whole = "; 'recbench plugins --details' with the same options shows the traceback"
        raise PluginError(
            "\n".join(
                f"{plugin.provider} cannot be used: {plugin.reason}{whole if plugin.details else ''}"
                for plugin in refused
            )
        )
    return plugins


def find_plugins(files: Sequence[str | Path] = (), blocked: Iterable[str] = ()) -> Plugins:
    """Load all plugins and keep the broken ones, without raising their errors; see :func:`load_plugins`.

    Raises:
        PluginError: a name in ``blocked`` is unknown.
    """
    manager = pluggy.PluginManager(hooks.PROJECT)
    manager.add_hookspecs(hooks)
    candidates = _installed()
    unwanted = _blocked(blocked, [plugin for plugin, _ in candidates])
    for file in files:
        path = Path(file).resolve()
        plugin = Plugin(name=path.name, origin=str(path), distribution=FILE, version="")
        candidates.append((plugin, partial(_import_file, path)))
    found: list[Plugin] = []
    origins = set()
    for plugin, load in candidates:
        if plugin.distribution != FILE and {_normal(plugin.distribution), _normal(plugin.name)} & unwanted:
            plugin.status = "blocked"
            found.append(plugin)
        elif plugin.origin not in origins:  # a module that is registered twice counts once
            origins.add(plugin.origin)
            if _admit(manager, plugin, load):
                found.append(plugin)
    return Plugins(manager, tuple(found))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _blocked(names: Iterable[str], installed: Sequence[Plugin]) -> set[str]:
    """Return the names to block; an unknown one is an error, since the plugin that was meant would be imported."""
    known = {name for plugin in installed for name in (plugin.distribution, plugin.name)}
    unwanted = {_normal(name): name for name in names}
    for name in unwanted.keys() - {_normal(one) for one in known}:
        tail = did_you_mean(unwanted[name], sorted(known))
        raise PluginError(f"--block {unwanted[name]}: there is no such distribution or plugin; {tail}")
    return set(unwanted)


def _installed() -> list[tuple[Plugin, Callable[[], Any]]]:
    """Return the installed plugins, not yet imported, in an order that does not depend on the installation."""
    found: list[tuple[Plugin, Callable[[], Any]]] = []
    seen: set[str] = set()
    for distribution in distributions():
        try:
            points = distribution.entry_points.select(group=GROUP)
        except Exception as error:  # noqa: BLE001 - one unreadable file must not end the program
            if f"[{GROUP}]" in (distribution.read_text("entry_points.txt") or ""):
                name, version = _identify(distribution)
                found.append((Plugin(name, "entry_points.txt", name, version), partial(_reject, error)))
            continue
        if not points:
            continue
        name, version = _identify(distribution)
        if _normal(name) in seen:  # further metadata of it: imports, too, take what comes first on the path
            continue
        seen.update({_normal(name)} - {_UNKNOWN})
        for point in points:
            found.append((Plugin(point.name, point.value, name, version), partial(_import_point, point)))
    return sorted(found, key=lambda item: (item[0].name, item[0].origin, item[0].distribution, item[0].version))


def _identify(distribution: Distribution) -> tuple[str, str]:
    """Return the name and version of a distribution, whose metadata may be damaged."""
    try:
        return distribution.metadata["Name"] or _UNKNOWN, distribution.metadata["Version"] or ""
    except Exception:  # noqa: BLE001 - versions of Python raise different errors
        return _UNKNOWN, ""


def _reject(error: Exception) -> Any:
    raise PluginError(f"its entry points cannot be read: {type(error).__name__}: {error}")


def _import_point(point: EntryPoint) -> Any:
    if not re.fullmatch(r"\w[\w.-]*", point.name):
        raise PluginError(f"its name {quoted(point.name)} must consist of letters, digits, '.', '_' and '-'")
    if not re.fullmatch(r"\w+(\.\w+)*(:\w+(\.\w+)*)?", point.value):
        raise PluginError(f"expected its entry point to name a module, got {quoted(point.value)}")
    return point.load()


def _admit(manager: pluggy.PluginManager, plugin: Plugin, load: Callable[[], Any]) -> bool:
    """Import, register and check one plugin and collect its entries; an error is stored in ``plugin``.

    Returns:
        False if it is already loaded under another name.
    """
    module = None

    def examine() -> bool:
        nonlocal module
        module = load()
        if any(module is other for other in manager.get_plugins()):
            return False
        manager.register(module, name=plugin.origin)
        _check_hooks(manager, module)
        plugin.entries = _materialize(manager, module)
        return True

    try:
        if plugin.distribution == FILE:
            _import_torch_for(Path(plugin.origin))
        if plugin.distribution != _TRUSTED and (crash := crash_in_fork(examine)):
            plugin.crashes_on_import = True
            raise PluginError(f"importing it {crash}")
        with redirect_stdout(sys.stderr), with_time_limit():  # stdout is for results
            if not examine():
                return False
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit too: a plugin must not end the program
        if manager.get_plugin(plugin.origin) is not None:  # pluggy keeps also those that it rejected
            manager.unregister(name=plugin.origin)
        if plugin.distribution == FILE and module is not None:
            sys.modules.pop(module.__name__, None)
        plugin.fail(error)
    return True


def _check_hooks(manager: pluggy.PluginManager, module: object) -> None:
    """Refuse unknown hooks, and hook functions that would never be called because they lack the marker."""
    known = [name for name in vars(hooks) if name.startswith("recbench_")]
    callers = manager.get_hookcallers(module) or []
    for caller in callers:
        if not caller.has_spec():
            raise PluginError(f"there is no hook {caller.name}; {did_you_mean(caller.name, known)}")
    for name in dir(module):
        function = getattr(module, name) if name.startswith("recbench_") else None
        if isroutine(function) and not hasattr(function, "recbench_impl"):
            raise PluginError(f"{name} lacks its marker: decorate it with @recbench.hookimpl")
    if not callers:
        raise PluginError(f"expected a hook in it, found none; the hooks are {', '.join(known)}")


def _materialize(manager: pluggy.PluginManager, module: object) -> dict[str, tuple[Entry, ...]]:
    others = [other for other in manager.get_plugins() if other is not module]
    entries = {}
    for kind, wanted in KINDS.items():
        name = f"recbench_{kind}"
        hook = manager.subset_hook_caller(name, remove_plugins=others)
        if not hook.get_hookimpls():
            continue
        batches = hook()
        if not batches:
            raise PluginError(f"expected {name} to yield {wanted.__name__} objects, got None")
        offered = tuple(_entries(batches, name, wanted))
        if offered:
            entries[kind] = offered
    return entries


def _entries(batches: Iterable[Any], hook: str, wanted: type[Entry]) -> Iterator[Entry]:
    for batch in batches:
        if not isinstance(batch, Iterable):
            raise PluginError(f"expected {hook} to yield {wanted.__name__} objects, got {quoted(batch)}")
        for entry in batch:
            if not isinstance(entry, wanted):
                raise PluginError(f"expected {hook} to yield {wanted.__name__} objects, got {quoted(entry)}")
            yield entry


_IMPORTS_TORCH = re.compile(
    rb"^(?:from|import)\s+(?:torch|recbench\.contracts\.(?:architecture|checked|loss|metric))\b", re.MULTILINE
)


def _import_torch_for(path: Path) -> None:
    """Import torch before a fork whose child would, so that its seconds are spent once; errors come when it is used."""
    with suppress(Exception):
        if _IMPORTS_TORCH.search(path.read_bytes()):
            importlib.import_module("torch")


def module_of_file(path: Path) -> str:
    """Return the name of the module that a plugin's file becomes."""
    return FILE_MODULE_PREFIX + re.sub(r"\W", "_", path.stem) + "_" + hashlib.sha256(bytes(path)).hexdigest()[:8]


def _import_file(path: Path) -> ModuleType:
    """Import a file under a module name derived from its path, so that files of the same name do not clash."""
    if path.is_dir():
        raise PluginError("expected a Python file, got a folder; install a package instead (pip install DIR)")
    if not path.is_file():
        raise PluginError("there is no such file")
    name = module_of_file(path)
    loader = RecordedFile(name, str(path)) if recording() and path.suffix == ".py" else None
    spec = importlib.util.spec_from_file_location(name, path, loader=loader)
    if spec is None or spec.loader is None:
        raise PluginError("expected a Python file (NAME.py)")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
