"""The Inception network that the Fréchet Inception distance is defined with, up to its pooled features.

It is the network of TensorFlow's file of December 2015, built from the classes of pytorch-fid, which ported it. It
differs from torchvision's: average pooling leaves the padding out, and the last block pools by maximum.

Szegedy et al., Rethinking the Inception Architecture for Computer Vision, CVPR 2016, figures 5 to 7 and 10.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbench_metrics.convolution import fold

DIMENSIONS = 2048
SIDE = 299


def inception(tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return the network with these weights: images (B, 3, H, W) in −1 to 1 become features (B, 2048).

    Batch norms are folded into the convolutions before them, and weights are channels-last in memory: on CPUs that is
    1.5 times as fast as pytorch-fid's own network, and moves its features by 6e-7.

    Args:
        tensors: named as in pytorch-fid's file. The weights of the classifier must be there, and are dropped.

    Raises:
        ValueError: the tensors are not those of this network.
    """
    network = _pytorch_fids()
    try:
        network.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit Inception: {error}") from None
    network.requires_grad_(requires_grad=False).eval()
    network.fc = nn.Identity()
    network.avgpool = GlobalAverage()
    for block in network.modules():
        if isinstance(getattr(block, "bn", None), nn.BatchNorm2d):
            _fold(block)
    return network.to(memory_format=torch.channels_last)


def _fold(block: Any) -> None:
    """Fold the batch norm ``bn`` of torchvision's ``BasicConv2d`` into its ``conv``."""
    norm = block.bn
    folded = fold(block.conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.eps)
    block.conv.weight, block.conv.bias = (nn.Parameter(each, requires_grad=False) for each in folded)
    block.bn = nn.Identity()


def preprocess(images: Tensor) -> Tensor:
    """Resize images (B, 3, H, W) in 0 to 1 to (B, 3, 299, 299) in −1 to 1, as pytorch-fid does.

    Bilinear, not antialiased.
    """
    resized = functional.interpolate(images, (SIDE, SIDE), mode="bilinear", align_corners=False)
    return 2 * resized - 1


class GlobalAverage(nn.Module):
    """Mean over the pixels, (B, C), in float32 whatever the precision of the input."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3), dtype=torch.float32)


def _pytorch_fids() -> nn.Module:
    """Return the network of ``pytorch_fid.inception.fid_inception_v3``, which also downloads weights, without any.

    It is on the meta device: nothing is drawn from torch's random generator, and no memory taken.
    """
    # Here, as torchvision takes a second to import.
    from pytorch_fid import inception as classes  # type: ignore[import-untyped]
    from torchvision.models import Inception3  # type: ignore[import-untyped]

    with torch.device("meta"):
        network = Inception3(num_classes=1008, aux_logits=False, init_weights=False)
        network.Mixed_5b = classes.FIDInceptionA(192, pool_features=32)
        network.Mixed_5c = classes.FIDInceptionA(256, pool_features=64)
        network.Mixed_5d = classes.FIDInceptionA(288, pool_features=64)
        network.Mixed_6b = classes.FIDInceptionC(768, channels_7x7=128)
        network.Mixed_6c = classes.FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6d = classes.FIDInceptionC(768, channels_7x7=160)
        network.Mixed_6e = classes.FIDInceptionC(768, channels_7x7=192)
        network.Mixed_7b = classes.FIDInceptionE_1(1280)
        network.Mixed_7c = classes.FIDInceptionE_2(2048)
    return network  # type: ignore[no-any-return]
