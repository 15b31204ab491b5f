"""The authors' formulation of each loss that has one: their package from PyPI, or a transcription of this folder.

Each entry of the tables makes a function of decoded images, target images and z, which gives values of images or their
mean, from a loss of recbench: with its parameters, and its weights where there are any.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from recbench.contracts.entries import ImageShape, LossEntry
from recbench.contracts.loss import Loss
from recbench.data.weights import load_weights

Formulation = Callable[[Tensor, Tensor, Tensor], Tensor]  # of decoded, target and z


@dataclass(frozen=True)
class Made:
    """A loss, and what it was made of."""

    entry: LossEntry
    params: Mapping[str, Any]
    shape: ImageShape
    loss: Loss
    device: torch.device


def ffl(made: Made) -> Formulation:
    from focal_frequency_loss import FocalFrequencyLoss

    package = FocalFrequencyLoss(**made.params)
    return lambda decoded, target, z: package(decoded, target)


def ssim(made: Made) -> Formulation:
    from pytorch_msssim import ssim

    p = made.params
    options = {"win_size": p["window"], "win_sigma": p["sigma"], "K": (p["K1"], p["K2"]), "size_average": False}
    return lambda decoded, target, z: 1 - ssim(decoded, target, data_range=1.0, **options)


def ms_ssim(made: Made) -> Formulation:
    from formulations.ms_ssim import ms_ssim, renormalized

    p = made.params
    weights = p["weights"][: p["scales"]] if p["scales"] else p["weights"]
    weights = renormalized(weights, p["window"], min(made.shape.height, made.shape.width))
    options = p["window"], p["sigma"], (p["K1"], p["K2"]), weights
    return lambda decoded, target, z: 1 - ms_ssim(decoded, target, *options)


def mix(made: Made) -> Formulation:
    from formulations.ms_ssim import mix

    error = ms_ssim(made)
    return lambda decoded, target, z: mix(decoded, target, 1 - error(decoded, target, z), made.params["alpha"])


def sigma_gaussian(made: Made) -> Formulation:
    from formulations.sigma_gaussian import negative_log_density

    return lambda decoded, target, z: negative_log_density(decoded, target, made.params["log_sigma_min"])


def watson(made: Made) -> Formulation | None:
    from recbench_losses_frequency.watson.equations import watson
    from recbench_losses_frequency.watson.parameters import initial

    if made.params["shift"]:
        return None
    transform = "dft" if made.entry.name == "watson_dft" else "dct"
    needed = made.entry.needed_weights(made.shape, made.params)
    state = load_weights(needed[0]) if needed else initial(transform, made.shape.channels)
    state = {name: value.to(made.device, torch.float32) for name, value in state.items()}

    def formulation(decoded: Tensor, target: Tensor, z: Tensor) -> Tensor:
        with contextlib.nullcontext() if made.device.type == "cpu" else made.device:  # where it makes its constants
            return watson(transform, decoded, target, state)

    return formulation


def wiener(made: Made) -> Formulation:
    from formulations.wiener import log_determinant, reconstruction

    p, channels = made.params, made.shape.channels

    def formulation(decoded: Tensor, target: Tensor, z: Tensor) -> Tensor:
        kernel = blur(made, z)
        value = reconstruction(decoded, target, kernel, p["C"])
        if p["determinant"] == "exact":
            value = value + log_determinant(kernel, p["epsilon"], channels, *decoded.shape[-2:])
        return value

    return formulation


def wiener_objective(made: Made) -> Formulation:
    from formulations.wiener import kernel_fit

    return lambda decoded, target, z: kernel_fit(decoded, target, blur(made, z))


def blur(made: Made, z: Tensor) -> Tensor:
    """Kernels as the loss has them, (B, size, size)."""
    if made.params["kernel"] == "generator":
        kernel: Tensor = made.loss.generator(z)
        return kernel
    return made.loss.kernel.to(z.dtype).expand(len(z), -1, -1)


def lpips(made: Made) -> Formulation:
    """The package's network with weights drawn at random: it would download its own, whose time is the same."""
    from lpips import LPIPS

    p = made.params
    package = LPIPS(net=p["net"], lpips=p["linear"], pretrained=False, pnet_rand=True, verbose=False)
    package.eval().requires_grad_(False).to(made.device)
    return lambda decoded, target, z: package(decoded, target)


def dists(made: Made) -> Formulation:
    """The package's network with the weights that torchvision draws: it would download its own, whose time is the
    same."""
    from functools import partial
    from unittest.mock import patch

    from DISTS_pytorch import DISTS
    from torchvision import models

    with patch.object(models, "vgg16", partial(lambda make, pretrained: make(), models.vgg16)):
        package = DISTS(load_weights=False)
    package.eval().requires_grad_(False).to(made.device)
    return lambda decoded, target, z: package(decoded, target, require_grad=True)


def wavelet(made: Made) -> Formulation:
    """The loss by the package of wavelets for torch, which is not the authors'; they have none."""
    from ptwt import wavedec2

    levels, weights = made.params["levels"], made.params["details"]
    weights = [weights[min(level, len(weights) - 1)] for level in range(levels)]

    def formulation(decoded: Tensor, target: Tensor, z: Tensor) -> Tensor:
        coarsest, *details = wavedec2(decoded - target, "haar", level=levels, mode="zero")
        sums = [w * sum(band.abs().sum((1, 2, 3)) for band in d) for w, d in zip(weights[::-1], details, strict=True)]
        return made.params["approximation"] * coarsest.abs().sum((1, 2, 3)) + sum(sums)

    return formulation


AUTHORS: dict[str, Callable[[Made], Formulation | None]] = {
    "ffl": ffl,
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "mix": mix,
    "sigma_gaussian": sigma_gaussian,
    "watson_dft": watson,
    "watson_dct": watson,
    "wiener": wiener,
    "lpips": lpips,
    "dists": dists,
    "wavelet": wavelet,
}
OBJECTIVES: dict[str, Callable[[Made], Formulation | None]] = {"wiener": wiener_objective}
UNEQUAL = {"lpips", "dists"}  # have other weights here
