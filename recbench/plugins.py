"""Finding and loading plugins, so that one that is broken harms nobody but itself.

Entry points of the group ``recbench`` are loaded one by one, in the order of their names, each in a guard that keeps
the traceback. What a plugin yields is materialised inside that guard. A plugin that fails in any of this is listed as
broken and contributes nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import pluggy

from recbench import hookspecs
from recbench.entries import ArchitectureEntry, DatasetEntry, Entry, ExecutorEntry, LossEntry, MetricEntry
from recbench.errors import PluginError, did_you_mean

GROUP = "recbench"
FILE_MODULE_PREFIX = "recbench_file_plugin_"

KINDS: dict[str, type[Entry]] = {
    "losses": LossEntry,
    "architectures": ArchitectureEntry,
    "datasets": DatasetEntry,
    "metrics": MetricEntry,
    "executors": ExecutorEntry,
}


@dataclass
class Plugin:
    """One plugin, whatever became of it.

    Attributes:
        name: name of its entry point, or of its file.
        origin: its module, or its file.
        distribution: the installed distribution that it comes from, or ``"(file)"``.
        status: ``"loaded"``, ``"broken"`` (``error`` and ``details`` say why) or ``"blocked"``.
    """

    name: str
    origin: str
    distribution: str
    version: str
    status: Literal["loaded", "broken", "blocked"] = "loaded"
    error: str = ""
    details: str = ""
    entries: dict[str, tuple[Entry, ...]] = field(default_factory=dict)

    @property
    def provider(self) -> str:
        """How errors name it: ``distribution version (plugin)``."""
        return f"{self.distribution} {self.version} ({self.name})".replace("  ", " ")

    def fail(self, error: BaseException) -> None:
        self.status = "broken"
        self.error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        self.details = "".join(traceback.format_exception(error))
        self.entries = {}


@dataclass(frozen=True)
class Plugins:
    """All plugins of this process, and the pluggy manager that holds the loaded ones."""

    manager: pluggy.PluginManager
    found: tuple[Plugin, ...]

    @property
    def broken(self) -> tuple[Plugin, ...]:
        return tuple(plugin for plugin in self.found if plugin.status == "broken")


def load_plugins(files: Sequence[str | Path] = (), blocked: Iterable[str] = (), *, strict: bool = False) -> Plugins:
    """Load all installed plugins and the given files.

    Args:
        files: single-file plugins (``--plugin``). One that fails is an error: it was asked for.
        blocked: distributions or entry points whose plugins are not even imported.
        strict: raise if any plugin is broken.

    Raises:
        PluginError: a file plugin failed, or any plugin did with ``strict``.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    unwanted = {_normal(name) for name in blocked}
    found = []
    for point in _installed():
        plugin = _describe(point)
        if {_normal(plugin.distribution), _normal(plugin.name)} & unwanted:
            plugin.status = "blocked"
        else:
            _admit(manager, plugin, point.load)
        found.append(plugin)
    for file in files:
        path = Path(file).resolve()
        plugin = Plugin(name=path.name, origin=str(path), distribution="(file)", version="")
        _admit(manager, plugin, partial(_import_file, path))
        if plugin.status == "broken":
            raise PluginError(f"the plugin file {file} cannot be used: {plugin.error}\n\n{plugin.details}")
        found.append(plugin)
    plugins = Plugins(manager, tuple(found))
    if strict and plugins.broken:
        raise PluginError("\n\n".join(f"plugin {p.provider} is broken: {p.error}\n{p.details}" for p in plugins.broken))
    return plugins


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _installed() -> list[EntryPoint]:
    """Entry points in an order that does not depend on the installation; a module registered twice counts once."""
    unique: dict[tuple[str, str], EntryPoint] = {}
    for point in sorted(entry_points(group=GROUP), key=lambda p: (p.name, p.value, p.dist.name if p.dist else "")):
        unique.setdefault((point.name, point.value), point)
    return list(unique.values())


def _describe(point: EntryPoint) -> Plugin:
    distribution = point.dist.name if point.dist else "(unknown)"
    version = point.dist.version if point.dist else ""
    return Plugin(name=point.name, origin=point.value, distribution=distribution, version=version)


def _admit(manager: pluggy.PluginManager, plugin: Plugin, load: Any) -> None:
    """Import, register, check and question one plugin; whatever it raises ends up in ``plugin``."""
    module = None
    try:
        module = load()
        manager.register(module, name=plugin.origin)
        _check_hooks(manager, module)
        plugin.entries = _materialise(manager, module)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - SystemExit too: a plugin must not end its host
        if module is not None and manager.is_registered(module):
            manager.unregister(module)  # pluggy 1.6 leaves a plugin that it rejected registered
        plugin.fail(error)


def _check_hooks(manager: pluggy.PluginManager, module: object) -> None:
    """Refuse hooks that do not exist, and hook functions that nobody will call because they lack the marker."""
    known = [name for name in vars(hookspecs) if name.startswith("recbench_")]
    for caller in manager.get_hookcallers(module) or []:
        if not caller.has_spec():
            raise PluginError(f"there is no hook {caller.name}; {did_you_mean(caller.name, known)}")
    for name in known:
        if callable(getattr(module, name, None)) and not hasattr(getattr(module, name), "recbench_impl"):
            raise PluginError(f"{name} is defined but not marked with @recbench.hookimpl")


def _materialise(manager: pluggy.PluginManager, module: object) -> dict[str, tuple[Entry, ...]]:
    others = [other for other in manager.get_plugins() if other is not module]
    entries = {}
    for kind, wanted in KINDS.items():
        hook = manager.subset_hook_caller(f"recbench_{kind}", remove_plugins=others)
        offered = tuple(entry for batch in hook() for entry in batch)
        for entry in offered:
            if not isinstance(entry, wanted):
                raise PluginError(f"recbench_{kind} yielded {entry!r}, which is not a {wanted.__name__}")
        if offered:
            entries[kind] = offered
    return entries


def _import_file(path: Path) -> ModuleType:
    """Import a file under a name made from its path, so that two files of one name do not meet."""
    if not path.is_file():
        raise PluginError(f"there is no file {path}")
    name = FILE_MODULE_PREFIX + path.stem.replace("-", "_") + "_" + hashlib.sha256(str(path).encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise PluginError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
