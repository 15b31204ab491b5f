"""Shows the notebook as a page, with the outputs that are stored in it; it stays a file that can be downloaded, too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
NOTEBOOK, PAGE = "docs/tutorial.ipynb", "docs/notebook.md"
_FILE = Path(NOTEBOOK).name
_HEAD = f'!!! note ""\n    This is the notebook [{_FILE}]({_FILE}), which you can download and run.\n'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page."""
    from mkdocs.structure.files import File

    files.append(File.generated(config, PAGE, content=as_markdown(json.loads((ROOT / NOTEBOOK).read_text("utf-8")))))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead from other pages to the page, where a clone has the notebook alone."""
    if page.file.src_uri == PAGE:
        return markdown
    return re.sub(rf"\(((?:docs/)?){re.escape(_FILE)}\)", rf"(\g<1>{Path(PAGE).name})", markdown)


def as_markdown(notebook: Mapping[str, Any]) -> str:
    """Return the cells of a notebook, and the outputs of its code."""
    parts: list[str] = []
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [part for output in cell.get("outputs", ()) for part in _shown(output.get("data", {}))]
    title, *others = parts
    return "\n\n".join([title, _HEAD, *others]) + "\n"


def _shown(data: Mapping[str, Any]) -> Iterator[str]:
    """Yield an output in the richest of its forms: an image, a table of pandas, or text."""
    if "image/png" in data:
        yield f'<img alt="a figure" src="data:image/png;base64,{"".join(data["image/png"]).replace(chr(10), "")}">'
    elif "text/html" in data and (table := re.search(r"<table.*</table>", "".join(data["text/html"]), re.DOTALL)):
        yield f'<div class="output">\n{table.group()}\n</div>'
    elif "text/plain" in data:
        yield f"```text\n{''.join(data['text/plain'])}\n```"
