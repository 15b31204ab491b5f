"""The names that Python code uses, defines and imports, found in its syntax tree. Nothing is imported or run."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Dotted = tuple[str, ...]
"""A name and the attributes that are taken of it: ``kernels.gauss`` is ``("kernels", "gauss")``."""

_PLAIN_DECORATORS = {
    "abstractmethod", "cache", "cached_property", "classmethod", "contextmanager", "custom_bwd", "custom_fwd",
    "enable_grad", "final", "hookimpl",
    "inference_mode", "lru_cache", "no_grad", "override", "property", "setter", "staticmethod", "wraps",
}  # fmt: skip
"""Decorators that read no annotations. Others, such as ``dataclass`` and ``jit``, may."""
_ANNOTATED_BASES = {"BaseModel", "NamedTuple", "TypedDict", "Struct"}
_INTERPRETERS = {"globals", "eval", "exec"}
_LOADERS = {"spec_from_file_location", "module_from_spec", "exec_module", "SourceFileLoader"}
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@dataclass(frozen=True)
class Imported:
    """An import of one name.

    Attributes:
        module: the module as the statement names it.
        level: number of leading dots.
        attribute: the name taken from the module; None for the module itself.
        binds: whether the name is bound to what ``module`` names, not to its first part, as by ``import a.b``.
    """

    module: str
    level: int
    attribute: str | None
    binds: bool = True


@dataclass(frozen=True)
class Touch:
    """A name whose object a statement may change: by storing into it, by a method of it, or as an argument."""

    name: Dotted
    how: Literal["store", "receiver", "argument"]


@dataclass
class Names:
    """The names of a module that code uses.

    Attributes:
        used: names that are not the code's own.
        imports: what is imported within the code, by name.
        stars: modules of which everything is imported.
        touched: names whose objects it may change.
        texts: the texts in it, some of which may name files or modules.
        searches: whether it looks names up while it runs, as ``globals`` does.
        loads: whether it imports modules whose names are known only then.
        subclasses: whether it asks for the subclasses of a class.
    """

    used: set[Dotted] = field(default_factory=set)
    imports: dict[str, list[Imported]] = field(default_factory=dict)
    stars: list[Imported] = field(default_factory=list)
    touched: set[Touch] = field(default_factory=set)
    texts: set[str] = field(default_factory=set)
    searches: bool = False
    loads: bool = False
    subclasses: bool = False


def names_in(nodes: Iterable[ast.AST]) -> Names:
    """Return the names that statements or expressions use and do not define within a function of their own."""
    found = Names()
    finder = NameFinder(found)
    for node in nodes:
        finder.visit(node)
    return found


def bound_names(nodes: Iterable[ast.AST]) -> set[str]:
    """Return the names that statements bind in their own scope, without those declared global or nonlocal there."""
    found: set[str] = set()
    elsewhere: set[str] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if isinstance(node, DEFINITIONS):
            found.add(node.name)
            waiting += node.decorator_list
            continue
        if isinstance(node, ast.Lambda):
            continue
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            found.update(each.target.id for each in ast.walk(node) if isinstance(each, ast.NamedExpr))
            continue
        if isinstance(node, (ast.Global, ast.Nonlocal)):
            elsewhere.update(node.names)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
            found.add(node.name)
        elif isinstance(node, ast.MatchMapping) and node.rest:
            found.add(node.rest)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            continue  # kept apart, so that what is imported can be followed
        waiting += ast.iter_child_nodes(node)
    return found - elsewhere


class NameFinder(ast.NodeVisitor):
    """Collects names; ``scopes`` are those that the enclosing functions bind."""

    def __init__(self, found: Names) -> None:
        self.found = found
        self.scopes: list[set[str]] = []

    def free(self, name: str) -> bool:
        return not any(name in scope for scope in self.scopes)

    def body(self, nodes: Sequence[ast.stmt]) -> None:
        for node in kept(nodes):
            self.visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        arguments = node.args
        for each in (*node.decorator_list, *arguments.defaults, *filter(None, arguments.kw_defaults)):
            self.visit(each)
        if reads_annotations(node):
            for annotation in (node.returns, *(each.annotation for each in _arguments(arguments))):
                if annotation is not None:
                    self.visit(annotation)
        self.scopes.append({each.arg for each in _arguments(arguments)} | bound_names(node.body))
        self.body(node.body)
        self.scopes.pop()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for each in (*node.args.defaults, *filter(None, node.args.kw_defaults)):
            self.visit(each)
        self.scopes.append({each.arg for each in _arguments(node.args)})
        self.visit(node.body)
        self.scopes.pop()

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for each in (*node.decorator_list, *node.bases, *node.keywords):
            self.visit(each)
        self.body(node.body)
        if reads_annotations(node):
            for inner in node.body:
                if isinstance(inner, ast.AnnAssign):
                    self.visit(inner.annotation)

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.visit(node.generators[0].iter)
        self.scopes.append(bound_names([each.target for each in node.generators]))
        for name, value in ast.iter_fields(node):
            for each in value if isinstance(value, list) else [value]:
                if name != "generators":
                    self.visit(each)
                    continue
                for part in (each.target, *([] if each is node.generators[0] else [each.iter]), *each.ifs):
                    self.visit(part)
        self.scopes.pop()

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp  # noqa: N815

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value is not None:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if list(kept([node])) == [node]:
            self.generic_visit(node)
        else:
            self.body([node])

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            name = alias.asname or alias.name.partition(".")[0]
            what = Imported(alias.name, 0, None, binds=alias.asname is not None)
            self.found.imports.setdefault(name, []).append(what)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            what = Imported(node.module or "", node.level, alias.name)
            if alias.name == "*":
                self.found.stars.append(what)
            else:
                self.found.imports.setdefault(alias.asname or alias.name, []).append(what)

    def visit_Global(self, node: ast.Global) -> None:
        for name in node.names:
            self.use((name,))
            self.found.touched.add(Touch((name,), "store"))

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and self.free(node.id):
            self.use((node.id,))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in ("__subclasses__", "__init_subclass__"):
            self.found.subclasses = True
        name = dotted(node) if not isinstance(node.value, ast.Call) else None
        if name is None or not isinstance(_root(node), ast.Name):
            self.visit(node.value)
        elif self.free(name[0]):
            self.use(name)
            if not isinstance(node.ctx, ast.Load):
                self.found.touched.add(Touch(name, "store"))

    def visit_Subscript(self, node: ast.Subscript) -> None:
        name = dotted(node.value) if not isinstance(node.value, ast.Call) else None
        if not isinstance(node.ctx, ast.Load) and name is not None and self.free(name[0]):
            self.found.touched.add(Touch(name, "store"))
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = dotted(node.func) if not isinstance(node.func, ast.Call) else None
        if name is not None and self.free(name[0]):
            if len(name) > 1:
                self.found.touched.add(Touch(name[:-1], "receiver"))
            self.special(name, node)
        for each in (*node.args, *(keyword.value for keyword in node.keywords)):
            given = dotted(each) if isinstance(each, (ast.Name, ast.Attribute)) else None
            if given is not None and self.free(given[0]):
                self.found.touched.add(Touch(given, "argument"))
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.Div):  # Path(__file__).parent / "folder" / "file"
            parts: list[str] = []
            left: ast.expr = node
            while isinstance(left, ast.BinOp) and isinstance(left.right, ast.Constant):
                parts.insert(0, str(left.right.value))
                left = left.left
            if len(parts) > 1:
                self.found.texts.add("/".join(parts))
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and 0 < len(node.value) < _LONGEST:
            self.found.texts.add(node.value)

    def use(self, name: Dotted) -> None:
        self.found.used.add(name)
        if name[0] in _INTERPRETERS or name[:2] == ("sys", "modules") or "__dict__" in name[1:]:
            self.found.searches = True
        if name[-1] in _LOADERS or name[0] in ("runpy", "pkgutil", "imp"):
            self.found.loads = True

    def special(self, name: Dotted, node: ast.Call) -> None:
        """Handle calls that look names up: with a constant name they are what they seem, else they may find any."""
        values = [each.value if isinstance(each, ast.Constant) else None for each in node.args]
        if name == ("vars",) and not node.args:
            self.found.searches = True
        elif name == ("getattr",) and len(values) > 1 and isinstance(values[1], str):
            owner = dotted(node.args[0])
            if owner is not None and isinstance(node.args[0], (ast.Name, ast.Attribute)) and self.free(owner[0]):
                self.use((*owner, values[1]))
        elif name[-1] in ("import_module", "__import__"):
            known = values[0] if values else None
            if isinstance(known, str) and known.strip("."):
                level = len(known) - len(known.lstrip("."))
                what = Imported(known.lstrip("."), level, None)
                self.found.imports.setdefault(f"{name[-1]}({known})", []).append(what)
            else:
                self.found.loads = True


_LONGEST = 200  # characters of a text that may name a file


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    each = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [*each, *filter(None, (arguments.vararg, arguments.kwarg))]


def _root(node: ast.AST) -> ast.AST:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node


# What statements are


def kept(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that do something: no docstrings, ``pass``, bare annotations, or blocks that never run."""
    for node in body:
        if isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            continue
        if isinstance(node, ast.AnnAssign) and node.value is None:
            continue
        if isinstance(node, DEFINITIONS) and any(last(each) == "overload" for each in node.decorator_list):
            continue
        if isinstance(node, ast.If) and (last(node.test) == "TYPE_CHECKING" or _is_main(node.test)):
            yield from kept(node.orelse)
            continue
        yield node


def _is_main(test: ast.expr) -> bool:
    return (
        isinstance(test, ast.Compare)
        and isinstance(test.ops[0], ast.Eq)
        and {ast.unparse(test.left), ast.unparse(test.comparators[0])} == {"__name__", "'__main__'"}
    )


def dotted(node: ast.AST) -> Dotted | None:
    """Return ``("a", "b")`` for ``a.b`` and for ``a.b(…)``; None for any other expression."""
    if isinstance(node, ast.Call):
        return dotted(node.func)
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.append(node.attr)
        node = node.value
    return (node.id, *reversed(attributes)) if isinstance(node, ast.Name) else None


def last(node: ast.AST) -> str:
    """Return ``"b"`` for ``a.b`` and for ``a.b(…)``; empty for any other expression."""
    return (dotted(node) or ("",))[-1]


def reads_annotations(node: ast.stmt) -> bool:
    """Return whether something may read the annotations of a definition: a decorator, or a base such as NamedTuple."""
    assert isinstance(node, DEFINITIONS)
    if any(last(each) not in _PLAIN_DECORATORS for each in node.decorator_list):
        return True
    return isinstance(node, ast.ClassDef) and any(last(base) in _ANNOTATED_BASES for base in node.bases)
