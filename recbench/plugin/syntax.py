"""Python source as what it does: the top-level statements of a module, the names that each of them uses, and a form
without comments, docstrings, formatting and type annotations.

Nothing is imported or run. The form is of this module's own making, since that of :func:`ast.dump` differs between
versions of Python.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from recbench.plugin.names import (
    DEFINITIONS,
    Dotted,
    NameFinder,
    Names,
    Touch,
    bound_names,
    dotted,
    kept,
    names_in,
    reads_annotations,
)

_OMITTED = {"ctx", "kind", "type_comment", "type_params", "type_ignores", "returns", "annotation"}


@dataclass(eq=False)
class Statement:
    """A statement at the top level of a module, except for imports.

    Attributes:
        node: the statement.
        binds: the names that it defines.
        effect: whether it does more than define names, so that it counts wherever the module is imported.
    """

    node: ast.stmt
    binds: frozenset[str]
    effect: bool

    @cached_property
    def form(self) -> str:
        """The form of the statement, for comparison."""
        return form(self.node)

    @cached_property
    def names(self) -> Names:
        """The names that it uses, now or when what it defines is called."""
        return names_in([self.node])

    @cached_property
    def at_import(self) -> Names | None:
        """The names that it uses while the module is imported; None if it calls nothing then."""
        if not isinstance(self.node, DEFINITIONS):
            return self.names if self.names.touched or _calls([self.node]) else None
        parts = list(_run_by_definition(self.node))
        found = names_in(parts)
        for each in self.node.decorator_list:
            if isinstance(each, ast.Attribute) and (name := dotted(each)):
                found.touched.add(Touch(name[:-1], "receiver"))
        runs = isinstance(self.node, ast.ClassDef) or self.node.decorator_list or _calls(parts)
        return found if runs else None

    @property
    def bases(self) -> list[Dotted]:
        """The bases of a class; none for any other statement."""
        bases = self.node.bases if isinstance(self.node, ast.ClassDef) else []
        return [name for base in bases if (name := dotted(base))]

    @property
    def greets_subclasses(self) -> bool:
        """True for a class with code that runs when it is derived from, its own or its metaclass's."""
        if not isinstance(self.node, ast.ClassDef):
            return False
        methods = [inner.name for inner in self.node.body if isinstance(inner, ast.FunctionDef)]
        return bool(self.node.keywords) or "__init_subclass__" in methods

    @property
    def fixed(self) -> bool:
        """True if it only assigns a literal that cannot be changed, such as a number."""
        node = self.node
        return isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None and _is_fixed(node.value)


@dataclass(frozen=True)
class Syntax:
    """The source of a module.

    Attributes:
        statements: all but imports, in their order.
        names: imports at the top level, within blocks too.
    """

    statements: tuple[Statement, ...]
    names: Names

    @cached_property
    def binders(self) -> dict[str, list[Statement]]:
        """The statements that define each name."""
        found: dict[str, list[Statement]] = {}
        for statement in self.statements:
            for name in statement.binds:
                found.setdefault(name, []).append(statement)
        return found


@lru_cache(maxsize=512)
def parse(source: bytes) -> Syntax | None:
    """Return the syntax of a module's source; None if it is not valid Python."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    statements: list[Statement] = []
    imports = Names()
    for node in kept(tree.body):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            NameFinder(imports).visit(node)
            continue
        for inner in _inner_imports(node):
            NameFinder(imports).visit(inner)
        statements.append(Statement(node, frozenset(bound_names([node])), not _is_definition(node)))
    containers = {name for each in statements if _is_container(each.node) for name in each.binds}
    for each in statements:
        each.effect = each.effect and not _changes_one_of(each.node, containers)
    return Syntax(tuple(statements), imports)


# What statements are


def _is_definition(node: ast.stmt) -> bool:
    """Return whether a statement only defines names, as far as its form tells."""
    if isinstance(node, (*DEFINITIONS, ast.Import, ast.ImportFrom)):
        return True
    if isinstance(node, ast.Assign):
        return all(_is_name(target) for target in node.targets)
    if isinstance(node, (ast.AnnAssign, ast.AugAssign)):
        return _is_name(node.target)
    if isinstance(node, (ast.If, ast.Try, ast.TryStar)):
        blocks = [node.body, node.orelse, *([] if isinstance(node, ast.If) else [node.finalbody])]
        blocks += [] if isinstance(node, ast.If) else [handler.body for handler in node.handlers]
        return all(_is_definition(inner) or isinstance(inner, ast.Raise) for block in blocks for inner in kept(block))
    return type(node).__name__ == "TypeAlias"


def _is_container(node: ast.stmt) -> bool:
    """Return whether a statement makes a list, dictionary or set, whose methods do nothing else than change it."""
    value = node.value if isinstance(node, (ast.Assign, ast.AnnAssign)) else None
    made = isinstance(value, ast.Call) and dotted(value) in (("list",), ("dict",), ("set",))
    return made or isinstance(value, (ast.List, ast.Dict, ast.Set))


def _changes_one_of(node: ast.stmt, containers: set[str]) -> bool:
    """Return whether a statement only puts something into a container, so that it counts where that is reached."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        name = dotted(node.value.func) if isinstance(node.value.func, ast.Attribute) else None
        return name is not None and len(name) == 2 and name[0] in containers
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Subscript):
        name = dotted(node.targets[0].value)
        return isinstance(node.targets[0].value, ast.Name) and name is not None and name[0] in containers
    return False


def _is_name(target: ast.expr) -> bool:
    if isinstance(target, (ast.Tuple, ast.List)):
        return all(map(_is_name, target.elts))
    return isinstance(target, ast.Name) or (isinstance(target, ast.Starred) and _is_name(target.value))


def _is_fixed(value: ast.expr) -> bool:
    if isinstance(value, (ast.Tuple, ast.UnaryOp, ast.BinOp)):
        return all(_is_fixed(inner) for inner in ast.iter_child_nodes(value) if isinstance(inner, ast.expr))
    return isinstance(value, ast.Constant)


def _calls(nodes: Iterable[ast.AST]) -> bool:
    return any(isinstance(inner, ast.Call) for node in nodes for inner in ast.walk(node))


def _inner_imports(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the imports within a block, but not those within definitions."""
    if isinstance(node, DEFINITIONS):
        return
    for inner in ast.iter_child_nodes(node):
        if isinstance(inner, (ast.Import, ast.ImportFrom)):
            yield inner
        elif isinstance(inner, ast.stmt):
            for each in kept([inner]):
                yield from _inner_imports(each)
        elif isinstance(inner, (ast.ExceptHandler, ast.match_case)):
            yield from _inner_imports(inner)


def _run_by_definition(node: ast.stmt) -> Iterator[ast.AST]:
    """Yield the parts of a definition that run when it is made, not when it is called."""
    assert isinstance(node, DEFINITIONS)
    yield from node.decorator_list
    if not isinstance(node, ast.ClassDef):
        yield from (*node.args.defaults, *filter(None, node.args.kw_defaults))
        return
    yield from (*node.bases, *node.keywords)
    for inner in kept(node.body):
        yield from _run_by_definition(inner) if isinstance(inner, DEFINITIONS) else [inner]


# The form


def form(node: ast.AST) -> str:
    """Return what code does as text: the same for any comments, docstrings, formatting and type annotations."""
    out: list[str] = []
    _write(node, out, annotated=False)
    return "".join(out)


def _write(node: object, out: list[str], *, annotated: bool) -> None:
    if isinstance(node, ast.AST):
        _write_node(node, out, annotated=annotated)
    elif isinstance(node, list):
        out.append("[")
        statements = kept(node) if node and isinstance(node[0], ast.stmt) else node
        for item in statements if not annotated else _with_annotations(node):
            _write(item, out, annotated=annotated)
            out.append(",")
        out.append("]")
    else:
        out.append(ascii(node))


def _with_annotations(body: Sequence[ast.AST]) -> Iterator[ast.AST]:
    for item in body:
        if isinstance(item, ast.AnnAssign) or not isinstance(item, ast.stmt):
            yield item
        else:
            yield from kept([item])


def _write_node(node: ast.AST, out: list[str], *, annotated: bool) -> None:
    if isinstance(node, ast.Constant):
        value = node.value
        out.append(f"{type(value).__name__}:{hex(value) if type(value) is int else ascii(value)}")
        return
    if isinstance(node, ast.AnnAssign) and node.value is not None and not annotated:
        node = ast.Assign(targets=[node.target], value=node.value)
    if isinstance(node, DEFINITIONS):
        annotated = reads_annotations(node)
    out.append(type(node).__name__ + "(")
    for name, value in ast.iter_fields(node):
        if value is None or value == []:
            continue
        if name in _OMITTED and not (annotated and name in ("annotation", "returns")):
            continue
        out.append(name + "=")
        _write(value, out, annotated=annotated)
    out.append(")")
