"""Convolutional networks whose features are compared, frozen.

All weights are buffers that are not saved: an optimizer never sees them, and a job's model file does not hold hundreds
of megabytes that every user has anyway. There is no dropout and no batch normalization, so training mode changes
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Filters = Iterator[tuple[Tensor, Tensor]]
TrunkPrecision = Literal["float32", "bf16"]


def filters(state: Mapping[str, Tensor], prefix: str) -> Filters:
    """Yield weight and bias of every convolution whose name has the prefix, in the order of the network."""
    for name, weight in state.items():
        if name.startswith(prefix) and name.endswith(".weight"):
            yield weight, state[f"{name.removesuffix('weight')}bias"]


class TrunkConvolution(nn.Module):
    """A convolution with given weights, in the precision of its input, or in bfloat16 if ``half_precision``."""

    weight: Tensor
    bias: Tensor
    half_precision = False

    def __init__(self, source: Filters, *, stride: int = 1, padding: int = 0) -> None:
        super().__init__()
        weight, bias = next(source)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("bias", bias, persistent=False)
        self.stride = stride
        self.padding = padding

    def forward(self, images: Tensor) -> Tensor:
        if self.half_precision:
            images = images.bfloat16()
        weight, bias = self.weight.to(images.dtype), self.bias.to(images.dtype)
        return functional.conv2d(images, weight, bias, stride=self.stride, padding=self.padding)


class Fire(nn.Module):
    """Iandola et al. 2016, figure 1: 1×1 convolutions to fewer channels, then 1×1 and 3×3 ones in parallel."""

    def __init__(self, source: Filters) -> None:
        super().__init__()
        self.squeeze = TrunkConvolution(source)
        self.expand1x1 = TrunkConvolution(source)
        self.expand3x3 = TrunkConvolution(source, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        squeezed = self.squeeze(features).relu()
        return torch.cat((self.expand1x1(squeezed), self.expand3x3(squeezed)), dim=1).relu()


def blurring_matrix(size: int, like: Tensor) -> Tensor:
    """(size, size // 2 + 1): every second entry of a signal that is mirrored by 2 at its ends and filtered by
    [1, 2, 1] / 4. For signals of at least 3 entries; in the dtype and on the device of ``like``."""
    mirrored = functional.pad(torch.eye(size, dtype=like.dtype, device=like.device)[None], (2, 2), mode="reflect")[0]
    blurred: Tensor = (mirrored[:, :-2] + 2 * mirrored[:, 1:-1] + mirrored[:, 2:]) / 4
    return blurred[:, ::2]


class Blur(nn.Module):
    """Zhang 2019, anti-aliased down-sampling by 2, with the wider padding of Ghildyal & Liu 2022, section 3.3.

    As two matrix products: mirroring, filter and stride in one, and deterministic on a GPU, where the gradient of
    mirrored padding is not.
    """

    def forward(self, features: Tensor) -> Tensor:
        down = blurring_matrix(features.shape[-2], features)
        across = blurring_matrix(features.shape[-1], features)
        return down.T @ features @ across


class Trunk(nn.Module):
    """A network cut into blocks.

    With ``precision="bf16"`` the convolutions of all blocks but the first run in bfloat16. The first one looks at the
    image at its full resolution, and there most of bfloat16's error arises; so does pooling its output after rounding,
    which makes ties, and these send the gradient to other pixels. Measured with the shift-tolerant VGG on 64×64
    photographs with blur and noise: the gradient is turned by 1.4° to 2.9°; with all convolutions in bfloat16, by 4.1°
    to 7.8°.
    """

    def __init__(self, *blocks: nn.Sequential, precision: TrunkPrecision) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        for block in blocks[1:] if precision == "bf16" else ():
            for module in block.modules():
                if isinstance(module, TrunkConvolution):
                    module.half_precision = True

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features (B, C, H, W) after every block, in the precision of the images."""
        features = [images]
        for block in self.blocks:
            features.append(block(features[-1]).to(images.dtype))
        return features[1:]


def vgg16(state: Mapping[str, Tensor], precision: TrunkPrecision) -> Trunk:
    """VGG16 up to relu5_3, by torchvision's names; features of relu1_2, 2_2, 3_3, 4_3, 5_3."""
    return _vgg16(filters(state, "features."), [nn.MaxPool2d(2)], precision)


def shift_tolerant_vgg16(state: Mapping[str, Tensor], precision: TrunkPrecision) -> Trunk:
    """VGG16 with anti-aliased pooling (Ghildyal & Liu 2022)."""
    return _vgg16(filters(state, "net."), [nn.MaxPool2d(2, stride=1), Blur()], precision)


def _vgg16(source: Filters, down: list[nn.Module], precision: TrunkPrecision) -> Trunk:
    blocks = []
    for number, count in enumerate((2, 2, 3, 3, 3)):
        layers: list[nn.Module] = [*down] if number else []
        for _ in range(count):
            layers += [TrunkConvolution(source, padding=1), nn.ReLU(inplace=True)]
        blocks.append(nn.Sequential(*layers))
    return Trunk(*blocks, precision=precision)


def alexnet(state: Mapping[str, Tensor], precision: TrunkPrecision) -> Trunk:
    """AlexNet's five convolutions, by torchvision's names; features after each of them."""
    source = filters(state, "features.")
    first = nn.Sequential(TrunkConvolution(source, stride=4, padding=2), nn.ReLU(inplace=True))
    return _alexnet(first, source, [nn.MaxPool2d(3, stride=2)], precision)


def shift_tolerant_alexnet(state: Mapping[str, Tensor], precision: TrunkPrecision) -> Trunk:
    """AlexNet whose first convolution has stride 1, with anti-aliased down-sampling (Ghildyal & Liu 2022)."""
    source = filters(state, "net.")
    first = nn.Sequential(TrunkConvolution(source, padding=2), Blur(), nn.ReLU(inplace=True))
    return _alexnet(first, source, [nn.MaxPool2d(3, stride=1), Blur()], precision)


def _alexnet(first: nn.Sequential, source: Filters, down: list[nn.Module], precision: TrunkPrecision) -> Trunk:
    return Trunk(
        first,
        nn.Sequential(*down, TrunkConvolution(source, padding=2), nn.ReLU(inplace=True)),
        nn.Sequential(*down, TrunkConvolution(source, padding=1), nn.ReLU(inplace=True)),
        nn.Sequential(TrunkConvolution(source, padding=1), nn.ReLU(inplace=True)),
        nn.Sequential(TrunkConvolution(source, padding=1), nn.ReLU(inplace=True)),
        precision=precision,
    )


def squeezenet(state: Mapping[str, Tensor], precision: TrunkPrecision) -> Trunk:
    """SqueezeNet 1.1, by torchvision's names; features after the first convolution, and of the fire modules 3, 5, 6,
    7, 8, 9, numbered as in the paper."""
    source = filters(state, "features.")
    down = nn.MaxPool2d(3, stride=2, ceil_mode=True)
    return Trunk(
        nn.Sequential(TrunkConvolution(source, stride=2), nn.ReLU(inplace=True)),
        nn.Sequential(down, Fire(source), Fire(source)),
        nn.Sequential(down, Fire(source), Fire(source)),
        nn.Sequential(down, Fire(source)),
        nn.Sequential(Fire(source)),
        nn.Sequential(Fire(source)),
        nn.Sequential(Fire(source)),
        precision=precision,
    )
