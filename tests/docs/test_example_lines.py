"""docs/examples have half the lines of what an author wrote for earlier contracts, from the documentation alone."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

from tests.conftest import ROOT

EXAMPLES = ROOT / "docs" / "examples"
NO_CODE = (
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
)  # fmt: skip


def code(text: str) -> int:
    """Number of lines that are not blank, nor comments, nor docstrings."""
    documented = [
        node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
    ]
    strings = [node.body[0] for node in documented if ast.get_docstring(node) is not None]
    left_out = {line for node in strings for line in range(node.lineno, (node.end_lineno or 0) + 1)}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found = {line for token in tokens if token.type not in NO_CODE for line in range(token.start[0], token.end[0] + 1)}
    return len(found - left_out)


def without(text: str, name: str, entry: str) -> str:
    """A file without one of its classes and the entry of that."""
    tree, gone = ast.parse(text), set[int]()
    for before, node in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.ClassDef) and node.name == name:
            gone |= set(range((before.end_lineno or 0) + 1, (node.end_lineno or 0) + 1))
    for found in ast.walk(tree):
        if isinstance(found, ast.Yield) and f"name='{entry}'" in ast.unparse(found):
            gone |= set(range(found.lineno, (found.end_lineno or 0) + 1))
    assert gone
    return "".join(line for number, line in enumerate(text.splitlines(True), start=1) if number not in gone)


@pytest.mark.parametrize("example", ["gan", "vq"])
def test_an_example_has_at_most_half_the_lines(example: str, shared: Path) -> None:
    folder = shared / "cases" / "plugins" / "good"
    theirs = folder / {"gan": "vqganloss.py", "vq": "archs.py"}[example]
    if not theirs.is_file():
        pytest.skip(f"RECBENCH_SHARED has no cases/plugins/good/{theirs.name} to compare with")
    long, short = theirs.read_text(encoding="utf-8"), (EXAMPLES / f"{example}.py").read_text(encoding="utf-8")
    if example == "vq":
        long = without(long, "KLF4", "klf4")
    assert len(short.splitlines()) <= len(long.splitlines()) / 2
    assert code(short) <= code(long) / 2


def test_lines_of_code_are_counted() -> None:
    text = '"""Text\n\nover lines."""\n\nx = [  # why\n    1,\n]\n\n\nclass A:\n    "A."\n\n    y = 1  # one\n'
    assert code(text) == 5
    both = text + '\n\nclass B:\n    z = 2\n\n\ndef hook():\n    yield E(name="a")\n    yield E(\n        name="b")\n'
    assert without(both, "B", "b") == text + '\n\ndef hook():\n    yield E(name="a")\n'
