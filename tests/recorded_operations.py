"""A stand-in for CUDA graphs on the CPU: records the operations of a step, and does them again on the same memory.

Like a CUDA graph, a recording is of memory: whatever Python decided or computed is frozen in it, random numbers are
drawn anew from the device's generator, recording leaves everything as it was, and reading a value is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only


@dataclass
class Operations:
    """A recording."""

    calls: list[tuple[Any, Any, Any, Any]] = field(default_factory=list)

    @torch.no_grad()
    def replay(self) -> None:
        for function, args, kwargs, results in self.calls:
            found = function(*args, **kwargs)
            for rule, into, value in zip(function._schema.returns, _listed(results), _listed(found), strict=True):
                if rule.alias_info is None:
                    for old, new in zip(tree_leaves(into), tree_leaves(value), strict=True):
                        if isinstance(old, Tensor):
                            old.copy_(new)


class OperationsRecorder:
    """Makes recordings. ``made`` counts them."""

    def __init__(self) -> None:
        self.made = 0

    def record(self, work: Callable[[], Tensor]) -> tuple[Operations, Tensor]:
        self.made += 1
        random = torch.get_rng_state()
        mode = _Mode()
        try:
            with mode, _no_values():
                result = work()
        finally:
            for storage, content in mode.before:
                storage.copy_(content)
            torch.set_rng_state(random)
        return mode.operations, result


NOT_PERMITTED = "operation not permitted when stream is capturing"
_OPERATIONS = torch.ops.aten
_WAITING = {
    _OPERATIONS._local_scalar_dense,
    _OPERATIONS.nonzero,
    _OPERATIONS.masked_select,
    _OPERATIONS._unique2,
    _OPERATIONS.unique_consecutive,
    _OPERATIONS.equal,
}
"""Operations whose result, or its size, a GPU would have to tell the host."""


def _by_mask(func: Any, args: Any) -> bool:
    """Whether a mask chooses elements, whose count a GPU would have to tell; not where all of them get one number."""
    if func.overloadpacket not in (_OPERATIONS.index, _OPERATIONS.index_put, _OPERATIONS.index_put_):
        return False
    masked = any(isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in args[1])
    return masked and (func.overloadpacket is _OPERATIONS.index or args[2].numel() != 1)


@contextmanager
def _no_values() -> Iterator[None]:
    """Refuse what gives values to the host without an operation."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError(NOT_PERMITTED)

    with ExitStack() as patched:
        for name in ("tolist", "numpy", "__array__"):
            patched.enter_context(patch.object(Tensor, name, refuse))
        yield


class _Mode(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations = Operations()
        self.before: list[tuple[torch.UntypedStorage, torch.UntypedStorage]] = []
        self.known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.overloadpacket in _WAITING or _by_mask(func, args):
            raise RuntimeError(NOT_PERMITTED)
        for tensor in _written(func, args, kwargs):
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self.known:
                self.known.add(storage.data_ptr())
                self.before.append((storage, storage.clone()))
        arguments = tree_map_only(Tensor, Tensor.detach, (args, kwargs))
        results = func(*args, **kwargs)
        for rule, result in zip(func._schema.returns, _listed(results), strict=True):
            if rule.alias_info is None:  # new memory
                self.known.update(each.untyped_storage().data_ptr() for each in tree_leaves(result) if _is_tensor(each))
        # Everything is kept, so that no memory is used twice; each tensor in its present shape, which may be changed.
        self.operations.calls.append((func, *arguments, tree_map_only(Tensor, Tensor.detach, results)))
        return results


def _written(func: Any, args: Any, kwargs: Any) -> Iterator[Tensor]:
    """Yield the tensors that an operation writes into."""
    for place, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = args[place] if place < len(args) else kwargs.get(argument.name)
            yield from (each for each in tree_leaves(value) if isinstance(each, Tensor))


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _listed(results: Any) -> tuple[Any, ...]:
    if results is None:
        return ()
    return results if isinstance(results, tuple) else (results,)
