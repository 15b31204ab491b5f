"""Losses, not written yet."""

from __future__ import annotations

from collections.abc import Iterator

from recbench import LossEntry, hookimpl


@hookimpl
def recbench_losses() -> Iterator[LossEntry]:
    yield from ()
