"""Parameters and cost of every architecture, for the tables in docs/architectures.md.

    python benchmarks/architectures.py
    python benchmarks/architectures.py --write docs/architectures.md

Networks are made on torch's meta device, which has shapes and no data: nothing is measured, so the tables are the same
on every machine.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any, cast

import torch
from torch.utils.flop_counter import FlopCounterMode

from recbench.contracts.architecture import Architecture
from recbench.contracts.entries import ImageShape
from recbench.plugin.manager import load_plugins
from recbench.plugin.registry import Registered, Registry

SIDES = (32, 64, 128, 256)
VARIANTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("vae_bredell", {}),
    ("vae_bredell", {"decoder_widths": "inputs"}),
    ("vae_bredell", {"hidden": 2048}),
    ("vae_bredell_small", {}),
    ("vae_bredell_small", {"decoder_widths": "inputs"}),
    ("vae_czolbe", {}),
    ("standard_ae", {}),
    ("freq_latent_ae", {}),
    ("kl_f4", {}),
    ("kl_f4", {"channels": 32, "multipliers": [1, 2, 2], "blocks": 1}),
    ("kl_f8", {}),
    ("kl_f8", {"channels": 32, "multipliers": [1, 2, 2, 2], "blocks": 1}),
    ("vq", {}),
    ("vq", {"width": 64, "codes": 128, "dim": 16}),
)


def create(found: Registered, side: int, params: dict[str, Any]) -> Architecture:
    """The network for images of 3 × side × side, on the meta device, as it is for evaluation."""
    with torch.device("meta"):
        return cast(Architecture, found.create(params, ImageShape(3, side, side))).eval()


def forward_flops(network: Architecture, side: int) -> int:
    """Floating-point operations of encoding and decoding one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.decode(network.encode(torch.empty(1, 3, side, side, device="meta")).mean)
    return counter.get_total_flops()


def tables() -> str:
    """Both tables, in Markdown."""
    registry = Registry(load_plugins())
    head = f"| architecture | {' | '.join(f'{side} px' for side in SIDES)} |\n|---|{'---:|' * len(SIDES)}\n"
    parameters, flops = "", ""
    for name, params in VARIANTS:
        networks = {side: create(registry.get("architectures", name), side, params) for side in SIDES}
        label = " ".join([f"`{name}`", *(f"{key}: {value}" for key, value in params.items())])
        counts = [sum(parameter.numel() for parameter in network.parameters()) for network in networks.values()]
        costs = [forward_flops(network, side) / 1e9 for side, network in networks.items()]
        parameters += f"| {label} | {' | '.join(f'{count:,}' for count in counts)} |\n"
        flops += f"| {label} | {' | '.join(f'{cost:.2f}' for cost in costs)} |\n"
    return f"### Parameters\n\n{head}{parameters}\n### GFLOP an image\n\n{head}{flops}"


def written(text: str) -> str:
    """The document with its tables replaced by new ones."""
    pattern = r"(<!-- tables: [^\n]*-->\n\n).*?(\n<!-- end of tables -->)"
    text, count = re.subn(pattern, lambda found: found[1] + tables() + found[2], text, flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{count} places for the tables, not one")
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, help="the document whose tables to replace")
    arguments = parser.parse_args()
    if arguments.write:
        arguments.write.write_text(written(arguments.write.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(tables())


if __name__ == "__main__":
    main()
