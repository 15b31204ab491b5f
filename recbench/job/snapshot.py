"""All that a step of training may change, kept to be brought back, and to see what has changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from recbench.job.checkpoint import random_states, restore_random_states
from recbench.job.step import Step


@dataclass(frozen=True)
class _Attribute:
    """A value that a module keeps in Python under a name, with a copy of its items if it has any, and how often its
    tensors had been written into."""

    value: Any
    items: tuple[Any, ...]
    versions: tuple[int, ...]


class Snapshot:
    """All that a step may change: weights, buffers, the state of optimizers, random states, and attributes of modules
    in Python. Gradients are not in it: a step makes its own, if optimizers have none."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.device = step.device
        self.tensors = [(each, each.detach().clone()) for each in _tensors(step)]
        self.random = random_states(step.device)
        self.buffers = {module: dict(module._buffers) for module in _modules(step)}
        self.states = [{p: dict(state) for p, state in optimizer.state.items()} for optimizer in step.optimizers]
        self.places = {each.untyped_storage().data_ptr() for each, _ in self.tensors}
        self.attributes = {module: _attributes(module, self.places) for module in _modules(step)}

    def restore(self) -> None:
        """Bring everything back, in place, and take away what was not there."""
        with torch.no_grad():
            for each, value in self.tensors:
                each.copy_(value)
        restore_random_states(self.random, self.device)
        for module, attributes in self.attributes.items():
            for name in _attributes(module, self.places).keys() - attributes.keys():
                del vars(module)[name]
            for name, attribute in attributes.items():
                vars(module)[name] = attribute.value
                _refill(attribute.value, attribute.items)
            module._buffers.clear()
            module._buffers.update(self.buffers[module])
        for optimizer, states in zip(self.step.optimizers, self.states, strict=True):
            optimizer.state.clear()
            optimizer.state.update({p: dict(state) for p, state in states.items()})
            optimizer.zero_grad(set_to_none=True)

    def matches(self) -> bool:
        """Return whether weights, buffers, optimizers and the device's random numbers have the same bits."""
        own = "cuda" if self.device.type == "cuda" else "torch"
        now = random_states(self.device)[own]
        return all(torch.equal(*pair) for pair in self.tensors) and _same(self.random[own], now)

    def changed_on_host(self) -> str:
        """Return what of the host's state is another now, and would stand still in a recording; empty if nothing."""
        now = random_states(self.device)
        names = ("python", "numpy", *(["torch"] if self.device.type == "cuda" else []))
        for name in names:
            if not _same(self.random[name], now[name]):
                return f"random numbers are drawn from {name} on the CPU"
        for module, attributes in self.attributes.items():
            found, kind = _attributes(module, self.places), type(module).__name__
            for name in sorted(attributes.keys() | found.keys()):
                if name not in attributes or name not in found or not _unchanged(attributes[name], found[name]):
                    return f"{kind}.{name} changes from step to step"
                if attributes[name].versions != found[name].versions:
                    return f"{kind}.{name} is written into, and is no buffer"
            for name in sorted(self.buffers[module].keys() | module._buffers.keys()):
                if module._buffers.get(name) is not self.buffers[module].get(name):
                    return f"{kind}.{name} is another tensor after each step"
        for optimizer, states in zip(self.step.optimizers, self.states, strict=True):
            if optimizer.state.keys() != states.keys():
                return "parameters have their first gradient in it"
        return ""


def _modules(step: Step) -> Iterator[nn.Module]:
    yield from step.model.architecture.modules()
    yield from step.model.loss.modules()


def _tensors(step: Step) -> Iterator[Tensor]:
    for module in (step.model.architecture, step.model.loss):
        yield from module.parameters()
        yield from module.buffers()
    for optimizer in step.optimizers:
        for state in optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, Tensor))


def _attributes(module: nn.Module, places: set[int]) -> dict[str, _Attribute]:
    """Return what a module keeps in Python, besides what torch keeps there for it, and tensors at these places."""
    found = {}
    for name, value in vars(module).items():
        if name not in _TORCHS:
            items = _items(value)
            versions = (each._version for each in (value, *items) if _has_version(each, places))
            found[name] = _Attribute(value, items, tuple(versions))
    return found


_TORCHS = frozenset(vars(nn.Module()))


def _has_version(value: object, places: set[int]) -> bool:
    if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_inference():
        return False
    return value.untyped_storage().data_ptr() not in places


def _items(value: object) -> tuple[Any, ...]:
    if isinstance(value, dict):
        return (*value.keys(), *value.values())
    return tuple(value) if isinstance(value, list | set | deque) else ()


def _refill(value: object, items: tuple[Any, ...]) -> None:
    """Give a list, dictionary or set the items that it had."""
    if isinstance(value, dict):
        value.clear()
        value.update(zip(items[: len(items) // 2], items[len(items) // 2 :], strict=True))
    elif isinstance(value, list | deque):
        value.clear()
        value.extend(items)
    elif isinstance(value, set):
        value.clear()
        value.update(items)


def _unchanged(before: _Attribute, now: _Attribute) -> bool:
    """Return whether an attribute is the same, with the same items. Into other objects nobody looks."""
    return _alike(before.value, now.value) and _alike(before.items, now.items)


def _alike(first: object, second: object) -> bool:
    if first is second:
        return True
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(_alike, first, second))
    plain = (bool, int, float, str, bytes)
    return isinstance(first, plain) and isinstance(second, plain) and first == second


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    return bool(first == second)
