"""Pretrained networks with random weights, for tests of everything but their values: no file is needed."""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from recbench import Weights
from recbench.data.weights import find
from recbench.data.weights import load_weights as load_file

USERS = (
    "recbench_losses_perceptual.distance",
    "recbench_losses_perceptual.dists",
    "recbench_losses_perceptual.reference",
    "recbench_losses_frequency.watson.losses",
    "recbench_metrics.features",
)
"""The modules that load weights."""

_VGG = ["64", "64", "M", "128", "128", "M", "256", "256", "256", "M", "512", "512", "512", "M", "512", "512", "512"]
_ALEX = ((64, 3, 11), (192, 64, 5), (384, 192, 3), (256, 384, 3), (256, 256, 3))
_LINEAR = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}
_SQUEEZE = (64, 128, 256, 384, 384, 512, 512)
_FIRES = ((64, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128))
_LATER_FIRES = ((256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256))
# Channels that go in, channels that come out, side of the kernel, and how often: EfficientNet's table 1
_STAGES = ((32, 16, 3, 1), (16, 24, 3, 2), (24, 40, 5, 2), (40, 80, 3, 3), (80, 112, 5, 3), (112, 192, 5, 4))
_LAST_STAGE = (192, 320, 3, 1)


def stand_in(weights: Weights) -> dict[str, Tensor]:
    """Return random tensors with the names and shapes of a file of weights; those of Watson's model as initialized."""
    name = weights.file
    state = _state(name)
    if not state:
        raise LookupError(f"tests/stand_in_weights.py knows no stand-in for {name}")
    return dict(state)


def use_stand_ins(patch: pytest.MonkeyPatch) -> None:
    """Let the shipped plugins load random weights where a file of weights is not at hand."""
    for module in USERS:
        patch.setattr(f"{module}.load_weights", _load)


def stand_in_everywhere() -> None:
    """Do so for the rest of this process, outside of pytest."""
    for module in USERS:
        vars(importlib.import_module(module))["load_weights"] = _load


def _load(weights: Weights) -> dict[str, Tensor]:
    return stand_in(weights) if find(weights) is None else load_file(weights)


@functools.cache
def _state(name: str) -> dict[str, Tensor]:
    if "watson" in name:
        from recbench_losses_frequency.watson.parameters import initial

        return initial("dft" if "fft" in name else "dct", 3 if name.startswith("rgb") else 1)
    if "inception" in name:
        from recbench_metrics.inception import _pytorch_fids

        return {key: _random(*value.shape) for key, value in _pytorch_fids().state_dict().items()}
    if "efficientnet" in name:
        return dict(_efficientnet())
    if "dinov2" in name:
        return dict(_dinov2())
    if "clip" in name:
        return dict(_clip())
    if "pnet_lin" in name or "lpips" in name:
        net = next((net for net in ("alex", "squeeze") if net in name), "vgg")
        channels = _SQUEEZE if net == "squeeze" else _LINEAR[net]
        return dict(_linear(channels))
    if "squeeze" in name:
        return dict(_squeezenet())
    if "dists" in name:
        return {key: torch.rand(1, 1475, 1, 1) + 0.1 for key in ("alpha", "beta")}
    net = "vgg" if name.startswith("vgg") else "alex" if name.startswith("alex") else ""
    if "shift_tolerant" in name:
        return {**_trunk(net, "net"), **dict(_linear(_LINEAR[net]))}
    return _trunk(net, "features") if net else {}


def _trunk(net: str, prefix: str) -> dict[str, Tensor]:
    """Weights and biases at torchvision's places, which ReLUs and pooling share."""
    if net == "alex":
        return dict(_convolutions(prefix, zip((0, 3, 6, 8, 10), _ALEX, strict=True)))
    place, shapes, before = 0, [], 3
    for layer in _VGG:
        if layer == "M":
            place += 1
            continue
        shapes.append((place, (int(layer), before, 3)))
        place, before = place + 2, int(layer)
    return dict(_convolutions(prefix, iter(shapes)))


def _convolutions(prefix: str, shapes: Iterator[tuple[object, tuple[int, int, int]]]) -> Iterator[tuple[str, Tensor]]:
    for place, (out, channels, side) in shapes:
        yield f"{prefix}.{place}.weight", _random(out, channels, side, side)
        yield f"{prefix}.{place}.bias", torch.zeros(out)


def _squeezenet() -> Iterator[tuple[str, Tensor]]:
    places = (3, 4, 6, 7, 9, 10, 11, 12)
    yield from _convolutions("features", iter([(0, (64, 3, 3))]))
    for place, (channels, squeezed, expanded) in zip(places, (*_FIRES, *_LATER_FIRES), strict=True):
        shapes = ((squeezed, channels, 1), (expanded, squeezed, 1), (expanded, squeezed, 3))
        names = ("squeeze", "expand1x1", "expand3x3")
        yield from _convolutions(f"features.{place}", zip(names, shapes, strict=True))


def _linear(channels: tuple[int, ...]) -> Iterator[tuple[str, Tensor]]:
    for number, count in enumerate(channels):
        yield f"lin{number}.model.1.weight", torch.full((1, count, 1, 1), 1 / count)


def _efficientnet() -> Iterator[tuple[str, Tensor]]:
    yield "_conv_stem.weight", _random(32, 3, 3, 3)
    yield from _norm("_bn0", 32)
    blocks = [
        (inside if first else out, out, side)
        for inside, out, side, count in (*_STAGES, _LAST_STAGE)
        for first in [True, *[False] * (count - 1)]
    ]
    for index, (inside, out, side) in enumerate(blocks):
        name, wide = f"_blocks.{index}", inside * (6 if index else 1)
        if index:
            yield f"{name}._expand_conv.weight", _random(wide, inside, 1, 1)
            yield from _norm(f"{name}._bn0", wide)
        yield f"{name}._depthwise_conv.weight", _random(wide, 1, side, side)
        yield from _norm(f"{name}._bn1", wide)
        yield f"{name}._project_conv.weight", _random(out, wide, 1, 1)
        yield from _norm(f"{name}._bn2", out)
    yield "_conv_head.weight", _random(1280, 320, 1, 1)
    yield from _norm("_bn1", 1280)
    yield "_fc.weight", _random(1000, 1280)
    yield "_fc.bias", torch.zeros(1000)


def _dinov2() -> Iterator[tuple[str, Tensor]]:
    """One block of one head: the names are those of the file, the sizes are not."""
    for name, shape in (("cls_token", (1, 1, 64)), ("pos_embed", (1, 10, 64)), ("mask_token", (1, 64))):
        yield name, _random(*shape)
    yield from _linear_layer("patch_embed.proj", 64, 3, 14, 14)
    for layer, shape in (
        ("attn.qkv", (192, 64)),
        ("attn.proj", (64, 64)),
        ("mlp.fc1", (256, 64)),
        ("mlp.fc2", (64, 256)),
    ):
        yield from _linear_layer(f"blocks.0.{layer}", *shape)
    for name in ("blocks.0.norm1", "blocks.0.norm2", "norm"):
        yield from _linear_layer(name, 64)
    for name in ("ls1", "ls2"):
        yield f"blocks.0.{name}.gamma", torch.ones(64)


def _clip() -> Iterator[tuple[str, Tensor]]:
    """One layer of one head, and a tensor of the text encoder."""
    inner = "vision_model.encoder.layers.0"
    yield "logit_scale", torch.zeros(())
    yield "vision_model.embeddings.position_ids", torch.arange(577)[None]
    yield "vision_model.embeddings.class_embedding", _random(64)
    yield "vision_model.embeddings.patch_embedding.weight", _random(64, 3, 14, 14)
    yield "vision_model.embeddings.position_embedding.weight", _random(577, 64)
    for part in ("k", "v", "out"):
        yield from _linear_layer(f"{inner}.self_attn.{part}_proj", 64, 64)
    yield f"{inner}.self_attn.q_proj.weight", torch.zeros(64, 64)  # so that the class token sees all patches alike
    yield f"{inner}.self_attn.q_proj.bias", torch.zeros(64)
    yield from _linear_layer(f"{inner}.mlp.fc1", 256, 64)
    yield from _linear_layer(f"{inner}.mlp.fc2", 64, 256)
    for name in (
        f"{inner}.layer_norm1",
        f"{inner}.layer_norm2",
        "vision_model.pre_layrnorm",
        "vision_model.post_layernorm",
    ):
        yield from _linear_layer(name, 64)
    yield "visual_projection.weight", _random(768, 64)


def _linear_layer(name: str, *shape: int) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", _random(*shape)
    yield f"{name}.bias", torch.zeros(shape[0])


def _norm(name: str, channels: int) -> Iterator[tuple[str, Tensor]]:
    values = {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}
    for key, value in values.items():
        yield f"{name}.{key}", torch.full((channels,), value)


def _random(*shape: int) -> Tensor:
    if len(shape) < 2:  # of a batch norm: its variance must be above zero
        return torch.ones(shape)
    fan = math.prod(shape[1:])
    return torch.randn(shape, generator=torch.Generator().manual_seed(fan)) * (2 / fan) ** 0.5
