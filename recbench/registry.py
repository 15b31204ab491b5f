"""The registry: from the names in a suite to the entries of the plugins, and on to their code."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from recbench.entries import Entry
from recbench.errors import PluginError, did_you_mean
from recbench.plugins import KINDS, Plugin, Plugins


@dataclass(frozen=True)
class Registered:
    """An entry and the plugin that it came with."""

    entry: Entry
    plugin: Plugin

    @property
    def code(self) -> str:
        """Digest of the source that implements the entry: a job is done again when its code has changed.

        Covers all Python files in the folder of the package that directly holds the factory's module, or the one
        file where the module has no package.
        """
        return _source_digest(self._module)

    @property
    def _module(self) -> str:
        factory = self.entry.factory
        return factory.partition(":")[0] if isinstance(factory, str) else factory.__module__

    def create(self, *args: Any, **params: Any) -> Any:
        """Import the factory and call it.

        Raises:
            PluginError: the factory cannot be imported; the text names the plugin.
        """
        factory = self.entry.factory
        if isinstance(factory, str):
            module, _, name = factory.partition(":")
            try:
                factory = getattr(importlib.import_module(module), name)
            except Exception as error:
                raise PluginError(
                    f"{self.entry.name}: {factory!r} of {self.plugin.provider} cannot be imported: "
                    f"{type(error).__name__}: {error}"
                ) from error
        assert not isinstance(factory, str)
        return factory(*args, **params)


class Registry:
    """Every entry by kind and name. Two plugins that claim one name are an error as soon as a registry is asked for."""

    def __init__(self, plugins: Plugins) -> None:
        """Collect the entries of all loaded plugins.

        Raises:
            PluginError: one name is claimed twice; the text names both distributions.
        """
        clashes = conflicts(plugins)
        if clashes:
            raise PluginError("\n".join(clashes))
        self.plugins = plugins
        self._entries: dict[str, dict[str, Registered]] = {kind: {} for kind in KINDS}
        for plugin, kind, entry in _offers(plugins):
            self._entries[kind][entry.name] = Registered(entry, plugin)

    def all(self, kind: str) -> list[Registered]:
        """All entries of a kind, in the order of their names."""
        return [self._entries[kind][name] for name in self.names(kind)]

    def names(self, kind: str) -> list[str]:
        return sorted(self._entries[kind])

    def find(self, kind: str, name: str) -> Registered | None:
        return self._entries[kind].get(name)

    def get(self, kind: str, name: str) -> Registered:
        """The entry of this kind and name.

        Raises:
            PluginError: there is none; the text suggests a name and lists plugins that failed to load.
        """
        found = self.find(kind, name)
        if found is None:
            raise PluginError(self.unknown(kind, name))
        return found

    def unknown(self, kind: str, name: str) -> str:
        """What to say about a name that no plugin offers."""
        text = f"there is no {SINGULAR[kind]} '{name}'; {did_you_mean(name, self.names(kind))}"
        broken = [f"{plugin.provider}: {plugin.error}" for plugin in self.plugins.broken]
        if broken:
            text += f" (plugins that failed to load and may offer it: {'; '.join(broken)}; see 'recbench plugins')"
        return text


SINGULAR = {
    "losses": "loss",
    "architectures": "architecture",
    "datasets": "dataset",
    "metrics": "metric",
    "executors": "executor",
}


def conflicts(plugins: Plugins) -> list[str]:
    """One line for each name that more than one plugin (or one plugin twice) claims."""
    claims: dict[tuple[str, str], list[Plugin]] = {}
    for plugin, kind, entry in _offers(plugins):
        claims.setdefault((kind, entry.name), []).append(plugin)
    return [
        f"the {SINGULAR[kind]} '{name}' is claimed by {' and by '.join(p.provider for p in claimants)}; "
        "block one of them with --block DISTRIBUTION"
        for (kind, name), claimants in sorted(claims.items())
        if len(claimants) > 1
    ]


def _offers(plugins: Plugins) -> Iterator[tuple[Plugin, str, Entry]]:
    for plugin in plugins.found:
        for kind, entries in plugin.entries.items():
            for entry in entries:
                yield plugin, kind, entry


@cache
def _source_digest(module: str) -> str:
    loaded = sys.modules.get(module)
    origin = getattr(loaded, "__file__", None)
    if origin is None:
        spec = importlib.util.find_spec(module)
        origin = spec.origin if spec else None
    if origin is None:
        raise PluginError(f"the source of the module {module} cannot be found")
    file = Path(origin)
    packaged = "." in module or file.name == "__init__.py"
    files = sorted(file.parent.rglob("*.py")) if packaged else [file]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(file.parent).as_posix().encode() + b"\0")
        digest.update(path.read_bytes().replace(b"\r\n", b"\n") + b"\0")
    return digest.hexdigest()[:16]
