"""The architecture of Bredell et al.: shapes, sizes, and the numbers of the paper."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from recbench.contracts.architecture import Gaussian
from recbench.entries import ImageShape
from recbench_architectures import recbench_architectures
from recbench_architectures.bredell import VAEBredell

(ENTRY,) = [entry for entry in recbench_architectures() if entry.name == "vae_bredell"]
NARROW = {"widths": [4, 8], "latent_size": 5, "hidden": 12}


def create(shape: ImageShape, **params: object) -> VAEBredell:
    torch.manual_seed(0)
    return VAEBredell(shape, **ENTRY.complete(params))


@pytest.mark.parametrize("decoder_widths", ["outputs", "inputs"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [16, 32, 64, 128, 256])
def test_images_come_back_in_their_shape_and_range(size, channels, decoder_widths):
    shape = ImageShape(channels, size, size)
    params = ENTRY.complete({**NARROW, "decoder_widths": decoder_widths})
    assert not ENTRY.refusals(shape, params)
    model = create(shape, **params)
    low, high = ENTRY.value_range
    images = low + (high - low) * torch.rand(2, channels, size, size)
    posterior = model.encode(images)
    assert posterior.mean.shape == posterior.sample().shape == (2, model.latent_size) == (2, 5)
    decoded = model.decode(posterior.sample())
    assert decoded.shape == images.shape
    assert low <= decoded.min() <= decoded.max() <= high


def test_images_need_not_be_square():
    model = create(ImageShape(3, 32, 64), **NARROW)
    assert model.decode(model.encode(torch.zeros(2, 3, 32, 64)).mean).shape == (2, 3, 32, 64)


@pytest.mark.parametrize(("decoder_widths", "millions"), [("inputs", 21.9), ("outputs", 26.1)])
def test_the_published_widths_make_a_network_of_known_size(decoder_widths, millions):
    model = create(ImageShape(3, 64, 64), decoder_widths=decoder_widths)
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.05)


def test_the_published_network_for_256_pixels_has_six_blocks():
    model = create(ImageShape(3, 256, 256), widths=[64, 128, 256, 512, 512, 512])
    assert model.code_shape == (512, 4, 4)
    assert model.latent_size == 256


def test_layers_are_those_of_the_appendix():
    model = create(ImageShape(3, 64, 64))
    down = [layer for layer in model.encoder.modules() if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.out_channels for layer in down] == [64, 128, 256, 512]
    assert {(layer.kernel_size, layer.stride) for layer in down} == {((3, 3), (2, 2))}
    up = [layer for layer in model.decoder.modules() if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert [layer.out_channels for layer in up] == [512, 256, 128, 64]
    assert {(layer.kernel_size, layer.stride) for layer in up} == {((4, 4), (2, 2))}
    assert sum(isinstance(layer, torch.nn.BatchNorm2d) for layer in model.modules()) == 8


def test_every_parameter_is_trained():
    """No layer is left out of the way from the image to the reconstruction."""
    model = create(ImageShape(3, 16, 16), **NARROW)
    posterior = model.encode(torch.rand(4, 3, 16, 16))
    (model.decode(posterior.sample()).square().sum() + posterior.kl().sum()).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize(
    ("shape", "params", "reason"),
    [
        (ImageShape(3, 8, 8), {}, "at least 16 pixels"),
        (ImageShape(3, 512, 512), {}, "at most 256 pixels"),
        (ImageShape(3, 48, 40), {"widths": [64, 128, 256, 512]}, "multiples of 16"),
        (ImageShape(3, 64, 64), {"widths": [8] * 7}, "multiples of 128"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(shape, params, reason):
    (refusal,) = ENTRY.refusals(shape, ENTRY.complete(params))
    assert reason in refusal


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
