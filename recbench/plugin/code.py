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
from recbench.plugin.sources import CORE, Locations, is_foreign, is_standard, read

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
    roots, facts = _roots(entry.factory, declared_in)
    foreign = {module for module, _ in roots if _is_foreign(module, plugin.distribution, locations)}
    tops = {
        module.partition(".")[0] for module in (declared_in, *(module for module, _ in roots)) if module not in foreign
    }
    reach = Reach(locations, plugin.distribution, tops, read, file)
    reach.module(declared_in)
    for module, name in roots:
        if module in foreign:
            reach.libraries.add(module.partition(".")[0])
            facts.append(f"factory {module}:{name}")
            continue
        found = _module(reach, module)
        if name is None or module.partition(".")[0] == CORE:
            reach.whole(found)
        else:
            reach.attribute(found, (name,))
    reach.finish()
    return Code(reach.digest([*facts, *_facts(entry)]), tuple(sorted(reach.libraries)))


def _is_foreign(module: str, own: str, locations: Locations) -> bool:
    top = module.partition(".")[0]
    place = locations.find(top)
    if place is None or place.file is None or top == CORE:
        return False
    return is_standard(place) or is_foreign(top, place, own)


def _module(reach: Reach, name: str) -> Module:
    try:
        found = reach.module(name)
        if found is None and name.partition(".")[0] == CORE:
            found = reach.alone(name)
    except OSError as error:
        raise PluginError(f"the source of the module {name} cannot be read: {error.strerror}") from None
    if found is None or found.location.file is None:
        what = f"the module {name}" if reach.locations.find(name) is None else f"the source of the module {name}"
        raise PluginError(f"{what} cannot be found")
    return found


_Root = tuple[str, str | None]
"""A module, and a name in it; None for all of the module."""


def _roots(factory: str | Callable[..., Any], declared_in: str) -> tuple[list[_Root], list[str]]:
    """Return where a factory and what is bound to it are, and the plain data that are bound to it, as text.

    What is not found by name, such as a lambda, counts with all of its module.
    """
    if isinstance(factory, str):
        module, _, name = factory.partition(":")
        return [(module, name)], []
    roots: list[_Root] = []
    facts = []
    while isinstance(factory, partial):
        given = _plain([list(factory.args), dict(sorted(factory.keywords.items()))], roots)
        if given is None:
            roots.append((declared_in, None))
        facts.append(f"with {given}")
        factory = factory.func
    return [_named(factory, declared_in), *roots], facts


def _named(found: object, declared_in: str) -> _Root:
    module = getattr(found, "__module__", None) or declared_in
    name = getattr(found, "__qualname__", "")
    by_name = name.isidentifier() and getattr(sys.modules.get(module), name, None) is found
    return module, name if by_name else None


def _plain(value: object, roots: list[_Root] | None = None) -> str | None:
    """Return plain data as text; None if something else is in it. Functions and classes are added to ``roots``."""
    if isinstance(value, (list, tuple)):
        inner = [_plain(item, roots) for item in value]
        return None if None in inner else f"[{','.join(filter(None, inner))}]"
    if isinstance(value, dict):
        inner = [_plain(item, roots) for pair in value.items() for item in pair]
        return None if None in inner else f"{{{','.join(filter(None, inner))}}}"
    if roots is not None and callable(value):
        root = _named(value, "")
        if root[1] is not None:
            roots.append(root)
        return root[1]
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
