"""Distances between distributions of features: FID, KID, and the Fréchet distance of EfficientNet's features."""

from __future__ import annotations

import hashlib
import inspect
import io
import json
import warnings
import weakref
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recbench import ImageShape, Weights, load_weights, write_atomically
from recbench.contracts.metric import Reference, SetMetric
from recbench.contracts.numerics import ieee
from recbench.errors import UserError
from recbench_metrics import convolution, efficientnet, inception
from recbench_metrics.frechet import (
    FeatureGaussian,
    FeatureMoments,
    combined,
    gaussian_of,
    gaussian_of_few,
    moments_of,
    squared_distance,
)
from recbench_metrics.kid import mean_squared_mmd
from recbench_metrics.pretrained import EFFICIENTNET_LITE0, INCEPTION

CHUNK = 64
"""Images that go through a network at once on a GPU: 0.9 GiB for Inception."""

CACHED_CHUNK = 4
"""Images that go through a network at once on a processor: few, so that they take little memory."""

FeaturePrecision = Literal["float32", "bf16"]
"""Precision of the network that computes features."""
NamedArrays = dict[str, NDArray[Any]]
"""The arrays in one file of the cache."""


# Networks


@dataclass(frozen=True)
class FeatureNetwork:
    """A network whose features are compared.

    Attributes:
        name: used in the names of cached files.
        title: used in messages.
        weights: its file of weights.
        dimensions: number D of its features.
        build: makes the module from the tensors of the file.
        preprocess: turns images (B, 3, H, W) in 0 to 1 into the module's input.
        code: modules whose code makes the features: with other code, cached features are outdated.
    """

    name: str
    title: str
    weights: Weights
    dimensions: int
    build: Callable[[Mapping[str, Tensor]], nn.Module]
    preprocess: Callable[[Tensor], Tensor]
    code: tuple[ModuleType, ...]

    @cached_property
    def code_digest(self) -> str:
        """A digest of the code that makes features of images, that of :class:`Extractor` included."""
        sources = [*map(inspect.getsource, self.code), inspect.getsource(Extractor)]
        return hashlib.sha256("\0".join(sources).encode()).hexdigest()


INCEPTION_V3 = FeatureNetwork(
    "inception",
    "Inception",
    INCEPTION,
    inception.DIMENSIONS,
    inception.inception,
    inception.preprocess,
    (inception, convolution),
)
EFFICIENTNET = FeatureNetwork(
    "efficientnet-lite0",
    "EfficientNet-Lite0",
    EFFICIENTNET_LITE0,
    efficientnet.DIMENSIONS,
    efficientnet.EfficientNetLite0,
    efficientnet.preprocess,
    (efficientnet, convolution),
)


class Extractor(nn.Module):
    """A network with its weights and preprocessing: images (B, C, H, W) in 0 to 1 become features (B, D), float32.

    Images are rounded to 8 bits first. Grey images are repeated to three channels, as pytorch-fid reads grey files.
    With ``bf16``, weights and activations are in bfloat16. Otherwise all is in float32, also on GPUs that would by
    default compute convolutions in TF32.

    The features of the last batch are kept, as several metrics ask for them one after the other.
    """

    def __init__(self, network: FeatureNetwork, precision: FeaturePrecision) -> None:
        super().__init__()
        self.network = network
        self.precision = precision
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.layers = network.build(load_weights(network.weights)).to(self.dtype)
        self._last: tuple[weakref.ref[Tensor], int, Tensor] | None = None

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        if self._last is None or self._last[0]() is not images or self._last[1] != images._version:
            with ieee():
                features = torch.cat([self._features(chunk) for chunk in _chunks(images, images.device)])
            self._last = weakref.ref(images), images._version, features
        return self._last[2]

    def _features(self, images: Tensor) -> Tensor:
        images = (images * 255).round() / 255  # as torchvision's ToTensor has them, to the last bit
        images = self.network.preprocess(images.expand(-1, 3, -1, -1))
        features: Tensor = self.layers(images.to(self.dtype, memory_format=torch.channels_last))
        return features


_EXTRACTORS: weakref.WeakValueDictionary[tuple[FeatureNetwork, str], Extractor] = weakref.WeakValueDictionary()


def extractor(network: FeatureNetwork, precision: FeaturePrecision) -> Extractor:
    """Return the extractor that all metrics of a job share; it lives as long as one of them.

    Raises:
        recbench.data.weights.WeightsError: its weights are missing, or hold something other than tensors.
    """
    key = network, precision
    found = _EXTRACTORS.get(key)
    if found is None:
        _EXTRACTORS[key] = found = Extractor(network, precision)
    return found


def _chunks(images: Tensor, device: torch.device) -> Iterator[Tensor]:
    size = CACHED_CHUNK if device.type == "cpu" else CHUNK
    return (images[start : start + size] for start in range(0, len(images), size))


# The real images


def reference_features(reference: Reference, extractor: Extractor) -> Tensor:
    """Return the features of the real images, (N, D), float32 on the reference's device; computed once and cached."""

    def compute() -> NamedArrays:
        chunks = (images.to(reference.device).float() / 255 for images in _chunks(reference.images, reference.device))
        return {"features": torch.cat([extractor(chunk).cpu() for chunk in chunks]).numpy()}

    return torch.from_numpy(_kept("features", reference, extractor, compute)["features"]).to(reference.device)


def reference_gaussian(reference: Reference, extractor: Extractor) -> FeatureGaussian:
    """Return the Gaussian of the real images' features, on the reference's device; decomposed once and cached."""

    def compute() -> NamedArrays:
        collection = Collection(extractor.network.dimensions)
        collection.add(reference_features(reference, extractor))
        found = collection.summary()
        gaussian = found if isinstance(found, FeatureGaussian) else gaussian_of(found)
        return {"mean": gaussian.mean.cpu().numpy(), "factor": gaussian.factor.cpu().numpy()}

    arrays = _kept("gaussian", reference, extractor, compute)
    return FeatureGaussian(*(torch.from_numpy(arrays[name]).to(reference.device) for name in ("mean", "factor")))


def _kept(what: str, reference: Reference, extractor: Extractor, compute: Callable[[], NamedArrays]) -> NamedArrays:
    """Return arrays from the cache, or compute and cache them. A file that is damaged or of other origin is replaced.

    A cache that cannot be written costs time, and a warning says so; it does not end the job.
    """
    origin = {
        "what": what,
        "images": reference.fingerprint,
        "network": extractor.network.name,
        "weights": extractor.network.weights.sha256,
        "precision": extractor.precision,
        "code": extractor.network.code_digest,
    }
    text = json.dumps(origin, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    file = reference.cache / "features" / f"{extractor.network.name}-{what}-{digest}.npz"
    arrays = _read(file)
    if arrays is None or str(arrays.pop("origin", "")) != text:
        arrays = compute()
        content = io.BytesIO()
        np.savez(content, **{"origin": np.array(text), **arrays})  # type: ignore[arg-type]  # allow_pickle is a bool
        try:
            write_atomically(file, content.getvalue())
        except OSError as error:
            warnings.warn(f"cannot write {file}, so each job computes it again: {error.strerror}", stacklevel=2)
    return arrays


def _read(file: Path) -> NamedArrays | None:
    """Return the arrays of a file, each checked by its checksum; None if it is missing or damaged."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None


# Metrics


class Collection:
    """An accumulator of features, batch by batch, in the memory of two D × D matrices. Batch sizes do not matter."""

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions
        self.count = 0
        self._moments: FeatureMoments | None = None
        self._waiting: list[Tensor] = []

    def add(self, features: Tensor) -> None:
        self.count += len(features)
        self._waiting.append(features)
        if sum(map(len, self._waiting)) > self.dimensions:
            rows = torch.cat(self._waiting)
            while len(rows) > self.dimensions:
                self._moments = self._with(rows[: self.dimensions])
                rows = rows[self.dimensions :]
            self._waiting = [rows]

    def summary(self) -> FeatureGaussian | FeatureMoments:
        """Return the input of :func:`~recbench_metrics.frechet.squared_distance`: a Gaussian or moments."""
        rows = torch.cat(self._waiting)
        return gaussian_of_few(rows) if self._moments is None else self._with(rows)

    def _with(self, rows: Tensor) -> FeatureMoments:
        moments = moments_of(rows)
        return moments if self._moments is None else combined(self._moments, moments)


class FeatureMetric(SetMetric, ABC):
    """A distance between the features of the evaluated images and those of the real ones.

    Attributes:
        images: the number of images of each kind that are compared, the first ones; 0 for all.
        real, judged: the numbers that were compared.
    """

    network: FeatureNetwork

    def __init__(self, precision: FeaturePrecision, images: int = 0) -> None:
        super().__init__()
        self.extractor = extractor(self.network, precision)
        self.images = images
        self.real = 0
        self.judged = 0

    def prepare(self, reference: Reference) -> None:
        self.extractor.to(reference.device)
        if 0 < self.images < len(reference.images):
            fingerprint = f"{reference.fingerprint} first {self.images}"
            reference = replace(reference, images=reference.images[: self.images], fingerprint=fingerprint)
        self.real = len(reference.images)
        self.know(reference)

    def update(self, decoded: Tensor, target: Tensor) -> None:
        left = self.images - self.judged if self.images else len(decoded)
        if left <= 0:
            return
        if left < len(decoded):
            decoded = decoded[:left]
        self.judged += len(decoded)
        self.take(self.extractor(decoded))

    @abstractmethod
    def know(self, reference: Reference) -> None:
        """Compute, or read from the cache, what is needed of the real images that are compared."""

    @abstractmethod
    def take(self, features: Tensor) -> None:
        """Add the features of a batch, (B, D)."""

    def compute(self) -> float | Mapping[str, float]:
        if min(self.real, self.judged) < 2:
            raise UserError(
                f"{type(self).__name__}: expected at least two real and two evaluated images, "
                f"got {self.real} and {self.judged}"
            )
        self.warning = "; ".join(self.remarks())
        return self.distance()

    @abstractmethod
    def distance(self) -> float | Mapping[str, float]:
        """Return the score, or each of several by its name."""

    def remarks(self) -> Iterator[str]:
        """Yield what a reader of the score must know."""
        if self.extractor.precision != "float32":
            title, precision = self.network.title, self.extractor.precision
            yield f"{title} in {precision}, whose features are off by about 1%: not to be compared with float32"


class FrechetDistance(FeatureMetric):
    """Squared Fréchet distance between Gaussians of the features."""

    def __init__(self, shape: ImageShape, *, precision: FeaturePrecision, images: int = 0) -> None:
        super().__init__(precision, images)
        self.collection = Collection(self.network.dimensions)
        self.reference: FeatureGaussian | None = None

    def know(self, reference: Reference) -> None:
        if self.real >= 2:
            self.reference = reference_gaussian(reference, self.extractor)

    def take(self, features: Tensor) -> None:
        self.collection.add(features)

    def distance(self) -> float:
        assert self.reference is not None
        distance = squared_distance(self.reference, self.collection.summary()).item()
        return max(distance, 0.0)  # of equal sets, rounding takes it a little below

    def remarks(self) -> Iterator[str]:
        fewest, dimensions = min(self.real, self.judged), self.network.dimensions
        if fewest <= dimensions:
            yield (
                f"{fewest} images for {dimensions} dimensions: "
                "the covariance is rank deficient and the value biased upward"
            )
        yield from super().remarks()


class FID(FrechetDistance):
    """Fréchet Inception distance of Heusel et al. 2017, as pytorch-fid computes it."""

    network = INCEPTION_V3


class FDEfficientNet(FrechetDistance):
    """The same distance of EfficientNet-Lite0's features. It is not FID, and its values are on another scale."""

    network = EFFICIENTNET


class KID(FeatureMetric):
    """Kernel Inception distance of Bińkowski et al. 2018."""

    network = INCEPTION_V3

    def __init__(
        self,
        shape: ImageShape,
        *,
        subsets: int,
        subset_size: int,
        seed: int,
        precision: FeaturePrecision,
        images: int = 0,
    ) -> None:
        super().__init__(precision, images)
        self.subsets = subsets
        self.subset_size = subset_size
        self.seed = seed
        self.features: list[Tensor] = []
        self.reference: Tensor | None = None

    def know(self, reference: Reference) -> None:
        self.reference = reference_features(reference, self.extractor)

    def take(self, features: Tensor) -> None:
        self.features.append(features)

    def distance(self) -> float:
        assert self.reference is not None
        features = torch.cat(self.features)
        return mean_squared_mmd(
            self.reference, features, subsets=self.subsets, subset_size=self.subset_size, seed=self.seed
        ).item()

    def remarks(self) -> Iterator[str]:
        fewest = min(self.real, self.judged)
        if fewest < self.subset_size:
            yield f"from {fewest} images, not from subsets of {self.subset_size}"
        yield from super().remarks()
