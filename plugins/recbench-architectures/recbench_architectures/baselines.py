"""Autoencoders without training: what a code of the same size gives in closed form."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import sqrt

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh
from torch import Tensor, nn
from torch.nn import functional

from recbench import Deterministic, Fitted, ImageShape

DENSE = 4096
"""Largest number of dimensions for LAPACK; above, ARPACK finds the same eigenvectors with less time and memory."""


class PCA(Fitted):
    """Principal component analysis: the linear autoencoder with the least mean squared error of its size.

    z are the coordinates along the eigenvectors of the training images' covariance with the largest eigenvalues, each
    divided by its standard deviation, so that draws from the standard normal prior have the images' covariance there.
    """

    def __init__(self, shape: ImageShape, *, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.shape = shape.channels, shape.height, shape.width
        size = shape.channels * shape.height * shape.width
        self.mean = _constant(size)
        self.components = _constant(latent_size, size)
        self.scale = _constant(latent_size)

    @torch.no_grad()
    def fit(self, batches: Callable[[], Iterable[Tensor]]) -> None:
        size, count = self.mean.numel(), 0
        total = torch.zeros(size, dtype=torch.float64, device=self.mean.device)
        for images in batches():
            total += images.flatten(1).double().sum(0)
            count += len(images)
        if count < 2:
            raise ValueError(f"pca needs at least 2 training images, not {count}")
        mean = total / count
        apart = (images.flatten(1).double() - mean for images in batches())
        if count < size:
            values, vectors = _of_few(torch.cat(list(apart)).cpu().numpy(), self.latent_size)
        else:
            covariance = torch.zeros(size, size, dtype=torch.float64, device=mean.device)
            for centred in apart:
                covariance.addmm_(centred.T, centred, alpha=1 / (count - 1))
            values, vectors = largest_eigenpairs(covariance.cpu().numpy(), self.latent_size)
        # Directions without variance, of fewer images than components, hold rounding errors alone.
        real = values > values.max(initial=0) * size * np.finfo(np.float64).eps
        self.mean.copy_(mean)
        self.components.copy_(torch.from_numpy(np.where(real[:, None], vectors, 0)))
        self.scale.copy_(torch.from_numpy(np.sqrt(np.where(real, values, 0))))

    def encode(self, images: Tensor) -> Deterministic:
        with torch.autocast(images.device.type, enabled=False):
            along = (images.float().flatten(1) - self.mean) @ self.components.T
            return Deterministic(torch.where(self.scale > 0, along / self.scale, along))

    def decode(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            along = torch.where(self.scale > 0, z.float() * self.scale, z.float())
            images: Tensor = self.mean + along @ self.components
            return images.reshape(-1, *self.shape)


def _of_few(centred: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return what :func:`largest_eigenpairs` returns of the covariance of fewer images than dimensions, from
    their singular values; eigenvectors without variance are zero."""
    _, singular, right = np.linalg.svd(centred, full_matrices=False)
    values, vectors = np.zeros(count), np.zeros((count, centred.shape[1]))
    found = min(count, len(singular))
    values[:found] = singular[:found] ** 2 / (len(centred) - 1)
    vectors[:found] = _signed(right[:found])
    return values, vectors


def _signed(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    signs = np.sign(vectors[np.arange(len(vectors)), np.abs(vectors).argmax(1)])
    return np.ascontiguousarray(vectors * signs[:, None])


def largest_eigenpairs(symmetric: NDArray[np.float64], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the largest eigenvalues of a symmetric matrix (n, n), largest first, (count,), and their eigenvectors of
    unit length, (count, n), whose largest entry is positive."""
    size = len(symmetric)
    if size <= DENSE or count > size // 4:
        values, vectors = eigh(symmetric, subset_by_index=(size - count, size - 1))
    else:
        start = np.random.default_rng(0).standard_normal(size)  # ARPACK would draw one of its own
        values, vectors = eigsh(symmetric, k=count, which="LA", v0=start, tol=0)
        order = np.argsort(values)
        values, vectors = values[order], vectors[:, order]
    return np.ascontiguousarray(values[::-1]), _signed(vectors.T[::-1])


class Downsample(Fitted):
    """Images of as many pixels as z has room for: means over areas, enlarged again by bicubic interpolation.

    z are these pixels, each shifted and divided by its mean and standard deviation over the training images. Entries of
    z beyond them are zero.
    """

    def __init__(self, shape: ImageShape, *, latent_size: int) -> None:
        super().__init__()
        self.latent_size = latent_size
        self.full = shape.height, shape.width
        self.small = shape.channels, *small_sides(shape, latent_size)
        self.size = self.small[0] * self.small[1] * self.small[2]
        self.mean = _constant(self.size)
        self.scale = _constant(self.size)

    @torch.no_grad()
    def fit(self, batches: Callable[[], Iterable[Tensor]]) -> None:
        count = 0
        total, squares = torch.zeros(2, self.size, dtype=torch.float64, device=self.mean.device)
        for images in batches():
            total += self._pixels(images).double().sum(0)
            count += len(images)
        mean = total / max(count, 1)
        for images in batches():
            squares += (self._pixels(images).double() - mean).square().sum(0)
        self.mean.copy_(mean)
        self.scale.copy_((squares / max(count - 1, 1)).sqrt())

    def encode(self, images: Tensor) -> Deterministic:
        with torch.autocast(images.device.type, enabled=False):
            apart = self._pixels(images.float()) - self.mean
            standard = torch.where(self.scale > 0, apart / self.scale, apart)
            return Deterministic(functional.pad(standard, (0, self.latent_size - self.size)))

    def decode(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            given = z.float()[:, : self.size]
            pixels = self.mean + torch.where(self.scale > 0, given * self.scale, given)
            return functional.interpolate(pixels.reshape(-1, *self.small), size=self.full, mode="bicubic")

    def _pixels(self, images: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(images, self.small[1:]).flatten(1)


def small_sides(shape: ImageShape, size: int) -> tuple[int, int]:
    """Return height and width of the largest image of a shape's proportions that has at most so many values.

    >>> small_sides(ImageShape(3, 32, 32), 128), small_sides(ImageShape(1, 32, 16), 8)
    ((6, 6), (4, 2))
    """
    share = min(1.0, sqrt(size / (shape.channels * shape.height * shape.width)))
    height, width = max(1, int(shape.height * share + 1e-9)), max(1, int(shape.width * share + 1e-9))
    while shape.channels * height * width > size and max(height, width) > 1:
        height, width = (height - 1, width) if height >= width else (height, width - 1)
    return height, width


def _constant(*size: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(size), requires_grad=False)
