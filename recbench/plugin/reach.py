"""The code that a factory can reach: which statements of which modules decide what it makes.

Names are followed from the factory through functions, classes, assignments and imports, within its own distribution and
modules that belong to none. What cannot be followed by names counts as a whole, so that nothing is ever missed: a
module whose names are looked up at run time, a package whose modules are imported by names that are made up.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from recbench.plugin.effects import changing
from recbench.plugin.names import DEFINITIONS, Dotted, Imported, Names
from recbench.plugin.sources import CORE, Location, Locations, is_foreign, is_standard
from recbench.plugin.syntax import Statement, Syntax, parse

_FACTS = {"__name__", "__file__", "__doc__", "__path__", "__package__", "__spec__", "__version__", "__loader__"}
_MODULE = re.compile(r"[A-Za-z_]\w*(\.\w+)*")
_EMPTY = Syntax((), Names())


@dataclass(eq=False)
class Module:
    """A module that is followed.

    Attributes:
        label: its name; empty for a plugin that is a single file, whatever it is called.
        syntax: of its source; empty if that is not Python, and ``content`` counts instead.
    """

    label: str
    location: Location
    syntax: Syntax
    content: bytes | None = None

    @property
    def package(self) -> str:
        """The name that relative imports start from."""
        return self.label if self.location.folders else self.label.rpartition(".")[0]


class Reach:
    """Collects what can be reached from a factory.

    Attributes:
        modules: the modules that are imported on the way, by name; None for those that are not followed.
        included: the statements that count, by name of their module.
        lines: further facts that count, such as what a name is imported from.
        libraries: top-level modules of other distributions that are imported on the way.
    """

    def __init__(
        self,
        locations: Locations,
        own: str,
        tops: Iterable[str],
        read: Callable[[Path], bytes],
        file: tuple[str, Path] | None,
    ) -> None:
        """Reach nothing yet.

        Args:
            locations: finds modules.
            own: name of the distribution that is followed.
            tops: top-level modules that are followed wherever they are.
            read: returns the content of a source.
            file: name and path of the module of a plugin that is a single file.
        """
        self.locations = locations
        self.own = own
        self.tops = set(tops) - {CORE}
        self.read = read
        self.file = file
        self.modules: dict[str, Module | None] = {}
        self.included: dict[str, set[Statement]] = {}
        self.lines: set[str] = set()
        self.libraries: set[str] = set()
        self._todo: list[tuple[Module, Statement]] = []
        self._seen: set[tuple[str, Dotted]] = set()
        self._wholes: set[str] = set()
        self.subclasses = False

    # What is reached

    def module(self, name: str, importer: Module | None = None) -> Module | None:
        """Return a module and count what importing it does; None if it is not followed, or not there."""
        if self.file is not None and name == self.file[0]:
            name = ""
        if name not in self.modules:
            self.modules[name] = None
            parent = name.rpartition(".")[0]
            if parent:
                self.module(parent, importer)
            found = self.modules[name] = self._found(name, importer)
            if found is not None:
                self._import(found)
        return self.modules[name]

    def alone(self, name: str) -> Module | None:
        """Return a module that is not followed, to be counted without what it imports; None if it is not there."""
        location = self.locations.find(name)
        if location is None or location.file is None:
            return None
        content = self.read(location.file)
        found = self.modules[name] = Module(name, location, _EMPTY, content)
        syntax = parse(content)
        if syntax is not None:
            found.content = "\0".join(each.form for each in syntax.statements).encode()
        return found

    def attribute(self, module: Module, path: Dotted) -> None:
        """Reach what is at a name of a module; all of it, if the module itself is what is used."""
        if not path:
            self.whole(module)
            return
        if (module.label, path) in self._seen:
            return
        self._seen.add((module.label, path))
        head, rest = path[0], path[1:]
        if self._defined(module, head, rest, set()):
            return
        inner = self.module(f"{module.label}.{head}") if module.location.folders else None
        if inner is not None:
            self.attribute(inner, rest)
        elif "__getattr__" in module.syntax.binders:
            self._defined(module, "__getattr__", (), set())
        elif head not in _FACTS:
            self.whole(module)

    def whole(self, module: Module) -> None:
        """Reach everything in a module."""
        if module.label in self._wholes:
            return
        self._wholes.add(module.label)
        if module.content is not None:
            self.lines.add(f"{module.label} is {hashlib.sha256(module.content).hexdigest()}")
        for statement in module.syntax.statements:
            self._include(module, statement)
        for name, imports in module.syntax.names.imports.items():
            for each in imports:
                self._follow(module, each, name, ())
        for each in module.syntax.names.stars:
            target = self.target(module, each)
            if target is not None:
                self.whole(target)

    def finish(self) -> None:
        """Follow everything that was reached so far."""
        while True:
            while self._todo:
                self._uses(*self._todo.pop())
            more = list(changing(self))
            for module, statement in more:
                self._include(module, statement)
            if not more:
                return

    def digest(self, facts: Iterable[str] = ()) -> str:
        """Return 16 hexadecimal digits for all that was reached, and for further facts."""
        found = hashlib.sha256()
        for label in sorted(self.included):
            module = self.modules[label]
            assert module is not None
            chosen = [each for each in module.syntax.statements if each in self.included[label]]
            # Plain definitions may change places; other statements run one after the other.
            chosen.sort(key=lambda each: each.node.name if _is_plain(each) else "")  # type: ignore[attr-defined]
            for each in chosen:
                found.update(f"{label}\0{each.form}\0".encode())
        for line in (*sorted(self.lines), *facts):
            found.update(line.encode(errors="surrogatepass") + b"\0")
        return found.hexdigest()[:16]

    # Modules

    def _found(self, name: str, importer: Module | None) -> Module | None:
        location = Location(self.file[1]) if self.file is not None and not name else self._located(name, importer)
        if location is None or (name and not self._is_followed(name.partition(".")[0], location)):
            return None
        if location.file is None:
            return Module(name, location, _EMPTY)
        try:
            content = self.read(location.file)
        except OSError:
            return None
        syntax = parse(content) if location.file.suffix in (".py", ".pyw") else None
        return Module(name, location, syntax or _EMPTY, None if syntax else content)

    def _located(self, name: str, importer: Module | None) -> Location | None:
        location = self.locations.find(name)
        if location is None and importer is not None and "." not in name:  # the importer may extend sys.path first
            beside = importer.location.folder
            for file, folders in ((beside / f"{name}.py", ()), (beside / name / "__init__.py", (str(beside / name),))):
                if file.is_file():
                    return Location(file, folders)
        return location

    def _is_followed(self, top: str, location: Location) -> bool:
        if top == CORE:
            return False
        if top in self.tops:
            return True
        whole = self.locations.find(top) or location
        if is_standard(whole):
            return False
        if is_foreign(top, whole, self.own):
            self.libraries.add(top)
            return False
        return True

    def _import(self, module: Module) -> None:
        if module.content is not None:
            self.whole(module)
        for statement in module.syntax.statements:
            if statement.effect:
                self._include(module, statement)
        self._run_imports(module, module.syntax.names)

    def _run_imports(self, module: Module, names: Names) -> None:
        for each in (*names.stars, *(one for imports in names.imports.values() for one in imports)):
            target = self.target(module, each)
            if target is None or not each.attribute or each.attribute == "*" or not target.location.folders:
                continue
            if each.attribute not in target.syntax.binders and each.attribute not in target.syntax.names.imports:
                self.module(f"{target.label}.{each.attribute}")

    def absolute(self, module: Module, what: Imported) -> str:
        if not what.level:
            return what.module
        parts = module.package.split(".")
        base = ".".join(parts[: len(parts) - what.level + 1])
        return ".".join(filter(None, (base, what.module)))

    def target(self, module: Module, what: Imported) -> Module | None:
        return self.module(self.absolute(module, what), module)

    # Names

    def _include(self, module: Module, statement: Statement) -> None:
        included = self.included.setdefault(module.label, set())
        if statement not in included:
            included.add(statement)
            self._todo.append((module, statement))

    def _uses(self, module: Module, statement: Statement) -> None:
        names = statement.names
        self._run_imports(module, names)
        for each in (name for name in names.imports if "(" in name):  # by importlib, under no name
            for what in names.imports[each]:
                self._follow(module, what, each, ())
        for name in names.used:
            for found, inner, path in self.definitions(module, name, names):
                if isinstance(inner, Statement):
                    self._include(found, inner)
                else:
                    self._follow(found, inner, name[0], path)
        if names.searches:
            self.whole(module)
        if names.loads:
            self._loads(module)
        self.subclasses = self.subclasses or names.subclasses
        self._data(module, names)

    def definitions(
        self, module: Module, name: Dotted, names: Names
    ) -> Iterator[tuple[Module, Statement | Imported, Dotted]]:
        """Yield the statements and imports that a name may stand for, with their modules and further attributes."""
        head, rest = name[0], name[1:]
        found = False
        for what in names.imports.get(head, ()):
            found = True
            yield module, what, rest
        for scope, each in self.bindings(module, head, set()):
            found = True
            yield scope, each, rest
        if not found:
            for star in names.stars:
                target = self.target(module, star)
                for scope, each in self.bindings(target, head, set()) if target is not None else ():
                    yield scope, each, rest

    def bindings(self, module: Module, name: str, passed: set[str]) -> Iterator[tuple[Module, Statement | Imported]]:
        """Yield what defines a name in a module, or in the modules that it imports everything from."""
        passed.add(module.label)
        own = [*module.syntax.binders.get(name, ()), *module.syntax.names.imports.get(name, ())]
        yield from ((module, each) for each in own)
        if own:
            return
        for star in module.syntax.names.stars:
            target = self.target(module, star)
            if target is None:
                self.lines.add(f"{module.label} has all of {self.absolute(module, star)}")
            elif target.label not in passed:
                yield from self.bindings(target, name, passed)

    def _defined(self, module: Module, name: str, rest: Dotted, passed: set[str]) -> bool:
        found = False
        for scope, each in self.bindings(module, name, passed):
            found = True
            if isinstance(each, Statement):
                self._include(scope, each)
            else:
                self._follow(scope, each, name, rest)
        return found

    def _follow(self, module: Module, what: Imported, name: str, rest: Dotted) -> None:
        absolute, target = self.absolute(module, what), self.target(module, what)
        self.lines.add(f"{module.label} has {name} of {absolute}:{what.attribute or ''}")
        if not what.binds:  # import a.b binds a
            target = self.module(absolute.partition(".")[0], module)
        if target is not None:
            self.attribute(target, (what.attribute, *rest) if what.attribute else rest)

    def _loads(self, module: Module) -> None:
        """Reach all that a module may import by a name that is not in its source."""
        self.whole(module)
        top = self.module(module.label.partition(".")[0])
        if top is not None and top.location.folders:
            for folder in map(Path, top.location.folders):
                for file in sorted(folder.rglob("*.py")):
                    parts = (top.label, *file.relative_to(folder).with_suffix("").parts)
                    inner = self.module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
                    if inner is not None:
                        self.whole(inner)
            return
        for text in {text for each in module.syntax.statements for text in each.names.texts if _MODULE.fullmatch(text)}:
            inner = self.module(text, module)
            if inner is not None:
                self.whole(inner)

    def _data(self, module: Module, names: Names) -> None:
        """Count the files next to a module that its code names, such as weights that a distribution ships."""
        folder = module.location.folder
        near = ("__file__",) in names.used or any(name[-1] in ("files", "get_data") for name in names.used)
        for text in names.texts:
            if text.startswith(("/", "~", ".")) or "\0" in text or not (near or re.search(r"\.\w{1,12}$", text)):
                continue
            place = folder / text
            if place.is_file():
                self._file(f"{module.label}/{text}", place)
            elif near and place.is_dir():
                for file in sorted(each for each in place.rglob("*") if each.is_file()):
                    if "__pycache__" not in file.parts:
                        self._file(f"{module.label}/{text}/{file.relative_to(place).as_posix()}", file)

    def _file(self, name: str, file: Path) -> None:
        content = self.read(file)
        syntax = parse(content) if file.suffix == ".py" else None
        if syntax is not None:
            content = "\0".join(each.form for each in syntax.statements).encode()
        self.lines.add(f"{name} is {hashlib.sha256(content).hexdigest()}")


def _is_plain(statement: Statement) -> bool:
    return isinstance(statement.node, DEFINITIONS) and not statement.node.decorator_list
