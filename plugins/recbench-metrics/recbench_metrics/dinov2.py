"""DINOv2's vision transformers with patches of 14 pixels (Oquab et al., DINOv2, TMLR 2024): S, B and L."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbench_metrics.convolution import NamedTensors
from recbench_metrics.transformer import Affine, Block, BlockWeights, Norm, Patches, normalized, resized

SIDE = 224
_PATCH = 14
_EPSILON = 1e-6
_OFFSET = 0.1
"""Added to the number of patches a side when positions are resized, as the authors do."""
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class DINOv2(nn.Module):
    """The network with these weights: images (B, 3, 224, 224) become normalized class tokens (B, D).

    Depth and width are those of the weights.

    Args:
        tensors: named as in the authors' files.

    Raises:
        ValueError: the tensors are not those of such a network.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        state = NamedTensors({name: tensor for name, tensor in tensors.items() if name != "mask_token"})
        kernel = state.take("patch_embed.proj.weight")
        width = len(kernel)
        positions = resized_positions(state.take("pos_embed")[0].float(), SIDE // _PATCH)
        token = state.take("cls_token", 1, 1, width)[0, 0]
        self.patches = Patches(kernel, state.take("patch_embed.proj.bias", width), token, positions)
        depth = len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})
        self.blocks = nn.Sequential(
            *(Block(_weights(state, f"blocks.{index}"), _EPSILON, functional.gelu) for index in range(depth))
        )
        self.norm = Norm(_affine(state, "norm"), _EPSILON)
        state.finish()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.blocks(self.patches(images))
        features: Tensor = self.norm(tokens[:, 0]).float()
        return features


def preprocess(images: Tensor) -> Tensor:
    """Resize images (B, 3, H, W) in 0 to 1 to (B, 3, 224, 224) bicubically and normalize them.

    Rounded to 8 bits after each direction, as Pillow does, with which Stein et al. resize.
    """
    across = _eight_bits(resized(images, images.shape[2], SIDE))
    return normalized(_eight_bits(resized(across, SIDE, SIDE)), _MEAN, _DEVIATION)


def _eight_bits(images: Tensor) -> Tensor:
    return images.clamp(0, 1).mul(255).round().div(255)


def resized_positions(positions: Tensor, side: int) -> Tensor:
    """Return positions (1 + M², D) of M patches a side for another number, bicubically; the class token's stays."""
    grid = math.isqrt(len(positions) - 1)
    if grid == side:
        return positions
    plane = positions[1:].T.reshape(1, -1, grid, grid)
    factor = (side + _OFFSET) / grid
    plane = functional.interpolate(plane, scale_factor=(factor, factor), mode="bicubic")
    return torch.cat([positions[:1], plane[0].flatten(1).T])


def _affine(state: NamedTensors, name: str) -> Affine:
    return Affine(state.take(f"{name}.weight"), state.take(f"{name}.bias"))


def _weights(state: NamedTensors, name: str) -> BlockWeights:
    """Return the weights of a block; the factors that scale what it adds (LayerScale) go into its linear layers."""
    return BlockWeights(
        norm_attention=_affine(state, f"{name}.norm1"),
        attend=_affine(state, f"{name}.attn.qkv"),
        project=_affine(state, f"{name}.attn.proj").scaled(state.take(f"{name}.ls1.gamma")),
        norm_perceptron=_affine(state, f"{name}.norm2"),
        widen=_affine(state, f"{name}.mlp.fc1"),
        narrow=_affine(state, f"{name}.mlp.fc2").scaled(state.take(f"{name}.ls2.gamma")),
    )
