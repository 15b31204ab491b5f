"""The CelebA model of Czolbe et al.: its layers in the authors' order, and its size by hand."""

import pytest
import torch
from torch import nn

from recbench.contracts.entries import ImageShape
from recbench_architectures import recbench_architectures
from recbench_architectures.bredell import VAEBredell
from recbench_architectures.czolbe import VAECzolbe
from recbench_architectures.upsampling import BilinearUpsampling

ENTRIES = {entry.name: entry for entry in recbench_architectures()}
ENTRY = ENTRIES["vae_czolbe"]


def create(side: int) -> VAECzolbe:
    with torch.device("meta"):
        return VAECzolbe(ImageShape(3, side, side), **ENTRY.complete({}))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("side", [32, 64])
def test_its_size_by_hand(side):
    code = 128 * (side // 4) ** 2
    encoder = (3 * 64 * 9 + 64 + 2 * 64) + (64 * 128 * 9 + 128 + 2 * 128) + (128 * 128 * 9 + 128)
    perceptrons = (code * 2048 + 2048) + 2 * (2048 * 256 + 256) + (256 * 2048 + 2048) + (2048 * code + code)
    decoder = (128 * 128 * 9 + 128) + (128 * 64 * 9 + 64) + 2 * (64 * 64 * 9 + 64) + (64 * 3 * 9 + 3)
    assert count(create(side)) == encoder + perceptrons + decoder


def test_layers_stand_in_the_authors_order():
    model = create(64)
    layers = [type(layer) for layer in model.encoder.modules() if not list(layer.children())]
    stage = [nn.Conv2d, nn.LeakyReLU, nn.MaxPool2d, nn.BatchNorm2d]
    assert layers == [*stage, *stage, nn.Conv2d, nn.LeakyReLU, nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]
    layers = [type(layer) for layer in model.decoder.modules() if not list(layer.children())]
    stage = [nn.Conv2d, nn.LeakyReLU, BilinearUpsampling]
    assert layers == [*stage, *stage, *[nn.Conv2d, nn.LeakyReLU] * 2, nn.Conv2d, nn.Sigmoid]


def test_upsampling_is_that_of_their_layer():
    """UpsamplingBilinear2d, which aligns corners."""
    (first, second) = [layer for layer in create(64).decoder.modules() if isinstance(layer, BilinearUpsampling)]
    assert first.align_corners
    assert (first.rows.shape, second.rows.shape) == ((32, 16), (64, 32))


def test_it_has_the_papers_factor_of_three_more_parameters_if_both_have_2048_hidden_nodes():
    """Bredell et al., section 4.5, of vae_bredell at 64 pixels. What the notes say of the hidden size."""
    with torch.device("meta"):
        sizes = [
            count(VAEBredell(ImageShape(3, 64, 64), **ENTRIES["vae_bredell"].complete({"hidden": hidden})))
            for hidden in (1024, 2048)
        ]
    factors = [round(count(create(64)) / size, 1) for size in sizes]
    assert factors == [5.2, 3.1]
    assert all(str(factor) in ENTRIES["vae_bredell"].notes for factor in factors)


def test_the_notes_give_its_size():
    for side in (64, 256):
        assert f"{count(create(side)) / 1e6:.0f}" in ENTRY.notes
