"""Reasons of errors that end a job."""

from __future__ import annotations

from pathlib import Path

import torch

from recbench.contracts.executor import Reason
from recbench.files import FULL, full_disk_named


def name_full_disk(error: BaseException, folder: Path) -> None:
    """Raise an OutOfSpaceError if an error comes from a disk without room: that is no fault of the job."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in FULL:
            with full_disk_named(Path(seen.filename).parent if isinstance(seen.filename, str) else folder):
                raise seen
        seen = seen.__cause__ or seen.__context__


def reason_of(error: BaseException) -> Reason:
    """Return the reason for a job that raised this error: out of memory has many spellings, some in a cause."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError | torch.OutOfMemoryError) or any(word in str(seen) for word in _NO_MEMORY):
            return "out of memory"
        seen = seen.__cause__ or seen.__context__
    return "exception"


_NO_MEMORY = ("DefaultCPUAllocator: ", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
