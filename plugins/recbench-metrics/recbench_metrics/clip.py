"""CLIP's image encoder ViT-L/14 for images of 336 pixels (Radford et al., CLIP, ICML 2021)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from recbench_metrics.convolution import NamedTensors
from recbench_metrics.transformer import Affine, Block, BlockWeights, Norm, Patches, normalized, resized

DIMENSIONS = 768
SIDE = 336
_EPSILON = 1e-5
_MEAN, _DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_VISION, _PROJECTION = "vision_model.", "visual_projection.weight"


class CLIP(nn.Module):
    """The image encoder with these weights: images (B, 3, 336, 336) become embeddings (B, 768) of length 1.

    Depth and width are those of the weights.

    Args:
        tensors: named as in the file that Hugging Face's transformers read; those of the text encoder are left out.

    Raises:
        ValueError: the tensors are not those of such a network.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        own = {name: tensor for name, tensor in tensors.items() if name.startswith((_VISION, _PROJECTION))}
        state = NamedTensors({name: tensor for name, tensor in own.items() if not name.endswith("position_ids")})
        at = f"{_VISION}embeddings"
        kernel = state.take(f"{at}.patch_embedding.weight")
        width = len(kernel)
        token, positions = state.take(f"{at}.class_embedding", width), state.take(f"{at}.position_embedding.weight")
        self.patches = Patches(kernel, torch.zeros(width), token, positions)
        self.norm_before = Norm(_affine(state, f"{_VISION}pre_layrnorm"), _EPSILON)  # the file's own spelling
        layers = f"{_VISION}encoder.layers."
        depth = len({name.removeprefix(layers).split(".")[0] for name in own if name.startswith(layers)})
        self.blocks = nn.Sequential(
            *(Block(_weights(state, f"{layers}{index}"), _EPSILON, quick_gelu) for index in range(depth))
        )
        self.norm_after = Norm(_affine(state, f"{_VISION}post_layernorm"), _EPSILON)
        self.projection: Tensor
        self.register_buffer("projection", state.take(_PROJECTION).float(), persistent=False)
        state.finish()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.blocks(self.norm_before(self.patches(images)))
        embedding = functional.linear(self.norm_after(tokens[:, 0]), self.projection).float()
        return functional.normalize(embedding, dim=1)


def preprocess(images: Tensor) -> Tensor:
    """Resize images (B, 3, H, W) in 0 to 1 to (B, 3, 336, 336) bicubically and normalize them."""
    return normalized(resized(images, SIDE, SIDE), _MEAN, _DEVIATION)


def quick_gelu(values: Tensor) -> Tensor:
    """Return x σ(1.702 x), the approximation of GELU that CLIP was trained with."""
    return values * torch.sigmoid(1.702 * values)


def _affine(state: NamedTensors, name: str) -> Affine:
    return Affine(state.take(f"{name}.weight"), state.take(f"{name}.bias"))


def _weights(state: NamedTensors, name: str) -> BlockWeights:
    separate = [_affine(state, f"{name}.self_attn.{part}_proj") for part in "qkv"]
    return BlockWeights(
        norm_attention=_affine(state, f"{name}.layer_norm1"),
        attend=Affine(*(torch.cat([getattr(one, field) for one in separate]) for field in ("weight", "bias"))),
        project=_affine(state, f"{name}.self_attn.out_proj"),
        norm_perceptron=_affine(state, f"{name}.layer_norm2"),
        widen=_affine(state, f"{name}.mlp.fc1"),
        narrow=_affine(state, f"{name}.mlp.fc2"),
    )
