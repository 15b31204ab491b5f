"""CUDA tensors on a machine without a GPU: torch's FakeTensors, which have a device and a shape and no content.

An operation on tensors of two devices raises, as on a GPU, and :class:`Watch` sees what the host would wait for.
Needs a build of torch with CUDA, as PyPI has for Linux, and no GPU.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import sys
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

CUDA = torch.device("cuda")
MODE = FakeTensorMode(allow_non_fake_inputs=True)
ROOT = Path(__file__).parent.parent
_READ = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.item.default}
_SIZED_BY_DATA = {"nonzero", "masked_select", "unique_dim", "_unique2", "unique_consecutive", "equal", "is_nonzero"}
"""Operations whose result has a size, or an answer, that the host must wait for."""
_NO_KERNEL = re.compile(r"(new_)?empty|sym_|is_same_size|lift_fresh|resolve_|device$")


def unavailable() -> str | None:
    """Return why there are no fake CUDA tensors here; None if there are."""
    if torch.version.cuda is None:
        return f"fake CUDA tensors need a build of torch with CUDA, not {torch.__version__}"
    if torch.cuda.is_available():
        return "there is a GPU: make gpu-check runs the real thing"
    if sys.platform != "linux" or not _HEADER.is_file():
        return "fake CUDA tensors need torch's C++ headers, and Linux"
    return None


@contextlib.contextmanager
def fake_cuda() -> Iterator[None]:
    """Let torch believe that there is a GPU, as far as fake tensors need it."""
    with pytest.MonkeyPatch.context() as patch, _no_context(), MODE:
        patch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
        patch.setattr(torch.cuda, "get_device_capability", lambda *_, **__: (9, 0))
        fork = torch.random.fork_rng
        patch.setattr(torch.random, "fork_rng", lambda devices=(), **_: fork(devices=[]))
        patch.setattr(FakeTensor, "numpy", _numpy, raising=False)
        yield


def fake(tensor: Tensor, device: torch.device = CUDA) -> Tensor:
    """Return a fake tensor of the same type, shape and strides."""
    with MODE:
        return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)


def to_fake(module: nn.Module) -> nn.Module:
    """Move what ``module.to("cuda")`` moves: parameters and buffers, and no other tensors."""
    for each in module.modules():
        for name, parameter in each._parameters.items():
            if parameter is not None:
                each._parameters[name] = nn.Parameter(fake(parameter.detach()), requires_grad=parameter.requires_grad)
        for name, buffer in each._buffers.items():
            if buffer is not None:
                each._buffers[name] = fake(buffer)
    return module


class Watch(TorchDispatchMode):
    """Sees the operations on CUDA tensors.

    Attributes:
        kernels: how often each was called that is no view and allocates more than memory.
        waits: what makes the host wait for the GPU, by kind and line of source: values that are read, sizes that hang
            on data, and copies between host and GPU that block.
        uploads: all copies from the host, by line of source.
    """

    def __init__(self) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.uploads: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        tensors = [one for one in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(one, Tensor)]
        there = any(each.device.type == "cuda" for each in tensors)
        if func in _READ:
            if there:
                self.waits[f"a value is read: {_place()}"] += 1
            if not isinstance(args[0], FakeTensor):
                return func(*args, **kwargs)
            return True if args[0].dtype == torch.bool else 1.0 if args[0].dtype.is_floating_point else 1
        if name in _SIZED_BY_DATA and there:
            self.waits[f"{name}: {_place()}"] += 1
            if name in ("is_nonzero", "equal"):
                return True
        made = func(*args, **kwargs)
        results = [one for one in torch.utils._pytree.tree_leaves(made) if isinstance(one, Tensor)]
        self._copied(name, args, kwargs, results)
        aliases = [result.alias_info for result in func._schema.returns]
        is_view = bool(aliases) and all(alias is not None and not alias.is_write for alias in aliases)
        there = there or any(each.device.type == "cuda" for each in results)
        if there and not is_view and not _NO_KERNEL.match(name):
            self.kernels[name] += 1
        return made

    def _copied(self, name: str, args: Any, kwargs: Any, results: list[Tensor]) -> None:
        if name not in ("_to_copy", "copy_") or not results:
            return
        source = args[1] if name == "copy_" else args[0]
        to = results[0].device.type
        waits = not (kwargs.get("non_blocking") or (name == "copy_" and args[2:3] == (True,)))
        if source.device.type == "cpu" and to == "cuda":
            self.uploads[_place()] += 1
        if source.device.type != to and waits:
            self.waits[f"a copy from {source.device.type} to {to}: {_place()}"] += 1


def _place() -> str:
    """Return the innermost line of recbench's, or of a test's, that is running."""
    for frame in reversed(traceback.extract_stack()):
        if (
            frame.filename.startswith(str(ROOT))
            and "site-packages" not in frame.filename
            and frame.filename != __file__
        ):
            return f"{Path(frame.filename).relative_to(ROOT)}:{frame.lineno} {frame.line}"
    return "?"


def _numpy(self: FakeTensor, *, force: bool = False) -> Any:
    if self.device.type != "cpu" and not force:
        raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first")
    return np.zeros(tuple(self.shape), dtype=str(self.dtype).removeprefix("torch."))


_HEADER = Path(torch.__file__).parent / "include" / "ATen" / "detail" / "AcceleratorHooksInterface.h"


@contextlib.contextmanager
def _no_context() -> Iterator[None]:
    """Have the autograd engine's question whether GPU 0 is in use answered with no, where torch raises without a GPU.

    The answer is a virtual method of C++: a copy of its table, with one entry replaced, takes the table's place.
    """
    header = _HEADER.read_text(encoding="utf-8")
    methods = re.findall(r"virtual [\w:<>\s*&]*?(~?\w+)\s*\(", header)
    place = methods.index("hasPrimaryContext") + 1  # a destructor takes two places
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
    get = library._ZN2at6detail12getCUDAHooksEv
    get.restype = ctypes.c_void_p
    table = ctypes.cast(get(), ctypes.POINTER(ctypes.c_void_p))
    before = table[0]
    assert before is not None
    size = len(methods) + 60  # it is continued by the methods of CUDA's own hooks
    old = ctypes.cast(before - 16, ctypes.POINTER(ctypes.c_void_p))
    new = (ctypes.c_void_p * (size + 2))(*[old[index] for index in range(size + 2)])
    answer = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p, ctypes.c_int8)(lambda _, __: False)
    new[place + 2] = ctypes.cast(answer, ctypes.c_void_p).value
    table[0] = ctypes.addressof(new) + 16
    try:
        yield
    finally:
        table[0] = before
