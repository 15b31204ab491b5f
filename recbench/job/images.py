"""Batches of images, and their value ranges."""

from __future__ import annotations

import torch
from torch import Tensor

from recbench.contracts.entries import Range


def take(images: Tensor, chosen: Tensor, device: torch.device) -> Tensor:
    """Return images by index, on the device, still uint8."""
    if images.device.type != "cpu":
        return images[chosen.to(images.device, non_blocking=True)]
    batch = images.index_select(0, chosen)  # ten times as fast as indexing
    return batch.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else batch


def to_range(images: Tensor, wanted: Range) -> Tensor:
    """Return uint8 images as float32 in a value range, channels last in memory, which is fastest for convolutions."""
    low, high = wanted
    scaled = images.to(torch.float32, memory_format=torch.channels_last)
    return scaled.mul_((high - low) / 255).add_(low)


def convert(images: Tensor, given: Range, wanted: Range) -> Tensor:
    """Map images from one value range to another: linear, without clamping."""
    if given == wanted:
        return images
    scale = (wanted[1] - wanted[0]) / (given[1] - given[0])
    return torch.add(wanted[0] - given[0] * scale, images, alpha=scale)


def to_8_bits(images: Tensor) -> Tensor:
    """Images in 0 to 1 as they would be saved: clamped and rounded to uint8."""
    return images.clamp(0, 1).mul(255).round().to(torch.uint8)
