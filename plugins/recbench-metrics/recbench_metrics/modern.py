"""Metrics of whole sets by features of several networks: precision and recall, FD-DINOv2 and CMMD."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from recbench import ImageShape
from recbench.contracts.metric import Reference
from recbench.errors import UserError
from recbench_metrics import clip, convolution, dinov2, transformer
from recbench_metrics.distances import gaussian_mmd
from recbench_metrics.features import (
    EFFICIENTNET,
    INCEPTION_V3,
    FeatureMetric,
    FeatureNetwork,
    FeaturePrecision,
    FrechetDistance,
    reference_features,
)
from recbench_metrics.manifold import precision_and_recall
from recbench_metrics.pretrained_transformers import CLIP_L336, DINOV2_WEIGHTS
from recbench_metrics.references import ReferenceChoice, chosen_reference

DINOV2 = {
    size: FeatureNetwork(
        f"dinov2-{size}",
        f"DINOv2 {size}",
        weights,
        dimensions,
        dinov2.DINOv2,
        dinov2.preprocess,
        (dinov2, transformer, convolution),
    )
    for (size, weights), dimensions in zip(DINOV2_WEIGHTS.items(), (384, 768, 1024), strict=True)
}
CLIP = FeatureNetwork(
    "clip-l336", "CLIP", CLIP_L336, clip.DIMENSIONS, clip.CLIP, clip.preprocess, (clip, transformer, convolution)
)
NETWORKS = {"efficientnet": EFFICIENTNET, "inception": INCEPTION_V3, "dinov2": DINOV2["large"]}

CMMD_DEVIATION = 10.0
CMMD_SCALE = 1000.0


class FeaturesOfBoth(FeatureMetric):
    """A metric of all features of both sets, and the choice of what the evaluated images are compared with."""

    def __init__(self, precision: FeaturePrecision, images: int, reference: ReferenceChoice) -> None:
        super().__init__(precision, images)
        self.choice = reference
        self.real_features: Tensor | None = None
        self.features: list[Tensor] = []

    def prepare(self, reference: Reference) -> None:
        super().prepare(chosen_reference(reference, self.choice))

    def know(self, reference: Reference) -> None:
        self.real_features = reference_features(reference, self.extractor)

    def take(self, features: Tensor) -> None:
        self.features.append(features)

    def both(self) -> tuple[Tensor, Tensor]:
        """Return the features of the real images and of the evaluated ones, (N, D) and (M, D)."""
        assert self.real_features is not None
        return self.real_features, torch.cat(self.features)


class PrecisionRecall(FeaturesOfBoth):
    """Improved precision and recall of Kynkäänniemi et al. 2019, of samples."""

    names: ClassVar[tuple[str, str]] = ("precision_gen", "recall_gen")

    def __init__(
        self,
        shape: ImageShape,
        *,
        network: Literal["efficientnet", "inception", "dinov2"],
        neighbours: int,
        reference: ReferenceChoice,
        precision: FeaturePrecision,
        images: int,
    ) -> None:
        self.network = NETWORKS[network]  # before the base class, which asks for its features
        super().__init__(precision, images, reference)
        self.neighbours = neighbours

    def distance(self) -> Mapping[str, float]:
        fewest = min(self.real, self.judged)
        if fewest <= self.neighbours:
            raise UserError(f"expected more images than the {self.neighbours} neighbours of each, got {fewest}")
        scores = precision_and_recall(*self.both(), self.neighbours)
        return dict(zip(self.names, scores, strict=True))


class PrecisionRecallOfReconstructions(PrecisionRecall):
    """The same of reconstructions."""

    names = ("precision_recon", "recall_recon")


class FDDINOv2(FrechetDistance):
    """Fréchet distance of DINOv2's features, of Stein et al. 2023."""

    def __init__(
        self,
        shape: ImageShape,
        *,
        size: Literal["small", "base", "large"],
        reference: ReferenceChoice,
        precision: FeaturePrecision,
        images: int,
    ) -> None:
        self.network = DINOV2[size]  # before the base class, which asks for its features
        super().__init__(shape, precision=precision, images=images)
        self.choice = reference

    def prepare(self, reference: Reference) -> None:
        super().prepare(chosen_reference(reference, self.choice))


class CMMD(FeaturesOfBoth):
    """Squared maximum mean discrepancy of CLIP's embeddings, of Jayasumana et al. 2024."""

    network = CLIP

    def __init__(
        self, shape: ImageShape, *, reference: ReferenceChoice, precision: FeaturePrecision, images: int
    ) -> None:
        super().__init__(precision, images, reference)

    def distance(self) -> float:
        squared = gaussian_mmd(*self.both(), CMMD_DEVIATION)
        return max(CMMD_SCALE * squared, 0.0)  # of equal sets, rounding takes it a little below
