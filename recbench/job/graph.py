"""Steps of training that a GPU replays: a step is recorded once, as one CUDA graph, and launched as a whole after that.

A small network's step is hundreds of kernels that each take the GPU less time than the CPU takes to launch them. A
recording has fixed addresses and nothing of Python in it, so whatever a plugin does in Python is frozen. Whether that
may be is found out, not declared: a recording is used only if making it changed nothing on the host, and if its first
replay has left the same bits as the same step made eagerly. Everything else is made eagerly, with the reason in the log
of the job.

The steps before the first recording are steps of training like others; they are the warm-up that CUDA graphs need.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from recbench.contracts.loss import Context
from recbench.job.accidents import reason_of
from recbench.job.checkpoint import random_states, restore_random_states
from recbench.job.step import Step

EAGER = "RECBENCH_EAGER"
"""The environment variable that, if it is 1, has all steps made eagerly."""
WARM_UP = 3
"""Eager steps before the first recording, in which libraries choose algorithms and allocate what they keep."""
TOLERANCE = 1e-3
"""Relative difference of a term that a replay may have where algorithms are not deterministic."""


class Recording(Protocol):
    """A recorded step. :class:`torch.cuda.CUDAGraph` is one."""

    def replay(self) -> None:
        """Do it again: the same operations on the same memory."""


class StepRecorder(Protocol):
    """Records steps."""

    def record(self, work: Callable[[], Tensor]) -> tuple[Recording, Tensor]:
        """Record what ``work`` does to memory, without doing it, and return that and the tensor that it returns.

        Raises:
            RuntimeError: it does something that cannot be recorded, such as reading a value.
        """


class CudaRecorder:
    """Records CUDA graphs, in one pool of memory. From its creation on, the thread works on the stream that it records:
    gradients are accumulated on the stream on which they were first asked for."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.stream.wait_stream(torch.cuda.current_stream(device))
        torch.cuda.set_stream(self.stream)
        self.pool = torch.cuda.graph_pool_handle()

    def record(self, work: Callable[[], Tensor]) -> tuple[Recording, Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            result = work()
        return graph, result


def recorder_for(device: torch.device) -> StepRecorder | None:
    """Return what records steps on a device; None where steps are eager."""
    usable = device.type == "cuda" and torch.cuda.is_available() and os.environ.get(EAGER) != "1"
    return CudaRecorder(device) if usable else None


class ReplayedStep:
    """Takes the steps of a :class:`~recbench.job.step.Step`, with its numbers: by replaying a recording where that can
    be done.

    Args:
        step: takes the steps that are not replayed.
        recorder: makes recordings.
        note: is given one line, once: why steps are eager.
    """

    def __init__(self, step: Step, recorder: StepRecorder, note: Callable[[str], None]) -> None:
        self.step = step
        self.recorder = recorder
        self.note = note
        self.refused = False
        self.warm = 0
        self.replays = 0
        self._recorded: _Recorded | None = None
        if step.config.optimizer == "lion" and step.config.schedule == "cosine":
            self._refuse("Lion has its learning rate as a number, and that changes at every step")

    def __call__(self, target: Tensor, epoch: int, step: int, *, checked: bool) -> Tensor:
        """Take a step; arguments, result and errors are those of :class:`~recbench.job.step.Step`."""
        if self.refused or checked or self.warm < WARM_UP:
            self.warm += 1
            return self.step(target, epoch, step, checked=checked)
        if self._recorded is None or not self._recorded.fits(target, epoch, self.step):
            self._recorded = None  # before the next one is made: they share memory
            return self._record(target, epoch, step)
        self.replays += 1
        return self._recorded(target)

    def _record(self, target: Tensor, epoch: int, step: int) -> Tensor:
        """Take a step eagerly, and record it on the way if that can be done."""
        begin = _Snapshot(self.step)
        seen: set[str] = set()
        self.step.make_context = lambda **facts: Watched(seen, **facts)
        static = target.clone()
        try:
            recording, terms = self.recorder.record(lambda: self.step(static, epoch, step, checked=False))
        except Exception as error:  # noqa: BLE001 - a plugin's code may raise anything where it cannot be recorded
            begin.restore()
            if reason_of(error) == "out of memory":
                why = "there is no memory for a recorded step"
            else:
                why = f"the step cannot be recorded ({type(error).__name__}: {str(error).partition(chr(10))[0]})"
            return self._eager(why, target, epoch, step)
        finally:
            self.step.make_context = Context
        why = "the loss reads the number of the step" if "step" in seen else begin.changed_on_host()
        begin.restore()
        if why:
            return self._eager(why, target, epoch, step)
        expected = self.step(target, epoch, step, checked=False)
        after = _Snapshot(self.step)
        begin.restore()
        recording.replay()
        exact = self.step.config.deterministic
        if not (torch.equal(terms, expected) and after.matches() if exact else _near(terms, expected)):
            after.restore()
            self._refuse("a recorded step gave other numbers than an eager one")
            return expected
        after.restore()
        self._recorded = _Recorded(recording, static, terms, epoch if "epoch" in seen else None, _rates(self.step))
        return expected

    def _eager(self, why: str, target: Tensor, epoch: int, step: int) -> Tensor:
        self._refuse(why)
        return self.step(target, epoch, step, checked=False)

    def _refuse(self, why: str) -> None:
        self.refused = True
        self.note(f"steps are launched one kernel at a time, not as a CUDA graph: {why}")


@dataclass(frozen=True)
class _Recorded:
    """A recorded step with its memory, and what is frozen in it: the epoch, if it was asked for, and learning rates
    that are numbers."""

    recording: Recording
    target: Tensor
    terms: Tensor
    epoch: int | None
    rates: tuple[float, ...]

    def fits(self, target: Tensor, epoch: int, step: Step) -> bool:
        return (
            self.epoch in (None, epoch)
            and self.rates == _rates(step)
            and (target.shape, target.dtype) == (self.target.shape, self.target.dtype)
        )

    def __call__(self, target: Tensor) -> Tensor:
        self.target.copy_(target)
        self.recording.replay()
        return self.terms.clone()


class Watched(Context):
    """A context that notes which of its facts were asked for, since a recording freezes them."""

    def __init__(self, seen: set[str], **facts: Any) -> None:
        super().__init__(**facts)
        object.__setattr__(self, "_seen", seen)

    def __getattribute__(self, name: str) -> Any:
        if name in ("epoch", "step"):
            object.__getattribute__(self, "_seen").add(name)
        return object.__getattribute__(self, name)

    def detached(self) -> Context:
        facts = {field.name: object.__getattribute__(self, field.name) for field in fields(Context)}
        z = facts.pop("z")
        return Watched(object.__getattribute__(self, "_seen"), z=None if z is None else z.detach(), **facts)


class _Snapshot:
    """All that a step may change: weights, buffers, the state of optimizers, random states, and attributes of modules
    in Python. Gradients are not in it, since each step begins without any."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.device = step.device
        self.tensors = [(each, each.detach().clone()) for each in _tensors(step)]
        self.random = random_states(step.device)
        self.attributes = {module: _attributes(module) for module in _modules(step)}
        self.buffers = {module: dict(module._buffers) for module in _modules(step)}

    def restore(self) -> None:
        """Bring everything back, in place."""
        with torch.no_grad():
            for each, value in self.tensors:
                each.copy_(value)
        restore_random_states(self.random, self.device)
        for module, attributes in self.attributes.items():
            vars(module).update({name: value for name, (value, _) in attributes.items()})
            module._buffers.update(self.buffers[module])
        for optimizer in self.step.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def matches(self) -> bool:
        """Return whether weights, buffers, optimizers and the device's random numbers have the same bits."""
        own = "cuda" if self.device.type == "cuda" else "torch"
        now = random_states(self.device)[own]
        states = zip(self.random[own], now, strict=True) if own == "cuda" else [(self.random[own], now)]
        return all(torch.equal(*pair) for pair in self.tensors) and all(torch.equal(*pair) for pair in states)

    def changed_on_host(self) -> str:
        """Return what of the host's state is another now, and would stand still in a recording; empty if nothing."""
        now = random_states(self.device)
        names = ("python", "numpy", *(["torch"] if self.device.type == "cuda" else []))
        for name in names:
            if not _same(self.random[name], now[name]):
                return f"random numbers are drawn from {name} on the CPU"
        for module, attributes in self.attributes.items():
            found = _attributes(module)
            for name in sorted(attributes.keys() | found.keys()):
                if name not in attributes or name not in found or not _unchanged(attributes[name], found[name]):
                    return f"{type(module).__name__}.{name} changes from step to step"
            for name, buffer in self.buffers[module].items():
                if module._buffers.get(name) is not buffer:
                    return f"{type(module).__name__}.{name} is another tensor after each step"
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


def _attributes(module: nn.Module) -> dict[str, tuple[Any, tuple[Any, ...]]]:
    """Return what a module keeps in Python, besides what torch keeps there for it: each with a copy of its items."""
    return {name: (value, _items(value)) for name, value in vars(module).items() if name not in _TORCHS}


_TORCHS = frozenset(vars(nn.Module()))


def _items(value: object) -> tuple[Any, ...]:
    if isinstance(value, dict):
        return tuple(value.items())
    return tuple(value) if isinstance(value, list | set) else ()


def _unchanged(before: tuple[Any, tuple[Any, ...]], now: tuple[Any, tuple[Any, ...]]) -> bool:
    """Return whether an attribute is the same, with the same items. Into other objects nobody looks."""
    (first, items), (second, others) = before, now
    if first is second:
        return len(items) == len(others) and all(one is other for one, other in zip(items, others, strict=True))
    plain = (bool, int, float, str, bytes, tuple, type(None))
    return isinstance(first, plain) and isinstance(second, plain) and bool(first == second)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(_same, first, second))
    if isinstance(first, Mapping):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    return bool(first == second)


def _near(found: Tensor, expected: Tensor) -> bool:
    return bool(torch.allclose(found, expected, rtol=TOLERANCE, atol=0))


def _rates(step: Step) -> tuple[float, ...]:
    """Return the learning rates that are numbers; those that are tensors may change under a recording."""
    groups = (group for optimizer in step.optimizers for group in optimizer.param_groups)
    return tuple(float(group["lr"]) for group in groups if not isinstance(group["lr"], Tensor))
