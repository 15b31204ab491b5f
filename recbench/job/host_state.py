"""The state that plugins keep on the host: all that Python objects hold which can be reached from a model.

From a module one comes to its attributes, to what is in them, to the functions of its class, and by these to their
closures and to the globals that they name. Not followed are torch, NumPy, the standard library and recbench itself.
"""

from __future__ import annotations

import functools
import random
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from recbench.contracts.loss import Loss

_OTHERS = frozenset(
    {*sys.stdlib_module_names, "torch", "torchvision", "numpy", "scipy", "pandas", "PIL", "triton", "recbench", "lpips"}
)
"""Packages whose functions and classes keep nothing of a plugin's."""
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_MOST = 100_000
"""Objects that are looked at; of a plugin that keeps more, a part."""
_LARGE = 2**26
"""Bytes of an array or tensor that is no buffer, above which it cannot be given its numbers back."""

_Reached = Iterator[tuple[str, object]]


@dataclass(frozen=True)
class _Holding:
    """A tuple of what something held, how to look at it again, and how to undo changes."""

    name: str
    content: tuple[Any, ...]
    look: Callable[[], tuple[Any, ...]]
    undo: Callable[[], object]
    keys: bool = False
    """Whether it is a dictionary, held as pairs."""


class HostState:
    """The state of a model on the host, as it is now.

    Args:
        roots: modules and functions that it consists of.
        places: addresses of memory that may be written into: of parameters, buffers, and the state of optimizers.

    Attributes:
        unseen: what may change without that anybody sees it, or can undo it, as a sentence; empty if nothing does.
    """

    def __init__(self, roots: Iterable[object], places: set[int]) -> None:
        self._places = places
        self.unseen = ""
        self._holdings: list[_Holding] = []
        known: dict[int, object] = {}  # which keeps them, so that no id is used twice
        waiting = deque((type(root).__name__, root) for root in roots)
        while waiting and len(known) < _MOST:
            name, value = waiting.popleft()
            if not isinstance(value, _PLAIN) and id(value) not in known:
                known[id(value)] = value
                try:
                    waiting.extend(self._look_at(name, value))
                except Exception as error:  # noqa: BLE001 - of a plugin's object, or one that has no state to see
                    self.unseen = f"nobody can see what {name} keeps ({type(error).__name__})"
        self._known = known

    def changed(self) -> str:
        """Return what is another now, as a sentence; empty if nothing is."""
        for holding in self._holdings:
            now = holding.look()
            if not _alike(holding.content, now):
                key = _first_changed(dict(holding.content), dict(now)) if holding.keys else ""
                return f"{holding.name}{key} changes from step to step"
        return ""

    def restore(self) -> None:
        """Give everything what it held."""
        for holding in self._holdings:
            holding.undo()

    def _keep(
        self,
        name: str,
        look: Callable[[], tuple[Any, ...]],
        undo: Callable[[tuple[Any, ...]], object],
        keys: bool = False,
    ) -> tuple[Any, ...]:
        content = look()
        self._holdings.append(_Holding(name, content, look, functools.partial(undo, content), keys))
        return content

    def _look_at(self, name: str, value: Any) -> _Reached:
        """Keep what an object holds, and yield what is to be looked at next."""
        if isinstance(value, Tensor):
            self._look_at_tensor(name, value)
        elif isinstance(value, random.Random | np.random.Generator | np.random.RandomState | torch.Generator):
            self._look_at_generator(name, value)
        elif isinstance(value, np.ndarray):
            self._look_at_array(name, value)
        elif isinstance(value, dict):
            yield from self._items(name, value)
        elif isinstance(value, list | deque):
            yield from _under(name, self._keep(name, lambda: tuple(value), functools.partial(_refill, value)))
        elif isinstance(value, set):
            self._keep(name, lambda: (frozenset(value),), lambda content: _refill(value, content[0]))
        elif isinstance(value, tuple | frozenset):
            yield from _under(name, value)
        elif isinstance(value, type):
            yield from self._attributes_of_class(value)
        elif isinstance(value, _CODE):
            yield from self._look_at_code(name, value)
        elif isinstance(value, nn.Module):
            apart = ("logged",) if isinstance(value, Loss) else ()  # a recording has what it logs
            yield from self._items(type(value).__name__, vars(value), apart)
            yield "", type(value)
        elif isinstance(value, types.SimpleNamespace) or not _foreign(type(value)):
            yield from self._look_at_object(name, value)
        elif isinstance(value, Iterator):
            self.unseen = self.unseen or f"nobody can see where {name}, a {type(value).__name__}, is"

    def _look_at_code(self, name: str, value: Any) -> _Reached:
        if isinstance(value, types.FunctionType):
            if not _foreign(value):
                yield from _under(name, (*(value.__closure__ or ()), *(value.__defaults__ or ()), vars(value)))
                yield from self._globals(value)
        elif isinstance(value, types.CellType):
            yield from _under(name, self._keep(name, lambda: _of_cell(value), functools.partial(_fill_cell, value)))
        elif isinstance(value, types.MethodType):
            yield from _under(name, (value.__self__, value.__func__))
        elif isinstance(value, functools.partial):
            yield from _under(name, (value.func, value.args, value.keywords))
        elif isinstance(value, property):
            yield from _under(name, (value.fget, value.fset))
        elif isinstance(value, staticmethod | classmethod):
            yield name, value.__func__
        else:
            self._keep(name, lambda: (value.cache_info().misses,), lambda _: None)
            yield name, value.__wrapped__

    def _look_at_object(self, name: str, value: Any) -> _Reached:
        if isinstance(getattr(value, "__dict__", None), dict):
            yield from self._items(name, vars(value))
        slots = tuple(slot for base in type(value).__mro__ for slot in _slots(base))
        if slots:
            look = lambda: tuple(getattr(value, slot, _ABSENT) for slot in slots)  # noqa: E731
            content = self._keep(name, look, lambda content: _set_all(value, slots, content))
            yield from zip((f"{name}.{slot}" for slot in slots), content, strict=True)
        yield "", type(value)

    def _attributes_of_class(self, kind: type) -> _Reached:
        for base in kind.__mro__:
            if base is not kind and not _foreign(base):
                yield "", base
        if _foreign(kind):
            return
        names = tuple(
            name
            for name, value in vars(kind).items()
            if isinstance(value, types.FunctionType) or not (name.startswith("__") and name.endswith("__"))
        )
        look = lambda: tuple(vars(kind).get(name, _ABSENT) for name in names)  # noqa: E731
        content = self._keep(kind.__name__, look, lambda content: _set_all(kind, names, content))
        yield from zip((f"{kind.__name__}.{name}" for name in names), content, strict=True)

    def _globals(self, function: types.FunctionType) -> _Reached:
        space = function.__globals__
        names = tuple(sorted(name for name in _names(function.__code__) if name in space))
        where = f"a global of {function.__name__}()"
        undo = lambda content: space.update(zip(names, content, strict=True))  # noqa: E731
        yield from zip(names, self._keep(where, lambda: tuple(map(space.get, names)), undo), strict=True)

    def _items(self, name: str, value: dict[Any, Any], apart: tuple[str, ...] = ()) -> _Reached:
        """Keep a dictionary, but for the values of these keys."""

        def look() -> tuple[Any, ...]:
            return tuple((key, item) for key, item in value.items() if key not in apart)

        def undo(content: tuple[Any, ...]) -> None:
            left = {key: value[key] for key in apart if key in value}
            value.clear()
            value.update(content)
            value.update(left)

        for key, item in self._keep(name, look, undo, keys=True):
            yield f"{name}.{key}" if isinstance(key, str) else name, item

    def _look_at_tensor(self, name: str, value: Tensor) -> None:
        if value.layout != torch.strided or value.is_inference():
            return
        if value.untyped_storage().data_ptr() in self._places:
            return
        before = value.detach().clone() if value.nbytes <= _LARGE else None

        def undo(content: tuple[Any, ...]) -> None:
            if before is not None and value._version != content[0]:
                with torch.no_grad():
                    value.copy_(before)

        self._keep(f"{name}, a tensor that is no buffer,", lambda: (value._version,), undo)

    def _look_at_array(self, name: str, value: np.ndarray[Any, Any]) -> None:
        if not value.dtype.hasobject and value.nbytes <= _LARGE:
            before = value.copy()
            self._keep(name, lambda: (value.tobytes(),), lambda _: _write(value, before))

    def _look_at_generator(self, name: str, value: Any) -> None:
        if isinstance(value, random.Random):
            self._keep(name, lambda: (value.getstate(),), lambda content: value.setstate(content[0]))
        elif not isinstance(value, torch.Generator):
            bits = value.bit_generator if isinstance(value, np.random.Generator) else value._bit_generator
            before = bits.state
            self._keep(name, lambda: (repr(bits.state),), lambda _: setattr(bits, "state", before))
        elif value.device.type == "cpu":
            before = value.get_state()
            self._keep(name, lambda: (value.get_state().numpy().tobytes(),), lambda _: value.set_state(before))
        else:
            self.unseen = self.unseen or f"{name} is a generator of its own, which a CUDA graph does not know"


_CODE = (
    types.FunctionType,
    types.CellType,
    types.MethodType,
    functools.partial,
    property,
    staticmethod,
    classmethod,
    functools._lru_cache_wrapper,
)
_ABSENT = object()


def _foreign(value: Any) -> bool:
    """Return whether a function or class is of a package that keeps nothing of a plugin's."""
    return str(getattr(value, "__module__", None)).partition(".")[0] in _OTHERS


def _under(name: str, values: Iterable[object]) -> _Reached:
    return ((name, value) for value in values)


def _names(code: types.CodeType) -> set[str]:
    """Return the names that a function, and those in it, may look up in its module."""
    inner = (each for each in code.co_consts if isinstance(each, types.CodeType))
    return {*code.co_names}.union(*map(_names, inner))


def _slots(kind: type) -> tuple[str, ...]:
    found = vars(kind).get("__slots__", ())
    return (found,) if isinstance(found, str) else tuple(slot for slot in found if slot[:2] != "__")


def _set_all(owner: Any, names: tuple[str, ...], values: tuple[Any, ...]) -> None:
    for name, value in zip(names, values, strict=True):
        now = vars(owner).get(name, _ABSENT) if isinstance(owner, type) else getattr(owner, name, _ABSENT)
        if now is not value:
            object.__delattr__(owner, name) if value is _ABSENT else _set(owner, name, value)


def _set(owner: Any, name: str, value: object) -> None:
    (type if isinstance(owner, type) else object).__setattr__(owner, name, value)


def _of_cell(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:  # it is empty
        return ()


def _fill_cell(cell: types.CellType, content: tuple[Any, ...]) -> None:
    if content:
        cell.cell_contents = content[0]


def _refill(value: Any, content: Iterable[Any]) -> None:
    """Give a list, deque or set the items that it had."""
    value.clear()
    value.update(content) if isinstance(value, set) else value.extend(content)


def _write(array: np.ndarray[Any, Any], before: np.ndarray[Any, Any]) -> None:
    if array.flags.writeable:
        array[...] = before


def _alike(first: object, second: object) -> bool:
    """Return whether two objects are one, or plain values or collections of such that are equal."""
    if first is second:
        return True
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_alike, first, second))
    if isinstance(first, frozenset) and isinstance(second, frozenset):
        return first == second
    return isinstance(first, _PLAIN) and type(first) is type(second) and first == second


def _first_changed(before: dict[Any, Any], now: dict[Any, Any]) -> str:
    """Return the first key whose value is another, after a dot; empty if it is no text."""
    keys = (key for key in {**before, **now} if not _alike(before.get(key, _ABSENT), now.get(key, _ABSENT)))
    key = next(keys, None)
    return f".{key}" if isinstance(key, str) else ""
