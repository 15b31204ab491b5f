"""The gradient of the Watson losses, in closed form.

It is made of what the forward pass computes anyway, and taken there. Higher derivatives are those of the same forward
pass, recorded by autograd.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from recbench_losses_frequency.watson.shift import Shift


class Distance(Protocol):
    """A function that returns distances (B,) of images and, if wanted, their gradient by the decoded ones."""

    def __call__(
        self, decoded: Tensor, target: Tensor, shift: Shift, *, gradient: bool
    ) -> tuple[Tensor, Tensor | None]: ...


def with_gradient(distance: Distance, decoded: Tensor, target: Tensor, shift: Shift) -> Tensor:
    """Return the distances (B,), differentiable by the decoded images any number of times."""
    value: Tensor = _WithGradient.apply(decoded, target, distance, shift)
    return value


class _WithGradient(torch.autograd.Function):
    """Values (B,) of a distance that computes its gradient by the decoded images together with them."""

    @staticmethod
    def forward(ctx: Any, decoded: Tensor, target: Tensor, distance: Distance, shift: Shift) -> Tensor:
        value, slope = distance(decoded, target, shift, gradient=True)
        ctx.distance, ctx.shift = distance, shift
        ctx.save_for_backward(decoded, target, slope)
        return value

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        decoded, target, slope = ctx.saved_tensors
        if torch.is_grad_enabled():  # with create_graph
            value, _ = ctx.distance(decoded, target, ctx.shift, gradient=False)
            slope = torch.autograd.grad(value, decoded, gradient, create_graph=True)[0]
            return slope, None, None, None
        return slope * gradient[:, None, None, None], None, None, None
