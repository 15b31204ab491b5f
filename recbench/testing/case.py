"""A case of the conformance test: an entry, its parameters, and images to check it with."""

from __future__ import annotations

import importlib
import unittest
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from recbench.contracts.checked import ContractError
from recbench.contracts.entries import Entry, ImageShape, LossEntry
from recbench.contracts.loss import Context, Loss, Setting
from recbench.data.weights import lacking

BATCH, LATENT = 3, 8


@dataclass(frozen=True)
class EntryCase:
    """One check of one entry of any kind, with given parameters and images of one shape.

    Attributes:
        entry: the entry.
        params: parameters to set; the others have their defaults.
        shape: the shape of the images; None for a data set, which has its own.
        check: the function that checks the case.
    """

    entry: Entry
    params: Mapping[str, Any]
    shape: ImageShape | None
    check: Callable[[Any], None] = field(repr=False)

    def __str__(self) -> str:
        chosen = [f"{key}={value}" for key, value in self.params.items()]
        shape = [str(self.shape)] if self.shape else []
        return " ".join([self.entry.name, *chosen, *shape, self.check.__name__.strip("_")])

    def run(self) -> None:
        """Run the check.

        Raises:
            AssertionError: the entry fails the check; the text says how.
            unittest.SkipTest: weights, data or a device that the case needs are missing.
        """
        try:
            self.check(self)
        except ContractError as error:
            raise AssertionError(str(error)) from error

    def make(self, *arguments: Any) -> Any:
        """Return what the entry's factory returns, as the core calls it, under a fixed random state.

        Raises:
            unittest.SkipTest: pretrained weights are missing.
        """
        params = self.entry.complete(self.params)
        reason = lacking(self.entry, self.shape, params) if self.shape else None
        if reason is not None:
            raise unittest.SkipTest(f"{self.entry.name} {reason}")
        factory = self.entry.factory
        if isinstance(factory, str):
            module, _, name = factory.partition(":")
            factory = getattr(importlib.import_module(module), name)
        assert not isinstance(factory, str)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return factory(*arguments, **params)

    def pixels(self, count: int = BATCH, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return images in 0 to 1, (count, C, H, W): smooth shading, an edge, some texture."""
        assert self.shape is not None
        generator = torch.Generator().manual_seed(1)
        size = count, self.shape.channels, self.shape.height, self.shape.width
        noise = torch.randn(size, generator=generator, dtype=torch.float64)
        down, across = torch.fft.fftfreq(size[2])[:, None], torch.fft.rfftfreq(size[3])[None, :]
        falloff = 1 / (down.square() + across.square() + 1 / max(size[2:]) ** 2).sqrt()  # the spectrum of photographs
        smooth = torch.fft.irfft2(torch.fft.rfft2(noise) * falloff, s=size[2:])
        smooth[:, :, size[2] // 3 :, size[3] // 2 :] += 2 * smooth.std()
        low, high = smooth.amin((1, 2, 3), keepdim=True), smooth.amax((1, 2, 3), keepdim=True)
        images: Tensor = 0.1 + 0.8 * (smooth - low) / (high - low)
        return images.to(dtype)


@dataclass(frozen=True)
class Case(EntryCase):
    """One check of one loss, with given parameters and images of one shape.

    Attributes:
        entry: the loss.
        check: the function that checks the case, one of :data:`recbench.testing.CHECKS`.
    """

    entry: LossEntry
    shape: ImageShape

    @property
    def couples(self) -> bool:
        """True if the loss couples the images of a batch."""
        return self.entry.couples(self.entry.complete(self.params))

    def create(self) -> Loss:
        """Return the loss as the core creates it, with fixed initial weights.

        Raises:
            AssertionError: the factory returns something other than a loss.
            unittest.SkipTest: pretrained weights are missing.
        """
        loss = self.make(Setting(self.shape, LATENT))
        assert isinstance(loss, Loss), f"expected {self.entry.factory} to return a Loss, got {type(loss).__name__}"
        return loss

    def images(self, dtype: torch.dtype = torch.float64) -> Tensor:
        """Return three images inside the loss's value range, (B, C, H, W): smooth shading, an edge, some texture."""
        return self.scale(self.pixels()).to(dtype)

    def scale(self, unit: Tensor) -> Tensor:
        """Return images in 0 to 1 converted to the loss's value range."""
        lowest, highest = self.entry.value_range
        return lowest + (highest - lowest) * unit

    def noisy(self, images: Tensor, amount: float) -> Tensor:
        """Return images with Gaussian noise, reflected at the ends of the value range.

        Args:
            images: images in the loss's value range.
            amount: standard deviation, as a fraction of the value range.
        """
        lowest, highest = self.entry.value_range
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        moved = images + amount * (highest - lowest) * noise.to(images.dtype)
        moved = lowest + (moved - lowest).abs()
        return highest - (highest - moved).abs()

    def context(self, dtype: torch.dtype = torch.float64, count: int = BATCH) -> Context:
        """Return the context of a late training step, after any warm-up, with the same z in every call."""
        z = torch.randn(BATCH, LATENT, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        return Context(z=z[:count].to(dtype), epoch=1_000, step=100_000, training=True)
