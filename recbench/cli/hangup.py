"""Working on when nobody listens any more: a closed terminal or pipe must not end a sweep."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO


class _Deaf:
    """A stream that drops what cannot be written, and all that follows."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # broken pipe, no such terminal, closed file
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def _give_up(self) -> None:
        # What waits in the buffer would fail again at the end of the process; under the old number it now goes nowhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, self._stream.fileno())
        except (OSError, ValueError):
            self._stream = open(nowhere, "w", closefd=False)  # noqa: SIM115 - as long as the process
        else:
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def survive_hangup() -> None:
    """Let stdout and stderr fail without a word from now on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Deaf):
            setattr(sys, name, _Deaf(stream))
