"""Sums of what a loss logs over the steps of an epoch, kept where they are, so that the host waits for no GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from recbench.job.checkpoint import LogSums

_HOST = torch.device("cpu")


class Logs:
    """Sums of the numbers that a loss logs in the steps of an epoch.

    Names may come and go: each has the mean over the steps that gave it. Numbers that are logged together are added
    together, in float64.

    Args:
        device: where the loss is.
        kept: the sums so far, from a checkpoint.
    """

    def __init__(self, device: torch.device, kept: Sequence[LogSums] = ()) -> None:
        self.device = device
        self._sums: dict[tuple[bool, tuple[str, ...]], tuple[Tensor, int]] = {}
        for on_host, names, sums, count in kept:
            place = _HOST if on_host else device
            self._sums[on_host, tuple(names)] = (torch.tensor(sums, dtype=torch.float64, device=place), count)

    def see(self, logged: Mapping[str, Tensor | float]) -> None:
        """Add what was logged in a step."""
        there = {
            name: value.detach()
            for name, value in logged.items()
            if isinstance(value, Tensor) and value.device.type == self.device.type
        }
        if there:
            self._add(False, tuple(there), torch.stack(list(there.values())).double())
        here = {name: float(value) for name, value in logged.items() if name not in there}
        if here:
            self._add(True, tuple(here), torch.tensor(list(here.values()), dtype=torch.float64))

    def _add(self, on_host: bool, names: tuple[str, ...], values: Tensor) -> None:
        before = self._sums.get((on_host, names))
        self._sums[on_host, names] = (values, 1) if before is None else (before[0] + values, before[1] + 1)

    def sums(self) -> list[LogSums]:
        """Return the sums as plain data, for a checkpoint."""
        return [(on_host, list(names), each.tolist(), count) for (on_host, names), (each, count) in self._sums.items()]

    def means(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the mean of each name: those that are finite, and the others."""
        totals: dict[str, tuple[float, int]] = {}
        for _, names, sums, count in self.sums():
            for name, value in zip(names, sums, strict=True):
                total, steps = totals.get(name, (0.0, 0))
                totals[name] = (total + value, steps + count)
        means = {name: total / steps for name, (total, steps) in totals.items()}
        lost = {name: mean for name, mean in means.items() if not math.isfinite(mean)}
        return {name: mean for name, mean in means.items() if name not in lost}, lost
