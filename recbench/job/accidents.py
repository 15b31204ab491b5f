"""Reasons of errors that end a job."""

from __future__ import annotations

import re
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
        if isinstance(seen, MemoryError | torch.cuda.OutOfMemoryError) or _NO_MEMORY.search(str(seen)):
            return "out of memory"
        seen = seen.__cause__ or seen.__context__
    return "exception"


_NO_MEMORY = re.compile(
    r"out of memory|OUT_OF_MEMORY|DefaultCPUAllocator: |bad_alloc|Cannot allocate memory|cudaErrorMemoryAllocation"
    r"|ALLOC(ATION)?_FAILED"  # of cuBLAS, cuDNN, cuFFT, cuSOLVER, cuSPARSE
    r"|(CUBLAS|CUDNN|CUSOLVER|CUSPARSE)_STATUS_NOT_INITIALIZED"  # their handles found no room for a workspace
    r"|unable to find an engine",  # cuDNN, where no algorithm's workspace fits
    re.IGNORECASE,
)
