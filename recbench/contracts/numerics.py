"""The precision of float32 arithmetic: IEEE, or TensorFloat-32, which GPUs use for convolutions unless told otherwise.

TensorFloat-32 keeps 10 bits of the factors of a product. In a network that is trained it costs little; a distance of
deep features is off by up to 2 %, and its gradient by several degrees.

PyTorch has two interfaces for this, and refuses to read the old one where the new one was used: whatever a plugin has
set, and by whichever, nothing here fails.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

Float32Flags = tuple[Any, ...]


def _operations() -> list[Any]:
    """Return the switches of the new interface, for single operations; none where torch is older than it."""
    backends = torch.backends
    if not hasattr(getattr(backends.cudnn, "conv", None), "fp32_precision"):
        return []
    cudnn: Any = backends.cudnn
    found: list[Any] = [cudnn.conv, cudnn.rnn, backends.cuda.matmul]
    return found + [getattr(backends.mkldnn, name) for name in ("conv", "matmul", "rnn")]


def float32_flags() -> Float32Flags:
    """Return the switches of this process, for :func:`set_float32_flags`."""
    operations = _operations()
    if operations:
        return tuple(each.fp32_precision for each in operations)
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def set_float32_flags(flags: Float32Flags) -> None:
    """Set the switches of this process back to what they were."""
    operations = _operations()
    convolutions, products = (flags[0], flags[2]) if operations else flags
    torch.backends.cudnn.allow_tf32 = convolutions in (True, "tf32")
    torch.backends.cuda.matmul.allow_tf32 = products in (True, "tf32")
    for each, value in zip(operations, flags, strict=False):
        each.fp32_precision = value


def allow_tf32(allowed: bool) -> None:
    """Let this process use TensorFloat-32 on GPUs, or compute by IEEE's rules only. Processors always do the latter."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    operations = _operations()
    for number, each in enumerate(operations):
        each.fp32_precision = "tf32" if allowed and number < 3 else "ieee"


@contextmanager
def ieee() -> Iterator[None]:
    """Compute a block by IEEE's rules, and set the switches back."""
    before = float32_flags()
    set_float32_flags(tuple("ieee" for _ in before) if _operations() else (False, False))
    try:
        yield
    finally:
        set_float32_flags(before)
