"""Distances between the deep features of two images: Zhang et al. 2018, equation 1, and its descendants.

d(x, x̂) = Σ_l 1/(H_l W_l) Σ_hw Σ_c w_lc (y_lhwc − ŷ_lhwc)², where y are the features after block l, each pixel's vector
of features brought to unit length, and w ≥ 0 are learned from people's judgements of similarity. The authors' code,
and every one that follows it, weighs the squared differences by w as written here; the paper's equation squares w.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from recbench import load_weights
from recbench_losses_perceptual import pretrained, trunks

_EPSILON = 1e-10
_CENTRE = (-0.030, -0.088, -0.188)
_SPREAD = (0.458, 0.448, 0.450)

_TRUNKS = {"vgg": trunks.vgg16, "alex": trunks.alexnet, "squeeze": trunks.squeezenet}
_SHIFT_TOLERANT = {"vgg": trunks.shift_tolerant_vgg16, "alex": trunks.shift_tolerant_alexnet}


def unit_length(features: Tensor) -> Tensor:
    """Return features (B, C, H, W) with each pixel's vector divided by its length + 1e-10, as in the authors' code.

    A vector of zeros stays zero. The gradient of a length of zero is taken as zero (that of the square root in the
    authors' code is NaN there).

    >>> unit_length(torch.tensor([3.0, 4.0]).view(1, 2, 1, 1)).flatten()
    tensor([0.6000, 0.8000])
    """
    length: Tensor = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return features / (length + _EPSILON)


def weighted_distance(decoded: Sequence[Tensor], target: Sequence[Tensor], linear: Sequence[Tensor]) -> Tensor:
    """Return the distance d of deep features (Zhang et al. 2018, equation 1).

    Args:
        decoded: features (B, C, H, W) of the decoded images, for every block.
        target: those of the target images.
        linear: weights w ≥ 0, (C,), for every block.

    Returns:
        Values (B,), at least 0; 0 for equal features.

    >>> one, other = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 2.0]).view(1, 2, 1, 1)
    >>> weighted_distance([one], [other], [torch.tensor([0.5, 0.25])])
    tensor([0.7500])
    """
    terms = (
        (unit_length(ours) - unit_length(theirs)).square().mean((2, 3)) @ weights.to(ours.dtype)
        for ours, theirs, weights in zip(decoded, target, linear, strict=True)
    )
    return torch.stack(list(terms)).sum(0)


class DeepDistance(nn.Module):
    """d for images (B, 3, H, W), or (B, 1, H, W), whose channel is repeated three times.

    Args:
        trunk: gives the features.
        linear: the weights w, (C,) for every block; none at all stand for w = 1.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, trunk: trunks.Trunk, linear: Sequence[Tensor]) -> None:
        super().__init__()
        self.trunk = trunk
        self.weighted = bool(linear)
        for number, weights in enumerate(linear):
            self.register_buffer(f"linear{number}", weights, persistent=False)
        self.register_buffer("centre", torch.tensor(_CENTRE).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(_SPREAD).view(1, 3, 1, 1), persistent=False)

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        # One after the other and not as one batch: nothing of the target's pass is kept for a backward pass then.
        ours, theirs = self.features(decoded), self.features(target)
        if self.weighted:
            linear = [self.get_buffer(f"linear{number}") for number in range(len(ours))]
        else:
            linear = [features.new_ones(features.shape[1]) for features in ours]
        return weighted_distance(ours, theirs, linear)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the trunk's features after every block, of images (B, 1 or 3, H, W)."""
        images = images.expand(-1, 3, -1, -1)
        outputs: list[Tensor] = self.trunk((images - self.centre.to(images.dtype)) / self.spread.to(images.dtype))
        return outputs


def lpips(net: Literal["alex", "vgg", "squeeze"], linear: bool, precision: trunks.TrunkPrecision) -> DeepDistance:
    """LPIPS 0.1 (Zhang et al. 2018) with a trunk trained on ImageNet; without ``linear``, w = 1."""
    trunk = _TRUNKS[net](load_weights(pretrained.IMAGENET[net]), precision)
    return DeepDistance(trunk, _linear(load_weights(pretrained.LPIPS[net])) if linear else ())


def st_lpips(net: Literal["alex", "vgg"], linear: bool, precision: trunks.TrunkPrecision) -> DeepDistance:
    """Shift-tolerant LPIPS (Ghildyal & Liu 2022); without ``linear``, w = 1."""
    state = load_weights(pretrained.SHIFT_TOLERANT[net])
    trunk = _SHIFT_TOLERANT[net](state, precision)
    return DeepDistance(trunk, _linear(state) if linear else ())


def czolbe(channels: int, precision: trunks.TrunkPrecision) -> DeepDistance:
    """The VGG loss of Czolbe et al. 2020, for images in **0 to 1**.

    The centre and the spread are those that LPIPS has for images in −1 to 1. The authors apply them to images in 0 to
    1, and learned their weights so.
    """
    trunk = trunks.vgg16(load_weights(pretrained.IMAGENET["vgg"]), precision)
    return DeepDistance(trunk, _linear(load_weights(pretrained.CZOLBE[channels])))


def _linear(state: Mapping[str, Tensor]) -> list[Tensor]:
    """The weights w, named ``lin0.model.1.weight`` and so on, each (1, C, 1, 1) in the file."""
    names = sorted(name for name in state if name.startswith("lin") and name.endswith(".model.1.weight"))
    return [state[name].flatten() for name in names]
