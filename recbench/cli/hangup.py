"""Continuing after a hang-up: a closed terminal or pipe must not end a sweep."""

from __future__ import annotations

import os
import sys
from typing import Any, TextIO


class _Lenient:
    """A stream that, after the first failed write, discards all output."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except (OSError, ValueError):  # broken pipe, closed terminal, closed file
            self._give_up()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def _give_up(self) -> None:
        # Flushing the buffer would fail again at exit, so the file descriptor now points to the null device.
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, self._stream.fileno())
        except (OSError, ValueError):
            self._stream = open(null, "w", closefd=False)  # noqa: SIM115 - open as long as the process
        else:
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def ignore_hangup() -> None:
    """Ignore errors of stdout and stderr from now on."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _Lenient):
            setattr(sys, name, _Lenient(stream))
