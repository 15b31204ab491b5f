"""Names, sizes and first words of the source: what a reader of one file relies on."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = [ROOT / "recbench", *(path for path in (ROOT / "plugins").glob("*/recbench_*") if path.is_dir())]
SOURCES = {
    str(file.relative_to(ROOT)): file.read_text(encoding="utf-8")
    for package in PACKAGES
    for file in sorted(package.rglob("*.py"))
}
MAXIMUM_LINES = 400
QUESTIONS = ("Who", "What", "Whether", "How")


@cache
def modules() -> dict[str, ast.Module]:
    return {name: ast.parse(text) for name, text in SOURCES.items()}


def type_names(module: ast.Module) -> Iterator[str]:
    """Names of classes, and of type aliases: ``Name = Other[…]`` or ``Name = One | Other``, in camel case."""
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            yield node.name.lstrip("_")
    for node in module.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.BinOp):
            for target in node.targets:
                name = target.id.lstrip("_") if isinstance(target, ast.Name) else ""
                if name[:1].isupper() and not name.isupper():
                    yield name


def test_no_name_stands_for_two_classes():
    files: dict[str, list[str]] = defaultdict(list)
    for file, module in modules().items():
        for name in type_names(module):
            files[name].append(file)
    assert {name: found for name, found in files.items() if len(found) > 1} == {}


def test_no_source_file_is_long():
    lengths = {file: len(text.splitlines()) for file, text in SOURCES.items()}
    assert {file: length for file, length in lengths.items() if length > MAXIMUM_LINES} == {}


def test_docstrings_start_with_what_a_thing_is_or_does():
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    wrong = [
        f"{file}:{getattr(node, 'lineno', 1)}: {text.splitlines()[0]}"
        for file, module in modules().items()
        for node in ast.walk(module)
        if isinstance(node, kinds) and (text := ast.get_docstring(node)) and text.split()[0] in QUESTIONS
    ]
    assert wrong == []
