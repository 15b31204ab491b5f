"""The digest of the code behind an entry, from which job ids are made. Imports no plugin."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from recbench.contracts.entries import DatasetEntry, Entry
from recbench.errors import PluginError
from recbench.plugin.manager import FILE, Plugin, module_of_file
from recbench.plugin.reach import Module, Reach
from recbench.plugin.sources import CORE, Locations, read

_NUMBERS = ("value_range", "samples", "rounded")
"""Facts of entries that change numbers; the others are for people, or are checked before anything runs."""
_PARAMETER = ("name", "type_name", "default", "choices", "minimum", "above", "maximum")


@dataclass(frozen=True)
class Code:
    """The code behind an entry.

    Attributes:
        digest: of what it does.
        libraries: top-level modules of other distributions that it imports, sorted; their versions are provenance.
    """

    digest: str
    libraries: tuple[str, ...]


def code_of(entry: Entry, plugin: Plugin, locations: Locations) -> Code:
    """Return a digest of the code that an entry's factory can reach, and of the entry's facts that change numbers.

    It is the same on all machines, for all places of the code, line endings, comments, docstrings, formats and type
    annotations, and for all changes to code that the factory does not reach. Code of other installed distributions,
    and of recbench itself, is not part of it.

    Args:
        locations: finds modules.

    Raises:
        PluginError: the source cannot be found.
    """
    path = Path(plugin.origin) if plugin.distribution == FILE else None
    file = None if path is None else (module_of_file(path), path)
    declared_in = plugin.origin.partition(":")[0] if file is None else file[0]
    module, name, facts = _root(entry.factory, declared_in)
    tops = {each.partition(".")[0] for each in (module, declared_in)}
    reach = Reach(locations, plugin.distribution, tops, read, file)
    found = _module(reach, module)
    declaring = reach.module(declared_in)
    if name is None or module.partition(".")[0] == CORE:
        reach.whole(found)
    else:
        reach.attribute(found, (name,))
    if facts is None and declaring is not None:
        reach.whole(declaring)
    reach.finish()
    return Code(reach.digest([*(facts or ()), *_facts(entry)]), tuple(sorted(reach.libraries)))


def _module(reach: Reach, name: str) -> Module:
    try:
        found = reach.module(name)
        if found is None and name.partition(".")[0] == CORE:
            found = reach.alone(name)
    except OSError as error:
        raise PluginError(f"the source of the module {name} cannot be read: {error.strerror}") from None
    if found is None or found.location.file is None:
        place = reach.locations.find(name)
        raise PluginError(
            f"the module {name} cannot be found"
            if place is None
            else f"the source of the module {name} cannot be found"
        )
    return found


def _root(factory: str | Callable[..., Any], declared_in: str) -> tuple[str, str | None, list[str] | None]:
    """Return the module of a factory, its name there, and the arguments that are bound to it as text.

    The name is None for a factory that is not found by name, such as a lambda; the arguments are None if they are not
    plain data, so that the whole module that declares the entry has to count.
    """
    if isinstance(factory, str):
        module, _, name = factory.partition(":")
        return module, name, []
    facts: list[str] | None = []
    while isinstance(factory, partial):
        given = _plain([list(factory.args), dict(sorted(factory.keywords.items()))])
        facts = None if given is None or facts is None else [*facts, f"with {given}"]
        factory = factory.func
    module = getattr(factory, "__module__", None) or declared_in
    name = getattr(factory, "__qualname__", "")
    if not name.isidentifier() or getattr(sys.modules.get(module), name, None) is not factory:
        return module, None, None
    return module, name, facts


def _plain(value: object) -> str | None:
    """Return plain data as text; None if something else is in it."""
    if isinstance(value, (list, tuple)):
        inner = [_plain(item) for item in value]
        return None if None in inner else f"[{','.join(filter(None, inner))}]"
    if isinstance(value, dict):
        inner = [_plain(item) for pair in value.items() for item in pair]
        return None if None in inner else f"{{{','.join(filter(None, inner))}}}"
    return ascii(value) if value is None or type(value) in (bool, int, float, str) else None


def _facts(entry: Entry) -> Iterator[str]:
    for name in _NUMBERS:
        if hasattr(entry, name):
            yield f"{name}={_plain(getattr(entry, name))}"
    locations = entry.locations if isinstance(entry, DatasetEntry) else ()
    for parameter in entry.parameters:
        if parameter.name not in locations:
            yield " ".join(f"{name}={_plain(getattr(parameter, name))}" for name in _PARAMETER)
    for weights in entry.weights:
        yield f"weights={weights.sha256}"
