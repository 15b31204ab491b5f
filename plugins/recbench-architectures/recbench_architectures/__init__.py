"""Autoencoders of the papers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from recbench import ArchitectureEntry, ImageShape, Parameter, Requirements, hookimpl


def _halves_evenly(shape: ImageShape, params: Mapping[str, Any]) -> Iterable[str]:
    factor = 2 ** len(params["widths"])
    if shape.height % factor or shape.width % factor:
        yield f"halves its input {len(params['widths'])} times: sides must be multiples of {factor}"


@hookimpl
def recbench_architectures() -> Iterator[ArchitectureEntry]:
    yield ArchitectureEntry(
        name="vae_bredell",
        factory="recbench_architectures.bredell:VAEBredell",
        summary="convolutional VAE with stride-2 blocks and two-layer perceptrons around the latent",
        parameters=(
            Parameter("widths", list[int], [64, 128, 256, 512], "channels of the encoder's blocks", minimum=1),
            Parameter("latent_size", int, 256, "entries of z", minimum=1),
            Parameter("hidden", int, 1024, "hidden nodes of the perceptrons around z", minimum=1),
            Parameter(
                "decoder_widths",
                str,
                "outputs",
                "whether the reversed widths are the decoder blocks' outputs, or their inputs (cheaper)",
                choices=("outputs", "inputs"),
            ),
        ),
        requirements=Requirements(minimum_size=16, maximum_size=256),
        check=_halves_evenly,
        citation="Bredell et al., Explicitly Minimizing the Blur Error of Variational Autoencoders, appendix A",
        notes=(
            "The paper gives neither the perceptrons' hidden size (ours: 1024) nor the slope of the Leaky-ReLUs (ours: "
            "0.01, torch's default). For 256 pixels it uses six blocks: [64, 128, 256, 512, 512, 512]."
        ),
    )
