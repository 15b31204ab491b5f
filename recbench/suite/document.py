"""Strict YAML that remembers where everything stood.

A suite's errors name the line of the key that is wrong, which ``yaml.safe_load`` cannot say; nor does it object to a
key that is given twice, or to a few lines of aliases that unfold to gigabytes. Scalars follow ``yaml.safe_load``, but
``1e-4`` is a number (YAML 1.1 reads it as text).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from recbench.errors import Problem, SuiteError, did_you_mean, quoted

Path_ = tuple[str | int, ...]
MAXIMUM_BYTES = 1_000_000
MAXIMUM_NODES = 100_000


class _Loader(yaml.SafeLoader):
    """The safe loader, with floats as YAML 1.2 writes them."""


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which quotes the text that this loader would take for a number."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_EXPONENT = re.compile(r"[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+\Z")
for _either in (_Loader, _Dumper):
    _either.yaml_implicit_resolvers = {
        first: list(resolvers) for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _either.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+0123456789"))


class Document:
    """Parsed YAML: plain data, and the line of every key and item by its path.

    Attributes:
        data: what could be read; a value that is not allowed is None.
        problems: what could not, while the rest of the file can still be checked.
    """

    def __init__(self, file: str, data: Any, lines: dict[Path_, int], problems: Sequence[Problem] = ()) -> None:
        self.file = file
        self.data = data
        self.problems = tuple(problems)
        self._lines = lines
        self._overridden: dict[Path_, str] = {}

    def problem(self, path: Path_, message: str) -> Problem:
        """A problem at the path, or at the nearest thing above it that stands in the file or was set."""
        if path and path not in self._lines:
            for place, assignment in self._overridden.items():
                if _below(place, path):  # it is only there because something in it was set
                    return Problem(f"--set {assignment}", 0, dotted(path), message)
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
        steps = re.sub(r"\[(\d+)\]", r".\1", key.strip()).split(".")  # as errors write it: losses[2].params.C
        if not equals or not all(steps):
            raise SuiteError([Problem(f"--set {assignment}", 0, "", "is not of the form KEY=VALUE")])
        value = parse_value(text, f"--set {assignment}", key)
        where, path = self.data, []
        for depth, step in enumerate(steps):
            last = depth == len(steps) - 1
            place = _place(where, step)
            if place is None:
                so_far = ".".join(steps[: depth + 1])
                what = f"there is no '{so_far}' to set; {did_you_mean(step, _places(where))}"
                raise SuiteError([Problem(f"--set {assignment}", 0, key, what)])
            path.append(place)
            if last:
                where[place] = value
            elif isinstance(where, dict) and where.get(place) is None:
                where[place] = {}
            elif isinstance(place, int) and isinstance(where[place], str):  # "wiener" for {name: wiener}
                where[place] = {"name": where[place]}
            where = where[place]
        self._overridden = {old: by for old, by in self._overridden.items() if not _below(old, tuple(path))}
        self._lines = {old: line for old, line in self._lines.items() if not _below(old, tuple(path))}
        self._overridden[tuple(path)] = assignment


def _below(path: Path_, top: Path_) -> bool:
    return path[: len(top)] == top


def _place(where: Any, step: str) -> str | int | None:
    """The dictionary key or list index that a step of a dotted key means; None where there is none."""
    if isinstance(where, dict):
        return step
    if not isinstance(where, list):
        return None
    if step.isdecimal():
        return int(step) if int(step) < len(where) else None
    return next((index for index, item in enumerate(where) if step in _names(item)), None)


def _places(where: Any) -> list[str]:
    """What could have been meant, where there is no place of that name."""
    if not isinstance(where, list):
        return []
    return [name for index, item in enumerate(where) for name in (_names(item) or [str(index)])]


def _names(item: Any) -> list[str]:
    names: list[Any] = [item.get("label"), item.get("name")] if isinstance(item, dict) else [item]
    return [name for name in names if isinstance(name, str)]


def dotted(path: Path_) -> str:
    """``losses[2].params.C`` for ``("losses", 2, "params", "C")``."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def load(file: Path) -> Document:
    """Read a YAML file.

    Raises:
        SuiteError: it cannot be read, is not YAML, or unfolds too far. What is wrong with single keys and values
            (one given twice, an object tag) is in the document's ``problems``.
    """
    try:
        with file.open("rb") as stream:
            raw = stream.read(MAXIMUM_BYTES + 1)
    except (OSError, ValueError) as error:
        raise SuiteError([Problem(str(file), 0, "", f"cannot be read: {getattr(error, 'strerror', error)}")]) from None
    if len(raw) > MAXIMUM_BYTES:
        raise SuiteError([Problem(str(file), 0, "", f"is larger than {MAXIMUM_BYTES:,} bytes")])
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise SuiteError([Problem(str(file), line, "", f"is not UTF-8 text: {error.reason}")]) from None
    return parse(text, file=str(file))


def parse_value(text: str, source: str, key: str) -> Any:
    """The value of a ``KEY=VALUE`` on the command line.

    Raises:
        SuiteError: it is not plain YAML; the error names ``source`` and ``key``.
    """
    try:
        document = parse(text, file=source)
    except SuiteError as error:
        raise SuiteError([Problem(source, 0, key, problem.message) for problem in error.problems]) from None
    if document.problems:
        raise SuiteError([Problem(source, 0, key, problem.message) for problem in document.problems])
    return document.data


def dump(data: Any) -> str:
    """Write plain data as YAML that :func:`parse` reads back as it was."""
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


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
        raise SuiteError([Problem(file, 0, "", f"is not valid YAML: {' '.join(str(error).split())}")]) from None
    except (RecursionError, ValueError) as error:
        what = "is nested too deeply" if isinstance(error, RecursionError) else f"is not valid YAML: {error}"
        raise SuiteError([Problem(file, 0, "", what)]) from None
    return Document(file, data, reader.lines, reader.problems)


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
        line = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            value, message = self._scalar(node)
            if not message:
                return value
        elif node.tag == "tag:yaml.org,2002:timestamp":
            message = f"YAML takes {node.value} for a date; write it in quotes"
        else:
            message = f"has the tag '{node.tag}', which suites do not allow: only plain values, lists and mappings"
        self.problems.append(Problem(self.file, line, dotted(path), message))
        return None

    def _scalar(self, node: yaml.ScalarNode) -> tuple[Any, str]:
        """The value, and what is wrong with it."""
        try:
            value = self.loader.construct_object(node)
        except (ValueError, LookupError):
            return None, f"{quoted(node.value)} cannot be read as {node.tag.rpartition(':')[2]}"
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            return None, "is a number that does not fit into 64 bits"
        if isinstance(value, str) and not _encodes(value):
            return None, "is no valid text: it holds half a surrogate pair"
        return value, ""

    def _mapping(self, node: yaml.MappingNode, path: Path_) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                self.problems.append(Problem(self.file, line, dotted(path), "merge keys (<<) are not allowed"))
                continue
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag not in _KEYS or not _encodes(key_node.value):
                self.problems.append(Problem(self.file, line, dotted(path), "keys must be plain text"))
                continue
            key = key_node.value
            if key in result:
                first = self.lines[(*path, key)]
                self.problems.append(
                    Problem(self.file, line, dotted((*path, key)), f"is given twice, first in line {first}")
                )
                continue
            self.lines[(*path, key)] = line
            result[key] = self.read(value_node, (*path, key))
        return result


def _encodes(text: str) -> bool:
    """False for halves of surrogate pairs, which no file can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_SCALARS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str")}
_KEYS = _SCALARS | {"tag:yaml.org,2002:timestamp"}
