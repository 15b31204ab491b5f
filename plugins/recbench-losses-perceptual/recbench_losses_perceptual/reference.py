"""LPIPS as the package lpips computes it, with weights that recbench has verified."""

from __future__ import annotations

import warnings
from typing import Literal

import torch
from torch import Tensor, nn

from recbench import load_weights
from recbench_losses_perceptual import pretrained


class ReferenceLPIPS(nn.Module):
    """``lpips.LPIPS`` 0.1 for images (B, 3 or 1, H, W) in −1 to 1: values (B,).

    The package neither downloads nor unpickles anything here. As in recbench's own implementation, all weights are
    buffers that are not saved. Where all features of a pixel are zero, the package's gradient is NaN.

    Args:
        net: network of the features.
        linear: whether learned weights weigh the channels; otherwise all weigh 1.

    Raises:
        WeightsError: a file of weights is missing or damaged.
    """

    def __init__(self, net: Literal["alex", "vgg", "squeeze"], linear: bool) -> None:
        super().__init__()
        import lpips

        trunk = load_weights(pretrained.IMAGENET[net])
        with warnings.catch_warnings(), torch.device("meta"):  # without memory, and without random draws
            warnings.simplefilter("ignore")  # torchvision's, about the arguments that lpips passes to it
            self.package = lpips.LPIPS(
                net=net, lpips=linear, pretrained=False, pnet_rand=True, use_dropout=False, verbose=False
            )
        state = {f"net.{name}": trunk[_torchvision(name)] for name in self.package.net.state_dict()}
        if linear:
            weights = load_weights(pretrained.LPIPS[net])
            # in the file, a dropout comes first
            state |= {name.replace(".model.1.", ".model.0."): weight for name, weight in weights.items()}
        self.package.load_state_dict(state, strict=False, assign=True)
        for module in self.package.modules():
            _freeze(module)

    def forward(self, decoded: Tensor, target: Tensor) -> Tensor:
        distance: Tensor = self.package(decoded, target)
        return distance.flatten()


def _torchvision(name: str) -> str:
    """Return torchvision's name of the weights that lpips calls ``slice2.3.weight``."""
    return f"features.{name.partition('.')[2]}"


def _freeze(module: nn.Module) -> None:
    """Make buffers that are not saved of a module's own parameters and buffers."""
    for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        delattr(module, name)
        module.register_buffer(name, tensor.detach(), persistent=False)
