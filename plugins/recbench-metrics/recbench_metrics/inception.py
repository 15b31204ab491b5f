"""The Inception network that the Fréchet Inception distance is defined with, up to its pooled features.

It is the network of TensorFlow's file of December 2015, as pytorch-fid has ported it. It is not torchvision's: average
pooling leaves the padding out, and the last block pools by maximum.

Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, figures 5 to 7 and 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbench_metrics.convolution import Convolution, State

DIMENSIONS = 2048
SIDE = 299


class Branches(nn.ModuleList):
    """Several networks for the same input, their outputs one behind the other as channels."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([branch(images) for branch in self], 1)


def inception(tensors: Mapping[str, Tensor]) -> nn.Sequential:
    """The network with these weights: images (B, 3, H, W) in −1 to 1 become features (B, 2048).

    Args:
        tensors: named as in pytorch-fid, whose classifier is left aside.

    Raises:
        ValueError: they are not of this network.
    """
    state = State(tensors)
    network = nn.Sequential(
        _convolution(state, "Conv2d_1a_3x3", stride=2, padding=(0, 0)),
        _convolution(state, "Conv2d_2a_3x3", padding=(0, 0)),
        _convolution(state, "Conv2d_2b_3x3"),
        nn.MaxPool2d(3, 2),
        _convolution(state, "Conv2d_3b_1x1"),
        _convolution(state, "Conv2d_4a_3x3", padding=(0, 0)),
        nn.MaxPool2d(3, 2),
        *(_block_5(state, name) for name in ("Mixed_5b", "Mixed_5c", "Mixed_5d")),
        _reduction_6(state, "Mixed_6a"),
        *(_block_6(state, name) for name in ("Mixed_6b", "Mixed_6c", "Mixed_6d", "Mixed_6e")),
        _reduction_7(state, "Mixed_7a"),
        _block_7(state, "Mixed_7b", _average()),
        _block_7(state, "Mixed_7c", nn.MaxPool2d(3, 1, padding=1)),
        GlobalAverage(),
    )
    state.take("fc.weight", 1008, DIMENSIONS)
    state.take("fc.bias", 1008)
    state.finish()
    return network.eval()


def preprocess(images: Tensor) -> Tensor:
    """As pytorch-fid: images (B, 3, H, W) in 0 to 1 become (B, 3, 299, 299) in −1 to 1, bilinear, not antialiased."""
    resized = functional.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return 2 * resized - 1


class GlobalAverage(nn.Module):
    """Mean over the pixels, (B, C), in float32 whatever is given."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3), dtype=torch.float32)


def _convolution(state: State, name: str, *, stride: int = 1, padding: tuple[int, int] | None = None) -> Convolution:
    return Convolution(state, f"{name}.conv.weight", f"{name}.bn", stride=stride, padding=padding)


def _average() -> nn.Module:
    return nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)


def _chain(state: State, block: str, *names: str) -> nn.Sequential:
    return nn.Sequential(*(_convolution(state, f"{block}.{name}") for name in names))


def _block_5(state: State, block: str) -> Branches:
    chain = partial(_chain, state, block)
    return Branches(
        [
            chain("branch1x1"),
            chain("branch5x5_1", "branch5x5_2"),
            chain("branch3x3dbl_1", "branch3x3dbl_2", "branch3x3dbl_3"),
            nn.Sequential(_average(), *chain("branch_pool")),
        ]
    )


def _halving(state: State, name: str) -> Convolution:
    return _convolution(state, name, stride=2, padding=(0, 0))


def _reduction_6(state: State, block: str) -> Branches:
    return Branches(
        [
            _halving(state, f"{block}.branch3x3"),
            nn.Sequential(
                *_chain(state, block, "branch3x3dbl_1", "branch3x3dbl_2"), _halving(state, f"{block}.branch3x3dbl_3")
            ),
            nn.MaxPool2d(3, 2),
        ]
    )


def _block_6(state: State, block: str) -> Branches:
    chain = partial(_chain, state, block)
    return Branches(
        [
            chain("branch1x1"),
            chain("branch7x7_1", "branch7x7_2", "branch7x7_3"),
            chain("branch7x7dbl_1", "branch7x7dbl_2", "branch7x7dbl_3", "branch7x7dbl_4", "branch7x7dbl_5"),
            nn.Sequential(_average(), *chain("branch_pool")),
        ]
    )


def _reduction_7(state: State, block: str) -> Branches:
    chain = partial(_chain, state, block)
    return Branches(
        [
            nn.Sequential(*chain("branch3x3_1"), _halving(state, f"{block}.branch3x3_2")),
            nn.Sequential(
                *chain("branch7x7x3_1", "branch7x7x3_2", "branch7x7x3_3"), _halving(state, f"{block}.branch7x7x3_4")
            ),
            nn.MaxPool2d(3, 2),
        ]
    )


def _block_7(state: State, block: str, pool: nn.Module) -> Branches:
    chain = partial(_chain, state, block)
    return Branches(
        [
            chain("branch1x1"),
            nn.Sequential(*chain("branch3x3_1"), Branches([chain("branch3x3_2a"), chain("branch3x3_2b")])),
            nn.Sequential(
                *chain("branch3x3dbl_1", "branch3x3dbl_2"),
                Branches([chain("branch3x3dbl_3a"), chain("branch3x3dbl_3b")]),
            ),
            nn.Sequential(pool, *chain("branch_pool")),
        ]
    )
