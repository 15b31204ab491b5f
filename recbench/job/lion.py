"""Lion with a learning rate that a CUDA graph can read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lion_pytorch.foreach
import torch


class LionInMemory(lion_pytorch.foreach.Lion):  # type: ignore[misc]  # it has no types
    """Lion of lion-pytorch (Chen et al. 2023, algorithm 2), whose learning rate is a tensor on the device of the
    parameters; the numbers are the same. Without weight decay."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            params = [each for each in group["params"] if each.grad is not None]
            if not params:
                continue
            for each in params:
                if not self.state[each]:
                    self.state[each]["exp_avg"] = torch.zeros_like(each)
            averages = [self.state[each]["exp_avg"] for each in params]
            grads = [each.grad for each in params]
            updates = [average.clone() for average in averages]
            torch._foreach_lerp_(updates, grads, 1.0 - beta1)
            torch._foreach_sign_(updates)
            torch._foreach_mul_(updates, group["lr"])
            torch._foreach_sub_(params, updates)
            torch._foreach_lerp_(averages, grads, 1.0 - beta2)
