"""Strict YAML with the line of every key.

Errors of a suite name the line of the invalid key, which ``yaml.safe_load`` does not give; nor does it refuse duplicate
keys, or a few lines of aliases that expand to gigabytes. Scalars are those of YAML 1.2's core schema, where PyYAML
follows YAML 1.1: ``010`` is ten and not eight, ``1:30``, ``1_0``, ``yes`` and ``2024-01-01`` are text, and ``1e-4`` is
a number.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from recbench.errors import Problem, SuiteError, did_you_mean, quoted

KeyPath = tuple[str | int, ...]
"""The place of a value in a document: ``("losses", 2, "params", "C")``."""

MAXIMUM_BYTES = 1_000_000
MAXIMUM_NODES = 100_000


_NULL, _BOOL, _INT, _FLOAT, _STR = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str"))

_CORE = {
    _NULL: re.compile(r"(?:~|null|Null|NULL|)\Z"),
    _BOOL: re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"),
    _INT: re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"),
    _FLOAT: re.compile(
        r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
    ),
}
"""The core schema of YAML 1.2, https://yaml.org/spec/1.2.2/#103-core-schema. An int is tried before a float."""


class _Loader(yaml.SafeLoader):
    """The safe loader, with the scalars of YAML 1.2; a merge key keeps its tag, and is refused."""


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which quotes text that a reader of YAML 1.1 or of 1.2 would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Loader.yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile(r"<<\Z"))]}
_Dumper.yaml_implicit_resolvers = {
    first: list(resolvers) for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _pattern in _CORE.items():
    _Loader.add_implicit_resolver(_tag, _pattern, None)
    if _tag in (_INT, _FLOAT):
        _Dumper.add_implicit_resolver(_tag, _pattern, list("-+.0123456789"))


class Document:
    """Parsed YAML: plain data, and the line of every key and item by its path.

    Attributes:
        file: name of the file, for messages.
        data: the data; a value that is not allowed is None.
        problems: keys and values that are not allowed; the rest of the file can still be checked.
    """

    def __init__(self, file: str, data: Any, lines: dict[KeyPath, int], problems: Sequence[Problem] = ()) -> None:
        self.file = file
        self.data = data
        self.problems = tuple(problems)
        self._lines = lines
        self._overridden: dict[KeyPath, str] = {}

    def problem(self, path: KeyPath, message: str) -> Problem:
        """Return a problem at a path, with the line or override of the path or of its nearest parent."""
        if path and path not in self._lines:
            for parent, assignment in self._overridden.items():
                if _below(parent, path):  # exists only because a value below it was set
                    return Problem(f"--set {assignment}", 0, dotted(path), message)
        for end in range(len(path), -1, -1):
            if path[:end] in self._overridden:
                return Problem(f"--set {self._overridden[path[:end]]}", 0, dotted(path), message)
            if path[:end] in self._lines:
                return Problem(self.file, self._lines[path[:end]], dotted(path), message)
        return Problem(self.file, 0, dotted(path), message)

    def override(self, assignment: str) -> None:
        """Apply an assignment ``dotted.key=value``, as given with ``--set``.

        Args:
            assignment: the key, with list items by index, name or label, and the value in YAML. In a new list for a
                section, the name of an item that the section has stands for that item.

        Raises:
            SuiteError: the assignment is not of that form, or its key leads to neither a mapping nor a list.
        """
        key, equals, text = assignment.partition("=")
        steps = re.sub(r"\[(\d+)\]", r".\1", key.strip()).split(".")  # as errors write it: losses[2].params.C
        if not equals or not all(steps):
            raise SuiteError([Problem(f"--set {assignment}", 0, "", "is not of the form KEY=VALUE")])
        value = parse_value(text, f"--set {assignment}", key)
        parent, path = self.data, []
        for depth, step in enumerate(steps):
            last = depth == len(steps) - 1
            child = _child(parent, step)
            if child is None:
                so_far = ".".join(steps[: depth + 1])
                what = f"there is no '{so_far}' to set; {did_you_mean(step, _children(parent))}"
                raise SuiteError([Problem(f"--set {assignment}", 0, key, what)])
            path.append(child)
            if last:
                parent[child] = _as_before(value, parent[child]) if depth == 0 and child in parent else value
            elif isinstance(parent, dict) and parent.get(child) is None:
                parent[child] = {}
            elif isinstance(child, int) and isinstance(parent[child], str):  # "wiener" for {name: wiener}
                parent[child] = {"name": parent[child]}
            parent = parent[child]
        self._overridden = {old: by for old, by in self._overridden.items() if not _below(old, tuple(path))}
        self._lines = {old: line for old, line in self._lines.items() if not _below(old, tuple(path))}
        self._overridden[tuple(path)] = assignment


def _below(path: KeyPath, top: KeyPath) -> bool:
    return path[: len(top)] == top


def _child(parent: Any, step: str) -> str | int | None:
    """Return the dictionary key or list index that a step of a dotted key names; None if there is none."""
    if isinstance(parent, dict):
        return step
    if not isinstance(parent, list):
        return None
    if step.isdecimal():
        return int(step) if int(step) < len(parent) else None
    return next((index for index, item in enumerate(parent) if step in _names(item)), None)


def _children(parent: Any) -> list[str]:
    """Return the names of the items of a list, to suggest one of them."""
    if not isinstance(parent, list):
        return []
    return [name for index, item in enumerate(parent) for name in (_names(item) or [str(index)])]


def _as_before(value: Any, before: Any) -> Any:
    """Return the new items of a section: a name alone is the item of this label or name that the section had, with its
    parameters and its KL weight, and other items keep that weight unless they have one."""
    if not isinstance(value, list) or not isinstance(before, list):
        return value
    found: list[Any] = []
    for item in value:
        name = next(iter(_names(item)), None)
        same = [old for old in before if name in _names(old)[:1]] or [old for old in before if name in _names(old)]
        if isinstance(item, str) and same:
            found += same
        elif isinstance(item, dict) and same and isinstance(same[0], dict):
            kept = {key: same[0][key] for key in _WEIGHTS if key in same[0]}
            found.append(item if item.keys() & set(_WEIGHTS) else {**item, **kept})
        else:
            found.append(item)
    return found


_WEIGHTS = ("kl_weight", "scale")


def _names(item: Any) -> list[str]:
    names: list[Any] = [item.get("label"), item.get("name")] if isinstance(item, dict) else [item]
    return [name for name in names if isinstance(name, str)]


def dotted(path: KeyPath) -> str:
    """Return a path as messages show it.

    >>> dotted(("losses", 2, "params", "C"))
    'losses[2].params.C'
    """
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def load(file: Path) -> Document:
    """Read a YAML file.

    Returns:
        The document. Problems of single keys and values (duplicate keys, object tags) are in its ``problems``.

    Raises:
        SuiteError: the file cannot be read, is too large, is not YAML, or expands too far.
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
    """Return the value of a ``KEY=VALUE`` of the command line.

    Args:
        text: the value in YAML.
        source: the option, for messages.
        key: the key, for messages.

    Raises:
        SuiteError: the value is not plain YAML; the error names ``source`` and ``key``.
    """
    try:
        document = parse(text, file=source)
    except SuiteError as error:
        raise SuiteError([Problem(source, 0, key, problem.message) for problem in error.problems]) from None
    if document.problems:
        raise SuiteError([Problem(source, 0, key, problem.message) for problem in document.problems])
    return document.data


def dump(data: Any) -> str:
    """Return plain data as YAML that :func:`parse` reads back unchanged.

    >>> print(dump({"training": {"learning_rate": 0.0001}, "label": "1e5"}), end="")
    training:
      learning_rate: 0.0001
    label: '1e5'
    """
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def parse(text: str, *, file: str) -> Document:
    """Parse YAML text; see :func:`load`.

    >>> parse("lr: 1e-4", file="x.yaml").data
    {'lr': 0.0001}
    """
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            reader = _Reader(file)
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

    def __init__(self, file: str) -> None:
        self.file = file
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self.count = 0

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        self.count += 1
        if self.count > MAXIMUM_NODES or len(path) > 50:
            raise SuiteError([Problem(self.file, node.start_mark.line + 1, "", "expands too far: too many aliases?")])
        self.lines.setdefault(path, node.start_mark.line + 1)
        line = node.start_mark.line + 1
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            return [self.read(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode) and node.tag in _SCALARS:
            value, message = _scalar(node.tag, node.value)
            if not message:
                return value
        else:
            message = f"has the tag '{node.tag}', which is not allowed: only plain values, lists and mappings are"
        self.problems.append(Problem(self.file, line, dotted(path), message))
        return None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == "tag:yaml.org,2002:merge":
                self.problems.append(Problem(self.file, line, dotted(path), "merge keys (<<) are not allowed"))
                continue
            if (
                not isinstance(key_node, yaml.ScalarNode)
                or key_node.tag not in _SCALARS
                or not _encodes(key_node.value)
            ):
                self.problems.append(Problem(self.file, line, dotted(path), "keys must be plain text"))
                continue
            key = key_node.value
            if key in result:
                first = self.lines[(*path, key)]
                self.problems.append(
                    Problem(self.file, line, dotted((*path, key)), f"is given twice, first on line {first}")
                )
                continue
            self.lines[(*path, key)] = line
            result[key] = self.read(value_node, (*path, key))
        return result


def _scalar(tag: str, text: str) -> tuple[Any, str]:
    """Return the value of a scalar, and the error message about it if it is not allowed."""
    if tag == _STR:
        return (text, "") if _encodes(text) else (None, "is not valid text: it contains half a surrogate pair")
    if not _CORE[tag].match(text):  # its tag was written out
        return None, f"{quoted(text)} cannot be read as {tag.rpartition(':')[2]}"
    if tag == _NULL:
        return None, ""
    if tag == _BOOL:
        return text.lower() == "true", ""
    if tag == _FLOAT:
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan")), ""
    try:
        value = int(text[2:], {"0o": 8, "0x": 16}[text[:2]]) if text[:2] in ("0o", "0x") else int(text)
    except ValueError:  # thousands of digits
        value = 2**63
    return (value, "") if -(2**63) <= value < 2**63 else (None, "does not fit into a 64-bit integer")


def _encodes(text: str) -> bool:
    """Return False for halves of surrogate pairs, which cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_SCALARS = {_NULL, _BOOL, _INT, _FLOAT, _STR}
