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
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch
from torch import Tensor

from recbench.contracts.loss import Context
from recbench.job.accidents import reason_of
from recbench.job.host_state import HostState
from recbench.job.snapshot import Snapshot
from recbench.job.step import Step

EAGER = "RECBENCH_EAGER"
"""The environment variable that, if it is 1, has all steps made eagerly."""
WARM_UP = 3
"""Eager steps before the first recording, and before another one with other frozen numbers, in which libraries choose
algorithms and allocate what they keep, and optimizers begin."""
TOLERANCE = 1e-3
"""Relative difference of a term that a replay may have where algorithms are not deterministic."""
NORM_TOLERANCE = 1e-2
"""The same of the norm of a weight, a buffer or what an optimizer keeps, which sums of many small gradients make."""


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
    """Records CUDA graphs, each in a pool of memory of its own: torch refuses a pool of which nothing recorded is left.
    From its creation on, the thread works on the stream that it records: gradients are accumulated on the stream on
    which they were first asked for."""

    def __init__(self, device: torch.device) -> None:
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.stream.wait_stream(torch.cuda.current_stream(device))
        torch.cuda.set_stream(self.stream)

    def record(self, work: Callable[[], Tensor]) -> tuple[Recording, Tensor]:
        graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
        try:
            with torch.cuda.graph(graph, pool=pool, stream=self.stream):
                result = work()
        except BaseException:
            self._abandon(graph, pool)
            raise
        return graph, result

    def _abandon(self, graph: torch.cuda.CUDAGraph, pool: Any) -> None:
        """End what torch leaves begun where a recording breaks off, so that steps can be eager.

        Its allocator would go on with the recording, which keeps that memory and all that is cached from use; its
        generator would refuse to draw numbers. Newer versions of torch do some of it themselves.
        """
        index = self.stream.device.index
        graph.reset()
        names = ("_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool")  # as torch 2.8 calls it, and 2.4
        end = next((getattr(torch._C, name) for name in names if hasattr(torch._C, name)), None)
        if end is not None:
            with suppress(RuntimeError):  # if it has ended: then the pool was released, too
                end(index, pool)
                torch._C._cuda_releasePool(index, pool)
        generator = torch.cuda.default_generators[index]
        generator.graphsafe_set_state(generator.clone_state())  # a copy is in no recording


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
        self._looked = False
        self._frozen: tuple[float, ...] = ()
        self._recorded: _Recorded | None = None

    def __call__(self, target: Tensor, epoch: int, step: int, *, checked: bool) -> Tensor:
        """Take a step; arguments, result and errors are those of :class:`~recbench.job.step.Step`, but that the next
        step may write into the result."""
        frozen = _frozen(self.step, step)
        if frozen != self._frozen:
            self._frozen, self._recorded, self.warm = frozen, None, 0
        if self.refused or checked or self.warm < WARM_UP:
            self.warm += 1
            self._looked = False  # plugins were called between epochs, and may have changed what is frozen
            return self.step(target, epoch, step, checked=checked)
        stale = not self._looked and self._recorded is not None and bool(self._recorded.host.changed())
        self._looked = True
        if stale or self._recorded is None or not self._recorded.fits(target, epoch):
            self._recorded = None  # before the next one is made, which can have its memory
            return self._record(target, epoch, step)
        self.replays += 1
        self.step.logged = self._recorded.logged
        return self._recorded(target)

    def _record(self, target: Tensor, epoch: int, step: int) -> Tensor:
        """Take a step eagerly, and record it on the way if that can be done."""
        begin: Snapshot | None = None
        taken: Tensor | None = None
        for optimizer in self.step.optimizers:  # gradients of before would be added to, and given up, by the recording
            optimizer.zero_grad(set_to_none=True)
        try:
            begin = Snapshot(self.step)
            taken, why = self._recorded_and_eager(begin, target, epoch, step)
        except Exception as error:
            if reason_of(error) != "out of memory":
                raise
            why = "there is no memory for a recorded step"
        # Not where the error is handled: it holds what was computed before it.
        if why:
            self._refuse(why)
        if taken is None:
            if begin is not None:
                begin.restore()
            taken = self.step(target, epoch, step, checked=False)
        return taken

    def _recorded_and_eager(self, begin: Snapshot, target: Tensor, epoch: int, step: int) -> tuple[Tensor | None, str]:
        """Record a step, take it eagerly, and compare them.

        Returns:
            The terms of the eager step, if it was taken; and why it must be eager, empty if it need not.
        """
        if begin.host.unseen:
            return None, begin.host.unseen
        seen: set[str] = set()
        said: list[str] = []
        static = target.clone()

        def work() -> Tensor:
            try:
                return self.step(static, epoch, step, checked=False)
            except Exception as error:
                # What the end of a recording says after it is that there was one.
                said.append(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
                raise

        self.step.make_context = lambda **facts: Watched.of(seen, facts)
        try:
            recording, terms = self.recorder.record(work)
        except Exception as error:
            if reason_of(error) == "out of memory":
                raise
            said.append(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}")
            return None, f"the step cannot be recorded ({said[0]})"
        finally:
            self.step.make_context = Context
        logged = dict(self.step.logged)
        if "copy" in seen:
            why = "the loss copies its context"
        elif "step" in seen:
            why = "the loss reads the number of the step"
        else:
            why = begin.changed_on_host()
        if not why and not all(_is_on(value, self.step.device) for value in logged.values()):
            why = "the loss logs numbers of the host"
        if why:
            return None, why
        begin.restore()
        expected = self.step(target, epoch, step, checked=False)
        after = Snapshot(self.step)
        begin.restore()
        recording.replay()
        if self.step.config.deterministic:
            same = torch.equal(terms, expected) and after.matches()
        else:
            same = _near(terms, expected) and after.matches(NORM_TOLERANCE)
        after.restore()
        if not same:
            return expected, "a recorded step gave other numbers than an eager one"
        frozen_epoch = epoch if "epoch" in seen else None
        self._recorded = _Recorded(recording, static, terms, logged, frozen_epoch, after.host)
        return expected, ""

    def _refuse(self, why: str) -> None:
        self.refused = True
        self.note(f"steps are launched one kernel at a time, not as a CUDA graph: {why}")


@dataclass(frozen=True)
class _Recorded:
    """A recorded step with its memory, and what is frozen in it: the epoch, if it was asked for, and what plugins kept
    on the host."""

    recording: Recording
    target: Tensor
    terms: Tensor
    logged: Mapping[str, Tensor | float]
    epoch: int | None
    host: HostState

    def fits(self, target: Tensor, epoch: int) -> bool:
        same = (target.shape, target.dtype) == (self.target.shape, self.target.dtype)
        return same and self.epoch in (None, epoch)

    def __call__(self, target: Tensor) -> Tensor:
        self.target.copy_(target)
        self.recording.replay()
        return self.terms


class Watched(Context):
    """A context that notes which of its facts were asked for, since a recording freezes them."""

    @classmethod
    def of(cls, seen: set[str], facts: Mapping[str, Any]) -> Watched:
        """Return a context that notes in ``seen`` whether ``epoch`` and ``step`` were asked for, and, as ``copy``,
        whether all of it was, as by :func:`dataclasses.replace` or :func:`vars`."""
        made = cls(**facts)
        object.__setattr__(made, "_seen", seen)
        return made

    def __getattribute__(self, name: str) -> Any:
        if name in _NOTED:
            facts = object.__getattribute__(self, "__dict__")
            facts.get("_seen", set()).add(_NOTED[name])
        return object.__getattribute__(self, name)

    def detached(self) -> Context:
        facts = {field.name: object.__getattribute__(self, field.name) for field in fields(Context)}
        alone = Context(**facts).detached()
        seen = object.__getattribute__(self, "_seen")
        return Watched.of(seen, {name: getattr(alone, name) for name in facts})


_NOTED = {"epoch": "epoch", "step": "step", "__dict__": "copy", "__dataclass_fields__": "copy"}


def _is_on(value: object, device: torch.device) -> bool:
    return isinstance(value, Tensor) and value.device.type == device.type


def _near(found: Tensor, expected: Tensor) -> bool:
    return bool(torch.allclose(found, expected, rtol=TOLERANCE, atol=0))


def _frozen(step: Step, number: int) -> tuple[float, ...]:
    """Return what a recording freezes: learning rates that are numbers, as those that are tensors may change under it;
    and how many auxiliary steps there are."""
    groups = (group for optimizer in step.optimizers for group in optimizer.param_groups)
    rates = (float(group["lr"]) for group in groups if not isinstance(group["lr"], Tensor))
    return *rates, *(each.steps_after(number) for each in step.auxiliaries)
