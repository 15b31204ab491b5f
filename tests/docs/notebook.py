"""Executes a notebook without Jupyter, as its kernel does: cells share one ``__main__`` that has no file, and what the
last expression of a cell gives is shown.

``python tests/docs/notebook.py NOTEBOOK`` executes it in the working folder; ``--write`` stores the outputs in it.
"""

from __future__ import annotations

import ast
import base64
import contextlib
import io
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any


def code_cells(notebook: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    return (cell for cell in notebook["cells"] if cell["cell_type"] == "code")


def execute(notebook: Mapping[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """Execute the cells one by one, and yield the outputs of each, as notebooks store them."""
    main = ModuleType("__main__")
    sys.modules["__main__"] = main
    for number, cell in enumerate(code_cells(notebook), 1):
        tree = ast.parse("".join(cell["source"]), f"cell {number}")
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        printed, value = io.StringIO(), None
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
            exec(compile(tree, f"cell {number}", "exec"), vars(main))
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), vars(main))
        outputs = []
        if printed.getvalue():
            outputs.append({"name": "stdout", "output_type": "stream", "text": printed.getvalue().splitlines(True)})
        if value is not None:
            shown = {"data": _shown(value), "execution_count": number, "metadata": {}, "output_type": "execute_result"}
            outputs.append(shown)
        yield outputs


def _shown(value: object) -> dict[str, Any]:
    """Return what a notebook stores of a value: a picture, or HTML, and text."""
    data: dict[str, Any] = {"text/plain": repr(value).splitlines(True)}
    if hasattr(value, "_repr_png_"):
        data["image/png"] = base64.b64encode(value._repr_png_()).decode()
    elif hasattr(value, "_repr_html_"):
        data["text/html"] = value._repr_html_().splitlines(True)
    return data


def main() -> None:
    file = Path(sys.argv[1])
    notebook = json.loads(file.read_text(encoding="utf-8"))
    outputs = list(execute(notebook))
    if "--write" in sys.argv:
        for number, (cell, found) in enumerate(zip(code_cells(notebook), outputs, strict=True), 1):
            cell |= {"execution_count": number, "outputs": found}
        file.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    json.dump(outputs, sys.stdout)


if __name__ == "__main__":
    main()
