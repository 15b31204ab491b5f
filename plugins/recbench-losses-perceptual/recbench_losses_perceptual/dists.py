"""DISTS, the deep image structure and texture similarity of Ding et al. 2020, as loss and metric.

1 − Σ α l + β s over the channels of the image and of VGG16's relu1_2, 2_2, 3_3, 4_3 and 5_3, whose pooling takes
root mean squares in a Hann window: l = (2 μ μ̂ + c) / (μ² + μ̂² + c) compares means, s = (2 σ_xx̂ + c) / (σ² + σ̂² + c)
covariances over the pixels, c = 1e-6, and the weights α, β ≥ 0, which sum to 1, are learned.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbench import ImageShape, load_weights
from recbench.contracts.loss import Context, Loss, Setting
from recbench.contracts.metric import ImageMetric
from recbench_losses_perceptual import pretrained
from recbench_losses_perceptual.trunks import TrunkConvolution, filters

_STABILITY = 1e-6
_BLOCKS = (2, 2, 3, 3, 3)
_CENTRE = (0.485, 0.456, 0.406)
_SPREAD = (0.229, 0.224, 0.225)


class RootMeanSquarePool(nn.Module):
    """√(g ∗ f² + 1e-12) with stride 2 of features f, g a Hann window of 3 × 3 pixels."""

    window: Tensor

    def __init__(self) -> None:
        super().__init__()
        hann = torch.tensor([0.25, 0.5, 0.25])
        self.register_buffer("window", torch.outer(hann, hann), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        kernel = self.window.to(features.dtype).expand(features.shape[1], 1, 3, 3)
        squares = functional.conv2d(features.square(), kernel, stride=2, padding=1, groups=features.shape[1])
        return (squares + 1e-12).sqrt()


class DISTS(nn.Module):
    """1 − the similarity of images (B, 1 or 3, H, W) in 0 to 1; grey ones are repeated to three channels.

    Args:
        trunk: the weights of VGG16, by torchvision's names.
        weights: ``alpha`` and ``beta``, (1, 1475, 1, 1), of the channels of the image and of all blocks;
            they are divided by their sum.
    """

    alpha: Tensor
    beta: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, trunk: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        source = filters(trunk, "features.")
        self.blocks = nn.ModuleList()
        for number, count in enumerate(_BLOCKS):
            layers: list[nn.Module] = [RootMeanSquarePool()] if number else []
            for _ in range(count):
                layers += [TrunkConvolution(source, padding=1), nn.ReLU()]
            self.blocks.append(nn.Sequential(*layers))
        for name in ("alpha", "beta"):
            self.register_buffer(name, weights[name].detach().flatten(), persistent=False)
        self.register_buffer("centre", torch.tensor(_CENTRE).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("spread", torch.tensor(_SPREAD).view(1, 3, 1, 1), persistent=False)

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        means, structures = [], []
        for ours, theirs in zip(self.features(decoded), self.features(target), strict=True):
            one, other = ours.mean((2, 3), keepdim=True), theirs.mean((2, 3), keepdim=True)
            means.append((2 * one * other + _STABILITY) / (one.square() + other.square() + _STABILITY))
            first, second = ours - one, theirs - other
            variances = (first.square() + second.square()).mean((2, 3), keepdim=True)
            structures.append((2 * (first * second).mean((2, 3), keepdim=True) + _STABILITY) / (variances + _STABILITY))
        alpha, beta = self.alpha.to(decoded.dtype), self.beta.to(decoded.dtype)
        similarity = torch.cat(means, 1).flatten(1) @ alpha + torch.cat(structures, 1).flatten(1) @ beta
        return 1 - similarity / (alpha.sum() + beta.sum())

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the images, and their features after every block."""
        images = images.expand(-1, 3, -1, -1)
        features = (images - self.centre.to(images.dtype)) / self.spread.to(images.dtype)
        found = [images]
        for block in self.blocks:
            features = block(features)
            found.append(features)
        return found


def _published() -> DISTS:
    return DISTS(load_weights(pretrained.IMAGENET["vgg"]), load_weights(pretrained.DISTS["vgg"]))


class DISTSLoss(Loss):
    """DISTS of Ding et al. 2020, for images in 0 to 1."""

    def __init__(self, setting: Setting) -> None:
        super().__init__()
        self.distance = _published()

    def forward(self, decoded: Tensor, target: Tensor, context: Context) -> Tensor:
        value: Tensor = self.distance(decoded, target)
        return value


class DISTSMetric(ImageMetric):
    """DISTS of Ding et al. 2020."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()
        self.distance = _published()

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        value: Tensor = self.distance(decoded, target)
        return value
