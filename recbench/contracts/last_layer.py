"""The weight of a decoder's last layer, found by decoding once."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from recbench.contracts.architecture import Architecture


def nearest_weight(network: Architecture) -> nn.Parameter | None:
    """Return the trained parameter with two axes or more that is the fewest operations away from a decoded image.

    Of several that are equally far, the first operand is taken. Modes and random states are left as they are.

    Args:
        network: decodes a latent of zeros, in evaluation mode.
    """
    first = next(network.parameters(), None)
    if first is None:
        return None
    with _looked_at(network, first.device), torch.enable_grad():
        z = torch.zeros(1, *network.latent_shape, device=first.device, dtype=first.dtype)
        returned = network.decode(z)
        decoded = returned if isinstance(returned, Tensor) else returned.images
    weights = {id(each) for each in network.parameters() if each.ndim > 1}
    return next((each for each in _leaves(decoded) if id(each) in weights), None)


def as_last_layer(images: Tensor) -> tuple[Tensor, nn.Parameter]:
    """Return images as the output of a layer that changes nothing, and the weight of that layer.

    Args:
        images: (B, C, H, W).

    >>> images, weight = as_last_layer(torch.ones(2, 1, 1, 1))
    >>> images.flatten(), weight.shape
    (tensor([1., 1.], grad_fn=<ViewBackward0>), torch.Size([1, 1, 1, 1]))
    """
    channels = images.shape[1]
    weight = nn.Parameter(torch.eye(channels, dtype=images.dtype, device=images.device)[:, :, None, None])
    return nn.functional.conv2d(images, weight), weight


def _leaves(output: Tensor) -> Iterator[nn.Parameter]:
    """Yield the leaves that a tensor was computed from, those that are the fewest operations away first."""
    waiting: deque[Any] = deque([output.grad_fn])
    seen = set()
    while waiting:
        node = waiting.popleft()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            yield leaf
        waiting.extend(following for following, _ in node.next_functions)


@contextmanager
def _looked_at(network: nn.Module, device: torch.device) -> Iterator[None]:
    """Let a network be called in evaluation mode, without traces: modes and random states are restored."""
    modes = [(module, module.training) for module in network.modules()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        network.eval()
        try:
            yield
        finally:
            for module, mode in modes:
                module.training = mode
