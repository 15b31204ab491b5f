"""The registry of entries by kind and name, and of the code behind them."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property
from typing import Any, cast

from recbench.contracts.entries import Entry, LossEntry, MetricEntry, MetricScore
from recbench.contracts.sums import PREFIX, SumEntry, part_names, sum_entry
from recbench.errors import PluginError, UserError, did_you_mean
from recbench.plugin.code import Code, code_of
from recbench.plugin.manager import KINDS, Plugin, Plugins
from recbench.plugin.sources import Locations


@dataclass(frozen=True)
class Registered:
    """An entry and the plugin that provides it."""

    entry: Entry
    plugin: Plugin
    locations: Locations = field(default_factory=Locations, repr=False, compare=False)

    def __str__(self) -> str:
        """Name the entry in error messages: ``the loss 'l2' of recbench-… 0.1 (pixel), package.module:Class``."""
        where = f", {self.entry.factory}" if isinstance(self.entry.factory, str) else ""
        return f"the {self.kind} '{self.entry.name}' of {self.plugin.provider}{where}"

    @property
    def kind(self) -> str:
        """The kind of the entry in the singular, such as ``loss``."""
        return next(SINGULAR[kind] for kind, type_ in KINDS.items() if isinstance(self.entry, type_))

    @property
    def parts(self) -> tuple[Registered, ...]:
        """The entry itself; of a sum, the losses that it is of."""
        return (self,)

    @cached_property
    def reached(self) -> Code:
        """The code that implements the entry.

        Raises:
            PluginError: the source cannot be found.
        """
        return code_of(self.entry, self.plugin, self.locations)

    @property
    def code(self) -> str:
        """Digest of the code that implements the entry: a job is run again when what it does has changed.

        Raises:
            PluginError: the source cannot be found.
        """
        return self.reached.digest

    def create(self, params: Mapping[str, Any], *args: Any) -> Any:
        """Import the factory and call it with ``args`` and every parameter.

        Args:
            params: parameters to set; the others have their defaults.
            args: positional arguments of the factory.

        Returns:
            What the factory returns.

        Raises:
            PluginError: the factory cannot be imported, or raises; the text names the plugin.
            UserError: raised by the factory for the user.
        """
        factory = self.entry.factory
        try:
            if isinstance(factory, str):
                module, _, name = factory.partition(":")
                factory = getattr(importlib.import_module(module), name)
            assert not isinstance(factory, str)
            return factory(*args, **self.entry.complete(params))
        except UserError:
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{self.entry.name} of {self.plugin.provider} cannot be created: {type(error).__name__}: {error}"
            ) from error


@dataclass(frozen=True)
class RegisteredSum(Registered):
    """A weighted sum of losses; see :mod:`recbench.contracts.sums`. ``recbench.job.parts.create_loss`` creates it."""

    of: tuple[Registered, ...] = ()

    @property
    def sum_entry(self) -> SumEntry:
        """The entry, as what it is."""
        assert isinstance(self.entry, SumEntry)
        return self.entry

    @property
    def parts(self) -> tuple[Registered, ...]:
        """The losses that it is of."""
        return self.of

    @cached_property
    def reached(self) -> Code:
        """The code of its parts."""
        codes = [part.reached for part in self.of]
        digest = hashlib.sha256(" ".join(code.digest for code in codes).encode()).hexdigest()
        libraries = sorted({library for code in codes for library in code.libraries})
        return Code(digest[: len(codes[0].digest)], tuple(libraries))


class Registry:
    """All entries of all loaded plugins, by kind and name. Every name is unique within its kind."""

    def __init__(self, plugins: Plugins) -> None:
        """Collect the entries of all loaded plugins.

        Raises:
            PluginError: a name is claimed twice; the text names both distributions.
        """
        clashes = conflicts(plugins)
        if clashes:
            raise PluginError("\n".join(clashes))
        self.plugins = plugins
        self._entries: dict[str, dict[str, Registered]] = {kind: {} for kind in KINDS}
        self._sums: dict[str, RegisteredSum] = {}
        locations = Locations()
        for plugin, kind, entry in _offers(plugins):
            self._entries[kind][entry.name] = Registered(entry, plugin, locations)

    def all(self, kind: str) -> list[Registered]:
        """Return all entries of a kind, sorted by name."""
        return [self._entries[kind][name] for name in self.names(kind)]

    def names(self, kind: str) -> list[str]:
        """Return the names of all entries of a kind, sorted."""
        return sorted(self._entries[kind])

    def find(self, kind: str, name: str) -> Registered | None:
        """Return the entry of this kind and name, or None. A loss may be the sum of others: ``sum:l1+st_lpips``."""
        found = self._entries[kind].get(name)
        if found is None and kind == "losses" and name.startswith(PREFIX):
            parts = [self._entries[kind].get(part) for part in part_names(name)]
            known = tuple(part for part in parts if part is not None)
            if len(known) < len(parts):
                return None
            entry = sum_entry([cast(LossEntry, part.entry) for part in known])
            found = self._sums.setdefault(name, RegisteredSum(entry, _SUMS, known[0].locations, known))
        return found

    def get(self, kind: str, name: str) -> Registered:
        """Return the entry of this kind and name.

        Raises:
            PluginError: there is none; the text suggests a name and lists plugins that failed to load.
        """
        found = self.find(kind, name)
        if found is None:
            raise PluginError(self.unknown(kind, name))
        return found

    def score(self, name: str) -> MetricScore:
        """Return the facts of a score: of the metric of this name, or of the one that gives a score of this name.

        Raises:
            PluginError: there is none, or the metric gives several.
        """
        entries = [cast(MetricEntry, one.entry) for one in self.all("metrics")]
        giving = next((entry for entry in entries if name in entry.score_names), None)
        if giving is not None:
            return giving.score(name)
        try:
            return cast(MetricEntry, self.get("metrics", name).entry).score()
        except ValueError as error:
            raise PluginError(str(error)) from None

    def misspelt_family(self, entry: LossEntry | MetricEntry) -> str | None:
        """Return what is wrong with the family of a loss or metric if it resembles a known one; else None.

        A family of its own is fine. One that differs from a known one by a letter or two is a mistake, by which a
        metric would not count as in-family where it should.
        """
        others = (each.entry for kind in ("losses", "metrics") for each in self.all(kind))
        known: set[str] = set()
        for other in others:
            if isinstance(other, LossEntry | MetricEntry) and other is not entry:
                known |= other.families if isinstance(other, LossEntry) else {other.family}
        known |= {plugin.name.rpartition("-")[2] for plugin in self.plugins.found}
        for family in sorted(entry.families) if isinstance(entry, LossEntry) else [entry.family]:
            near = get_close_matches(family, sorted(known), n=1, cutoff=0.8)
            if family not in known and near:
                return f"the family '{family}' is known to no other loss or metric; is '{near[0]}' meant?"
        return None

    def unknown(self, kind: str, name: str) -> str:
        """Return the error message about a name that no plugin offers."""
        if kind == "losses" and name.startswith(PREFIX):
            name = next((part for part in part_names(name) if part not in self._entries[kind]), name)
        text = f"there is no {SINGULAR[kind]} '{name}'; {did_you_mean(name, self.names(kind))}"
        if self.plugins.broken:
            broken = "; ".join(f"{plugin.provider}: {plugin.error}" for plugin in self.plugins.broken)
            text += f" (plugins that failed to load and may offer it: {broken}; see 'recbench plugins')"
        return text


_SUMS = Plugin(name="sum", origin="recbench.job.sums", distribution="recbench", version="")

SINGULAR = {
    "losses": "loss",
    "architectures": "architecture",
    "datasets": "dataset",
    "metrics": "metric",
    "executors": "executor",
    "trackers": "tracker",
}


def conflicts(plugins: Plugins) -> list[str]:
    """Return an error message for each set of plugins that claim the same names, or plugin that claims a name twice."""
    claims: dict[tuple[str, str], list[Plugin]] = {}
    for plugin, kind, entry in _offers(plugins):
        claims.setdefault((kind, entry.name), []).append(plugin)
    clashes: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for (kind, name), claimants in sorted(claims.items(), key=lambda item: item[0]):
        if len(claimants) > 1:
            clashes.setdefault((kind, tuple(plugin.provider for plugin in claimants)), []).append(name)
    return [_clash(kind, providers, names) for (kind, providers), names in clashes.items()]


def _clash(kind: str, providers: tuple[str, ...], names: list[str]) -> str:
    what = SINGULAR[kind] if len(names) == 1 else kind
    listed = ", ".join(f"'{name}'" for name in names)
    if len(set(providers)) == 1:
        return f"the {what} {listed} {'is' if len(names) == 1 else 'are'} claimed twice by {providers[0]}"
    return (
        f"the {what} {listed} {'is' if len(names) == 1 else 'are'} claimed by {' and by '.join(providers)}; "
        "block one of them (--block DISTRIBUTION)"
    )


def _offers(plugins: Plugins) -> Iterator[tuple[Plugin, str, Entry]]:
    for plugin in plugins.found:
        for kind, entries in plugin.entries.items():
            for entry in entries:
                yield plugin, kind, entry
