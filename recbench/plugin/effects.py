"""Statements that change what a factory reaches though nothing names them, such as classes that register themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import TYPE_CHECKING

from recbench.plugin.names import DEFINITIONS, Dotted, Names
from recbench.plugin.syntax import Statement

if TYPE_CHECKING:
    from recbench.plugin.reach import Module, Reach


def changing(reach: Reach) -> Iterator[tuple[Module, Statement]]:
    """Yield the statements that change something reached while their modules are imported, but are not reached yet:
    ``@register`` before a class, a call that adds to a list, a class whose base keeps its subclasses."""
    for module in [each for each in reach.modules.values() if each is not None]:
        included = reach.included.get(module.label, set())
        for statement in module.syntax.statements:
            names = None if statement in included else statement.at_import
            if names is not None and (
                _is_greeted(reach, module, statement) or _changes(reach, module, statement, names)
            ):
                yield module, statement


def _changes(reach: Reach, module: Module, statement: Statement, names: Names) -> bool:
    """Return whether a statement, or what it calls, may change something reached."""
    waiting = [(module, names, set(statement.bases))]
    seen: set[Statement] = set()
    while waiting:
        scope, names, passed = waiting.pop()
        for touch in names.touched:
            for where, what in _statements(reach, scope, touch.name, names):
                if what in reach.included.get(where.label, ()) and _may_change(what, touch.how):
                    return True
        for name in names.used - passed:
            for where, what in _statements(reach, scope, name, names):
                if what not in seen:
                    seen.add(what)
                    waiting.append((where, what.names, set()))
    return False


def _is_greeted(reach: Reach, module: Module, statement: Statement) -> bool:
    """Return whether a class derives from a reached one that may know its subclasses."""
    if not isinstance(statement.node, ast.ClassDef):
        return False
    waiting, seen = [(module, statement)], {statement}
    while waiting:
        scope, each = waiting.pop()
        for base in each.bases:
            for where, what in _statements(reach, scope, base, each.names):
                if what in seen:
                    continue
                seen.add(what)
                waiting.append((where, what))
                if (reach.subclasses or what.greets_subclasses) and what in reach.included.get(where.label, ()):
                    return True
    return False


def _statements(reach: Reach, module: Module, name: Dotted, names: Names) -> Iterator[tuple[Module, Statement]]:
    """Yield the statements that a name stands for, through imports, without reaching them."""
    waiting = list(reach.definitions(module, name, names))
    seen: set[tuple[str, Dotted]] = set()
    while waiting:
        scope, what, rest = waiting.pop()
        if isinstance(what, Statement):
            yield scope, what
            continue
        target = reach.target(scope, what)
        if not what.binds:
            target = reach.module(reach.absolute(scope, what).partition(".")[0], scope)
        path = (what.attribute, *rest) if what.attribute else rest
        while target is not None and path and (target.label, path) not in seen:
            seen.add((target.label, path))
            bound = list(reach.bindings(target, path[0], set()))
            waiting += [(inner, each, path[1:]) for inner, each in bound]
            target = None if bound else reach.module(f"{target.label}.{path[0]}")
            path = path[1:]


def _may_change(statement: Statement, how: str) -> bool:
    if how == "store":
        return True
    if isinstance(statement.node, ast.ClassDef):
        return how == "receiver"
    return not isinstance(statement.node, DEFINITIONS) and not statement.fixed
