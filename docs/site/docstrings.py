"""Docstrings as the site shows them: roles, examples and versions of reStructuredText become Markdown."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object


def as_markdown(text: str) -> str:
    """Return a docstring in which Markdown understands all that it shows."""
    text = re.sub(r":(?:class|func|meth|mod|attr|data):`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r"^(\w+)::$", r"\1:", text, flags=re.MULTILINE)
    text = re.sub(r"\.\. versionadded:: (\S+)", r"*Since version \1.*", text)
    examples = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*)*", re.MULTILINE)
    return examples.sub(lambda found: "{0}```pycon\n{1}\n{0}```".format(found["indent"], found.group()), text)


class Markdown(Extension):
    """Turns every docstring that is read into Markdown."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:  # type: ignore[override]
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)
