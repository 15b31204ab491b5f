"""The device of a job: which one, what it computes in, and how much memory was taken."""

from __future__ import annotations

import re
import resource
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from recbench.contracts.numerics import allow_tf32
from recbench.errors import RecbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator

Precision = Literal["float32", "tf32", "bf16"]


def choose_device(wanted: str) -> torch.device:
    """Return the torch device for ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        RecbenchError: it asks for a GPU that is not there, or that torch cannot use; the text says why.
    """
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(wanted)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise RecbenchError(f"device {wanted} does not exist: torch sees {count} GPUs{'' if count else _why_no_gpu()}")
    return device


def _why_no_gpu() -> str:
    if torch.version.cuda is None:
        return f"; torch {torch.__version__} is built without CUDA"
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - of torch, of several types, with the driver's reason
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return f"; torch {torch.__version__} for CUDA {torch.version.cuda} says: {first}"
    return ""


def device_name(device: torch.device) -> str:
    """Return ``cpu``, or a GPU's index and model."""
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)


def precision_on(wanted: str, device: torch.device) -> Precision:
    """Return what a network computes in, on a device, where a suite says ``float32``, ``tf32``, ``bf16`` or ``auto``.

    ``auto`` is bf16 where the hardware multiplies it, else float32. Processors have no tf32, and take float32.
    """
    if wanted == "auto":
        return "bf16" if _multiplies_bf16(device.type) else "float32"
    if wanted == "tf32" and device.type == "cuda":
        return "tf32"
    return "bf16" if wanted == "bf16" else "float32"


@cache
def _multiplies_bf16(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^flags\b.*\b(amx_bf16|avx512_bf16)\b", flags, re.MULTILINE) is not None


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context in which the network runs, by a suite's precision; losses are computed outside of it."""
    chosen = precision_on(precision, device)
    return _tf32() if chosen == "tf32" else torch.autocast(device.type, torch.bfloat16, enabled=chosen == "bf16")


@contextmanager
def _tf32() -> Iterator[None]:
    allow_tf32(allowed=True)
    try:
        yield
    finally:
        allow_tf32(allowed=False)


def peak_memory(device: torch.device, images: int = 0) -> int:
    """Return the peak memory in bytes: torch's on the GPU, or this process's on the CPU.

    Args:
        images: bytes of the images that lie on the GPU, which are no cost of a method.
    """
    if device.type == "cuda":
        return max(0, torch.cuda.max_memory_allocated(device) - images)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
