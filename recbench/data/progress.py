"""Callbacks for the progress of decoding and of downloads."""

from __future__ import annotations

from collections.abc import Callable

DecodingProgress = Callable[[int, int | None], None]
"""Called with the number of images decoded so far, and their total number, if it is known."""

DownloadProgress = Callable[[int, int], None]
"""Called with the number of bytes done, and their total number."""


def no_progress(done: int, total: int | None) -> None:
    """Report nothing."""
