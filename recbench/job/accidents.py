"""Reasons of errors that end a job."""

from __future__ import annotations

import errno
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
        if _says_no_memory(seen):
            return "out of memory"
        seen = seen.__cause__ or seen.__context__
    return "exception"


def _says_no_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, NameError | AttributeError | LookupError):  # whose texts quote names of the program
        return False
    return _NO_MEMORY.search(str(error)) is not None


# CUFFT_INTERNAL_ERROR is left out: cuFFT says it without memory, and for other reasons too.
_NO_MEMORY = re.compile(
    r"(?i:out of memory|DefaultCPUAllocator: |bad_alloc|Cannot allocate memory|cudaErrorMemoryAllocation)"
    r"|CUDA_ERROR_OUT_OF_MEMORY"
    r"|ALLOC(ATION)?_FAILED"  # of cuBLAS, cuDNN, cuFFT, cuSOLVER, cuSPARSE
    r"|(CUBLAS|CUDNN|CUSOLVER|CUSPARSE)_STATUS_NOT_INITIALIZED"  # their handles found no room for a workspace
    r"|CUSOLVER_STATUS_INTERNAL_ERROR,? when calling `cusolver\w*Create\("  # a handle, too
    r"|CUSPARSE_STATUS_INSUFFICIENT_RESOURCES"
    r"|(?i:unable to find an engine|unable to find a valid cuDNN algorithm)",  # where no algorithm's workspace fits
)
