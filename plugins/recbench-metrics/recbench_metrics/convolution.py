"""Convolutions for inference: the batch norm that follows is folded in, and weights are channels-last in memory."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_weights

EPSILON = 1e-3
"""Added to the variance by the batch norms of EfficientNet."""


class NamedTensors:
    """The named tensors of a file of weights, taken out one by one, so that none is forgotten."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._left = dict(tensors)

    def take(self, name: str, *shape: int) -> Tensor:
        """Return the tensor of that name; each can be taken once.

        Args:
            name: as in the file.
            shape: the expected shape; not checked if none is given.

        Raises:
            ValueError: there is none, or it has another shape.
        """
        if name not in self._left:
            raise ValueError(f"the weights lack {name}")
        tensor = self._left.pop(name)
        if shape and tensor.shape != shape:
            raise ValueError(f"{name}: expected the shape {shape}, got {tuple(tensor.shape)}")
        return tensor

    def finish(self) -> None:
        """Raise ValueError if anything is left except counters of training steps, which older files lack."""
        left = [name for name in self._left if not name.endswith(".num_batches_tracked")]
        if left:
            raise ValueError(f"the weights hold tensors that the network does not have: {', '.join(left[:5])}")


def fold(
    weight: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Fold a batch norm into the convolution before it, which has no bias.

    With γ the scale, β the shift and σ² the variance, W' = γ W / √(σ² + ε) and b' = β − γ μ / √(σ² + ε). Computed in
    float64 and rounded once.

    Args:
        weight: (out, in, kh, kw); the other tensors are (out,).
        scale: γ.
        shift: β.
        mean: μ, the running mean.
        variance: σ², the running variance.
        epsilon: ε.

    Returns:
        The weight and the bias of the folded convolution, in the type of ``weight``.
    """
    moments = mean.double(), variance.double()
    folded = fuse_conv_bn_weights(weight.double(), None, *moments, epsilon, scale.double(), shift.double())
    kernel, bias = (each.detach().to(weight.dtype) for each in folded)
    return kernel, bias


class FoldedConvolution(nn.Module):
    """Convolution, batch norm and ReLU. Its tensors are buffers that are not saved: nothing here is trained.

    Args:
        state: the weights of the network.
        weight: name of the convolution's weight in it, whose shape gives channels and kernel.
        norm: name of the batch norm, without ``.weight`` and so on.
        stride: of the convolution, in both directions.
        padding: by how many pixels each side is padded with zeros: (down, across). None: so that a stride of 1 keeps
            the size.
        same: pad an image of even sides for a stride of 2 as TensorFlow's ``SAME`` does: a row and a column fewer
            above and left than below and right. A kernel with a row and a column of zeros before it does the same
            under equal padding, and no larger image has to be written.
        depthwise: whether every channel has its own kernel.
        ceiling: upper bound of the ReLU, infinity for a plain one; None for no ReLU.
    """

    def __init__(
        self,
        state: NamedTensors,
        weight: str,
        norm: str,
        *,
        stride: int = 1,
        padding: tuple[int, int] | None = None,
        same: bool = False,
        depthwise: bool = False,
        ceiling: float | None = torch.inf,
    ) -> None:
        super().__init__()
        kernel = state.take(weight).float()
        names = ("weight", "bias", "running_mean", "running_var")
        scale, shift, mean, variance = (state.take(f"{norm}.{name}", len(kernel)) for name in names)
        folded, bias = fold(kernel, scale, shift, mean, variance, EPSILON)
        if same:
            folded = functional.pad(folded, (1, 0, 1, 0))
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", folded.contiguous(memory_format=torch.channels_last), persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.stride = stride
        self.padding = (kernel.shape[2] // 2, kernel.shape[3] // 2) if padding is None else padding
        self.groups = len(kernel) if depthwise else 1
        self.ceiling = ceiling

    def forward(self, images: Tensor) -> Tensor:
        images = functional.conv2d(images, self.weight, self.bias, self.stride, self.padding, groups=self.groups)
        if self.ceiling is None:
            return images
        return images.relu_() if self.ceiling == torch.inf else images.clamp_(0, self.ceiling)
