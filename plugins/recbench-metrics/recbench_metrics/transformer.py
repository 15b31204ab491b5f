"""Vision transformers for inference: images are cut into patches, which attend to each other.

Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, equations 1 to 4, with normalization before each layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

HEAD = 64
"""Dimensions of a head of attention, in all networks here."""

Activation = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Affine:
    """A linear layer's weight (out, in) and bias (out,), or scale and shift (D,) of a normalization."""

    weight: Tensor
    bias: Tensor

    def scaled(self, factor: Tensor) -> Affine:
        """Return the linear layer whose outputs are multiplied by a factor (out,)."""
        return Affine(factor[:, None] * self.weight, factor * self.bias)


@dataclass(frozen=True)
class BlockWeights:
    """The tensors of a block: ``attend`` gives queries, keys and values, one below the other."""

    norm_attention: Affine
    attend: Affine
    project: Affine
    norm_perceptron: Affine
    widen: Affine
    narrow: Affine


class Layer(nn.Module):
    """An affine map whose tensors are buffers that are not saved: nothing here is trained."""

    def __init__(self, tensors: Affine) -> None:
        super().__init__()
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", tensors.weight.float().contiguous(), persistent=False)
        self.register_buffer("bias", tensors.bias.float().contiguous(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.linear(tokens, self.weight, self.bias)


class Norm(Layer):
    """Layer normalization over the last dimension."""

    def __init__(self, tensors: Affine, epsilon: float) -> None:
        super().__init__(tensors)
        self.epsilon = epsilon

    def forward(self, tokens: Tensor) -> Tensor:
        return functional.layer_norm(tokens, self.weight.shape, self.weight, self.bias, self.epsilon)


class Block(nn.Module):
    """Attention and a perceptron of two layers, each added to its input: tokens (B, T, D) become tokens (B, T, D)."""

    def __init__(self, weights: BlockWeights, epsilon: float, activation: Activation) -> None:
        super().__init__()
        self.norm_attention = Norm(weights.norm_attention, epsilon)
        self.attend = Layer(weights.attend)
        self.project = Layer(weights.project)
        self.norm_perceptron = Norm(weights.norm_perceptron, epsilon)
        self.widen = Layer(weights.widen)
        self.narrow = Layer(weights.narrow)
        self.activation = activation

    def forward(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        parts = self.attend(self.norm_attention(tokens)).view(batch, count, 3, width // HEAD, HEAD)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.project(seen.transpose(1, 2).reshape(batch, count, width))
        wide = self.activation(self.widen(self.norm_perceptron(tokens)))
        narrowed: Tensor = self.narrow(wide)
        return tokens + narrowed


class Patches(nn.Module):
    """Patches of images as tokens, after the class token, with their positions added: (B, 3, H, W) to (B, 1 + N, D).

    Args:
        kernel: (D, 3, P, P), the map of a patch of P x P pixels.
        bias: (D,).
        class_token: (D,).
        positions: (1 + N, D) for all patches of an image, row by row; the first is the class token's.
    """

    def __init__(self, kernel: Tensor, bias: Tensor, class_token: Tensor, positions: Tensor) -> None:
        super().__init__()
        self.kernel: Tensor
        self.bias: Tensor
        self.class_token: Tensor
        self.positions: Tensor
        tensors = {"kernel": kernel, "bias": bias, "class_token": class_token, "positions": positions}
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.float().contiguous(), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        patches = functional.conv2d(images, self.kernel, self.bias, stride=self.kernel.shape[-1])
        tokens = patches.flatten(2).transpose(1, 2)
        first = self.class_token.expand(len(images), 1, -1)
        return torch.cat([first, tokens], dim=1) + self.positions


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Resize images (B, C, H, W) to (B, C, height, width) bicubically (a = −0.5), antialiased where they shrink."""
    return functional.interpolate(images, (height, width), mode="bicubic", align_corners=False, antialias=True)


def normalized(images: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]) -> Tensor:
    """Subtract means of the channels of images (B, 3, H, W), and divide by deviations."""
    shift, scale = (images.new_tensor(values)[:, None, None] for values in (mean, deviation))
    return (images - shift) / scale
