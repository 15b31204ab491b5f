"""Strict YAML that remembers where everything stood.

A suite's errors name the line of the key that is wrong, which ``yaml.safe_load`` cannot say; nor does it object to a
key that is given twice, or to a few lines of aliases that unfold to gigabytes. Scalars follow ``yaml.safe_load``, but
``1e-4`` is a number (YAML 1.1 reads it as text).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from recbench.errors import Problem, SuiteError

Path_ = tuple[str | int, ...]
MAXIMUM_BYTES = 1_000_000
MAXIMUM_NODES = 100_000


class _Loader(yaml.SafeLoader):
    """The safe loader, with floats as YAML 1.2 writes them."""


_Loader.yaml_implicit_resolvers = {
    first: list(resolvers) for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+"), list("-+0123456789")
)


class Document:
    """Parsed YAML: plain data, and the line of every key and item by its path."""

    def __init__(self, file: str, data: Any, lines: dict[Path_, int]) -> None:
        self.file = file
        self.data = data
        self._lines = lines
        self._overridden: dict[Path_, str] = {}

    def problem(self, path: Path_, message: str) -> Problem:
        """A problem at the path, or at the nearest thing above it that stands in the file."""
        for end in range(len(path), -1, -1):
            if path[:end] in self._overridden:
                return Problem(f"--set {self._overridden[path[:end]]}", 0, dotted(path), message)
            if path[:end] in self._lines:
                return Problem(self.file, self._lines[path[:end]], dotted(path), message)
        return Problem(self.file, 0, dotted(path), message)

    def override(self, assignment: str) -> None:
        """Apply ``dotted.key=value`` (value in YAML). List items are named by index, name or label.

        Raises:
            SuiteError: it is not of that form, or goes through something that is neither mapping nor list.
        """
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise SuiteError([Problem(f"--set {assignment}", 0, "", "is not of the form KEY=VALUE")])
        try:
            value = parse(text, file=f"--set {assignment}").data
        except SuiteError as error:
            raise SuiteError([Problem(f"--set {assignment}", 0, key, error.problems[0].message)]) from None
        where, path = self.data, []
        steps = key.strip().split(".")
        for depth, step in enumerate(steps):
            last = depth == len(steps) - 1
            place = _place(where, step)
            if place is None:
                what = f"there is nothing at '{'.'.join(steps[: depth + 1])}' to set"
                raise SuiteError([Problem(f"--set {assignment}", 0, key, what)])
            path.append(place)
            if last:
                where[place] = value
            elif isinstance(where, dict) and where.get(place) is None:
                where[place] = {}
            elif isinstance(where[place], str):  # "wiener" is short for {name: wiener}
                where[place] = {"name": where[place]}
            where = where[place]
        self._overridden[tuple(path)] = assignment


def _place(where: Any, step: str) -> str | int | None:
    """The dictionary key or list index that a step of a dotted key means; None where there is none."""
    if isinstance(where, dict):
        return step
    if not isinstance(where, list):
        return None
    if step.isdigit():
        return int(step) if int(step) < len(where) else None
    for index, item in enumerate(where):
        names = (item.get("label"), item.get("name")) if isinstance(item, dict) else (item,)
        if step in names:
            return index
    return None


def dotted(path: Path_) -> str:
    """``losses[2].params.C`` for ``("losses", 2, "params", "C")``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def load(file: Path) -> Document:
    """Read a YAML file.

    Raises:
        SuiteError: it cannot be read, is not YAML, gives a key twice, holds an object tag, or unfolds too far.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise SuiteError([Problem(str(file), 0, "", f"cannot be read: {error.strerror or error}")]) from None
    if len(raw) > MAXIMUM_BYTES:
        raise SuiteError([Problem(str(file), 0, "", f"is larger than {MAXIMUM_BYTES:,} bytes")])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SuiteError([Problem(str(file), 0, "", f"is not UTF-8 text: {error}")]) from None
    return parse(text, file=str(file))


def parse(text: str, *, file: str) -> Document:
    """Parse YAML text; see :func:`load`."""
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            reader = _Reader(loader, file)
            data = reader.read(node, ()) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        message = f"is not valid YAML: {error.problem or error.context}"
        raise SuiteError([Problem(file, mark.line + 1 if mark else 0, "", message)]) from None
    except yaml.YAMLError as error:
        raise SuiteError([Problem(file, 0, "", f"is not valid YAML: {error}")]) from None
    except RecursionError:
        raise SuiteError([Problem(file, 0, "", "is nested too deeply")]) from None
    if reader.problems:
        raise SuiteError(reader.problems)
    return Document(file, data, reader.lines)


class _Reader:
    """Turns YAML nodes into plain data and notes their lines."""

    def __init__(self, loader: _Loader, file: str) -> None:
        self.loader = loader
        self.file = file
        self.lines: dict[Path_, int] = {}
        self.problems: list[Problem] = []
        self.count = 0

    def read(self, node: yaml.Node, path: Path_) -> Any:
        self.count += 1
        if self.count > MAXIMUM_NODES or len(path) > 50:
            raise SuiteError([Problem(self.file, node.start_mark.line + 1, "", "unfolds too far: too many aliases?")])
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            result: dict[str, Any] = {}
            for key_node, value_node in node.value:
                line = key_node.start_mark.line + 1
                if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                    self.problems.append(Problem(self.file, line, dotted(path), "keys must be plain text"))
                    continue
                key = key_node.value
                if key in result:
                    self.problems.append(Problem(self.file, line, dotted((*path, key)), "is given twice"))
                    continue
                self.lines[(*path, key)] = line
                result[key] = self.read(value_node, (*path, key))
            return result
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            try:
                return self.loader.construct_object(node)
            except ValueError as error:
                self.problems.append(Problem(self.file, node.start_mark.line + 1, dotted(path), str(error)))
                return None
        message = f"has the tag '{node.tag}', which suites do not allow: only plain values, lists and mappings"
        self.problems.append(Problem(self.file, node.start_mark.line + 1, dotted(path), message))
        return None


_SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str")}
