"""All that a step of training may change, kept to be brought back, and to see what has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from recbench.job.checkpoint import random_states, restore_random_states
from recbench.job.host_state import HostState
from recbench.job.step import Step


class Snapshot:
    """All that a step may change: weights, buffers, the state of optimizers, random states, and what plugins keep on
    the host. Gradients are not in it: a step makes its own, if optimizers have none."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.device = step.device
        self.tensors = [(each, each.detach().clone()) for each in _tensors(step)]
        self.random = random_states(step.device)
        self.buffers = {module: dict(module._buffers) for module in _modules(step)}
        self.states = [{p: dict(state) for p, state in optimizer.state.items()} for optimizer in step.optimizers]
        roots = (step.model.architecture, step.model.loss, *(each.objective for each in step.auxiliaries))
        self.host = HostState(roots, {each.untyped_storage().data_ptr() for each, _ in self.tensors})

    def restore(self) -> None:
        """Bring everything back, in place, and take away what was not there."""
        with torch.no_grad():
            for each, value in self.tensors:
                each.copy_(value)
        restore_random_states(self.random, self.device)
        self.host.restore()
        for optimizer, states in zip(self.step.optimizers, self.states, strict=True):
            optimizer.state.clear()
            optimizer.state.update({p: dict(state) for p, state in states.items()})
            optimizer.zero_grad(set_to_none=True)

    def matches(self, tolerance: float = 0.0) -> bool:
        """Return whether weights, buffers, optimizers and the device's random numbers have the same bits; with a
        tolerance, whether each tensor differs by no more than that part of its norm."""
        own = "cuda" if self.device.type == "cuda" else "torch"
        alike = torch.equal if not tolerance else partial(_near, tolerance=tolerance)
        return all(alike(*pair) for pair in self.tensors) and _same(self.random[own], random_states(self.device)[own])

    def changed_on_host(self) -> str:
        """Return what of the host's state is another now, and would stand still in a recording; empty if nothing."""
        now = random_states(self.device)
        names = ("python", "numpy", *(["torch"] if self.device.type == "cuda" else []))
        for name in names:
            if not _same(self.random[name], now[name]):
                return f"random numbers are drawn from {name} on the CPU"
        for module, buffers in self.buffers.items():
            for name in sorted(buffers.keys() | module._buffers.keys()):
                if module._buffers.get(name) is not buffers.get(name):
                    return f"{type(module).__name__}.{name} is another tensor after each step"
        if why := self.host.changed():
            return why
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


def _near(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    difference = (found.detach().double() - expected.double()).norm()
    return bool(difference <= tolerance * expected.double().norm())


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    return bool(first == second)
