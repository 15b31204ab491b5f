"""The architectures of Bredell et al.: their layers, and sizes computed by hand from the paper's description."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from recbench.contracts.architecture import Architecture, Gaussian
from recbench.contracts.entries import ImageShape
from recbench_architectures import recbench_architectures
from recbench_architectures.bredell import VAEBredell, VAEBredellSmall
from recbench_architectures.layout import block_widths

ENTRIES = {entry.name: entry for entry in recbench_architectures()}
MAIN, SMALL = ENTRIES["vae_bredell"], ENTRIES["vae_bredell_small"]


def main(side: int, **params: object) -> VAEBredell:
    with torch.device("meta"):
        return VAEBredell(ImageShape(3, side, side), **MAIN.complete(params))


def small(side: int, **params: object) -> VAEBredellSmall:
    with torch.device("meta"):
        return VAEBredellSmall(ImageShape(3, side, side), **SMALL.complete(params))


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def outputs(module: torch.nn.Module, kind: type[torch.nn.Conv2d | torch.nn.ConvTranspose2d]) -> list[int]:
    return [layer.out_channels for layer in module.modules() if isinstance(layer, kind)]


# Weights of a layer of a (in), b (out), side k; biases; batch norm has two parameters a channel.


def conv(a: int, b: int, k: int) -> int:
    return a * b * k * k + b


def linear(a: int, b: int) -> int:
    return a * b + b


ENCODER = conv(3, 64, 3) + conv(64, 128, 3) + conv(128, 256, 3) + conv(256, 512, 3) + 2 * (64 + 128 + 256 + 512)
OUTPUTS = conv(512, 512, 4) + conv(512, 256, 4) + conv(256, 128, 4) + conv(128, 64, 4) + 2 * (512 + 256 + 128 + 64)
INPUTS = conv(512, 256, 4) + conv(256, 128, 4) + conv(128, 64, 4) + conv(64, 64, 4) + 2 * (256 + 128 + 64 + 64)


@pytest.mark.parametrize(("reading", "decoder"), [("outputs", OUTPUTS), ("inputs", INPUTS)])
@pytest.mark.parametrize(("side", "code"), [(32, 512 * 2 * 2), (64, 512 * 4 * 4)])
def test_the_size_of_the_main_architecture_by_hand(side, code, reading, decoder):
    perceptrons = linear(code, 1024) + linear(1024, 2 * 256) + linear(256, 1024) + linear(1024, code)
    assert count(main(side, decoder_widths=reading)) == ENCODER + perceptrons + decoder + conv(64, 3, 3)


@pytest.mark.parametrize(("reading", "millions"), [("inputs", 21.9), ("outputs", 26.1)])
def test_its_size_at_64_pixels_is_the_measured_one(reading, millions):
    assert count(main(64, decoder_widths=reading, hidden=1024)) / 1e6 == pytest.approx(millions, abs=0.05)


def test_layers_of_the_main_architecture_are_those_of_the_appendix():
    model = main(64)
    assert outputs(model.encoder, torch.nn.Conv2d) == [64, 128, 256, 512]
    down = [layer for layer in model.encoder.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert {(layer.kernel_size, layer.stride) for layer in down} == {((3, 3), (2, 2))}
    up = [layer for layer in model.decoder.modules() if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert outputs(model.decoder, torch.nn.ConvTranspose2d) == [512, 256, 128, 64]
    assert {(layer.kernel_size, layer.stride) for layer in up} == {((4, 4), (2, 2))}
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.modules()) == 8
    assert isinstance(model.decoder[-1], torch.nn.Tanh)


@pytest.mark.parametrize(("side", "blocks", "code"), [(32, 4, 2), (64, 4, 4), (128, 5, 4), (256, 6, 4)])
def test_depth_follows_the_image_as_published(side, blocks, code):
    model = main(side)
    assert outputs(model.encoder, torch.nn.Conv2d) == [64, 128, 256, 512, 512, 512][:blocks]
    assert outputs(model.decoder, torch.nn.ConvTranspose2d) == [512, 512, 512, 256, 128, 64][6 - blocks :]
    assert model.code_shape == (512, code, code)


@pytest.mark.parametrize(
    ("widths", "blocks", "sides", "expected"),
    [
        ([16, 32], 0, (32, 32), [16, 32]),  # the quickstart's
        ([16, 32], 0, (64, 64), [16, 32]),
        ([64, 128, 256, 512, 512, 512], 0, (256, 256), [64, 128, 256, 512, 512, 512]),
        ([8] * 7, 0, (256, 256), [8] * 7),
        ([16, 32], 2, (256, 256), [16, 32]),
        ([16, 32], 3, (64, 64), [16, 32, 32]),
        ([16, 32, 64], 1, (64, 64), [16]),
        ([16, 32], 0, (80, 80), [16, 32, 32, 32]),  # a code of 5×5
        ([16, 32], 0, (64, 256), [16, 32]),  # the shorter side decides
    ],
)
def test_widths_and_blocks_can_be_chosen(widths, blocks, sides, expected):
    assert block_widths(widths, blocks, ImageShape(3, *sides)) == expected


@pytest.mark.parametrize(
    ("shape", "params", "reason"),
    [
        (ImageShape(3, 48, 40), {"widths": [64, 128, 256, 512]}, "multiples of 16"),
        (ImageShape(3, 64, 64), {"widths": [8] * 7}, "multiples of 128"),
        (ImageShape(3, 64, 64), {"blocks": 7}, "halves its input 7 times"),
        (ImageShape(3, 144, 144), {}, "multiples of 32"),
    ],
)
def test_sides_that_cannot_be_halved_are_refused(shape, params, reason):
    (refusal,) = MAIN.refusals(shape, MAIN.complete(params))
    assert reason in refusal


SMALL_ENCODER = conv(3, 32, 3) + conv(32, 64, 3) + ENCODER - conv(3, 64, 3) + 2 * 32


@pytest.mark.parametrize(
    ("reading", "decoder", "last"),
    [
        ("outputs", [(512, 512), (512, 256), (256, 128), (128, 64), (64, 32)], 32),
        ("inputs", [(512, 256), (256, 128), (128, 64), (64, 32), (32, 32)], 32),
    ],
)
@pytest.mark.parametrize(("side", "code"), [(32, 512), (64, 512 * 2 * 2)])
def test_the_size_of_the_second_architecture_by_hand(side, code, reading, decoder, last):
    blocks = sum(conv(a, b, 3) + 2 * b for a, b in decoder)
    expected = SMALL_ENCODER + linear(code, 2 * 256) + linear(256, code) + blocks + conv(last, 3, 3)
    assert count(small(side, decoder_widths=reading)) == expected


def test_layers_of_the_second_architecture_are_those_of_the_appendix():
    model = small(64)
    assert outputs(model.encoder, torch.nn.Conv2d) == [32, 64, 128, 256, 512]
    assert outputs(model.decoder, torch.nn.Conv2d) == [512, 256, 128, 64, 32, 3]
    assert [type(layer).__name__ for layer in model.decoder[0]] == [
        "BilinearUpsampling", "Conv2d", "BatchNorm2d", "LeakyReLU",
    ]  # fmt: skip
    assert sum(isinstance(layer, torch.nn.Linear) for layer in model.modules()) == 2
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.modules()) == 10
    assert isinstance(model.decoder[-1], torch.nn.Tanh)


@pytest.mark.parametrize("kind", [VAEBredell, VAEBredellSmall])
def test_the_same_seed_makes_the_same_network(kind: type[Architecture]):
    entry = MAIN if kind is VAEBredell else SMALL
    params = entry.complete({"widths": [4, 8]})
    models = []
    for _ in range(2):
        torch.manual_seed(3)
        models.append(kind(ImageShape(3, 32, 32), **params).state_dict())
    assert all(torch.equal(value, models[1][name]) for name, value in models[0].items())


def test_the_kl_of_a_gaussian_posterior_is_torchs():
    generator = torch.Generator().manual_seed(0)
    location, log_variance = torch.randn(2, 6, 9, generator=generator, dtype=torch.float64)
    expected = kl_divergence(Normal(location, (0.5 * log_variance).exp()), Normal(0.0, 1.0)).sum(1)
    torch.testing.assert_close(Gaussian(location, log_variance).kl(), expected)


def test_samples_of_a_gaussian_posterior_have_its_moments_and_a_gradient():
    torch.manual_seed(0)
    location = torch.tensor([[0.5, -2.0]], requires_grad=True)
    log_variance = torch.tensor([[0.0, 1.0]], requires_grad=True)
    samples = Gaussian(location.expand(200_000, 2), log_variance.expand(200_000, 2)).sample()
    torch.testing.assert_close(samples.mean(0), location[0], atol=0.02, rtol=0)
    torch.testing.assert_close(samples.var(0), log_variance[0].exp(), atol=0.05, rtol=0)
    samples.sum().backward()
    assert location.grad is not None
    assert log_variance.grad is not None
