"""The autoencoders of latent diffusion, against the published ones and other implementations of their parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from recbench.contracts.architecture import Gaussian
from recbench.contracts.entries import ImageShape
from recbench_architectures import recbench_architectures
from recbench_architectures.kl_f import KLF, Attention, Halving, norm

ENTRIES = {entry.name: entry for entry in recbench_architectures()}
SMALL = {"kl_f4": [1, 2, 2], "kl_f8": [1, 1, 2, 2]}


def create(name: str, shape: ImageShape, **params: Any) -> KLF:
    complete = ENTRIES[name].complete(params)
    assert not ENTRIES[name].refusals(shape, complete)
    torch.manual_seed(0)
    return KLF(shape, **complete)


def small(name: str, shape: ImageShape) -> KLF:
    return create(name, shape, channels=8, multipliers=SMALL[name], blocks=1)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_kl_f8_has_the_parameters_of_the_published_one() -> None:
    """Those of ``AutoencoderKL`` of Stable Diffusion 1, which is kl-f8, as diffusers counts them."""
    with torch.device("meta"):
        network = create("kl_f8", ImageShape(3, 256, 256))
    quantization, after = network.encoder[-1], network.decoder[0]
    assert count(network) == 83_653_863
    assert count(network.encoder) - count(quantization) == 34_163_592
    assert count(network.decoder) - count(after) == 49_490_179
    assert (count(quantization), count(after)) == (8 * 8 + 8, 4 * 4 + 4)
    assert network.latent_shape == (4, 32, 32)


def test_kl_f4_is_kl_f8_without_its_lowest_resolution() -> None:
    """Two blocks of 512 channels and a halving, three blocks and a doubling; and a channel of z."""
    with torch.device("meta"):
        network, deeper = create("kl_f4", ImageShape(3, 256, 256)), create("kl_f8", ImageShape(3, 256, 256))
    assert network.latent_shape == (3, 64, 64)
    convolution = 9 * 512 * 512 + 512
    block = 2 * convolution + 2 * 2 * 512
    around_z = {z: (2 * z) * (9 * 512 + 1) + (2 * z) * (2 * z + 1) + z * (z + 1) + 9 * z * 512 for z in (3, 4)}
    assert count(deeper) - count(network) == 5 * block + 2 * convolution + around_z[4] - around_z[3]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("shape", [ImageShape(3, 32, 32), ImageShape(1, 16, 48)], ids=str)
def test_z_is_a_map_with_a_divergence_in_nats_for_each_image(name: str, shape: ImageShape) -> None:
    """Against torch's own divergence of independent normal distributions."""
    network = small(name, shape)
    images = torch.rand(3, shape.channels, shape.height, shape.width) * 2 - 1
    posterior = network.encode(images)
    factor = 4 if name == "kl_f4" else 8
    assert network.latent_shape == (network.latent_shape[0], shape.height // factor, shape.width // factor)
    assert posterior.mean.shape == posterior.sample().shape == (3, *network.latent_shape)
    one = torch.distributions.Normal(posterior.location, (0.5 * posterior.log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    expected = torch.distributions.kl_divergence(one, standard).sum((1, 2, 3))
    torch.testing.assert_close(posterior.kl(), expected)
    assert network.decode(posterior.mean).shape == images.shape


@pytest.mark.parametrize("name", SMALL)
def test_every_parameter_is_trained(name: str) -> None:
    network = small(name, ImageShape(3, 32, 32))
    posterior = network.encode(torch.rand(2, 3, 32, 32))
    weight = torch.rand(2, 3, 32, 32)
    ((network.decode(posterior.sample()) * weight).sum() + posterior.kl().sum()).backward()
    # Keys' bias moves all weights of a query alike, so that attention does not depend on it.
    for key, value in network.named_parameters():
        assert value.grad is not None, key
        assert value.grad.abs().sum() > 0, key


def test_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    layer, maps = Attention(8), torch.randn(2, 8, 3, 5)
    queries, keys, values = layer.queries_keys_values(layer.norm(maps)).flatten(2).mT.chunk(3, dim=2)
    attended = functional.scaled_dot_product_attention(queries, keys, values).mT.reshape(maps.shape)
    torch.testing.assert_close(layer(maps), maps + layer.out(attended))


def test_halving_pads_the_bottom_and_the_right() -> None:
    layer = Halving(1)
    with torch.no_grad():
        layer.convolution.weight.zero_()[0, 0, 2, 2] = 1
        layer.convolution.bias.zero_()
        maps = torch.arange(16.0).reshape(1, 1, 4, 4)
        assert layer(maps).flatten().tolist() == [10, 0, 0, 0]


@pytest.mark.parametrize(
    ("channels", "groups"), [(128, 32), (512, 32), (64, 16), (32, 8), (24, 2), (8, 2), (4, 1), (5, 1)]
)
def test_at_least_four_channels_share_a_norm(channels: int, groups: int) -> None:
    assert norm(channels).num_groups == groups


def test_log_variances_are_those_of_the_authors_bounds() -> None:
    network = small("kl_f4", ImageShape(3, 16, 16))
    with torch.no_grad():
        network.encoder[-1].bias.fill_(100.0)
        posterior = network.encode(torch.zeros(1, 3, 16, 16))
    assert isinstance(posterior, Gaussian)
    assert posterior.log_variance.max() == 20


@pytest.mark.parametrize(
    ("name", "shape", "params", "reason"),
    [
        ("kl_f4", ImageShape(3, 18, 16), {}, "sides must be multiples of 4"),
        ("kl_f8", ImageShape(3, 20, 16), {}, "sides must be multiples of 8"),
        ("kl_f8", ImageShape(3, 16, 16), {"multipliers": [1, 2, 4]}, "it takes 4 multipliers, not"),
        ("kl_f4", ImageShape(3, 8, 8), {}, "at least 16 pixels"),
        ("vq", ImageShape(3, 16, 20), {"halvings": 3}, "sides must be multiples of 8"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, shape: ImageShape, params: dict[str, Any], reason: str) -> None:
    (refusal,) = ENTRIES[name].refusals(shape, ENTRIES[name].complete(params))
    assert reason in refusal
